"""Seeds of single samples. Splits are disjoint by construction: the split is part of the number.

seed = split << 56 | sampling seed << 32 | index
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s4s.errors import S4SError
from s4s.models.description import REFERENCE

SPLITS = {"train": 1, "val": 2, "test": 3, "search": 4, REFERENCE: 5}


def sample_seeds(split: str, count: int, sampling_seed: int = 0) -> np.ndarray:
    """Seeds of `count` samples, uint64 [count]; `sampling_seed` tells repetitions of the test apart."""
    if split not in SPLITS:
        raise S4SError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    if not 0 <= sampling_seed < 2**24:
        raise S4SError(f"a sampling seed must lie between 0 and {2**24 - 1}, got {sampling_seed}")
    if not 1 <= count < 2**32:
        raise S4SError(f"the number of samples must lie between 1 and {2**32 - 1}, got {count}")
    return np.uint64(SPLITS[split] << 56 | sampling_seed << 32) + np.arange(count, dtype=np.uint64)


def shard_of(seeds: np.ndarray, shard: int | None, size: int) -> np.ndarray:
    """The seeds of one shard, the rows from `shard` times `size` on; all if `shard` is None."""
    if shard is None:
        return seeds
    if size < 1 or not 0 <= shard * size < len(seeds):
        raise S4SError(f"{len(seeds)} samples have no shard {shard} of {size}")
    return seeds[shard * size : (shard + 1) * size]


def index_of(seeds: Sequence[int] | np.ndarray) -> np.ndarray:
    """The index of each sample within its split and sampling seed, int64 [n]."""
    return (np.asarray(seeds, dtype=np.uint64) & np.uint64(2**32 - 1)).astype(np.int64)


def split_of(seeds: Sequence[int] | np.ndarray) -> np.ndarray:
    """The name of each sample's split, [n]; "" for seeds of no split."""
    names = np.array(["", *sorted(SPLITS, key=SPLITS.__getitem__)])
    number = (np.asarray(seeds, dtype=np.uint64) >> np.uint64(56)).astype(np.int64)
    return names[np.where(number < len(names), number, 0)]
