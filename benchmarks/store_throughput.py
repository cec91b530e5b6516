"""HDF5 chunk sizes for teacher pairs: write and read throughput as ratios to numpy.save and numpy.load, in one run.

python benchmarks/store_throughput.py --shape 1 8 8 --rows 20000
python benchmarks/store_throughput.py --shape 3 32 32 --rows 5000
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from s4s import store


def seconds(action):
    """Median of five runs."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--shape", type=int, nargs="+", default=[1, 8, 8], help="shape of one state")
parser.add_argument("--rows", type=int, default=20000, help="number of states")
args = parser.parse_args()

rng = np.random.default_rng(0)
y_T, y_0 = (rng.standard_normal((args.rows, *args.shape), dtype=np.float32) for _ in range(2))
split = store.Split(np.arange(args.rows, dtype=np.uint64), y_0, y_T)

with tempfile.TemporaryDirectory() as folder:
    plain, file = Path(folder) / "plain.npy", Path(folder) / "pairs.h5"
    both = np.stack([y_T, y_0])
    write, read = seconds(lambda: np.save(plain, both)), seconds(lambda: np.load(plain))
    megabytes = both.nbytes / 1e6
    print(f"{megabytes:.0f} MB; numpy: write {megabytes / write:.0f} MB/s, read {megabytes / read:.0f} MB/s\n")
    print("| chunk (KiB) | write / numpy.save | read / numpy.load |\n|---:|---:|---:|")
    for exponent in range(12, 23, 2):
        store.CHUNK_BYTES = 1 << exponent
        ours_write = seconds(lambda: store.write_splits(file, "teacher-pairs", {"train": split}, {}))
        ours_read = seconds(lambda: store.read_split(file, "teacher-pairs", "train"))
        print(f"| {store.CHUNK_BYTES // 1024} | {write / ours_write:.2f} | {read / ours_read:.2f} |")
