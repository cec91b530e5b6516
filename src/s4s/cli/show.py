"""s4s show: a tableau for the eye."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from s4s.atomic import atomic_path
from s4s.cli.checks import check_file_name, extra

if TYPE_CHECKING:
    from s4s.tableau import Tableau

PLOTS = (".pdf", ".png", ".svg")


def show(
    tableau: Annotated[Path, typer.Argument(help="The solver's file, such as results/tableaux/digits/joint/nfe~5.json.")],
    reduced: Annotated[bool, typer.Option("--reduced", help="Each state from the start and the outputs alone.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw levels and reduced form too: a .pdf, .png or .svg file.")] = None,
) -> None:
    """Print a solver: what it was made for, its noise levels, and its weights.

    A row is a network evaluation: the state's noise level, the level that the network is told, and the weights of all states
    y and outputs D so far in the next state. With **--reduced** earlier states are eliminated; two solvers with the same
    levels and reduced form compute the same thing.

    Example: `s4s show results/tableaux/digits/joint/nfe~5.json --reduced --plot joint5.pdf`
    """
    from s4s.tableau import Tableau

    if plot is not None:
        check_file_name("--plot", plot, PLOTS)
    solver = Tableau.load(tableau)
    console = Console()
    for key, value in facts(solver).items():
        console.print(f"[bold]{key}[/bold]  {escape(value)}", highlight=False)
    for table in reduced_form(solver) if reduced else rows(solver):
        console.print(table)
    if plot is not None:
        with extra("plots"):
            from s4s.figures import one_solver
        with atomic_path(plot) as path:
            one_solver(solver).savefig(path)


def facts(solver: Tableau) -> dict[str, str]:
    """What a person wants to know first."""
    from s4s.provenance import part, validated

    meta: dict[str, Any] = solver.meta
    network = ", ".join(f"{key} {value}" for key, value in part(solver, "parametrisation").items())
    found = {
        "evaluations": str(solver.nfe),
        "levels": f"{float(solver.levels[0]):.6g} to {float(solver.levels[-1]):.6g}",
        "first input": "" if float(solver.kappa) == 1 else f"{float(solver.kappa):.6g} times the start",
        "solver": str(meta.get("token", meta.get("solver", ""))),
        "model": str(meta.get("model", "")),
        "network": network,
        "teacher": str(meta.get("teacher") or ""),
        "pairs": " and ".join(f"{count} for {split}" for split, count in part(solver, "pairs").items()),
        "validation": validated(solver),
        "fit": f"{meta['evaluations']:,} network evaluations" if isinstance(meta.get("evaluations"), int) else "",
        "digest": solver.digest(),
    }
    return {key: value for key, value in found.items() if value}


def rows(solver: Tableau) -> list[Table]:
    """The weights of states, with the levels, and those of outputs; row n makes state n."""
    return [
        _table(solver, "weights of earlier states", "y", [[0.0] * solver.nfe, *solver.A.tolist()], levels=True),
        _table(solver, "weights of outputs", "D", [[0.0] * solver.nfe, *solver.B.tolist()]),
    ]


def reduced_form(solver: Tableau) -> list[Table]:
    """The weights of the start and of the outputs in every state."""
    a, b = solver.reduced()
    return [
        _table(solver, "weight of the start", "y", a[:, None].tolist(), levels=True),
        _table(solver, "weights of outputs", "D", b.tolist()),
    ]


def _table(solver: Tableau, title: str, letter: str, numbers: list[list[float]], levels: bool = False) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in ["state", *(["level", "told"] if levels else []), *(f"{letter}_{j}" for j in range(len(numbers[0])))]:
        table.add_column(name, justify="right", no_wrap=True)
    told = [f"{level:.5g}" for level in solver.eval_levels.tolist()] + ["-"]
    for n, level in enumerate(solver.levels.tolist()):
        about = [f"{level:.5g}", told[n]] if levels else []
        table.add_row(f"y_{n}", *about, *(f"{number:.4f}" if number else "." for number in numbers[n]))
    return table
