"""Plain words for a full disk, a used-up quota, a folder that cannot be written."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path

REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your disk quota is used up; free some space",
    errno.EROFS: "this folder is read-only; mount it for writing, or choose another one (snakemake --directory, s4s --out)",
    errno.EACCES: "no permission; change it, or choose another folder (snakemake --directory, s4s --out)",
    errno.EIO: "the disk gave an input/output error; check it",
}


def remedy(error: BaseException | None) -> str | None:
    """What is wrong with the storage and what to do, if an error is about that; HDF5's errors have their number in the text."""
    number = getattr(error, "errno", None)
    if number is None and (found := re.search(r"errno = (\d+)", str(error))):
        number = int(found[1])
    words = REMEDIES.get(number or 0)
    return words and f"{words} and run the same command again; nothing finished is lost"


def require_space(path: str | Path, size: int) -> None:
    """Check that `size` bytes fit beside `path`, before anything is written.

    Raises:
        OSError: if they do not, as the write itself would.
    """
    disk = shutil.disk_usage(Path(path).absolute().parent)
    if disk.total and disk.free < size:  # some network file systems do not tell
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def probe(folder: str | Path, size: int = 1 << 20) -> str | None:
    """What is wrong with a folder, by writing `size` bytes there that nobody sees; None if that works."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return remedy(error) or error.strerror
    return None


def troubles(folder: str | Path) -> dict[Path, str]:
    """What is wrong with the file systems that a run in a folder writes to, by the place where each begins.

    They are the folder's own, and those that folders of its results, such as the logs, lie on by a mount or a link.
    """
    here, results = Path(folder), Path(folder) / "results"
    places: dict[int, Path] = {}
    found: dict[Path, str] = {}
    try:
        for place in (here, here / ".snakemake", results, *sorted(results.glob("*")), *sorted(results.glob("logs/*"))):
            if place.is_dir():
                places.setdefault(place.stat().st_dev, place)
    except OSError as error:
        found[here] = remedy(error) or str(error.strerror)
    return found | {place: words for place in places.values() if (words := probe(place)) is not None}
