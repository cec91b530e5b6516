"""Tiny pipelines of random weights, one of every kind that diffusers has, to prove what works with a live pipeline."""

from importlib import import_module
from importlib.util import find_spec

from tests.builders.tiny_pipelines.case import Case

PIPELINES: dict[str, Case] = {}
for module in ("images", "videos", "variants", "changed"):
    if find_spec(f"{__name__}.{module}"):
        cases: dict[str, Case] = import_module(f"{__name__}.{module}").CASES
        assert not PIPELINES.keys() & cases.keys()
        PIPELINES |= cases

__all__ = ["PIPELINES", "Case"]
