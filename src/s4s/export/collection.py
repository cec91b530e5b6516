"""One solver at several numbers of evaluations, and what is done where a run starts in the middle of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from s4s.errors import S4SError
from s4s.solvers import solver
from s4s.tableau import Tableau

Source = Tableau | str | Path | Sequence["Tableau | str | Path"]


def read_tableaux(source: Source) -> dict[int, Tableau]:
    """Tableaux by their number of evaluations.

    Args:
        source: a tableau; its file; a folder of such files, as results/tableaux/{model}/{solver}; or several of these.
    Raises:
        S4SError: if a file is missing or no tableau, a folder holds none, or two have the same number of evaluations.
    """
    found: dict[int, Tableau] = {}
    for item in [source] if isinstance(source, Tableau | str | Path) else source:
        for tableau, where in _read(item):
            if tableau.nfe in found:
                raise S4SError(f"{where}: there is a solver with {tableau.nfe} evaluations already; give one for each number")
            found[tableau.nfe] = tableau
    if not found:
        raise S4SError("no tableau given; give a tableau, its file, or a folder of such files")
    return dict(sorted(found.items()))


def _read(item: Tableau | str | Path) -> list[tuple[Tableau, str]]:
    if isinstance(item, Tableau):
        return [(item, "tableau")]
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


def restarted(levels: Tensor) -> Tableau:
    """What runs from the middle of a solver on its remaining levels: DPM-Solver++ of order 3, or as many as there are steps.

    A learned solver's weights belong to the whole run: they weigh outputs that a run from the middle does not have.
    """
    order = min(3, len(levels) - 1)
    return solver("dpmpp", levels, order=order, lower_order_final=True)
