"""Files that appear complete or not at all."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_COUNT = itertools.count()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; on success it is flushed to disk and renamed to `path`.

    After an exception the temporary file is removed and an older `path` stays as it was. What a killed process of this
    machine left of the same `path` is removed too.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f".{path.stem}.{_process(os.getpid())}-{next(_COUNT)}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _process(pid: int) -> str:
    """A name of a process that no other process has, of this machine or another, later ones included."""
    host = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:  # no such process, or no /proc
        started = "0"
    return f"{host}-{pid}-{started}"


def _sweep(path: Path) -> None:
    host = _process(0).partition("-")[0]
    name = re.compile(rf"\.{re.escape(path.stem)}\.({host}-(\d+)-\d+)-\d+{re.escape(path.suffix)}")
    for entry in os.scandir(path.parent):
        found = name.fullmatch(entry.name)
        if found and _process(int(found[2])) != found[1]:
            Path(entry.path).unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make the rename itself outlast a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, complete or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON; floats keep all their digits, NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
