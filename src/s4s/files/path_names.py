"""Names of files and folders that a run can work with. What s4s gives to a shell is quoted; this is about what others do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from s4s.errors import S4SError


class Refused(NamedTuple):
    """Characters that a path may not have.

    Attributes:
        characters: a regular expression of one of them.
        why: what would read them otherwise than meant.
    """

    characters: str
    why: str


ANYWHERE = Refused(
    r"[{}\x00-\x1f\x7f-\x9f\ud800-\udfff]", "Snakemake takes braces for wildcards, and a path is one line of text"
)
INSTALLED = Refused(
    rf"{ANYWHERE.characters}|[$`\"\\{os.pathsep}]",
    f"{ANYWHERE.why}; PATH and PYTHONPATH are cut at {os.pathsep!r}; scripts in .venv/bin hold their own path in double quotes",
)
SUBMITTED = Refused(
    r"[^\w@%+=:,./-]", "batch systems and conda read paths without quotes; only letters, digits and _@%+=:,./- can be used"
)


def check_path(path: str | Path, what: str, refused: Refused = ANYWHERE) -> None:
    """Raise S4SError, which names the character, if a path cannot be worked with; `what` says whose it is."""
    if found := re.search(refused.characters, str(path)):
        raise S4SError(f"{what} {str(path)!r}: {found.group()!r} cannot be in its path: {refused.why}; rename or move it")


def as_argument(path: str | Path) -> str:
    """A path from the working directory, as rules and programs are given it: never read as an option.

    Raises:
        S4SError: if it cannot be worked with.
    """
    relative = os.path.relpath(path)
    check_path(relative, "file")
    return os.path.abspath(path) if relative.startswith("-") else relative


def check_places(checkout: str | Path, python: str | Path, files: Iterable[str | Path]) -> None:
    """Raise S4SError in one line where Snakemake, or a shell that it or `.venv` starts, would read a path otherwise than meant.

    Args:
        checkout: folder of the Snakefile.
        python: the interpreter.
        files: of the config and the models, which count from the working directory.
    """
    check_path(checkout, "this checkout", INSTALLED)
    check_path(python, "the Python that runs Snakemake", INSTALLED)
    for file in files:
        check_path(os.path.relpath(file), "file")


def check_submitted(checkout: str | Path, python: str | Path, files: Iterable[str | Path]) -> None:
    """The same where jobs are submitted to a batch system, or their software is installed by conda or in a container."""
    check_path(checkout, "this checkout", SUBMITTED)
    check_path(python, "the Python that runs Snakemake", SUBMITTED)
    check_path(os.getcwd(), "the working directory", SUBMITTED)
    for file in files:
        check_path(os.path.relpath(file), "file", SUBMITTED)
