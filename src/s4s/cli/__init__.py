"""The command `s4s`: learn solvers, sample with them, look at them, compare, convert and export them."""

from __future__ import annotations

import sys

import typer

from s4s.cli.compare import compare
from s4s.cli.convert import convert
from s4s.cli.export import export
from s4s.cli.fit import fit
from s4s.cli.sample import sample
from s4s.cli.show import show
from s4s.cli.sign import sign
from s4s.cli.zoo import zoo
from s4s.errors import S4SError, printable
from s4s.jobs.script import plain, show_warnings_plainly

app = typer.Typer(
    name="s4s",
    help="Learned solvers for diffusion models. A solver is one JSON file, a tableau; `s4s show FILE` explains one.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (fit, sample, show, compare, convert, sign):
    app.command()(command)
app.add_typer(export, name="export")
app.add_typer(zoo, name="zoo")


def main() -> None:
    """Run the command; what a user can mend is one message and exit code 2."""
    show_warnings_plainly()
    try:
        app()
    except SystemExit as ended:
        if ended.code == 130:  # Ctrl-C
            print("interrupted; nothing finished is lost, and the same command goes on", file=sys.stderr)
        raise
    except (S4SError, OSError, RuntimeError, ModuleNotFoundError) as error:
        message = plain(error)
        if message is None and isinstance(error, OSError) and error.filename:
            message = f"{error.filename}: {error.strerror}"
        if message is None:
            raise
        print(f"error: {printable(message)}", file=sys.stderr)
        sys.exit(2)
