"""s4s show: a tableau for the eye."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from s4s.cli.checks import check_file_name
from s4s.errors import needed_for
from s4s.files.atomic import atomic_path

if TYPE_CHECKING:
    from s4s.tableau import Tableau

COLUMN = 13  # characters of a column of weights, with its borders
PLOTS = (".pdf", ".png", ".svg")


def show(
    tableau: Annotated[Path, typer.Argument(help="The solver's file, such as results/tableaux/digits/joint/nfe~5.json.")],
    reduced: Annotated[
        bool, typer.Option("--reduced", help="Each state from the initial noise and the outputs alone.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw levels and reduced form too: a .pdf, .png or .svg file.")] = None,
) -> None:
    """Print a solver: what it was made for, its noise levels, and its weights.

    A row is a state: its noise level, its conditioning level, and the weights of the states y and outputs D
    that it is made of. With **--reduced** earlier states are eliminated; two solvers with the same levels and reduced form
    compute the same thing.

    Example: `s4s show results/tableaux/digits/joint/nfe~5.json --reduced --plot joint5.pdf`
    """
    from s4s.tableau import Tableau

    if plot is not None:
        check_file_name("--plot", plot, PLOTS)
    solver = Tableau.load(tableau)
    console = Console(width=None if sys.stdout.isatty() else 10_000)  # a file or pipe has no width
    for key, value in facts(solver).items():
        console.print(f"[bold]{key}[/bold]  {escape(value)}", highlight=False)
    for table in tables(solver, reduced, console.width):
        console.print(table)
    if plot is not None:
        with needed_for("a plot"):
            from s4s.reporting.figures import one_solver
        with atomic_path(plot) as path:
            one_solver(solver).savefig(path)


def facts(solver: Tableau) -> dict[str, str]:
    """What a person wants to know first."""
    from s4s.files.plain_text import in_one_line
    from s4s.models.provenance import guidance, part, validated

    meta: dict[str, Any] = solver.meta
    network = ", ".join(f"{key} {value}" for key, value in part(solver, "parametrisation").items())
    found = {
        "evaluations": str(solver.nfe),
        "levels": f"{float(solver.levels[0]):.6g} to {float(solver.levels[-1]):.6g}",
        "first input": "" if float(solver.kappa) == 1 else f"{float(solver.kappa):.6g} times the initial noise",
        "solver": str(meta.get("token", meta.get("solver", ""))),
        "model": str(meta.get("model", "")),
        "network": network,
        "guidance": "" if (scale := guidance(solver)) is None else f"{scale:g}",
        "teacher": str(meta.get("teacher") or ""),
        "pairs": " and ".join(f"{count} for {split}" for split, count in part(solver, "pairs").items()),
        "validation": validated(solver),
        "fit": f"{meta['evaluations']:,} network evaluations" if isinstance(meta.get("evaluations"), int) else "",
        "digest": solver.digest(),
    }
    return {key: in_one_line(value) for key, value in found.items() if value}


def tables(solver: Tableau, reduced: bool, width: int) -> list[Table]:
    """The levels, and the weights of earlier states (reduced: of the initial noise) and of outputs; row n makes state n.

    Weights that do not fit into `width` characters beside each other go into further tables.
    """
    if reduced:
        a, b = solver.reduced()
        blocks = [("weight of the initial noise", "y", a[:, None].tolist()), ("weights of outputs", "D", b.tolist())]
    else:
        empty = [[0.0] * solver.nfe]
        blocks = [
            ("weights of earlier states", "y", empty + solver.A.tolist()),
            ("weights of outputs", "D", empty + solver.B.tolist()),
        ]
    states = [f"y_{n}" for n in range(solver.nfe + 1)]
    conditioning = [f"{level:.5g}" for level in solver.eval_levels.tolist()] + ["-"]
    named = {"state": states, "level": [f"{level:.5g}" for level in solver.levels.tolist()], "conditioning": conditioning}
    made = [_table("noise levels", named)]
    for title, letter, numbers in blocks:
        weights = {f"{letter}_{j}": [_weight(row[j]) for row in numbers] for j in range(len(numbers[0]))}
        at_once = max(1, (width - COLUMN) // COLUMN)
        for begin in range(0, len(weights), at_once):
            some = dict(list(weights.items())[begin : begin + at_once])
            made.append(_table(title, {"state": states, **some}))
    return made


def _weight(number: float) -> str:
    if not number:
        return "."
    return f"{number:.4f}" if 1e-3 <= abs(number) < 1e4 else f"{number:.3g}"


def _table(title: str, columns: dict[str, list[str]]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table
