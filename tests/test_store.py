"""HDF5 files: round trip, checksums, virtual datasets, clear errors."""

import h5py
import numpy as np
import pytest

from s4s import S4SError
from s4s.files import rows as store
from s4s.files.rows import Split, joined, merge, read_attributes, read_rows, read_split, split_sizes, write_rows, write_splits


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
        assert all(len(dataset.attrs["xxh3_64"]) == 1 for dataset in file["train"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"], "no temporary file is left"


def cut(split, *ends):
    """A split in shards that end at these rows."""
    return [
        Split(**{key: array[start:end] for key, array in split.arrays().items()})
        for start, end in zip((0, *ends), (*ends, len(split)), strict=True)
    ]


def write_shards(folder, name, shards):
    paths = [folder / f"{name}-{i}.h5" for i in range(len(shards))]
    for path, shard in zip(paths, shards, strict=True):
        write_splits(path, "teacher-pairs", {name: shard}, {"model": "m"})
    return paths


def test_shards_join_in_a_virtual_dataset_that_can_move(tmp_path):
    """Shards of a split in their order, from folders beside and elsewhere; reading all, some and a few rows at a time."""
    splits, folder = {"train": a_split(1), "val": a_split(2, 30)}, tmp_path / "here"
    paths = write_shards(folder / "a/shards", "train", cut(splits["train"], 7, 40))
    paths += write_shards(folder / "b/shards", "val", cut(splits["val"]))
    merge(folder / "a/pairs.h5", "teacher-pairs", paths)
    merge(folder / "b/c/samples.h5", "samples", paths, ["seeds", "y_0"])
    folder.rename(tmp_path / "there")
    pairs = tmp_path / "there/a/pairs.h5"
    for name, split in splits.items():
        assert (read_split(pairs, "teacher-pairs", name).y_T == split.y_T).all()
        drawn = read_split(tmp_path / "there/b/c/samples.h5", "samples", name)
        assert (drawn.y_0 == split.y_0).all() and drawn.y_T is None
    assert split_sizes(pairs) == {"train": 50, "val": 30}
    pieces = [*read_rows(pairs, "teacher-pairs", "train", 45, 20)]
    assert [len(piece) for piece in pieces] == [20, 20, 5]
    assert (np.concatenate([piece.seeds for piece in pieces]) == np.arange(45)).all()
    shards = [tmp_path / "there/a/shards" / path.name for path in paths[:3]]
    assert (read_split(shards, "teacher-pairs", "train", 44).y_0 == splits["train"].y_0[:44]).all()


def test_joined_files_have_the_same_bytes_again(tmp_path):
    paths = write_shards(tmp_path, "train", cut(a_split(), 20))
    merge(tmp_path / "a.h5", "samples", paths)
    first = (tmp_path / "a.h5").read_bytes()
    merge(tmp_path / "a.h5", "samples", paths)
    assert (tmp_path / "a.h5").read_bytes() == first


def test_rows_come_in_pieces(tmp_path):
    whole = {"test~0": a_split(1), "test~1": a_split(2, 30)}
    pieces = [(name, piece) for name, split in whole.items() for piece in cut(split, 3, 11)]
    write_rows(tmp_path / "pieces.h5", "samples", {"test~0": 50, "test~1": 30}, pieces, {"model": "m"})
    write_splits(tmp_path / "whole.h5", "samples", whole, {"model": "m"})
    assert (tmp_path / "pieces.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    with pytest.raises(S4SError, match=r"rows .* were made, expected"):
        write_rows(tmp_path / "short.h5", "samples", {"test~0": 50, "test~1": 31}, pieces, {})
    assert not (tmp_path / "short.h5").exists()


@pytest.mark.parametrize("how", ["lost", "truncated", "flipped"])
def test_a_damaged_shard_is_found_by_name_in_the_joined_file(tmp_path, how):
    """HDF5 itself would read zeros where a shard is gone."""
    shards = write_shards(tmp_path / "shards", "train", cut(a_split(n=500), 100, 300))
    merge(tmp_path / "pairs.h5", "teacher-pairs", shards)
    if how == "lost":
        shards[1].unlink()
    else:
        damage(shards[1], how)
    with pytest.raises(S4SError, match=r"shards/train-1\.h5: .*(no such file|delete)"):
        read_split(tmp_path / "pairs.h5", "teacher-pairs", "train")


READS = {
    "the first rows": lambda path: read_split(path, "teacher-pairs", "train", 10),
    "the first piece": lambda path: next(read_rows(path, "teacher-pairs", "train", size=5)),
    "no row": lambda path: [*read_rows(path, "teacher-pairs", "train", 0)],
    "sizes": split_sizes,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_missing_shard_is_found_before_its_rows_are_reached(tmp_path, read):
    shards = write_shards(tmp_path / "shards", "train", cut(a_split(), 20, 40))
    merge(tmp_path / "pairs.h5", "teacher-pairs", shards)
    read(tmp_path / "pairs.h5")
    shards[2].unlink()
    with pytest.raises(S4SError, match=r"shards/train-2\.h5: no such file; run the workflow step that makes it"):
        read(tmp_path / "pairs.h5")


def test_a_joined_file_that_moved_without_its_shards_says_where_it_looks_for_them(tmp_path):
    shards = write_shards(tmp_path / "here/shards", "train", cut(a_split(), 20))
    shards += write_shards(tmp_path / "here/shards", "val", cut(a_split(2)))
    merge(tmp_path / "here/pairs.h5", "teacher-pairs", shards)
    (tmp_path / "here").rename(tmp_path / "there")
    pairs = tmp_path / "there/pairs.h5"
    assert split_sizes(pairs) == {"train": 50, "val": 50}
    (tmp_path / "there/shards/val-0.h5").unlink()  # of another split, whose rows nobody asks for
    assert (read_split(pairs, "teacher-pairs", "train", 10).y_0 == a_split().y_0[:10]).all()
    pairs.rename(tmp_path / "pairs.h5")
    for reading in READS.values():
        with pytest.raises(S4SError, match=rf"^{tmp_path}/shards/train-0\.h5: no such file"):
            reading(tmp_path / "pairs.h5")


def test_a_shard_that_was_made_again_with_fewer_rows_is_found(tmp_path):
    shards = write_shards(tmp_path / "shards", "train", cut(a_split(), 20))
    merge(tmp_path / "pairs.h5", "teacher-pairs", shards)
    write_splits(shards[1], "teacher-pairs", {"train": a_split()[20:45]}, {"model": "m"})
    assert len(read_split(tmp_path / "pairs.h5", "teacher-pairs", "train", 45)) == 45
    with pytest.raises(S4SError, match=r"pairs\.h5: the shards of split 'train' have fewer rows"):
        read_split(tmp_path / "pairs.h5", "teacher-pairs", "train")


def test_shards_of_different_making_do_not_join(tmp_path):
    for name in ("train", "val"):
        write_splits(tmp_path / f"{name}.h5", "teacher-pairs", {name: a_split()}, {"tableau": name})
    with pytest.raises(S4SError, match="differ in tableau"):
        merge(tmp_path / "pairs.h5", "teacher-pairs", [tmp_path / f"{name}.h5" for name in ("train", "val")])


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


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_every_flipped_byte_of_the_data_is_found(tmp_path, monkeypatch, rows):
    """Blocks of any number of rows; also when rows are read a few at a time, and in files with many blocks."""
    monkeypatch.setattr(store, "BLOCK_BYTES", rows * 256)
    monkeypatch.setattr(store, "CHECKSUMS", 200)
    split, path = a_split(n=300), tmp_path / "a.h5"
    write_splits(path, "samples", {"test~0": split}, {})
    with h5py.File(path) as file:
        blocks = [len(dataset.attrs["xxh3_64"]) for dataset in file["test~0"].values()]
        places = [(dataset.id.get_offset(), dataset.nbytes) for dataset in file["test~0"].values()]
    assert max(blocks) == {1: 150, 7: 43, 64: 5}[rows]
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [start + int(rng.integers(length)) for start, length in places for _ in range(8)]:
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        with pytest.raises(S4SError, match=r"a\.h5: split 'test~0' cannot be read \(wrong checksum in "):
            [*read_rows(path, "samples", "test~0", size=40)]
    path.write_bytes(whole)
    assert (joined([*read_rows(path, "samples", "test~0", size=40)]).y_0 == split.y_0).all()


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
