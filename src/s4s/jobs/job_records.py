"""Snakemake's records of what each result was made from, kept in the results folder, so that they go where the results go."""

from __future__ import annotations

import os
from pathlib import Path

from s4s.jobs.folder_lock import cannot_write

PLACE = Path("results") / ".metadata"


def keep_with_results(folder: str | Path) -> None:
    """Have .snakemake/metadata of a working folder lie in its results: another clone that gets these has nothing to rerun.

    Records that are there already move along. Where the file system has no links, records stay where they are.

    Raises:
        S4SError: if the folder cannot be written.
    """
    link, place = Path(folder) / ".snakemake" / "metadata", Path(folder) / PLACE
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        if link.is_dir() and not link.is_symlink() and not place.exists():
            place.parent.mkdir(exist_ok=True)
            link.rename(place)
        place.mkdir(parents=True, exist_ok=True)
        # with records but without this folder, Snakemake takes the records for ones of an older version
        (link.parent / "incomplete").mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(os.path.relpath(place, link.parent))
    except OSError:
        pass
