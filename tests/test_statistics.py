"""Statistics of a model for DPM-Solver-v3: exact for one Gaussian, second ways to compute them, files, use."""

import json

import numpy as np
import pytest
import torch

import s4s
from s4s import S4SError
from s4s.learning.teacher import make_pairs
from s4s.metrics.global_error import global_error
from s4s.models.denoiser_check import take_as_checked
from s4s.models.embedded.mixture import MixtureDenoiser
from s4s.models.seeds import sample_seeds
from s4s.sampling import run
from s4s.solvers.dpm_v3 import Statistics
from s4s.solvers.dpm_v3_statistics import model_statistics

TRAJECTORIES, STEPS = 200, 40


def trajectories(denoiser, count=TRAJECTORIES):
    teacher = s4s.solver("unipc", s4s.levels("logsnr", STEPS, denoiser), order=3)
    pairs = make_pairs(denoiser, teacher, sample_seeds("search", count), trajectory=True)
    return teacher.levels.tolist(), pairs.trajectory, pairs.outputs


@pytest.fixture(scope="module")
def paths(mixture):
    return trajectories(mixture)


@pytest.fixture(scope="module")
def statistics(mixture, paths):
    return model_statistics(mixture, *paths, seed=3)


def test_statistics_of_one_gaussian_are_exact():
    """D is linear there, the trace does not depend on the signs, and f = 0 leaves nothing to scale."""
    std = 0.4
    mean, weight = torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    gaussian = MixtureDenoiser(mean, weight, std, s_min=0.05, s_max=20.0)
    levels, states, outputs = trajectories(gaussian, 5)
    statistics = model_statistics(gaussian, levels, states, outputs)
    s = np.asarray(levels[:-1])
    assert np.allclose(statistics.lam, -np.log(s), rtol=1e-12)
    assert np.allclose(statistics.l, s**2 / (std**2 + s**2), rtol=1e-12)
    assert np.isfinite(statistics.s).all()


def test_without_anything_left_to_scale_s_is_zero(mixture):
    """D = 0 gives l = 1 and f = 0 exactly."""

    class Zero(MixtureDenoiser):
        def __call__(self, y, s, condition=None):
            return 0 * y

    zero = Zero(mixture.means, mixture.weights, mixture.std, mixture.s_min, mixture.s_max)
    statistics = model_statistics(zero, *trajectories(zero, 5))
    assert statistics.l == [1.0] * STEPS and statistics.s == [0.0] * STEPS


@pytest.fixture(scope="module")
def few(paths):
    """The first 20 trajectories at every fifth level."""
    levels, states, outputs = paths
    return levels[::5], states[:20, ::5], outputs[:20, ::5]


def jacobians(denoiser, y, s):
    """dD/dy of each state, [n, d, d]."""
    return torch.func.vmap(torch.func.jacrev(lambda row: denoiser(row[None], s)[0]))(y)


def test_l_is_the_mean_divergence(mixture, paths, statistics):
    """To the standard error of its signs: with two components the estimate of a trace is off by twice the mixed derivative."""
    levels, states, _ = paths
    deviations = []
    for n, s in enumerate(levels[:-1]):
        J = jacobians(mixture, torch.from_numpy(states[:, n]), s)
        exact = 1 - J.diagonal(dim1=1, dim2=2).sum(1).mean() / 2
        standard_error = (2 * J[:, 0, 1]).square().mean().sqrt() / 2 / TRAJECTORIES**0.5
        deviations.append(((statistics.l[n] - exact) / (standard_error + 1e-12)).item())
    assert np.abs(deviations).max() < 4.5 and 0.3 < np.std(deviations) < 2


