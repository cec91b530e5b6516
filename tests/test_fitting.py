"""Fits: improvement, cost, recovery, relaxed noise, resume, replicas, seeds, bad input."""

import contextlib
import dataclasses
import itertools
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import s4s
from s4s import FitSettings, S4SError, TeacherPairs
from s4s.files.disk_errors import remedy
from s4s.learning import fit as fit_module
from s4s.learning.drivers import DRIVERS
from s4s.learning.families import FAMILIES, make_family
from s4s.learning.first_order import PATIENCE
from s4s.learning.fit import fit
from s4s.learning.loop import RECOVERIES, Loop
from s4s.learning.losses import l2
from s4s.learning.objective import Objective, Replica
from s4s.learning.parameters import Parameters
from s4s.learning.settings import PRESETS
from s4s.learning.tangents import Counter
from s4s.learning.teacher import make_pairs
from s4s.learning.warm_start import resampled
from s4s.metrics.global_error import global_error
from s4s.models.accelerated import accelerated
from s4s.models.load import load_perceptual
from s4s.models.seeds import sample_seeds
from tests.conftest import CountingDenoiser

FAST = FitSettings(iterations=8, validate_every=4, distance="l2")
ADAM = FitSettings(preset="adam", iterations=20, batch=8, validate_every=10, distance="l2")
STARTS = {
    "lms": ("ipndm", {"order": 2}, {}),
    "pc": ("unipc", {"order": 2}, {"prediction": "data"}),
    "single_step": ("dpm2", {"prediction": "data"}, {"prediction": "data"}),
    "ld3": ("dpmpp", {"order": 2}, {}),
    "gs": ("dpmpp", {"order": 3}, {}),
    "dyweight": ("ipndm", {"order": 3}, {"order": 3}),
    "bns": ("dpmpp", {"order": 2}, {}),
}


def changed(settings, **changes):
    return settings.changed(changes)


def test_error(mixture, pairs, tableau):
    return global_error(s4s.sample(mixture, torch.from_numpy(pairs.y_T), tableau).numpy(), pairs.y_0)


test_error.__test__ = False


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("levels", "eval_levels", "A", "B"))


def loop_of(denoiser, pairs, settings, driver="coefficients", nfe=3, radius=0.0, decoupled=False):
    base = s4s.solver("ddim", s4s.levels("logsnr", nfe, denoiser))
    made = Parameters(make_family("lms", base), base, decoupled)
    replicas, counter = [Replica(denoiser, l2)], Counter()
    train, val = (Objective(replicas, split, 4096, counter) for split in (pairs.train, pairs.val))
    return Loop(made, train, val, driver, settings, radius)


# ---- improvement


@pytest.mark.parametrize(
    ("family", "driver"),
    [
        (family, driver)
        for family, entry in FAMILIES.items()
        for driver in DRIVERS
        if not entry.discrete and (not entry.schedule_only or driver in ("schedule", "joint"))
    ],
)
def test_default_settings_beat_the_start_on_unseen_noise(mixture, mixture_pairs, mixture_test, family, driver):
    """Every family with every driver that it has something to learn with; what a driver leaves fixed stays fixed."""
    kind, options, family_options = STARTS[family]
    base = s4s.solver(kind, s4s.levels("time_quadratic", 4, mixture), **options)
    result = fit(
        mixture, mixture_pairs, family, base.levels, base=base, family_options=family_options, driver=driver,
        settings=changed(FitSettings(distance="l2"), iterations=16),
    )  # fmt: skip
    factor = 0.95 if driver == "schedule" else 0.7
    assert test_error(mixture, mixture_test, result.tableau) < factor * test_error(mixture, mixture_test, base)
    if driver == "coefficients" and family != "single_step":  # whose stage levels are coefficients
        assert torch.equal(result.tableau.levels, base.levels)
    if driver == "schedule":
        assert not torch.equal(result.tableau.levels, base.levels)
    assert [h["iteration"] for h in result.history] == [0, 4, 8, 12, 16]
    values = [h["val"] for h in result.history]
    y_T, y_0 = (torch.from_numpy(a) for a in (mixture_pairs.val.y_T, mixture_pairs.val.y_0))
    assert math.isclose(min(values), l2(s4s.sample(mixture, y_T, result.tableau), y_0).mean().item(), rel_tol=1e-9)
    assert min(values) <= values[0]


