"""The project's HDF5 files: teacher pairs and samples. One writer a file, written once, checksummed, with provenance.

A file has one group a split; a split holds `seeds` [n], `y_0` [n, *shape], of a conditional model `condition` [n], and for
teacher pairs `y_T` [n, *shape] and, on request, `trajectory` [n, steps + 1, *shape] and `outputs` [n, steps, *shape].
Everything that is known of how it was made is an attribute of the file. Large splits are cut into shards, each a file of its
own; one more file joins them by virtual datasets. Rows are written and can be read a few at a time.

Datasets are contiguous and not compressed, each with XXH3 checksums of its rows in two attributes: `xxh3_64`, one for each
`xxh3_64_rows` rows. All else in the file is under its seal (s4s/files/hdf5_seal.py). benchmarks/store_throughput.py compares
with HDF5's filters.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from s4s.errors import DamagedFile, S4SError, must_be
from s4s.files.atomic import atomic_path
from s4s.files.disk_errors import require_space
from s4s.files.hdf5_check import open_checked
from s4s.files.hdf5_seal import sealed_file

# what a file is, as its attribute `kind` says
TEACHER_PAIRS, SAMPLES = "teacher-pairs", "samples"

CHECKSUMS = 4096  # of a dataset at most; an attribute holds no more than 64 KiB
BLOCK_BYTES = 1 << 20  # rows under a checksum, unless there would be too many checksums
UPWARDS = 3  # folders from a joined file to one that has all its shards: from results/samples/MODEL/teacher to results
OVERHEAD = 1 << 15  # bytes that a file has beside its rows, about
Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Split:
    """Rows of one split; arrays in memory, row i made from seeds[i]."""

    seeds: np.ndarray
    y_0: np.ndarray
    y_T: np.ndarray | None = None
    trajectory: np.ndarray | None = None
    outputs: np.ndarray | None = None
    condition: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, rows: slice) -> Split:
        return Split(**{name: value[rows] for name, value in self.arrays().items()})

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value for name, value in vars(self).items() if value is not None}


def joined(pieces: Sequence[Split]) -> Split:
    """The rows of some pieces, one after another."""
    if len(pieces) == 1:
        return pieces[0]
    return Split(**{name: np.concatenate([piece.arrays()[name] for piece in pieces]) for name in pieces[0].arrays()})


def as_array(tensor: Any) -> np.ndarray | None:
    """A tensor on any device as an array; None stays None."""
    return None if tensor is None else tensor.cpu().numpy()


def as_list(paths: Paths) -> list[Path]:
    """One path or several as a list."""
    listed = [paths] if isinstance(paths, str | Path) else paths
    fits = isinstance(listed, Sequence) and all(isinstance(path, str | Path) for path in listed)
    must_be("files of rows", paths, fits, "a path or a list of paths")
    return [Path(path) for path in listed]


def write_splits(path: str | Path, kind: str, splits: Mapping[str, Split], attributes: Mapping[str, Any]) -> None:
    """Write a file of `kind` ("teacher-pairs" or "samples"), complete or not at all."""
    write_rows(path, kind, {name: len(split) for name, split in splits.items()}, splits.items(), attributes)


def write_rows(
    path: str | Path,
    kind: str,
    sizes: Mapping[str, int],
    pieces: Iterable[tuple[str, Split]],
    attributes: Mapping[str, Any],
) -> None:
    """As `write_splits`, from pieces of splits as they come, each after the last of its split; `sizes` are the splits' rows."""
    pieces = iter(pieces)
    first = [*itertools.islice(pieces, 1)]  # tells the size of a row
    row = max((sum(array[0].nbytes for array in piece.arrays().values()) for _, piece in first), default=0)
    with atomic_path(path) as temporary:
        require_space(path, sum(sizes.values()) * row + OVERHEAD)
        _write_rows(temporary, {"kind": kind, **attributes}, sizes, itertools.chain(first, pieces))


def _write_rows(
    path: Path, attributes: Mapping[str, Any], sizes: Mapping[str, int], pieces: Iterable[tuple[str, Split]]
) -> None:
    with sealed_file(path) as file:
        file.attrs.update(attributes)
        written = dict.fromkeys(sizes, 0)
        checksums: dict[str, _Checksums] = {}
        for name, piece in pieces:
            start, stop = written[name], written[name] + len(piece)
            for key, array in piece.arrays().items():
                label = f"{name}/{key}"
                if label not in checksums:
                    checksums[label] = _Checksums.of(sizes[name], max(1, array[0].nbytes))
                    file.create_dataset(label, (sizes[name], *array.shape[1:]), array.dtype)
                file[label][start:stop] = array
                checksums[label].add(array)
            written[name] = stop
        if written != dict(sizes):
            raise S4SError(f"{path}: rows {written} were made, expected {dict(sizes)}")
        for label, found in checksums.items():
            file[label].attrs.update({"xxh3_64": np.array(found.values, dtype=np.uint64), "xxh3_64_rows": found.rows})


