"""s4s zoo: solvers that others have published, and how to get each."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

zoo = typer.Typer(help="Solvers that others have published: which there are, and how to get each.", no_args_is_help=True)


@zoo.command("list")
def list_entries() -> None:
    """List the solvers by name: method, model, numbers of evaluations, licence, and whether the numbers come with s4s.

    A name is what `S4SScheduler.from_tableau("zoo:NAME", pipe.scheduler)` takes, where the numbers ship.

    Example: `s4s zoo list`
    """
    from s4s.export.zoo.page import counts
    from s4s.models.published_solvers import entries

    table = Table(header_style="bold")
    for name in ("name", "method", "model", "NFE", "licence", "ships"):
        table.add_column(name, no_wrap=name == "name")
    for entry in entries().values():
        cells = (entry.name, entry.method, entry.model, counts(entry.nfe), entry.licence, "yes" if entry.ships else "no")
        table.add_row(*map(escape, cells))
    _console().print(table)


@zoo.command()
def show(name: Annotated[str, typer.Argument(help="A solver's name in `s4s zoo list`.")]) -> None:
    """Show all that is known of a solver: what it was fitted for, published figures, and the commands that get it.

    Example: `s4s zoo show dyweight-cifar10`
    """
    from s4s.export.zoo.page import commands, facts
    from s4s.models.published_solvers import entry_of

    entry, _ = entry_of(name)
    console = _console()
    for key, value in facts(entry).items():
        console.print(f"[bold]{key}[/bold]  {escape(value)}", highlight=False)
    console.print("[bold]to get it[/bold]")
    for line in commands(entry):
        console.print(escape(f"  {line}"), highlight=False, soft_wrap=True)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 10_000)  # a file or pipe has no width