@pytest.mark.parametrize(("driver", "factor"), [("coefficients", 5), ("joint", 5)])
def test_gauss_newton_needs_few_of_the_evaluations_of_adam(mixture, mixture_pairs, driver, factor):
    """To the best validation loss of tuned Adam; 12.7 (coefficients) and 12.2 (joint) times fewer when this was written."""
    base = s4s.solver("dpmpp", s4s.levels("time_quadratic", 4, mixture), order=2)
    newton, adam = (
        fit(mixture, mixture_pairs, "lms", base.levels, base=base, driver=driver, settings=FitSettings(preset=p, distance="l2"))
        for p in ("gauss_newton", "adam")
    )
    best = min(adam.history, key=lambda h: h["val"])
    reached = next(h for h in newton.history if h["val"] <= best["val"])
    assert factor * reached["evaluations"] < best["evaluations"]


def test_no_increment_is_lost_for_good():
    """A level of a single-step solver went to the end of its step at once here, where nothing moves it any more (0.112)."""
    model = s4s.load_model("mixture")
    teacher, base = (
        s4s.solver(kind, s4s.levels("logsnr", n, model), **options)
        for kind, n, options in (("unipc", 64, {"order": 3}), ("dpm2", 6, {"prediction": "data"}))
    )
    pairs = TeacherPairs(*(make_pairs(model, teacher, sample_seeds(*split)) for split in (("train", 256), ("val", 64))))
    result = fit(model, pairs, "single_step", base.levels, base=base, settings=FitSettings(distance="l2"))
    assert result.history[-1]["val"] < 0.02
    assert result.tableau.levels.log().diff().max() < -0.01


def test_a_fit_is_never_worse_than_its_start_on_validation(mixture, mixture_pairs):
    """Even with steps that are much too large: the result is then the start itself."""
    base = s4s.solver("dpmpp", s4s.levels("logsnr", 4, mixture), order=2)
    wild = changed(ADAM, learning_rate=500.0, decay="constant", iterations=6, validate_every=2)
    result = fit(mixture, mixture_pairs, "lms", base.levels, base=base, settings=wild)
    assert result.tableau.same_as(base, 1e-14) and all(
        h["val"] is None or h["val"] >= result.history[0]["val"] for h in result.history
    )


@pytest.mark.parametrize(
    ("preset", "family", "changes"),
    [
        ("ld3", "ld3", {"iterations": 25}),
        ("ld3", "lms", {"iterations": 25}),
        ("gs", "gs", {"iterations": 60, "train_pairs": 48, "val_pairs": 32, "validate_every": 20}),
        ("adam", "bns", {"iterations": 60, "batch": 8}),
    ],
)
def test_presets_of_the_literature_improve_the_start(mixture, mixture_pairs, preset, family, changes):
    """LD3's RMSprop with relaxed noise and conditioning levels of their own step; GS's Adam with a moving average."""
    base = s4s.solver("dpmpp", s4s.levels("time_quadratic", 4, mixture), order=2)
    driver = "schedule" if preset == "ld3" else "joint"
    result = fit(
        mixture, mixture_pairs, family, base.levels, base=base, driver=driver, decoupled=preset == "ld3",
        settings=FitSettings(preset=preset, distance="l2", **changes),
    )  # fmt: skip
    values = [h["val"] for h in result.history]
    assert min(values) < 0.9 * values[0] and result.history[-1]["recovered"] == 0
    if preset == "ld3":
        assert not torch.equal(result.tableau.eval_levels, result.tableau.levels[:-1])


@pytest.mark.parametrize(
    ("preset", "iterations", "distance"),
    [*(("gauss_newton", 6, name) for name in ("l1", "l2", "perceptual", "features")), ("adam", 12, "perceptual")],
)
def test_every_distance_can_be_fitted_on_a_network(digits, digits_pairs, distance, preset, iterations):
    base = s4s.solver("ddim", s4s.levels("edm", 4, digits))
    settings = FitSettings(preset=preset, iterations=iterations, batch=8, validate_every=4, distance=distance)
    result = fit(
        digits, digits_pairs, "lms", base.levels, base=base, settings=settings, perceptual_network=load_perceptual("digits")
    )
    values = [h["val"] for h in result.history]
    assert min(values) < 0.93 * values[0]


