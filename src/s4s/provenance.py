"""What is written into every result about how it was made."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from s4s.tableau import Tableau


def provenance(model: str, tableau: Tableau) -> dict[str, Any]:
    """Plain values: the model, the solver and its numbers' digest, the versions of what computed."""
    return {
        "model": model,
        "solver": str(tableau.meta.get("token", "")),
        "nfe": tableau.nfe,
        "tableau": tableau.digest(),
        **{f"version_{name}": version(name) for name in ("s4s", "torch", "numpy")},
    }
