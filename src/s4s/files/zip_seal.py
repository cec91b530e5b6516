"""A seal on the zip files that s4s writes, .npz and states of fits: the SHA-256 of all of one, in the comment at its end."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import IO

NAME = b"sha256:"
LENGTH = len(NAME) + 64


def sealed(content: bytes) -> bytes:
    """A zip file without a comment, with its seal."""
    head = content[:-2] + LENGTH.to_bytes(2, "little")
    return head + NAME + hashlib.sha256(head).hexdigest().encode()


def check_zip(path: str | Path | IO[bytes]) -> None:
    """Compare a file with its seal; of one without, as other programs write them, the checksums of its records.

    Raises:
        OSError: if it cannot be read.
        zipfile.BadZipFile: if it is no zip, or was changed.
    """
    content = Path(path).read_bytes() if isinstance(path, str | Path) else path.read()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        damaged = archive.testzip() if not archive.comment else None
        comment = archive.comment
    if comment and content != sealed(content[: -LENGTH - 2] + bytes(2)):
        raise zipfile.BadZipFile("it was changed")
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
