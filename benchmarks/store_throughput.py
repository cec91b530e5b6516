"""HDF5 files of teacher pairs against numpy.save and numpy.load on the same disk, as ratios of throughput in one run.

python benchmarks/store_throughput.py --shape 3 32 32 --rows 10000
python benchmarks/store_throughput.py --shape 1 8 8 --rows 200000 --folder /somewhere/else

"Disk": a write ends when the data are on the disk (fsync), a read begins with nothing of the file in memory. "Memory": reads of
a file that was read just before, where there is no disk and a checksum's own time shows.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from s4s.files import rows as store


def flushed(path, write):
    """Write and wait for the disk."""
    write()
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def forget(path):
    """Drop a file from the memory of the operating system."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def ratio(theirs, ours, before=lambda: None, repeats=7):
    """How fast `ours` is with `theirs` as 1, and theirs in seconds: the fastest of runs that take turns."""
    times = {theirs: [], ours: []}
    for _ in range(repeats):
        for action in times:
            before()
            start = time.perf_counter()
            action()
            times[action].append(time.perf_counter() - start)
    own, other = (min(times[action]) for action in (ours, theirs))
    return other / own, other


def alternative(path, split, **options):
    """The same data with other settings of HDF5."""
    with h5py.File(path, "w") as file:
        for key, array in split.arrays().items():
            file.create_dataset(f"train/{key}", data=array, **(options if array.ndim > 1 else {}))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--shape", type=int, nargs="+", default=[3, 32, 32], help="shape of one state")
parser.add_argument("--rows", type=int, default=10000, help="number of states")
parser.add_argument("--folder", help="where to write; by default the folder of temporary files")
args = parser.parse_args()

rng = np.random.default_rng(0)
y_T, y_0 = (rng.standard_normal((args.rows, *args.shape), dtype=np.float32) for _ in range(2))
split = store.Split(np.arange(args.rows, dtype=np.uint64), y_0, y_T)

with tempfile.TemporaryDirectory(dir=args.folder) as folder:
    plain, file = Path(folder) / "plain.npy", Path(folder) / "pairs.h5"
    both = np.stack([y_T, y_0])

    def checked():
        return store.read_split(file, "teacher-pairs", "train")

    def unchecked():
        with h5py.File(file) as opened:
            return {key: dataset[()] for key, dataset in opened["train"].items()}

    def row(name, make, repeats=7):
        found = [ratio(lambda: flushed(plain, lambda: np.save(plain, both)), make, repeats=repeats)]
        read = checked if "kind" in store.read_attributes(file) else unchecked
        found += [ratio(lambda: np.load(plain), read, lambda: [forget(path) for path in (plain, file)], repeats)]
        found += [ratio(lambda: np.load(plain), read, repeats=repeats)]
        if not lines:
            speeds = zip(("write", "read", "memory"), (both.nbytes / 1e6 / seconds for _, seconds in found), strict=True)
            print(f"{both.nbytes / 1e6:.0f} MB in states of {args.shape}; numpy:", *(f"{n} {v:.0f} MB/s" for n, v in speeds))
            print("\n| settings | write (disk) | read (disk) | read (memory) | size |\n|:---|---:|---:|---:|---:|")
        lines.append(f"| {name} | {' | '.join(f'{r:.2f}' for r, _ in found)} | {file.stat().st_size / both.nbytes:.2f} |")
        print(lines[-1], flush=True)

    lines = []
    row("**ours: contiguous, XXH3 beside the data**", lambda: store.write_splits(file, "teacher-pairs", {"train": split}, {}))
    row("contiguous, no checksums", lambda: flushed(file, lambda: alternative(file, split)))
    for kibibytes in (64, 256, 1024, 4096):
        chunk = (max(1, kibibytes * 1024 // y_0[0].nbytes), *args.shape)
        made = {"chunks": chunk, "fletcher32": True}
        row(
            f"chunks of {kibibytes} KiB, HDF5's fletcher32",
            lambda made=made: flushed(file, lambda: alternative(file, split, **made)),
        )
    for name, options in [("gzip 1", {"compression": 1}), ("lzf", {"compression": "lzf"})]:
        made = {"chunks": chunk, "fletcher32": True, "shuffle": True, **options}
        row(
            f"the same, {name} with byte shuffle",
            lambda made=made: flushed(file, lambda: alternative(file, split, **made)),
            repeats=2,
        )
