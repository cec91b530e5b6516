"""HDF5 files from elsewhere: opened, and refused where they are not of the plain form that s4s writes.

HDF5 can point anywhere: links to other files, data in other files, data that are unpacked, shapes without data. Files of s4s
are groups of datasets whose numbers lie in the file, and joined files whose rows lie in others. So no reader needs more, and
what a file claims is compared with its size before anything is read.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import h5py

from s4s.errors import S4SError
from s4s.files.bounded import MB, too_much
from s4s.files.hdf5_seal import check_seal

ENTRIES = 10_000  # of a group: one a sampling seed
SOURCES = 1_000_000  # of a joined dataset: one a shard
ATTRIBUTES, ATTRIBUTE_BYTES = 1_000, MB


def open_checked(path: str | Path) -> h5py.File:
    """An HDF5 file, compared with its seal and open for reading.

    Raises:
        S4SError: if it was changed, or has links, data or shapes that s4s does not write. OSError: as h5py.File.
    """
    check_seal(path)
    file = h5py.File(path, "r")
    try:
        _check_attributes(path, file)
        left = os.path.getsize(path)
        for group in _members(path, file, 0):
            for dataset in _members(path, group, 1) if isinstance(group, h5py.Group) else [group]:
                left -= _stored(path, dataset)
                if left < 0:
                    raise too_much(path, f"{os.path.getsize(path):,} bytes, its own size, in what its datasets claim")
    except S4SError:
        file.close()
        raise
    except Exception as error:  # of a damaged file each part fails in its own way
        file.close()
        raise OSError(f"{type(error).__name__}: {error}") from error
    return file


def _members(path: str | Path, group: h5py.Group, level: int) -> list[h5py.Group | h5py.Dataset]:
    """What a group holds itself, and not by a link elsewhere."""
    if len(group) > ENTRIES:
        raise too_much(path, f"{ENTRIES:,} entries in {group.name}", len(group))
    found = []
    for name in group:
        where = f"{group.name.rstrip('/')}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise S4SError(f"{path}: refused: {where} is a link to something else, which s4s never writes; make the file again")
        found.append(group[name])
        if not isinstance(found[-1], h5py.Dataset) and (level or not isinstance(found[-1], h5py.Group)):
            raise S4SError(f"{path}: refused: {where} is no dataset; s4s writes groups of datasets alone; make the file again")
    return found


def _stored(path: str | Path, dataset: h5py.Dataset) -> int:
    """Bytes that a dataset must have in this file, one a row at least; none if it is joined from others."""
    _check_attributes(path, dataset)
    if dataset.dtype.kind not in "iufb":
        raise S4SError(f"{path}: refused: {dataset.name} holds no numbers; make the file again")
    if dataset.external:
        raise S4SError(f"{path}: refused: the data of {dataset.name} lie in another file; make the file again")
    if not dataset.is_virtual:
        return int(max([dataset.nbytes, *dataset.shape[:1]]))
    if (count := dataset.id.get_create_plist().get_virtual_count()) > SOURCES:
        raise too_much(path, f"{SOURCES:,} shards", count)
    return 0


def _check_attributes(path: str | Path, of: h5py.Group | h5py.Dataset) -> None:
    """Attributes are numbers, small tables of these, and texts."""
    if len(of.attrs) > ATTRIBUTES:
        raise too_much(path, f"{ATTRIBUTES:,} attributes of {of.name}", len(of.attrs))
    for name in of.attrs:
        about = of.attrs.get_id(name)
        plain = about.dtype.kind in "iufbSU" or (h5py.check_string_dtype(about.dtype) is not None and about.shape == ())
        if not plain or math.prod(about.shape or ()) * about.dtype.itemsize > ATTRIBUTE_BYTES:
            raise S4SError(f"{path}: refused: its attribute {name!r} is none that s4s writes; make the file again")
