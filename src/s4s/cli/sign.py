"""s4s sign: say that a file is as it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s4s.errors import S4SError
from s4s.files.checksum import beside, read_bytes, record
from s4s.files.json_file import parse_object


def sign(
    files: Annotated[list[Path], typer.Argument(help="Solvers' files, weights, or folders of weights.")],
) -> None:
    """Write the checksum of a file that was changed on purpose.

    A solver's file gets a new checksum inside it, after its numbers were found to form a solver. Of any other file, or of the
    files in a folder, it is kept beside it, in FILE.sha256.

    Example: `s4s sign my-solver/nfe~5.json`
    """
    for path in files:
        if path.suffix == ".json" and _is_solver(path):
            from s4s.tableau import Tableau

            Tableau.load(path, changed=True).save(path)
            print(f"{path}: signed")
            continue
        try:
            record(path)
        except OSError as error:
            raise S4SError(f"{path}: cannot be signed: {error.strerror} ({error.filename})") from error
        print(f"{path}: signed in {beside(path)}")


def _is_solver(path: Path) -> bool:
    try:
        found = parse_object(read_bytes(path, "this file"), path, "this file")
    except S4SError:  # no JSON object, or far more than a solver has
        return False
    return str(found.get("format", "")).startswith("s4s-tableau/")
