"""Teacher pairs: reproducible from their seeds, trajectories, convergence, scoring of matching noise only."""

import numpy as np
import pytest
import torch

import s4s
from s4s import S4SError
from s4s.files.rows import TEACHER_PAIRS, write_splits
from s4s.learning.draw import draw_samples
from s4s.learning.teacher import TeacherPairs, convergence, make_pairs
from s4s.metrics.load import load_features
from s4s.metrics.score import score_samples
from s4s.models.provenance import provenance
from s4s.models.seeds import sample_seeds


def test_pairs_are_what_their_seeds_say(digits):
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 10, digits), order=3)
    seeds = sample_seeds("train", 9)
    pairs = make_pairs(digits, teacher, seeds, batch_size=4)
    again = make_pairs(digits, teacher, seeds[5:7])
    assert (pairs.seeds == seeds).all() and (pairs.y_T[5:7] == again.y_T).all()
    assert np.allclose(pairs.y_0[5:7], again.y_0, atol=2e-4)
    assert np.array_equal(pairs.y_T, s4s.initial_noise(digits, seeds).numpy())


def test_a_trajectory_runs_from_start_to_end_along_the_tableau(mixture):
    teacher = s4s.solver("ddim", s4s.levels("edm", 6, mixture))
    pairs = make_pairs(mixture, teacher, sample_seeds("val", 10), batch_size=3, trajectory=True)
    path, outputs = pairs.trajectory, pairs.outputs
    assert path.shape == (10, 7, 2) and (path[:, 0] == pairs.y_T).all() and (path[:, -1] == pairs.y_0).all()
    y, s = torch.from_numpy(path), teacher.levels
    for n in range(6):
        expected = y[:, n] + (s[n + 1] - s[n]) * (y[:, n] - mixture(y[:, n], s[n])) / s[n]
        assert torch.allclose(y[:, n + 1], expected, rtol=1e-9)
        assert np.allclose(outputs[:, n], mixture(y[:, n], s[n]), rtol=1e-9)


def test_the_teachers_own_error_falls_with_its_steps(mixture):
    rows = convergence(mixture, "unipc", {"order": 3}, "logsnr", 48, 64, 64)
    steps, errors = zip(*rows, strict=True)
    assert steps[-1] == 48 and list(errors) == sorted(errors, reverse=True) and errors[-1] < errors[0] / 50


def test_pairs_load_from_a_file(digits, tmp_path):
    teacher = s4s.solver("ddim", s4s.levels("edm", 3, digits))
    splits = {name: make_pairs(digits, teacher, sample_seeds(name, 5)) for name in ("train", "val")}
    write_splits(tmp_path / "pairs.h5", TEACHER_PAIRS, splits, provenance("digits", teacher))
    pairs = TeacherPairs.load(str(tmp_path / "pairs.h5"))
    assert (pairs.val.y_0 == splits["val"].y_0).all() and (pairs.train.seeds == splits["train"].seeds).all()


@pytest.fixture(scope="module")
def scored(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 12, digits), order=3).with_meta(token="teacher")
    splits = {f"test~{seed}": make_pairs(digits, teacher, sample_seeds("test", 40, seed)) for seed in (0, 1)}
    write_splits(folder / "pairs.h5", TEACHER_PAIRS, splits, provenance("digits", teacher))
    return folder, teacher


@pytest.mark.slow
def test_the_teacher_against_itself_has_no_error(digits, scored):
    folder, teacher = scored
    draw_samples(digits, teacher, {f"test~{seed}": sample_seeds("test", 40, seed) for seed in (0, 1)}, 128, folder / "self.h5")
    score = score_samples(digits, load_features("digits"), folder / "self.h5", folder / "pairs.h5")
    assert score["global_error_mean"] < 1e-5 and score["n_seeds"] == 2 and score["n_samples"] == 40
    assert score["fid_mean"] == np.mean(score["fid"]) and score["fid_std"] == pytest.approx(np.std(score["fid"], ddof=1))


@pytest.mark.parametrize("change", ["noise", "model"])
def test_samples_of_other_noise_or_another_model_are_not_scored(digits, scored, change):
    folder, teacher = scored
    path = folder / f"{change}.h5"
    if change == "noise":
        draw_samples(digits, teacher, {"test~0": sample_seeds("test", 39)}, 128, path)
    else:
        pairs = make_pairs(digits, teacher, sample_seeds("test", 40))
        write_splits(path, "samples", {"test~0": pairs}, provenance("another", teacher))
    with pytest.raises(S4SError, match={"noise": "different noise", "model": "different models"}[change]):
        score_samples(digits, load_features("digits"), path, folder / "pairs.h5")
