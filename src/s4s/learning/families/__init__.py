"""Learned solvers: (levels, weights) -> Tableau, differentiable. A new family is one module and one line in FAMILIES.

This file imports no torch before a family is made, since the config is checked against FAMILIES.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from s4s.errors import S4SError

if TYPE_CHECKING:
    from s4s.learning.families.family import Family
    from s4s.models.paths import Path
    from s4s.tableau import Tableau


class Entry(NamedTuple):
    """A family's class in families/NAME.py and the names of its options."""

    cls: str
    options: tuple[str, ...] = ()
    follows_levels: bool = False  # its start is the classical formula on the current levels, not numbers fixed once
    schedule_only: bool = False  # it has no weights
    by_lag: bool = False  # a row's weights belong to its last outputs, so a warm start carries them to another NFE


FAMILIES: dict[str, Entry] = {
    "lms": Entry("LMS", ("prediction", "order", "consistency", "start_weights"), by_lag=True),
    "pc": Entry("PC", ("prediction", "order", "consistency"), by_lag=True),
    "single_step": Entry("SingleStep", ("prediction", "order", "consistency")),
    "ld3": Entry("LD3", follows_levels=True, schedule_only=True),
    "gs": Entry("GS", follows_levels=True),
    "dyweight": Entry("DyWeight", ("order",), by_lag=True),
    "bns": Entry("BNS", by_lag=True),
}


def make_family(name: str, base: Tableau, path: Path | None = None, **options: Any) -> Family:
    """A learned solver's family, started at a classical solver.

    Args:
        name: a name in FAMILIES.
        base: the solver that all weights at zero stand for.
        path: the model's Gaussian path, for classical solvers that count in its time.
        options: those of the family; None stands for its default.
    Raises:
        S4SError: if the family or an option is unknown, or the family cannot represent `base`.
    """
    if name not in FAMILIES:
        raise S4SError(f"unknown family {name!r}; known: {', '.join(sorted(FAMILIES))}")
    entry = FAMILIES[name]
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in entry.options:
            raise S4SError(f"family {name!r} has no option {option!r}; allowed: {', '.join(entry.options) or 'none'}")
    cls: Callable[..., Family] = getattr(import_module(f"s4s.learning.families.{name}"), entry.cls)
    return cls(base, path=path, **given) if entry.follows_levels else cls(base, **given)
