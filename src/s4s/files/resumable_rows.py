"""What an unfinished file of rows has so far, in part files beside it, so that a job that was killed goes on where it was."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from s4s.errors import S4SError
from s4s.files.rows import Split, joined, read_attributes, read_split, write_rows, write_splits

SAVE_SECONDS = 60.0  # what a kill loses at most
SAVE_BYTES = 1 << 28  # rows that wait in memory until they are kept
KIND = "part"


def whole_blocks(rows: int, block: int) -> int:
    """A number of rows, rounded up to whole blocks."""
    return -(-rows // block) * block


def write_resumable(
    path: str | Path,
    kind: str,
    seeds: Mapping[str, np.ndarray],
    make: Callable[[np.ndarray], Split],
    size: int,
    attributes: Mapping[str, Any],
    identity: str = "",
    finished: Callable[[int], object] = lambda rows: None,
) -> None:
    """Write a file with `make(seeds)` for the seeds of each split, `size` of them at a time.

    What takes long is kept now and then in a folder beside `path`, which is removed at the end.

    Args:
        attributes, identity: parts that were made with others are made again.
        finished: called with the number of rows that an interrupted run made.
    """
    path = Path(path)
    folder = path.with_name(f".{path.stem}.parts")
    label = {**attributes, "identity": identity}

    def pieces() -> Iterator[tuple[str, Split]]:
        for name, rows in seeds.items():
            yield from ((name, piece) for piece in _rows_of(folder, name, rows, make, size, label, finished))

    write_rows(path, kind, {name: len(rows) for name, rows in seeds.items()}, pieces(), attributes)
    shutil.rmtree(folder, ignore_errors=True)


def _rows_of(
    folder: Path,
    name: str,
    seeds: np.ndarray,
    make: Callable[[np.ndarray], Split],
    size: int,
    label: dict[str, Any],
    finished: Callable[[int], object],
) -> Iterator[Split]:
    start, since = 0, time.monotonic()
    waiting: list[Split] = []  # rows start - len(waiting) ... start are not kept yet
    while start < len(seeds):
        kept = _kept(folder / f"{name}-{start}.h5", name, label, seeds[start:]) if not waiting else None
        if kept is not None:
            start += len(kept)
            finished(len(kept))
            yield kept
            continue
        piece = make(seeds[start : start + size])
        waiting.append(piece)
        start += len(piece)
        yield piece
        held = sum(array.nbytes for part in waiting for array in part.arrays().values())
        if start < len(seeds) and (time.monotonic() - since > SAVE_SECONDS or held > SAVE_BYTES):
            part = joined(waiting)
            write_splits(folder / f"{name}-{start - len(part)}.h5", KIND, {name: part}, label)
            waiting, since = [], time.monotonic()


def _kept(path: Path, name: str, label: dict[str, Any], seeds: np.ndarray) -> Split | None:
    """The rows of a part that was made in this very way, or None."""
    try:
        if not path.exists() or read_attributes(path) != {"kind": KIND, **_plain(label)}:
            return None
        part = read_split(path, KIND, name)
    except S4SError:
        return None
    return part if len(part) <= len(seeds) and (part.seeds == seeds[: len(part)]).all() else None


def _plain(label: dict[str, Any]) -> dict[str, Any]:
    return {key: value.tolist() if isinstance(value, np.generic | np.ndarray) else value for key, value in label.items()}