def test_a_weight_of_the_path_brings_inner_nodes_closer_to_the_teacher(mixture, mixture_paths):
    base = s4s.solver("dpmpp", s4s.levels("time_quadratic", 4, mixture), order=2)
    y_T = torch.from_numpy(mixture_paths.train.y_T)

    def inner(tableau):
        from s4s.learning.teacher_path import TeacherPath
        from s4s.sampling import run

        path, found = TeacherPath(mixture_paths.train, mixture_paths.levels), []
        run(mixture, y_T, tableau, callback=lambda n, y, output: found.append(
            path.difference(y, tableau.levels[n], torch.arange(16)).norm(dim=1).mean().item()))  # fmt: skip
        return sum(found)

    plain, guided = (
        fit(mixture, mixture_paths, "lms", base.levels, base=base, settings=changed(FAST, trajectory=weight)).tableau
        for weight in (0.0, 5.0)
    )
    assert inner(guided) < 0.9 * min(inner(plain), inner(base))


# ---- cost


def test_evaluations_are_what_goes_through_the_network(mixture, mixture_pairs):
    """Gauss-Newton by differences: exactly. First-order: a forward with its backward pass counts 3, one recomputed 4."""
    levels = s4s.levels("logsnr", 3, mixture)
    validations = 3 * 64 * 3  # iterations 0, 4, 8 and 0, 10, 20

    def count(settings, driver="coefficients"):
        counting = CountingDenoiser(mixture)
        result = fit(counting, mixture_pairs, "lms", levels, base="ddim", driver=driver, settings=settings)
        assert result.history[-1]["evaluations"] == result.evaluations
        return result.evaluations, counting.rows

    for driver in DRIVERS:
        counted, rows = count(FAST, driver)
        assert counted == rows
    trained = 20 * 8 * 3
    assert count(ADAM) == (3 * trained + validations, trained + validations)
    assert count(changed(ADAM, recompute=True)) == (4 * trained + validations, 2 * trained + validations)
    assert count(changed(ADAM, radius=0.1)) == (4 * trained + validations, 2 * trained + validations)


def test_patience_ends_a_fit(mixture, mixture_pairs):
    settings = changed(ADAM, learning_rate=1e-300, decay="constant", iterations=50, validate_every=1, patience=3, train_pairs=8)
    result = fit(mixture, mixture_pairs, "lms", s4s.levels("logsnr", 3, mixture), base="ddim", settings=settings)
    best = min(h["val"] for h in result.history)
    after = len(result.history) - 1 - next(i for i, h in enumerate(result.history) if h["val"] == best)
    assert after == 3 and len(result.history) < 51


# ---- determinism


def test_the_same_fit_twice_is_the_same_and_another_seed_is_not(mixture, mixture_pairs):
    levels = s4s.levels("logsnr", 3, mixture)
    for settings in (FAST, ADAM):
        runs = [
            fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=changed(settings, seed=s)).tableau
            for s in (0, 0, 1)
        ]
        assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_each_epoch_visits_every_pair_once(mixture, mixture_pairs):
    loop = loop_of(mixture, mixture_pairs, FAST)
    visited = []
    for loop.iteration in range(16):
        visited.append(loop._rows())
    first, second = torch.cat(visited[:8]), torch.cat(visited[8:])
    assert torch.equal(first.sort().values, torch.arange(64)) and torch.equal(second.sort().values, torch.arange(64))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("settings", [FAST, ADAM, changed(FAST, radius=0.1)], ids=["gauss_newton", "adam", "radius"])
def test_replicas_share_the_work_and_change_next_to_nothing(mixture, mixture_pairs, settings):
    levels = s4s.levels("logsnr", 3, mixture)
    counting = [CountingDenoiser(mixture) for _ in range(2)]

    def learn(first=mixture, replicas=()):
        return fit(first, mixture_pairs, "lms", levels, base="ddim", driver="joint", settings=settings, replicas=replicas)

    one, two, again = learn(), learn(counting[0], [(counting[1], None)]), learn(mixture, [(mixture, None)])
    assert two.tableau.same_as(one.tableau, 1e-6)
    assert same(two.tableau, again.tableau) and two.history == again.history
    assert counting[0].rows == counting[1].rows > 0 and one.evaluations == two.evaluations


def test_replicas_work_with_forward_mode(mixture, mixture_pairs):
    levels, settings = s4s.levels("logsnr", 3, mixture), changed(FAST, derivatives="forward", iterations=2)
    one, two = (
        fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=settings, replicas=replicas)
        for replicas in ((), [(mixture, None)])
    )
    assert two.tableau.same_as(one.tableau, 1e-6)


