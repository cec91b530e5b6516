"""Writes down which functions of this repository a process calls; Python runs this file first where PYTHONPATH has its folder.

S4S_REACH names the file to write to. A line is who calls (S4S_REACH_BY: a test, or a fixture), the file of the function within
the repository, and the function's first line.
"""

import os
import sys
import threading
from types import FrameType

PARTS = ("src/s4s/", "workflow/scripts/", "rules/")
seen: set[int] = set()  # code objects that were called since the caller's name changed


def relative(path: str) -> str | None:
    """A file's path within the repository, or within a copy of it that a test made."""
    for part in PARTS:
        _, found, rest = path.rpartition(f"/{part}")
        if found:
            return part + rest
    return None


def trace() -> None:
    log = os.open(os.environ["S4S_REACH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def called(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if id(code) not in seen:
            seen.add(id(code))
            if path := relative(code.co_filename):
                by = os.environ.get("S4S_REACH_BY", "")
                os.write(log, f"{by}\t{path}\t{code.co_firstlineno}\n".encode())

    threading.settrace(called)  # type: ignore[arg-type]
    sys.settrace(called)  # type: ignore[arg-type]


if "S4S_REACH" in os.environ:
    trace()