def test_s_is_the_slope_of_f_on_f(mixture, paths, statistics):
    """With derivatives along the trajectory itself, dy/dlambda = D - y and ds/dlambda = -s, not between its levels."""
    levels, states, outputs = paths
    slope_of_l = np.gradient(statistics.l, statistics.lam)
    for n in range(1, STEPS - 1):
        y, s = torch.from_numpy(states[:, n]), levels[n]
        D = mixture(y, s)
        assert np.allclose(D, outputs[:, n], rtol=1e-12)
        ahead, behind = (mixture(y + h * (D - y), s - h * s) for h in (1e-5, -1e-5))
        f = (1 - statistics.l[n]) * y - D
        df = (1 - statistics.l[n]) * (D - y) - slope_of_l[n] * y - (ahead - behind) / 2e-5
        exact = ((df * f).sum() / (f * f).sum()).item()
        assert statistics.s[n] == pytest.approx(exact, abs=0.02, rel=0.02)


@pytest.mark.slow
def test_s_is_that_of_a_finer_trajectory(mixture, paths):
    """Four times as many levels, of which every fourth is compared, and exact divergences.

    The signs' share in l makes s noisy, so the mean over several seeds is compared, to its standard error.
    """
    levels = s4s.levels("logsnr", 4 * STEPS, mixture)
    fine = make_pairs(mixture, s4s.solver("unipc", levels, order=3), sample_seeds("search", TRAJECTORIES), trajectory=True)
    y, lam = fine.trajectory[:, :-1], -levels[:-1].log().numpy()
    rows = [jacobians(mixture, torch.from_numpy(y[:, n]), s).diagonal(dim1=1, dim2=2) for n, s in enumerate(levels[:-1])]
    l = np.array([1 - row.mean().item() for row in rows])  # noqa: E741
    f = (1 - l)[:, None] * y - fine.outputs
    df = (f[:, 2:] - f[:, :-2]) / (lam[2:] - lam[:-2])[:, None]
    exact = (df * f[:, 1:-1]).sum((0, 2)) / (f[:, 1:-1] ** 2).sum((0, 2))
    found = np.array([model_statistics(mixture, *paths, seed=seed).s for seed in range(10)])[:, 1:-1]
    deviation = found.mean(0) - exact[3::4][: STEPS - 2]
    assert (np.abs(deviation) < 4.5 * found.std(0, ddof=1) / 10**0.5 + 0.005).all()


def test_the_signs_depend_on_the_seed_alone(mixture, paths, statistics):
    assert model_statistics(mixture, *paths, seed=3) == statistics
    other = model_statistics(mixture, *paths, seed=4)
    assert other.lam == statistics.lam and other.l != statistics.l
    assert np.allclose(other.l, statistics.l, atol=0.1)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_statistics_do_not_depend_on_the_batch_size(mixture, few, batch_size):
    together = model_statistics(mixture, *few, batch_size=20)
    apart = model_statistics(mixture, *few, batch_size=batch_size)
    assert np.allclose(apart.l, together.l, rtol=1e-12) and np.allclose(apart.s, together.s, rtol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 6, 8, 11, 20])
def test_no_batch_is_larger_than_asked_for(mixture, few, batch_size):
    """Whoever lowers the batch size has no more memory."""
    sizes = []

    class Counting(MixtureDenoiser):
        def __call__(self, y, s, condition=None):
            sizes.append(len(y))
            return super().__call__(y, s, condition)

    counting = Counting(mixture.means, mixture.weights, mixture.std)
    take_as_checked(counting)
    model_statistics(counting, *few, batch_size=batch_size)
    assert sum(sizes) == 20 * STEPS / 5 and max(sizes) <= batch_size


def test_states_of_any_shape_and_type_have_statistics(mixture, few):
    """Pictures in float32 give what the same numbers give in a row."""

    class Pictures(MixtureDenoiser):
        def __call__(self, y, s, condition=None):
            return super().__call__(y.reshape(len(y), 2), s).reshape(y.shape)

    pictures = Pictures(mixture.means.float(), mixture.weights.float(), mixture.std, mixture.s_min, mixture.s_max)
    levels, states, outputs = few
    rows = model_statistics(mixture, levels, states, outputs)
    as_pictures = [array.reshape(*array.shape[:2], 1, 2, 1).astype(np.float32) for array in (states, outputs)]
    statistics = model_statistics(pictures, levels, *as_pictures)
    assert np.allclose(statistics.l, rows.l, atol=1e-4) and np.allclose(statistics.s[1:-1], rows.s[1:-1], atol=1e-2)


