"""What is written into every result about how it was made."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from s4s.tableau import Tableau


def made_for(model: Any) -> dict[str, Any]:
    """What a tableau says of the model (a denoiser or its outline) that it was made for."""
    return {
        "model": model.name, "s_min": float(model.s_min), "s_max": float(model.s_max), "parametrisation": model.parametrisation
    }  # fmt: skip


def in_words(tableau: Tableau) -> str:
    """What a classical tableau's meta says of it: "unipc, order 3, on logsnr levels, 64 evaluations"."""
    meta = tableau.meta
    options = [f"{name} {value}".lower().replace("_", " ") for name, value in meta.get("options", {}).items()]
    levels = [f"on {meta['schedule']} levels"] if "schedule" in meta else []
    return ", ".join([str(meta.get("solver", "a solver")), *options, *levels, f"{tableau.nfe} evaluations"])


def provenance(model: str, tableau: Tableau) -> dict[str, Any]:
    """Plain values: the model, the solver and its numbers' digest, the versions of what computed."""
    return {
        "model": model,
        "solver": str(tableau.meta.get("token", "")),
        "nfe": tableau.nfe,
        "tableau": tableau.digest(),
        **{f"version_{name}": version(name) for name in ("s4s", "torch", "numpy")},
    }
