"""One run at a time in a results folder. The kernel frees the lock however the run ends, so none is ever stale."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from s4s.errors import S4SError


def cannot_write(folder: str | Path, error: OSError) -> S4SError:
    """What is said of a folder where a run cannot write."""
    return S4SError(
        f"{Path(folder).resolve()}: cannot write here ({error.strerror}); nothing was changed; free some space or mount it for "
        "writing, or choose another folder with --directory"
    )


def lock_folder(folder: str | Path) -> int | None:
    """Hold the lock of a folder until this process ends.

    Returns:
        The open file; None on file systems without locks.
    Raises:
        S4SError: if another run holds it, or the folder cannot be written.
    """
    path = Path(folder) / ".snakemake" / "s4s.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(handle, 200).decode(errors="replace").strip()
        os.close(handle)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise S4SError(
            f"{Path(folder).resolve()}: another run works in this folder ({holder or 'it is just starting'}); wait until it "
            "ends, or choose another folder with --directory"
        ) from error
    os.ftruncate(handle, 0)
    os.pwrite(
        handle, f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode(), 0
    )
    return handle
