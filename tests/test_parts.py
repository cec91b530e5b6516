"""Rows that are made in pieces: the same however the work is cut, and not made again after a kill."""

import numpy as np
import pytest
import torch

import s4s
import s4s.files.resumable_rows
from s4s import S4SError
from s4s.files.resumable_rows import write_resumable
from s4s.files.rows import Split, read_split
from s4s.learning.draw import draw_samples
from s4s.learning.teacher import write_pairs
from s4s.metrics.fid import RunningMoments, moments
from s4s.metrics.load import load_features
from s4s.metrics.score import describe, join_statistics, save_statistics, score, score_samples, statistics_of
from s4s.models.seeds import sample_seeds, shard_of


@pytest.fixture
def blocks_of_8(digits):
    before, digits.block = digits.block, 8
    yield digits
    digits.block = before


def drawn(denoiser, tableau, seeds, batch_size, path):
    draw_samples(denoiser, tableau, {"test~0": seeds}, batch_size, path)
    return read_split(path, "samples", "test~0").y_0


@pytest.mark.parametrize("cut", [("batch", 1), ("batch", 512), ("batch", 20), ("shards", 8), ("shards", 24), ("fewer", 41)])
def test_samples_are_the_same_to_the_bit_however_they_are_cut(blocks_of_8, tmp_path, cut):
    """56 samples at once; 1 to 512 at a time; 7 and 3 shards; the first 41 alone."""
    how, number = cut
    tableau = s4s.solver("unipc", s4s.levels("logsnr", 4, blocks_of_8), order=3)
    seeds = sample_seeds("test", 56)
    whole = drawn(blocks_of_8, tableau, seeds, 64, tmp_path / "whole.h5")
    if how == "batch":
        assert np.array_equal(drawn(blocks_of_8, tableau, seeds, number, tmp_path / "cut.h5"), whole)
    elif how == "fewer":
        assert np.array_equal(drawn(blocks_of_8, tableau, seeds[:number], 64, tmp_path / "cut.h5"), whole[:number])
    else:
        parts = [
            drawn(blocks_of_8, tableau, shard_of(seeds, k, number), 64, tmp_path / f"{k}.h5") for k in range(-(-56 // number))
        ]
        assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_samples_are_the_same_to_the_bit_on_a_gpu_too(tmp_path):
    digits = s4s.load_model("digits", "cuda")
    tableau = s4s.solver("unipc", s4s.levels("logsnr", 4, digits), order=3)
    seeds = sample_seeds("test", 200)
    whole = drawn(digits, tableau, seeds, 512, tmp_path / "whole.h5")
    assert np.array_equal(drawn(digits, tableau, seeds, 1, tmp_path / "one.h5"), whole)
    assert np.array_equal(drawn(digits, tableau, seeds[:128], 64, tmp_path / "shard.h5"), whole[:128])


def test_threads_and_order_of_rows_do_not_matter(blocks_of_8, tmp_path):
    tableau = s4s.solver("dpmpp", s4s.levels("edm", 3, blocks_of_8), order=2)
    seeds = sample_seeds("test", 24)
    one = drawn(blocks_of_8, tableau, seeds, 64, tmp_path / "a.h5")
    torch.set_num_threads(2)
    try:
        assert np.array_equal(drawn(blocks_of_8, tableau, seeds[::-1], 64, tmp_path / "b.h5")[::-1], one)
    finally:
        torch.set_num_threads(1)


def test_shards_that_do_not_exist_are_refused():
    with pytest.raises(S4SError, match="10 samples have no shard 3 of 4"):
        shard_of(sample_seeds("test", 10), 3, 4)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("change", ["nothing", "identity", "damaged", "seeds"])
def test_an_interrupted_file_goes_on_where_it_was(tmp_path, monkeypatch, change):
    """Killed after 5 pieces of 10 rows, 4 of them kept; a changed identity, noise or a damaged part means making them again."""
    monkeypatch.setattr(s4s.files.resumable_rows, "SAVE_SECONDS", -1.0)  # keep every piece
    seeds, calls = np.arange(95, dtype=np.uint64), []

    def make(rows, limit=99):
        if len(calls) == limit:
            raise Killed
        calls.append(len(rows))
        return Split(rows, rows[:, None] * 0.5)

    path = tmp_path / "samples.h5"
    with pytest.raises(Killed):
        write_resumable(path, "samples", {"test~0": seeds}, lambda rows: make(rows, 5), 10, {"model": "m"}, "a")
    assert not path.exists() and len([*tmp_path.glob(".samples.parts/*")]) == 5
    calls.clear()
    if change == "damaged":
        part = tmp_path / ".samples.parts/test~0-20.h5"
        part.write_bytes(part.read_bytes()[:-50])
    if change == "seeds":
        seeds = seeds + np.uint64(10)
    finished = []
    write_resumable(
        path, "samples", {"test~0": seeds}, make, 10, {"model": "m"}, "b" if change == "identity" else "a", finished.append
    )
    assert sum(calls) == {"nothing": 45, "identity": 95, "damaged": 55, "seeds": 95}[change] == 95 - sum(finished)
    kept = read_split(path, "samples", "test~0")
    assert (kept.seeds == seeds).all() and (kept.y_0[:, 0] == seeds * 0.5).all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["samples.h5"]


def test_running_moments_are_those_of_all_rows():
    rows = np.random.default_rng(0).normal(3, 2, size=(100, 6)).astype(np.float32)
    whole, left, right = moments(rows), RunningMoments(), RunningMoments()
    for piece in np.split(rows[:70], [1, 30]):
        left.add(piece)
    right.add(rows[70:])
    left.join(right)
    found = left.moments()
    assert left.count == 100 and np.allclose(found.mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-13)
    assert np.allclose(found.covariance, np.cov(rows.astype(np.float64), rowvar=False), rtol=1e-12)
    assert np.allclose(found.covariance, whole.covariance, rtol=1e-12)


@pytest.mark.slow
def test_scores_of_shards_are_those_of_the_whole(blocks_of_8, tmp_path):
    """To rounding of float64: 1e-9 relative; statistics pass through files."""
    features = load_features("digits")
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 10, blocks_of_8), order=3).with_meta(token="teacher")
    tableau = s4s.solver("ddim", s4s.levels("logsnr", 4, blocks_of_8)).with_meta(token="ddim")
    paths = {}
    for name, number in [("whole", None), ("0", 0), ("1", 1)]:
        seeds = shard_of(sample_seeds("test", 48), number, 24)
        paths[name] = (tmp_path / f"s{name}.h5", tmp_path / f"p{name}.h5")
        draw_samples(blocks_of_8, tableau, {"test~0": seeds}, 64, paths[name][0])
        write_pairs(blocks_of_8, teacher, "test~0", seeds, 64, paths[name][1])
    whole = score_samples(blocks_of_8, features, *paths["whole"])
    for name in "01":
        save_statistics(
            tmp_path / f"{name}.npz",
            statistics_of(blocks_of_8, features, *paths[name]),
            describe(blocks_of_8, features, paths[name][0]),
        )
    joined = score(*join_statistics([tmp_path / "0.npz", tmp_path / "1.npz"]), features.reference())
    assert joined["n_samples"] == whole["n_samples"] == 48 and joined["features"] == whole["features"]
    assert joined["fid_mean"] == pytest.approx(whole["fid_mean"], rel=1e-9)
    assert joined["global_error_mean"] == pytest.approx(whole["global_error_mean"], rel=1e-12)
    assert all(joined[key] == whole[key] for key in ("kid", "precision", "recall", "coverage", "sliced_wasserstein"))
    (tmp_path / "1.npz").write_bytes((tmp_path / "1.npz").read_bytes()[:-40])
    with pytest.raises(S4SError, match=r"1\.npz: cannot read these statistics"):
        join_statistics([tmp_path / "0.npz", tmp_path / "1.npz"])