def test_statistics_survive_their_file(statistics, tmp_path):
    path = tmp_path / "statistics.json"
    statistics.save(path)
    again = Statistics.load(path)
    assert again == statistics and again.s == statistics.s
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


GOOD = {"format": "s4s-statistics/1", "lam": [-1.0, 0.0, 1.0], "l": [1.0, 0.8, 0.1], "s": [0.0, -0.5, -1.0]}
BAD_FILES = {
    "not-json": "lam",
    "empty": "",
    "cut-off": json.dumps(GOOD)[:-15],
    "wrong-key": json.dumps({**GOOD, "bias": [0, 0, 0]}),
    "missing-key": json.dumps({"lam": [0, 1], "l": [1, 0]}),
    "wrong-format": json.dumps({**GOOD, "format": "s4s-statistics/0"}),
    "l-too-short": json.dumps({**GOOD, "l": [1.0, 0.8]}),
    "s-too-long": json.dumps({**GOOD, "s": [0.0, 0.0, 0.0, 0.0]}),
    "lam-too-short": json.dumps({**GOOD, "lam": [0.0], "l": [0.0], "s": [0.0]}),
    "lam-repeats": json.dumps({**GOOD, "lam": [-1.0, 0.0, 0.0]}),
    "lam-falls": json.dumps({**GOOD, "lam": [1.0, 0.0, -1.0]}),
    "not-finite": json.dumps({**GOOD, "s": [0.0, float("nan"), 0.0]}),
    "infinite": json.dumps({**GOOD, "lam": [-1.0, 0.0, float("inf")]}),
    "no-number": json.dumps({**GOOD, "l": [1.0, "high", 0.1]}),
}


def test_a_good_file_is_taken(tmp_path):
    (tmp_path / "good.json").write_text(json.dumps(GOOD))
    assert Statistics.load(tmp_path / "good.json").model_dump() == GOOD


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_refused_by_name(mixture, text, tmp_path):
    path = tmp_path / "statistics.json"
    path.write_text(text)
    with pytest.raises(S4SError, match=str(path)):
        Statistics.load(path)
    with pytest.raises(S4SError, match=str(path)):
        s4s.solver("dpm_v3", s4s.levels("logsnr", 4, mixture), statistics=str(path), order=2)


def test_missing_and_binary_files_are_refused_by_name(tmp_path):
    with pytest.raises(S4SError, match=rf"{tmp_path}/no\.json: cannot read these statistics"):
        Statistics.load(tmp_path / "no.json")
    with pytest.raises(S4SError, match=f"{tmp_path}: cannot read"):
        Statistics.load(tmp_path)
    (tmp_path / "binary.json").write_bytes(bytes([0xFF, 0xFE, 0x80]))
    with pytest.raises(S4SError, match=rf"{tmp_path}/binary\.json: .*not text"):
        Statistics.load(tmp_path / "binary.json")


def test_dpm_solver_v3_with_statistics_beats_ddim(mixture, statistics, tmp_path):
    """At 8 evaluations, with statistics of other noise; given as an object or as a file makes no difference."""
    levels = s4s.levels("logsnr", 8, mixture)
    y_T = s4s.initial_noise(mixture, sample_seeds("test", 200))
    exact = run(mixture, y_T, s4s.solver("unipc", s4s.levels("logsnr", 200, mixture), order=3)).numpy()

    def error(tableau):
        return global_error(run(mixture, y_T, tableau).numpy(), exact)

    ddim = error(s4s.solver("ddim", levels))
    for order in (1, 2, 3):
        assert error(s4s.solver("dpm_v3", levels, statistics=statistics, order=order)) < ddim
    statistics.save(tmp_path / "statistics.json")
    from_file = s4s.solver("dpm_v3", levels, statistics=str(tmp_path / "statistics.json"), order=3)
    assert from_file.same_as(s4s.solver("dpm_v3", levels, statistics=statistics, order=3), 0)
