"""The project's HDF5 files: teacher pairs and samples. One writer a file, written once, checksummed, with provenance.

A file has one group a split; a split holds `seeds` [n], `y_0` [n, *shape], of a conditional model `condition` [n], and for
teacher pairs `y_T` [n, *shape] and, on request, `trajectory` [n, steps + 1, *shape] and `outputs` [n, steps, *shape].
Everything that is known of how it was made is an attribute of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from s4s.atomic import atomic_path
from s4s.errors import S4SError

CHUNK_BYTES = 1 << 18  # 256 KiB a chunk; benchmarks/store_throughput.py measures the alternatives


@dataclass(frozen=True)
class Split:
    """Rows of one split; arrays in memory, row i made from seeds[i]."""

    seeds: np.ndarray
    y_0: np.ndarray
    y_T: np.ndarray | None = None
    trajectory: np.ndarray | None = None
    outputs: np.ndarray | None = None
    condition: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value for name, value in vars(self).items() if value is not None}


def as_array(tensor: Any) -> np.ndarray | None:
    """A tensor on any device as an array; None stays None."""
    return None if tensor is None else tensor.cpu().numpy()


def write_splits(path: str | Path, kind: str, splits: Mapping[str, Split], attributes: Mapping[str, Any]) -> None:
    """Write a file of `kind` ("teacher-pairs" or "samples"), complete or not at all."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"kind": kind, **attributes})
        for name, split in splits.items():
            for key, array in split.arrays().items():
                row_bytes = max(1, array[0].nbytes)
                chunk = (min(len(array), max(1, CHUNK_BYTES // row_bytes)), *array.shape[1:])
                file.create_dataset(f"{name}/{key}", data=array, chunks=chunk, fletcher32=True)


def merge_splits(path: str | Path, shards: Mapping[str, Path]) -> None:
    """A file whose splits are virtual datasets over the shards, each a file with that one split beside or below `path`.

    Raises:
        S4SError: if a shard is damaged or the shards were not made in the same way.
    """
    path = Path(path)
    attributes = {name: read_attributes(shard) for name, shard in shards.items()}
    first_name, first = next(iter(attributes.items()))
    for name, other in attributes.items():
        differing = sorted(key for key in {*first, *other} if first.get(key) != other.get(key))
        if differing:
            raise S4SError(f"{shards[name]} and {shards[first_name]} differ in {', '.join(differing)}; make both again")
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(first)
        for name, shard in shards.items():
            with _open(shard) as source:
                for key, dataset in source[name].items():
                    layout = h5py.VirtualLayout(dataset.shape, dataset.dtype)
                    layout[...] = h5py.VirtualSource(
                        str(Path(shard).resolve().relative_to(path.parent.resolve())), f"{name}/{key}", dataset.shape
                    )
                    file.create_virtual_dataset(f"{name}/{key}", layout)


def read_attributes(path: str | Path) -> dict[str, Any]:
    """Attributes of a file: its kind and provenance, as plain Python values."""
    with _open(path) as file:
        return {
            key: value.tolist() if isinstance(value, np.generic | np.ndarray) else value for key, value in file.attrs.items()
        }


def split_names(path: str | Path) -> list[str]:
    """Names of the splits in a file."""
    with _open(path) as file:
        return list(file)


def read_split(path: str | Path, kind: str, split: str, rows: int | None = None) -> Split:
    """Read one split, or its first `rows`, into memory.

    Raises:
        S4SError: if the file is missing, truncated, damaged, of another kind, or lacks the split.
    """
    with _open(path) as file:
        found = file.attrs.get("kind")
        if found != kind:
            raise S4SError(
                f"{path}: this HDF5 file is not a {kind} file (its attribute 'kind' is {found!r}); delete it and rerun"
            )
        if split not in file:
            raise S4SError(f"{path}: no split {split!r}; it has {', '.join(file)}")
        try:
            arrays = {key: _read(path, dataset, rows) for key, dataset in file[split].items()}
            return Split(**arrays)
        except (OSError, TypeError) as error:
            raise S4SError(f"{path}: split {split!r} cannot be read ({error}); delete the file and rerun") from error


def _read(path: str | Path, dataset: h5py.Dataset, rows: int | None) -> np.ndarray:
    """A dataset's values; HDF5 fills a virtual dataset with zeros where a shard is gone, so that is checked first."""
    if dataset.is_virtual:
        for source in dataset.virtual_sources():
            with _open(Path(path).parent / source.file_name):
                pass
    return dataset[:rows]


def _open(path: str | Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise S4SError(f"{path}: no such file; run the workflow step that makes it") from error
    except OSError as error:
        raise S4SError(f"{path}: not a readable HDF5 file, perhaps cut off ({error}); delete it and rerun") from error