class _Checksums:
    """XXH3 (64 bits) of every `rows` rows of an array that comes in pieces."""

    def __init__(self, total: int, rows: int):
        if rows < 1:
            raise ValueError(f"checksums of {rows} rows")
        self.total, self.rows, self.seen, self.current = total, rows, 0, xxhash.xxh3_64()
        self.values: list[int] = []

    @classmethod
    def of(cls, total: int, row_bytes: int) -> _Checksums:
        return cls(total, max(1, BLOCK_BYTES // row_bytes, -(-total // CHECKSUMS)))

    def add(self, array: np.ndarray) -> None:
        """Take in the next rows."""
        array, start = np.ascontiguousarray(array), 0
        while start < len(array):
            stop = min(len(array), start + self.rows - self.seen % self.rows)
            self.current.update(array[start:stop].reshape(-1).view(np.uint8).data)
            self.seen += stop - start
            start = stop
            if self.seen % self.rows == 0 or self.seen == self.total:
                self.values.append(self.current.intdigest())
                self.current.reset()


def merge(path: str | Path, kind: str, shards: Sequence[str | Path], keys: Sequence[str] | None = None) -> None:
    """A file of virtual datasets over shards: each split has the rows of the shards that hold some of it, in their order.

    Args:
        path: the shards are found from its folder, so all can move together.
        keys: leave out other datasets.
    Raises:
        S4SError: if a shard is damaged or the shards were not made in the same way.
    """
    path, first = Path(path), read_attributes(shards[0])
    sources: dict[str, list[h5py.VirtualSource]] = {}
    kinds: dict[str, np.dtype] = {}
    for shard in shards:
        other = read_attributes(shard)
        differing = sorted(key for key in {*first, *other} if first.get(key) != other.get(key))
        if differing:
            raise S4SError(f"{shard} and {shards[0]} differ in {', '.join(differing)}; make both again")
        relative = os.path.relpath(shard, path.parent)
        with _open(shard) as file:
            for name, group in file.items():
                for key, dataset in group.items():
                    if keys is None or key in keys:
                        source = h5py.VirtualSource(relative, f"{name}/{key}", dataset.shape, dataset.dtype)
                        sources.setdefault(f"{name}/{key}", []).append(source)
                        kinds[f"{name}/{key}"] = dataset.dtype
    with atomic_path(path) as temporary, sealed_file(temporary) as file:
        file.attrs.update({**first, "kind": kind})
        for dataset_name, parts in sources.items():
            layout = h5py.VirtualLayout((sum(part.shape[0] for part in parts), *parts[0].shape[1:]), kinds[dataset_name])
            start = 0
            for part in parts:
                layout[start : start + part.shape[0]] = part
                start += part.shape[0]
            file.create_virtual_dataset(dataset_name, layout)


def read_attributes(path: str | Path) -> dict[str, Any]:
    """Attributes of a file: its kind and provenance, as plain Python values."""
    with _open(path) as file:
        return {
            key: value.tolist() if isinstance(value, np.generic | np.ndarray) else value for key, value in file.attrs.items()
        }


def split_sizes(path: str | Path) -> dict[str, int]:
    """The splits in a file and their numbers of rows.

    Raises:
        S4SError: if the file cannot be read or, of a joined file, a shard is missing.
    """
    with _open(path) as file:
        for group in file.values():
            _require(_shards(Path(path), group))
        return {name: len(group["seeds"]) for name, group in file.items()}


def read_split(paths: Paths, kind: str, split: str, rows: int | None = None) -> Split:
    """Read one split of a file, or of shards one after another, or its first `rows`, into memory.

    Raises:
        S4SError: if a file is missing, truncated, damaged, of another kind, or lacks the split; of a joined file also if any
            shard of the split is missing, whether or not its rows are asked for.
    """
    pieces: list[Split] = []
    for path in as_list(paths):
        left = None if rows is None else rows - sum(map(len, pieces))
        if left is None or left > 0:
            pieces += read_rows(path, kind, split, left)
    return joined(pieces)


def read_rows(path: str | Path, kind: str, split: str, stop: int | None = None, size: int | None = None) -> Iterator[Split]:
    """Read the first `stop` rows of a split, all by default, `size` rows at a time, all at once by default.

    Raises:
        S4SError: as `read_split`.
    """
    waiting: list[Split] = []
    for piece in _read_pieces(Path(path), kind, split, stop, size):
        waiting.append(piece)
        while size is not None and sum(map(len, waiting)) >= size:  # pieces end where shards end
            whole = joined(waiting)
            yield whole[:size]
            waiting = [whole[size:]] if len(whole) > size else []
    if waiting:
        yield joined(waiting)


def _read_pieces(path: Path, kind: str, split: str, stop: int | None, size: int | None) -> Iterator[Split]:
    """The rows of `read_rows`, of a joined file those of its shards one after another."""
    with _open(path) as file:
        found = file.attrs.get("kind")
        if found != kind:
            raise DamagedFile(
                path, f"this HDF5 file is not a {kind} file (its attribute 'kind' is {found!r}); delete it and rerun"
            )
        if split not in file:
            raise S4SError(f"{path}: no split {split!r}; it has {', '.join(file)}")
        group = file[split]
        try:
            end = min(len(group["seeds"]), len(group["seeds"]) if stop is None else stop)
            if not group["seeds"].is_virtual:
                yield from _read_checked(path, group, end, size)
                return
            keys, shards = list(group), _shards(path, group)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise DamagedFile(path, f"split {split!r} cannot be read ({error}); delete the file and rerun") from error
    _require(shards)
    for source in shards:
        with _open(source) as file:
            rows = len(file[split]["seeds"]) if split in file else 0
            if rows and file[split]["seeds"].is_virtual:
                raise S4SError(f"{source}: joins other files, where {path} needs one with rows; delete {path.name} and rerun")
            own = str(file.attrs.get("kind"))
        for piece in _read_pieces(source, own, split, min(rows, end), size):
            yield Split(**{key: value for key, value in piece.arrays().items() if key in keys})
        end -= min(rows, end)
        if not end:
            return
    raise DamagedFile(path, f"the shards of split {split!r} have fewer rows than this file says; delete it and rerun")


def _shards(path: Path, group: h5py.Group) -> list[Path]:
    """The files beside a joined file that have the rows of a split; none if the rows are in the file itself."""
    seeds = group["seeds"]
    names = [Path(source.file_name) for source in seeds.virtual_sources()] if seeds.is_virtual else []
    for name in names:
        own = path.parent / name == path or not name.name
        if own or name.is_absolute() or name.parts.count("..") > UPWARDS:
            raise S4SError(f"{path}: refused: it joins {name}, which is no other file of these results; delete it and rerun")
    return [path.parent / name for name in names]


def _require(shards: Sequence[Path]) -> None:
    """All shards are there, those too whose rows nobody asks for: HDF5 itself would read zeros for one that is gone."""
    for shard in shards:
        if not shard.is_file():
            raise _no_such_file(shard)


def _read_checked(path: Path, group: h5py.Group, end: int, size: int | None) -> Iterator[Split]:
    """Rows of datasets with checksums. Of a block at whose middle the rows end, the others are read too."""
    if end == len(group["seeds"]):
        _read_ahead(path)
    sums = {key: _Checksums(len(dataset), int(dataset.attrs["xxh3_64_rows"])) for key, dataset in group.items()}
    expected = {key: dataset.attrs["xxh3_64"].tolist() for key, dataset in group.items()}
    with ThreadPoolExecutor(1) as other:  # compares one dataset while the next is read
        for start in range(0, end, size or max(1, end)):
            arrays, added = {}, []
            for key, dataset in group.items():
                stop = min(end, start + (size or end))
                rest = min(-(-stop // sums[key].rows) * sums[key].rows, len(dataset)) if stop == end else stop
                read = dataset[start:rest]
                arrays[key] = read[: stop - start]
                added.append(other.submit(sums[key].add, read))
            for key, future in zip(arrays, added, strict=True):
                future.result()
                if sums[key].values != expected[key][: len(sums[key].values)]:
                    raise OSError(f"wrong checksum in {key}")
            yield Split(**arrays)


def _read_ahead(path: str | Path) -> None:
    """Have the operating system fetch a file while its beginning is being checked."""
    if hasattr(os, "posix_fadvise"):
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        os.close(handle)


def _open(path: str | Path) -> h5py.File:
    try:
        return open_checked(path)
    except FileNotFoundError as error:
        raise _no_such_file(path) from error
    except OSError as error:
        raise DamagedFile(path, f"not a readable HDF5 file, perhaps cut off ({error}); delete it and rerun") from error


def _no_such_file(path: str | Path) -> S4SError:
    return S4SError(f"{path}: no such file; run the workflow step that makes it")
