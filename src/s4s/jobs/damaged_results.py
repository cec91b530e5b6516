"""Results that a job found damaged: noted when found, moved aside when the next run starts, so that it makes them again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from s4s.errors import S4SError
from s4s.files.atomic import write_json
from s4s.files.json_file import parse_object
from s4s.jobs.folder_lock import lock_folder

RESULTS = Path("results")
NOTES = RESULTS / ".damaged"  # a file a result
ENDING = ".damaged"


def note(path: str | Path) -> bool:
    """Write down that a file is damaged; whether it is a result of this folder, and so will be made again."""
    here = Path(path)
    try:
        name = here.resolve().relative_to(RESULTS.resolve()).as_posix()
        write_json(NOTES / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json", {"name": name, "look": _look(here)})
    except (OSError, ValueError):  # not below results, or it cannot be written
        return False
    return True


def move_aside() -> list[str]:
    """Give the noted results of this folder another name, unless they were replaced in the meantime or a run is at work.

    Returns:
        Their names, which are free again; the damaged files are NAME.damaged.
    """
    if not NOTES.is_dir():
        return []
    try:
        lock = lock_folder(".")
    except S4SError:
        return []
    moved = []
    for noted in sorted(NOTES.iterdir()):
        try:
            found = parse_object(noted.read_bytes(), noted, "this note")
            path = RESULTS / str(found.get("name"))
            if path.resolve().is_relative_to(RESULTS.resolve()) and found.get("look") == _look(path):
                path.replace(f"{path}{ENDING}")
                moved.append(str(path))
        except (OSError, S4SError):  # it is gone already
            pass
        noted.unlink(missing_ok=True)
    if lock is not None:
        os.close(lock)
    return moved


def _look(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
