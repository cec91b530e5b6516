"""Arrays of numbers in .npz files, written whole and read without pickles."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib.format import read_array, read_array_header_1_0, read_array_header_2_0, read_magic

from s4s.errors import S4SError, one_line
from s4s.files.atomic import atomic_path
from s4s.files.bounded import MB, too_much
from s4s.files.zip_seal import check_zip, sealed

UNPACKED = 10  # times as large as in the file an array may be, if it is larger than SMALL; numbers shrink to nine tenths
SMALL = 16 * MB


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file of these arrays."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    with atomic_path(path) as temporary:
        temporary.write_bytes(sealed(content.getvalue()))


def read_arrays(path: str | Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """The arrays of an .npz file whose names are wanted.

    Raises:
        S4SError: if it is none, is damaged, or one of them holds Python objects or claims more than its bytes explain.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            if archive.comment:  # others compare the checksums of the records that they read
                file.seek(0)
                check_zip(file)
            size = os.fstat(file.fileno()).st_size
            there = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            return {name: _array(path, archive, entry, size) for name, entry in there.items() if wanted(name)}
    except S4SError:
        raise
    except Exception as error:  # zipfile, its compressions and numpy's headers raise what they like
        raise S4SError(f"{path}: not an .npz file of numbers ({type(error).__name__}: {one_line(error)})") from error


def split_arrays(content: bytes, where: str) -> list[np.ndarray]:
    """Arrays of numbers that `np.save` wrote one after another.

    Raises:
        S4SError: if there is anything else, or one is empty or claims more bytes than are left.
    """
    found, file = list[np.ndarray](), io.BytesIO(content)
    try:
        while file.tell() < len(content):
            start = file.tell()
            shape, dtype = _header(file, f"array {len(found)}")
            if dtype.kind not in "iuf" or not math.prod(shape):
                raise ValueError(f"array {len(found)} holds {dtype if math.prod(shape) else 'nothing'}")
            if math.prod(shape) * dtype.itemsize > len(content) - file.tell():
                raise ValueError(f"array {len(found)} is cut off")
            file.seek(start)
            found.append(read_array(file, allow_pickle=False))
    except Exception as error:  # numpy's headers raise what they like
        raise S4SError(f"{where}: not arrays of numbers one after another ({one_line(error)})") from error
    return found


def _header(file: IO[bytes], what: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array that comes next; ValueError if it is none of numbers."""
    header = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}[read_magic(file)]
    shape, _, dtype = header(file)
    if dtype.hasobject:
        raise ValueError(f"{what} holds Python objects, which allow_pickle=False refuses")
    if dtype.kind not in "iufcbU" or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"{what} holds {dtype}")
    return shape, dtype


def _array(path: str | Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, size: int) -> np.ndarray:
    allowed = max(SMALL, UNPACKED * min(entry.compress_size, size))
    if entry.file_size > allowed:
        raise too_much(path, f"{allowed:,} bytes in {entry.filename}", entry.file_size)
    with archive.open(entry) as file:
        shape, dtype = _header(file, entry.filename)
    if (claimed := math.prod(shape) * dtype.itemsize) > entry.file_size:
        raise too_much(path, f"{entry.file_size:,} bytes in {entry.filename}, its own size", claimed)
    with archive.open(entry) as file:
        found: np.ndarray = read_array(file, allow_pickle=False)
    return found
