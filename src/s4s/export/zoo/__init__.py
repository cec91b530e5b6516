"""The zoo: solvers that others have published, as tableaux. `zoo_tableau(name, model)` gives one. Imports no torch."""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "zoo_tableau": "s4s.export.zoo.tableaux",
    "zoo_tableaux": "s4s.export.zoo.tableaux",
    "read_published": "s4s.export.zoo.forms",
    "entries": "s4s.models.published_solvers",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 's4s.export.zoo' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
