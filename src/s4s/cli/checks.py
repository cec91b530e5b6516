"""What several commands check before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s4s.errors import S4SError
from s4s.files.disk_errors import probe, remedy


def check_folder(option: str, path: Path) -> None:
    """Raise S4SError where a folder is a file, lies below one, or cannot be written; nothing is made."""
    try:
        existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    except OSError as error:  # a folder on the way may not be looked into
        raise S4SError(f"{option} {path}: {remedy(error) or error}") from error
    if not existing.is_dir():
        raise S4SError(f"{option} {path}: {existing} is a file, but must be a folder")
    if (words := probe(existing)) is not None:
        raise S4SError(f"{option} {path}: cannot write there: {words}")


def check_file_name(option: str, path: Path, suffixes: Sequence[str]) -> None:
    """Raise S4SError where a file has none of the suffixes, is a folder, or cannot be written."""
    if path.suffix.lower() not in suffixes:
        raise S4SError(f"{option} {path}: must end in {', '.join(suffixes[:-1])} or {suffixes[-1]}")
    if path.is_dir():
        raise S4SError(f"{option} {path}: is a folder, but must be a file")
    check_folder(option, path.parent)
