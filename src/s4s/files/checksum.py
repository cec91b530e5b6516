"""SHA-256 checksums: in the JSON files that s4s writes, and in a file beside any other file. Nothing changed is believed.

A checksum in a JSON object is of its other entries: `sha256:` and the digest of their JSON text in ASCII, with sorted keys,
without spaces, numbers as Python prints them; entries that are null do not count. The file beside another one is of the form
that the program sha256sum writes and reads: NAME.sha256 has a line for the file, or for each file in the folder, called NAME.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shlex
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from s4s.errors import DamagedFile, S4SError, S4SWarning
from s4s.files import bounded
from s4s.files.atomic import write_text
from s4s.files.stray_files import files_below

KEY = "checksum"
ENDING = ".sha256"  # of the file beside another one
LARGE = 1 << 26  # bytes, from which on a checksum takes noticeable time
MOST_WEIGHTS = 10_000  # files in the folder of a pipeline
SETTLED = 2_000_000_000  # nanoseconds since the last change, after which another one has another time
_REMEMBERED: dict[tuple[int, ...], str] = {}


def checksum_of(values: Mapping[str, Any]) -> str:
    """The checksum of a JSON object's entries but the checksum itself."""
    counted = {key: value for key, value in values.items() if key != KEY and value is not None}
    text = json.dumps(counted, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def signed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its checksum."""
    return {**{key: value for key, value in values.items() if key != KEY}, KEY: checksum_of(values)}


def is_signed(values: Mapping[str, Any], where: str | Path, what: str) -> bool:
    """Whether an object that was read has a checksum; one without is warned of.

    Raises:
        DamagedFile: if it has one of other entries.
    """
    if values.get(KEY) is None:
        warnings.warn(
            f"{where}: {what} has no checksum, so a change in it is not noticed; if it is right, {_to_sign(where)}",
            S4SWarning,
            stacklevel=3,
        )
        return False
    if values[KEY] != checksum_of(values):
        raise DamagedFile(
            where,
            f"{what} was changed: its numbers and words do not fit its checksum; make it again or restore it. "
            f"If you changed it on purpose, {_to_sign(where)}",
        )
    return True


def _to_sign(where: str | Path) -> str:
    """What to do with a file that is right; numbers that came from elsewhere have none."""
    return f"sign it: s4s sign {shlex.quote(str(where)) if Path(where).exists() else 'FILE'}"


def write_with_checksum(path: str | Path, text: str) -> None:
    """Write a text, and its checksum beside it."""
    write_text(path, text)
    record(path)


def read_with_checksum(path: str | Path, what: str) -> bytes:
    """The content of a file, after it was compared with the checksum beside it, if there is one.

    Raises:
        S4SError: if there is no such file.
        DamagedFile: if the file beside it has another checksum.
    """
    content = read_bytes(path, what)
    known = recorded(path)
    if known is not None and known != {Path(path).name: hashlib.sha256(content).hexdigest()}:
        raise DamagedFile(
            path,
            f"{what} was changed: it does not fit {beside(path).name}; make it again or restore it. "
            f"If you changed it on purpose, {_to_sign(path)}",
        )
    return content


def read_bytes(path: str | Path, what: str) -> bytes:
    """The content of a file.

    Raises:
        S4SError: if it cannot be read.
    """
    try:
        return bounded.read_bytes(path, bounded.RESULT.bytes)
    except OSError as error:
        raise S4SError(f"{path}: cannot read {what}: {error.strerror}") from error


def beside(path: str | Path) -> Path:
    """The file with the checksum of a file, or with those of the files in a folder."""
    return Path(f"{path}{ENDING}")


def digests(path: str | Path, largest: float = math.inf) -> dict[str, str]:
    """SHA-256 of a file by its name, or of all files in a folder of at most `largest` bytes by their names in it.

    Hidden files do not count, nor others that systems leave behind.
    """
    path = Path(path)
    if not path.is_dir():
        return {path.name: file_digest(path)}
    files = files_below(path, MOST_WEIGHTS)
    names = [file.relative_to(path).as_posix() for file in files if file.stat().st_size <= largest]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names, pool.map(lambda name: file_digest(path / name), names), strict=True))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces; this process remembers that of a large one until the file looks different."""
    if path.exists() and not path.is_file():  # a device or a pipe may never end
        raise OSError(errno.EINVAL, "it is no file", str(path))
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        look = status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns
        if look not in _REMEMBERED:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if status.st_size < LARGE or time.time_ns() - status.st_ctime_ns < SETTLED:
                return digest
            _REMEMBERED[look] = digest
        return _REMEMBERED[look]


def record(path: str | Path, found: Mapping[str, str] | None = None) -> None:
    """Write down the checksums of a file or folder beside it; `found` if they are known.

    Raises:
        OSError: if it cannot be read, or they cannot be written.
    """
    found = digests(path) if found is None else found
    write_text(beside(path), "".join(f"{digest}  {name}\n" for name, digest in found.items()))


def recorded(path: str | Path) -> dict[str, str] | None:
    """What `record` wrote; None if there is nothing beside the file."""
    with suppress(FileNotFoundError, NotADirectoryError):
        lines = bounded.read_bytes(beside(path), bounded.LINES).decode(errors="replace").splitlines()
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return None


def check_unchanged(path: str | Path, largest: float = math.inf) -> None:
    """Compare a user's file or folder with its checksums when it was first used; at the first use they are written beside it.

    Args:
        largest: files of a folder with more bytes are not looked at; then nothing is written.
    Raises:
        S4SError: if it was changed since.
        OSError: if it cannot be read.
    """
    path = Path(path)
    found, known = digests(path, largest), recorded(path)
    if largest < math.inf:
        known = {name: digest for name, digest in (known or found).items() if name in found}
    if known is None:
        try:
            record(path, found)
        except OSError as error:
            warnings.warn(
                f"{path}: its checksum cannot be written beside it ({error.strerror}), so a change in it is not noticed; "
                "say sha256 in the model's YAML file instead",
                S4SWarning,
                stacklevel=2,
            )
        return
    if found != known:
        changed = sorted(name for name in {*found, *known} if found.get(name) != known.get(name))
        which = "" if changed == [path.name] else f" ({', '.join(changed[:3])}{' ...' if len(changed) > 3 else ''})"
        raise S4SError(
            f"{path}{which}: changed since it was first used: its sha256 is not the one in {beside(path)}; restore it, or, "
            f"if you changed it on purpose, {_to_sign(path)}"
        )
