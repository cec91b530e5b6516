"""HDF5 files: round trip, checksums, virtual datasets, clear errors."""

import h5py
import numpy as np
import pytest

from s4s import S4SError
from s4s.store import Split, merge_splits, read_attributes, read_split, split_names, write_splits


def a_split(seed=0, n=50):
    rng = np.random.default_rng(seed)
    return Split(np.arange(n, dtype=np.uint64), *(rng.normal(size=(n, 1, 8, 8)).astype(np.float32) for _ in range(2)))


def test_round_trip(tmp_path):
    split = a_split()
    write_splits(tmp_path / "a.h5", "teacher-pairs", {"train": split}, {"model": "m", "nfe": 7})
    back = read_split(tmp_path / "a.h5", "teacher-pairs", "train")
    assert (back.y_T == split.y_T).all() and (back.y_0 == split.y_0).all() and (back.seeds == split.seeds).all()
    assert back.trajectory is None
    assert read_attributes(tmp_path / "a.h5") == {"kind": "teacher-pairs", "model": "m", "nfe": 7}
    with h5py.File(tmp_path / "a.h5") as file:
        assert all(dataset.fletcher32 for dataset in file["train"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"], "no temporary file is left"


def test_shards_join_in_a_virtual_dataset_that_can_move(tmp_path):
    splits = {"train": a_split(1), "val": a_split(2, 30)}
    folder = tmp_path / "here"
    shards = {}
    for name, split in splits.items():
        shards[name] = folder / "shards" / f"{name}.h5"
        write_splits(shards[name], "teacher-pairs", {name: split}, {"model": "m"})
    merge_splits(folder / "pairs.h5", shards)
    folder.rename(tmp_path / "there")
    for name, split in splits.items():
        assert (read_split(tmp_path / "there/pairs.h5", "teacher-pairs", name).y_0 == split.y_0).all()
    assert split_names(tmp_path / "there/pairs.h5") == ["train", "val"]


def test_a_lost_shard_is_an_error_and_not_zeros(tmp_path):
    write_splits(tmp_path / "shards/train.h5", "teacher-pairs", {"train": a_split()}, {})
    merge_splits(tmp_path / "pairs.h5", {"train": tmp_path / "shards/train.h5"})
    (tmp_path / "shards/train.h5").unlink()
    with pytest.raises(S4SError, match=r"train\.h5.*no such file"):
        read_split(tmp_path / "pairs.h5", "teacher-pairs", "train")


def test_shards_of_different_making_do_not_join(tmp_path):
    for name in ("train", "val"):
        write_splits(tmp_path / f"{name}.h5", "teacher-pairs", {name: a_split()}, {"tableau": name})
    with pytest.raises(S4SError, match="differ in tableau"):
        merge_splits(tmp_path / "pairs.h5", {name: tmp_path / f"{name}.h5" for name in ("train", "val")})


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "text":
        content = b"not HDF5 at all"
    else:  # a flipped bit in the data, which the checksum finds
        content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["truncated", "text", "flipped"])
def test_damaged_files_give_one_clear_error(tmp_path, how):
    path = tmp_path / "a.h5"
    write_splits(path, "teacher-pairs", {"train": a_split(n=500)}, {})
    damage(path, how)
    with pytest.raises(S4SError, match=r"a\.h5.*delete"):
        read_split(path, "teacher-pairs", "train")


def test_foreign_files_give_one_clear_error(tmp_path):
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(S4SError, match="not a teacher-pairs file"):
        read_split(tmp_path / "foreign.h5", "teacher-pairs", "train")
    write_splits(tmp_path / "samples.h5", "samples", {"test~0": a_split()}, {})
    with pytest.raises(S4SError, match="'kind' is 'samples'"):
        read_split(tmp_path / "samples.h5", "teacher-pairs", "train")
    with pytest.raises(S4SError, match="no split 'val'; it has test~0"):
        read_split(tmp_path / "samples.h5", "samples", "val")
    with pytest.raises(S4SError, match="no such file"):
        read_split(tmp_path / "absent.h5", "samples", "val")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.h5"
    write_splits(path, "samples", {"test~0": a_split()}, {"model": "old"})
    with pytest.raises(TypeError):
        write_splits(path, "samples", {"test~0": a_split()}, {"model": object()})
    assert read_attributes(path)["model"] == "old" and list(tmp_path.iterdir()) == [path]
