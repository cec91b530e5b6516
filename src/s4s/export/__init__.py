"""Learned solvers in other people's pipelines: diffusers, k-diffusion, ComfyUI. Names are loaded on first use."""

from importlib import import_module
from typing import Any

from s4s.errors import needed_for

_PUBLIC = {
    "S4SScheduler": "s4s.export.scheduler",
    "sample_s4s": "s4s.export.k_diffusion",
    "sigmas_of": "s4s.export.k_diffusion",
    "read_tableaux": "s4s.export.collection",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 's4s.export' has no attribute {name!r}")
    with needed_for(f"s4s.export.{name}"):
        return getattr(import_module(_PUBLIC[name]), name)