def test_both_kinds_of_derivatives_lead_to_the_same_solver(mixture, mixture_pairs):
    base = s4s.solver("dpmpp", s4s.levels("time_quadratic", 4, mixture), order=2)
    errors = [
        min(
            h["val"]
            for h in fit(mixture, mixture_pairs, "lms", base.levels, base=base, settings=changed(FAST, derivatives=d)).history
        )
        for d in ("differences", "forward")
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.05)


# ---- resume


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("radius", [0.0, 0.1])
@pytest.mark.parametrize(
    "settings",
    [
        changed(FAST, iterations=20, phase=7),
        changed(ADAM, phase=7, ema=0.9),
        FitSettings(preset="ld3", iterations=20, phase=7, distance="l2", validate_every=2),
    ],
    ids=["gauss_newton", "adam", "rmsprop"],
)
def test_resume_equals_uninterrupted(mixture, mixture_pairs, tmp_path, monkeypatch, settings, radius):
    """A fit killed in the middle goes on from its state to the same result, bit for bit."""
    levels, settings = s4s.levels("logsnr", 4, mixture), changed(settings, radius=radius)
    options = {"base": "ddim", "driver": "alternate", "decoupled": True, "settings": settings}
    expected = fit(mixture, mixture_pairs, "lms", levels, **options)
    monkeypatch.setattr("s4s.learning.state.STATE_SECONDS", 0.0)
    state = tmp_path / "fit.state"
    step, calls = Loop.step, itertools.count()

    def dies_at_the_12th(self):
        if next(calls) == 12:
            raise Interrupt
        step(self)

    monkeypatch.setattr(Loop, "step", dies_at_the_12th)
    with pytest.raises(Interrupt):
        fit(mixture, mixture_pairs, "lms", levels, **options, state_path=state)
    assert state.exists()
    resumed = fit(mixture, mixture_pairs, "lms", levels, **options, state_path=state)
    assert next(calls) - 1 - 12 == settings.iterations - 12, "only the missing steps are made"
    assert same(resumed.tableau, expected.tableau)
    assert resumed.history == expected.history and resumed.evaluations == expected.evaluations


def test_a_foreign_or_damaged_state_is_not_resumed(mixture, mixture_pairs, tmp_path):
    levels, state = s4s.levels("logsnr", 3, mixture), tmp_path / "fit.state"
    expected = fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=FAST)
    torch.save({"identity": "of another fit"}, state)
    foreign = state.read_bytes()
    for content in (b"", b"not a state", foreign[: len(foreign) // 2], foreign):
        state.write_bytes(content)
        again = fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=FAST, state_path=state)
        assert same(again.tableau, expected.tableau)


def test_a_state_that_meets_a_full_disk_says_so(mixture, mixture_pairs, tmp_path, monkeypatch):
    """However much of it still fits: /dev/full takes nothing, and says why, as a full disk does."""
    monkeypatch.setattr("s4s.learning.state.atomic_path", lambda path: contextlib.nullcontext(Path("/dev/full")))
    levels = s4s.levels("logsnr", 3, mixture)
    with pytest.raises(OSError) as raised:
        fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=FAST, state_path=tmp_path / "fit.state")
    assert "the disk is full" in (remedy(raised.value) or "")


def test_a_state_of_other_pairs_is_not_resumed(mixture, mixture_pairs, tmp_path):
    """Also where the sums of absolute values are the same: signs and the order of rows count."""
    levels, state = s4s.levels("logsnr", 3, mixture), tmp_path / "fit.state"
    options = {"base": "ddim", "settings": changed(FAST, iterations=2, distance="l1")}
    fit(mixture, mixture_pairs, "lms", levels, **options, state_path=state)
    train = mixture_pairs.train
    for y_0 in (-train.y_0, np.roll(train.y_0, 1, axis=0)):
        other = dataclasses.replace(mixture_pairs, train=dataclasses.replace(train, y_0=y_0))
        expected = fit(mixture, other, "lms", levels, **options)
        found = fit(mixture, other, "lms", levels, **options, state_path=state)
        assert found.history == expected.history and same(found.tableau, expected.tableau)


# ---- relaxed noise, moving averages, plateaus


@pytest.mark.parametrize("settings", [FAST, ADAM], ids=["gauss_newton", "adam"])
def test_a_radius_moves_the_noise_within_the_ball(mixture, mixture_pairs, settings):
    loop = loop_of(mixture, mixture_pairs, settings, radius=0.2)
    before = loop.relaxed.y.clone()
    for _ in range(4):
        loop.step()
    moved = (loop.relaxed.y - loop.relaxed.y_T).norm(dim=1).max() / loop.relaxed.radius
    assert 0.5 < moved <= 1 + 1e-5
    changed_rows = (loop.relaxed.y != before).any(1)
    assert 0 < changed_rows.sum() <= 4 * settings.batch, "only pairs that were visited move"


@pytest.mark.parametrize("settings", [FAST, ADAM], ids=["gauss_newton", "adam"])
def test_the_noise_moves_only_where_that_brings_it_closer(mixture, mixture_pairs, settings):
    """Both distances are of the solver whose gradient was followed."""
    loop = loop_of(mixture, mixture_pairs, settings, radius=0.2)
    keep, seen = loop.relaxed.keep, []

    def checked(rows, candidates, better):
        tableau = loop.parameters.tableau(loop.values).detach()
        before, after = (loop.train.distances(tableau, y, rows) for y in (loop.relaxed.y[rows], candidates))
        assert torch.equal(after < before, better)
        seen.extend(better.tolist())
        keep(rows, candidates, better)

    loop.relaxed.keep = checked
    for _ in range(20):
        loop.step()
    assert len(seen) == 20 * settings.batch and any(seen)


def test_the_radius_ld3_is_theirs(mixture, mixture_pairs, monkeypatch):
    seen = []

    class Seen(Loop):
        def __init__(self, *arguments):
            seen.append(arguments[-1])
            super().__init__(*arguments)

    monkeypatch.setattr(fit_module, "Loop", Seen)
    settings = changed(FAST, radius="ld3", iterations=1)
    fit(mixture, mixture_pairs, "lms", s4s.levels("logsnr", 4, mixture), base="ddim", settings=settings)
    assert seen == [pytest.approx(0.001 * 2 / 16)]


def test_what_is_validated_is_the_moving_average(mixture, mixture_pairs):
    loop = loop_of(mixture, mixture_pairs, changed(ADAM, ema=0.5, validate_every=1))
    mean = None
    for i in range(1, 6):
        loop.step()
        decay = min(0.5, (1 + i) / (10 + i))
        mean = loop.values if mean is None else decay * mean + (1 - decay) * loop.values
        assert torch.allclose(loop.optimiser.average(loop.values), mean, rtol=1e-12)
        tableau = loop.parameters.tableau(mean).detach()
        val = loop.val.distances(tableau, loop.val.y_T, torch.arange(64)).mean().item()
        assert loop.history[-1]["val"] == pytest.approx(val, rel=1e-9)
    assert not torch.allclose(mean, loop.values)


def test_a_plateau_goes_back_to_the_best_with_smaller_steps(mixture, mixture_pairs):
    settings = changed(ADAM, learning_rate=3.0, decay="plateau", validate_every=1, patience=1000, iterations=1000)
    loop = loop_of(mixture, mixture_pairs, settings)
    while loop.stale < PATIENCE:
        assert loop.optimiser.factor == 1
        loop.step()
        assert loop.iteration < 100
    assert torch.equal(loop.values, loop.best) and loop.optimiser.factor == 0.8


# ---- values that are not finite


@pytest.mark.parametrize("settings", [changed(FAST, iterations=12), ADAM], ids=["gauss_newton", "adam"])
def test_a_fit_recovers_from_values_that_are_not_finite(mixture, mixture_pairs, settings):
    """A network that fails for a while: the fit goes back to its best values and ends with a better solver than its start."""
    levels = s4s.levels("logsnr", 3, mixture)
    broken = CountingDenoiser(mixture, lambda call: 20 <= call < 30)
    result = fit(broken, mixture_pairs, "lms", levels, base="ddim", settings=settings)
    assert 0 < result.history[-1]["recovered"] <= RECOVERIES
    values = [h["val"] for h in result.history if h["val"] is not None]
    assert torch.isfinite(result.tableau.B).all() and min(values) < 0.9 * values[0]
    assert all(math.isfinite(h["train"]) for h in result.history if h["train"] is not None)


def test_a_validation_that_is_not_finite_is_no_best(mixture, mixture_pairs):
    loop = loop_of(mixture, mixture_pairs, FAST)
    loop.step()
    best = loop.best_val
    loop.values = loop.values + math.nan
    loop._validate()
    assert loop.history[-1]["val"] is None and loop.best_val == best and torch.isfinite(loop.best).all()


@pytest.mark.parametrize("settings", [changed(FAST, iterations=40), changed(ADAM, iterations=40)], ids=["gauss_newton", "adam"])
def test_a_fit_that_cannot_recover_says_at_which_step(mixture, mixture_pairs, settings):
    broken = CountingDenoiser(mixture, lambda call: call >= 10)
    with pytest.raises(S4SError, match=r"not finite 9 times, last at step \d+.*lower learning_rate"):
        fit(broken, mixture_pairs, "lms", s4s.levels("logsnr", 3, mixture), base="ddim", settings=settings)


def test_a_start_that_is_not_finite_is_refused(mixture, mixture_pairs):
    broken = CountingDenoiser(mixture, lambda call: True)
    with pytest.raises(S4SError, match="the base solver gives samples that are not finite"):
        fit(broken, mixture_pairs, "lms", s4s.levels("logsnr", 3, mixture), base="ddim", settings=FAST)


# ---- precision and compilation


def test_bfloat16_learns_nearly_what_float32_does(digits, digits_pairs):
    base = s4s.solver("dpmpp", s4s.levels("edm", 3, digits), order=2)
    settings = FitSettings(preset="adam", iterations=8, batch=4, validate_every=4, distance="l2")
    found = [
        fit(digits, digits_pairs, "lms", base.levels, base=base, settings=changed(settings, precision=precision))
        for precision in ("float32", "bfloat16")
    ]
    values = [min(h["val"] for h in result.history) for result in found]
    assert torch.isfinite(found[1].tableau.B).all()
    assert values[1] == pytest.approx(values[0], rel=0.05) and not same(found[0].tableau, found[1].tableau)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_differences_of_low_precision_are_refused(precision):
    with pytest.raises(ValidationError, match="mostly rounding"):
        FitSettings(precision=precision)
    with pytest.raises(ValidationError, match="mostly rounding"):
        FitSettings(preset="adam", precision=precision).changed({"optimiser": "gauss_newton"})
    assert FitSettings(precision=precision, derivatives="forward").precision == precision


@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler")
@pytest.mark.skipif("S4S_SLOW_TESTS" not in os.environ, reason="takes a minute; set S4S_SLOW_TESTS")
def test_a_compiled_network_gives_the_same(digits):
    y = torch.randn(4, *digits.shape, generator=torch.Generator().manual_seed(0))
    compiled = accelerated(digits, compile=True)
    for level in (0.5, 3.0):
        assert torch.allclose(compiled(y, level), digits(y, level), rtol=1e-3, atol=1e-4)


# ---- a start from another learned solver


def test_a_fit_goes_on_from_a_learned_solver_of_another_nfe(mixture, mixture_pairs):
    base = s4s.solver("dpmpp", s4s.levels("time_quadratic", 4, mixture), order=2)
    source = fit(mixture, mixture_pairs, "lms", base.levels, base=base, driver="joint", settings=FAST).tableau
    start = resampled(source, 5, mixture.s_max, mixture.s_min, lambda levels: s4s.solver("dpmpp", levels, order=2))
    result = fit(mixture, mixture_pairs, "lms", start.levels, base=start, driver="joint", settings=FAST)
    values = [h["val"] for h in result.history]
    assert min(values) < values[0]
    again = fit(mixture, mixture_pairs, "lms", source.levels, base=source, driver="joint", settings=changed(FAST, iterations=1))
    y_T, y_0 = (torch.from_numpy(a) for a in (mixture_pairs.val.y_T, mixture_pairs.val.y_0))
    assert again.history[0]["val"] == pytest.approx(l2(s4s.sample(mixture, y_T, source), y_0).mean().item(), rel=1e-9)


@pytest.mark.parametrize("driver", ["coefficients", "alternate", "joint"])
def test_the_first_node_is_learned_with_the_coefficients(mixture, mixture_pairs, driver):
    """Both parts of it, without learned conditioning levels; the later conditioning levels stay those of the nodes."""
    levels = s4s.levels("logsnr", 3, mixture)
    tableau = fit(
        mixture, mixture_pairs, "lms", levels, base="ddim", driver=driver, first_node=True, settings=FAST
    ).tableau  # fmt: skip
    conditioning = tableau.eval_levels / tableau.levels[:-1]
    assert abs(tableau.kappa - 1) > 1e-4 and abs(conditioning[0] - 1) > 1e-4
    assert torch.allclose(conditioning[1:], torch.ones(2, dtype=torch.float64))


def test_rows_at_a_time_change_nothing_but_memory(mixture, mixture_pairs):
    for settings in (FAST, changed(FAST, distance="l1"), changed(FAST, radius=0.1), ADAM):
        counting = [CountingDenoiser(mixture) for _ in range(2)]
        all_at_once, few = (
            fit(c, mixture_pairs, "lms", s4s.levels("logsnr", 3, mixture), base="ddim", settings=settings, batch_size=rows)
            for c, rows in zip(counting, (None, 4), strict=True)
        )
        assert few.tableau.same_as(all_at_once.tableau, 1e-6)
        assert counting[0].largest > 4 and counting[1].largest == 4


def test_a_damaged_state_or_one_that_began_otherwise_means_starting_anew(mixture, mixture_pairs, tmp_path):
    levels, path = s4s.levels("logsnr", 3, mixture), tmp_path / "fit.state"

    def learn():
        return fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=FAST, state_path=path)

    expected = learn()
    state = torch.load(path, weights_only=True)
    assert state["iteration"] == FAST.iterations, "a finished fit is kept until its result is stored"
    path.write_bytes(path.read_bytes()[:200] + bytes(100) + path.read_bytes()[300:])
    assert same(learn().tableau, expected.tableau)
    state["history"][0]["val"] *= 1.1  # as other weights under the same name would have it
    state["best"] = state["best"] + 1
    torch.save(state, path)
    assert same(learn().tableau, expected.tableau)
    state = torch.load(path, weights_only=True)
    state["best"] = torch.zeros_like(state["best"])
    torch.save(state, path)
    assert same(learn().tableau, s4s.solver("ddim", levels)), "a whole state of this fit is used"


# ---- bad input


def shifted(split):
    return dataclasses.replace(split, y_T=split.y_T * 1.01)


def wide(split):
    return dataclasses.replace(split, y_T=split.y_T[:, [0, 1, 1]], y_0=split.y_0[:, [0, 1, 1]])


def not_finite(split):
    return dataclasses.replace(split, y_0=np.where(np.arange(64)[:, None] == 3, np.nan, split.y_0))


PAIRS = {
    "other model": (lambda p: TeacherPairs(p.train, p.val, "digits"), "of model 'digits', not of 'mixture'"),
    "other shape": (lambda p: TeacherPairs(wide(p.train), p.val), r"shape \[3\], the model's states \[2\]"),
    "other noise": (lambda p: TeacherPairs(p.train, shifted(p.val)), "do not start from this model's noise"),
    "other levels": (lambda p: TeacherPairs(p.train, p.val, None, torch.tensor([80.0, 1.0])), "the teacher starts at level 80"),
    "other end": (
        lambda p: TeacherPairs(p.train, p.val, None, torch.tensor([20.0, 1.0])),
        "ends at level 0.05, the teacher at 1;",
    ),
    "not finite": (
        lambda p: TeacherPairs(not_finite(p.train), p.val),
        "the train pairs are not finite: model .* gave them",
    ),
    "overlap": (lambda p: TeacherPairs(p.train, p.train), "64 validation pairs have the initial noise of training pairs"),
    "samples": (lambda p: TeacherPairs(dataclasses.replace(p.train, y_T=None), p.val), "lack y_T; these are samples"),
}


@pytest.mark.parametrize("case", PAIRS)
def test_pairs_that_do_not_belong_are_refused_before_any_work(mixture, mixture_pairs, case):
    make, message = PAIRS[case]
    counting = CountingDenoiser(mixture)
    with pytest.raises(S4SError, match=message):
        fit(counting, make(mixture_pairs), "lms", s4s.levels("logsnr", 3, mixture), base="ddim", settings=FAST)
    assert not counting.rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "lsm"}, "unknown family 'lsm'; known: bns"),
        ({"family_options": {"odrer": 2}}, "no option 'odrer'"),
        ({"family_options": {"order": 4}}, "between 1 and its NFE, 3"),
        ({"family": "single_step", "base": "unipc"}, "cannot be initialised with unipc"),
        ({"driver": "both"}, "unknown driver 'both'"),
        ({"family": "ld3"}, "family 'ld3' at NFE 3 has no coefficients to learn"),
        ({"family": "ld3", "driver": "alternate"}, "'ld3' at NFE 3 has no coefficients to learn"),
        ({"levels": torch.tensor([20.0, 0.05]), "driver": "schedule"}, "at NFE 1 there are no levels to learn"),
        ({"driver": "schedule", "first_node": True}, "first_node is learned with the coefficients"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"settings": {"distance": "perceptual"}}, "needs a perceptual network"),
        ({"settings": {"trajectory": 0.5}}, r"teacher: \{trajectory: true\}"),
        ({"settings": {"train_pairs": 65}}, "train_pairs is 65 but there are 64 train pairs"),
        ({"settings": {"val_pairs": 65}}, "val_pairs is 65 but there are 64 val pairs"),
        ({"settings": {"batch": 65}}, "too few training pairs: 64, fewer than a batch of 65"),
        ({"settings": {"train_pairs": 7}}, "too few training pairs: 7"),
        ({"base": "dpmpp", "levels": torch.tensor([20.0, 0.05])}, "order 3 is larger than NFE 1"),
        ({"levels": torch.tensor([10.0, 1.0, 0.05])}, "the solver starts at level 10, the model's initial noise at 20"),
        ({"levels": torch.tensor([20.0, 1.0, 0.0])}, "leave out to_zero"),
        ({"base": s4s.solver("ddim", torch.tensor([20.0, 2.0, 0.1]))}, "the base tableau is on other levels"),
    ],
)
def test_bad_fits_are_refused_before_any_work(mixture, mixture_pairs, change, message):
    arguments = {"family": "lms", "levels": s4s.levels("logsnr", 3, mixture), "base": "ddim"} | change
    arguments["settings"] = changed(FAST, **change.get("settings", {}))
    counting = CountingDenoiser(mixture)
    with pytest.raises(S4SError, match=message):
        fit(counting, mixture_pairs, arguments.pop("family"), arguments.pop("levels"), **arguments)
    assert not counting.rows


# ---- settings


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_and_yield_to_what_is_given(preset):
    settings = FitSettings(preset=preset)
    assert all(getattr(settings, name) == value for name, value in PRESETS[preset].items())
    assert FitSettings(preset=preset, batch=77).batch == 77
    assert FitSettings.model_validate(settings.model_dump()) == settings


def test_changes_keep_the_rest_and_a_preset_brings_its_own_values():
    settings = FitSettings(batch=4, damping=0.5, distance="l1", seed=3, precision="float32")
    assert settings.changed({}) == settings
    assert settings.changed({"iterations": 5}).model_dump() == settings.model_dump() | {"iterations": 5}
    adam = settings.changed({"preset": "adam"})
    assert adam == FitSettings(preset="adam", distance="l1", seed=3)
    assert settings.changed({"preset": "adam", "batch": 2}) == FitSettings(preset="adam", batch=2, distance="l1", seed=3)
    assert adam.changed({"preset": "gauss_newton"}) == FitSettings(distance="l1", seed=3)
    objective = {"radius": 0.1, "train_pairs": 100, "val_pairs": 64}  # stay, but for a preset that sets them itself
    assert FitSettings(**objective).changed({"preset": "adam"}) == FitSettings(preset="adam", **objective)
    assert FitSettings(**objective).changed({"preset": "ld3"}) == FitSettings(preset="ld3")
    assert FitSettings(**objective).changed({"preset": "gs"}) == FitSettings(preset="gs", radius=0.1)


@pytest.mark.parametrize(
    "values",
    [
        {"preset": "sgd"}, {"preset": ["adam"]}, {"preset": {}},
        {"radius": -0.1}, {"radius": "s4s"}, {"iterations": 0}, {"batch": 0}, {"memory": 0.5},
        {"damping": 0}, {"learning_rate": 0}, {"ema": 1.0}, {"trajectory": -1}, {"distance": "l3"},
        {"precision": "int8"}, {"typo": 1},
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(values):
    with pytest.raises(ValidationError):
        FitSettings(**values)
    with pytest.raises(ValidationError):
        FitSettings().changed(values)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("preset", ["gauss_newton", "adam"])
def test_a_fit_on_a_gpu_is_near_that_on_the_cpu(digits, digits_pairs, preset):
    """The first steps agree to rounding; what many steps make of it may not."""
    levels = s4s.levels("time_quadratic", 3, digits)
    settings = FitSettings(preset=preset, iterations=3, batch=8, validate_every=1)
    ends = []
    for device in ("cpu", "cuda"):
        model, network = s4s.load_model("digits", device), load_perceptual("digits", device)
        ends.append(fit(model, digits_pairs, "lms", levels, driver="joint", settings=settings, perceptual_network=network))
    vals = [[step["val"] for step in end.history] for end in ends]
    assert vals[0] == pytest.approx(vals[1], rel=0.02)
