"""One solver at several numbers of evaluations, and what is done where a run starts in the middle of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from s4s.errors import S4SError, shown
from s4s.export.zoo.tableaux import zoo_tableaux
from s4s.solvers import solver
from s4s.tableau import Tableau

One = Tableau | Mapping[str, Any] | str | Path
Source = One | Iterable[One] | Mapping[int, Tableau]
TAKES = "a tableau, its JSON form, its file, a folder of such files, zoo:NAME of a published solver, or a list of these"
ZOO = "zoo:"
NEARLY = 0.05  # by which a state's noise may be off where it counts as one at its level

log = logging.getLogger(__name__)


def read_tableaux(source: Source) -> dict[int, Tableau]:
    """Tableaux by their number of evaluations.

    Args:
        source: a tableau; its JSON form; its file; a folder of such files, as results/tableaux/{model}/{solver}; several of
            these; a published solver's name, "zoo:NAME" or "zoo:NAME/NFE"; or what this function gave.
    Raises:
        S4SError: if it is none of these, a file is missing or no tableau, a folder holds none, or two have the same number of
            evaluations.
    """
    found: dict[int, Tableau] = {}
    for item in _items(source):
        for tableau, where in _read(item):
            if tableau.nfe in found:
                raise S4SError(f"{where}: there is a solver with {tableau.nfe} evaluations already; give one for each number")
            found[tableau.nfe] = tableau
    if not found:
        raise S4SError("no tableau given; give a tableau, its file, or a folder of such files")
    return dict(sorted(found.items()))


def _items(source: Any) -> Iterable[Any]:
    if isinstance(source, Mapping) and all(isinstance(value, Tableau) for value in source.values()):
        return source.values()
    several = isinstance(source, Iterable) and not isinstance(source, Mapping | str | bytes)
    return source if several else [source]


def _read(item: Any) -> list[tuple[Tableau, str]]:
    if isinstance(item, Tableau):
        return [(item, "tableau")]
    if isinstance(item, Mapping):
        return [(Tableau.from_json(dict(item)), "tableau")]
    if not isinstance(item, str | Path) or str(item).lstrip().startswith("{"):
        raise S4SError(f"no tableau given but {shown(item)}; give {TAKES}")
    if str(item).startswith(ZOO):
        return [(tableau, str(item)) for tableau in zoo_tableaux(str(item))]
    path = Path(item)
    if not path.is_dir():
        return [(Tableau.load(path), str(path))]
    files = sorted(path.glob("*.json"))
    if not files:
        raise S4SError(f"{path}: no tableau in this folder; it must hold files such as nfe~5.json")
    return [(Tableau.load(file), str(file)) for file in files]


def pick(tableaux: Mapping[int, Tableau], nfe: int, how: str) -> Tableau:
    """The tableau with this number of evaluations; `how` says how to ask for another."""
    if nfe not in tableaux:
        raise S4SError(f"no solver for {nfe} steps; there are solvers for {listed(tableaux)}: {how}")
    return tableaux[nfe]


def listed(tableaux: Mapping[int, Tableau]) -> str:
    """The numbers of evaluations in words: "3, 5 and 8"."""
    *first, last = map(str, tableaux)
    return f"{', '.join(first)} and {last}" if first else last


def from_the_middle(levels: Tensor, nfe: int) -> Tableau:
    """`restarted` on the last levels, [n + 1], of a solver of `nfe` steps; a warning says so."""
    log.warning(
        "The run begins at step %d of %d. A learned solver's weights are for whole runs: DPM-Solver++ runs on its levels.",
        nfe - len(levels) + 2, nfe,
    )  # fmt: skip
    return restarted(levels)


def restarted(levels: Tensor) -> Tableau:
    """What runs from the middle of a solver on its remaining levels: DPM-Solver++ of order 3, or as many as there are steps.

    A learned solver's weights belong to the whole run: they weigh outputs that a run from the middle does not have.
    """
    order = min(3, len(levels) - 1)
    return solver("dpmpp", levels, order=order, lower_order_final=True)


def stopped(tableau: Tableau, steps: int) -> Tableau:
    """The first `steps` steps of a solver alone, which leave a state at the level between them and the others.

    Raises:
        S4SError: if the solver has no such state there, but a stage of a step or numbers of its own.
    """
    if steps == tableau.nfe:
        return tableau
    noise = tableau.reduced().a[:-1] * tableau.levels[0] / tableau.levels[:-1]  # over that of its level
    possible = [n for n in range(1, tableau.nfe) if abs(float(noise[n]) - 1) <= NEARLY]
    if steps not in possible:
        instead = f"stop after {' or '.join(map(str, possible))}, or run it whole" if possible else "run it whole"
        raise S4SError(
            f"no run can stop after {steps} of the {tableau.nfe} steps of this solver, which has no state at that noise level "
            f"there; {instead}"
        )
    levels, conditioning = tableau.levels[: steps + 1], tableau.eval_levels[:steps]
    A, B, groups = tableau.A[:steps, :steps], tableau.B[:steps, :steps], [[n for n in g if n < steps] for g in tableau.groups]
    return replace(tableau, levels=levels, eval_levels=conditioning, A=A, B=B, groups=[*filter(None, groups)])
