"""A seal on the HDF5 files that s4s writes: a checksum of all of one but its rows, which is compared before HDF5 sees the file.

HDF5 has checksums for most of its structures, not for all; in the others one flipped bit can make it wait for ever. A file
begins with a block that HDF5 leaves to its users: the seal's name, and as JSON where the rows lie and the checksum (XXH3, 128
bits) of that list and of all bytes after the block that are no rows. Rows have checksums of their own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import h5py
import xxhash

from s4s.errors import DamagedFile

BLOCK = 4096  # bytes of the block
NAME = b"s4s-seal/1 "
HDF5 = b"\x89HDF\r\n\x1a\n"  # what a file without a block begins with
PIECE = 1 << 20

Span = tuple[int, int]  # where bytes begin and end


@contextmanager
def sealed_file(path: str | Path) -> Iterator[h5py.File]:
    """A new HDF5 file to be filled, which is sealed at the end."""
    with h5py.File(path, "w", libver="v110", userblock_size=BLOCK) as file:
        yield file
        file.flush()  # closing would not raise what goes wrong
    spans = _rows(path)
    while len(text := _text(path, spans)) > BLOCK:
        spans.remove(min(spans, key=lambda span: span[1] - span[0]))  # what is not listed is under the checksum
    with open(path, "r+b") as file:
        file.write(text.ljust(BLOCK, b"\0"))


def check_seal(path: str | Path) -> None:
    """Compare a file with its seal; one without, as earlier versions and other programs write them, is left to HDF5.

    Raises:
        OSError: if it cannot be read.
        DamagedFile: if it was changed.
    """
    with open(path, "rb") as file:
        block = file.read(BLOCK)
    if block.startswith(HDF5):
        return
    try:
        if len(block) < BLOCK or not block.startswith(NAME):
            raise ValueError("no seal")
        spans = [(int(start), int(stop)) for start, stop in json.loads(block[len(NAME) :].rstrip(b"\0"))["rows"]]
        places = [BLOCK, *(place for span in spans for place in span), os.stat(path).st_size]
        if any(stop < start for start, stop in pairwise(places)):
            raise ValueError("rows out of order")
        whole = _text(path, spans).ljust(BLOCK, b"\0") == block
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        whole = False
    if not whole:
        raise DamagedFile(path, "not a readable HDF5 file, perhaps cut off or changed; delete it and rerun")


def _text(path: str | Path, spans: list[Span]) -> bytes:
    """The block of a file whose rows lie there."""
    listed = json.dumps(spans, separators=(",", ":"))
    found = xxhash.xxh3_128(listed.encode())
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for start, stop in pairwise([BLOCK, *(place for span in spans for place in span), size]):
            if (start, stop) not in spans:
                file.seek(start)
                for begin in range(start, stop, PIECE):
                    found.update(file.read(min(PIECE, stop - begin)))
    return NAME + f'{{"rows":{listed},"xxh3_128":"{found.hexdigest()}","size":{size}}}'.encode()


def _rows(path: str | Path) -> list[Span]:
    """Where the contents of all datasets lie, in order, neighbours as one."""
    found: list[Span] = []

    def visit(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset) or item.is_virtual:
            return
        if item.chunks is None:
            start = item.id.get_offset()
            found.extend([] if start is None else [(start, start + item.id.get_storage_size())])
        else:
            chunks = (item.id.get_chunk_info(number) for number in range(item.id.get_num_chunks()))
            found.extend((chunk.byte_offset, chunk.byte_offset + chunk.size) for chunk in chunks)

    with h5py.File(path) as file:
        file.visititems(visit)
    joined: list[Span] = []
    for start, stop in sorted(found):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined
