"""Fits: exact start, improvement, relaxed noise, resume, seeds."""

import itertools

import pytest
import torch

import s4s
from s4s import FitSettings, S4SError
from s4s.families.lms import LMS
from s4s.fitting.distances import make_distance
from s4s.fitting.drivers import DRIVERS
from s4s.fitting.fit import fit
from s4s.fitting.relaxed import RelaxedNoise
from s4s.levels.clock import Clock

FAST = FitSettings(iterations=30, validate_every=10, distance="l2")
EXACT_BASES = [
    ("data", "ddim", {}),
    ("data", "dpmpp", {"order": 3}),
    ("data", "unipc", {"order": 3}),
    ("noise", "ipndm", {"order": 4}),
]
BASES = [("ddim", {}), ("dpmpp", {"order": 2}), ("dpmpp", {"order": 3}), ("ipndm", {"order": 4}), ("unipc", {"order": 3})]


@pytest.mark.parametrize(("prediction", "kind", "options"), EXACT_BASES)
@pytest.mark.parametrize("grid", ["edm", "logsnr", "time_uniform", "time_quadratic"])
def test_iteration_0_is_the_classical_solver_bit_for_bit(digits, prediction, kind, options, grid):
    """Through the whole chain: parameters zero -> clock -> levels -> family -> tableau."""
    levels = s4s.levels(grid, 6, digits)
    base = s4s.solver(kind, levels, **options)
    zero = torch.zeros(6, dtype=torch.float64)
    moved = Clock(levels).levels(zero)
    start = LMS(base, prediction).tableau(moved, torch.zeros(6, 6, dtype=torch.float64), moved[:-1] * zero.exp())
    for name in ("levels", "eval_levels", "A", "B"):
        assert torch.equal(getattr(start, name), getattr(base, name)), name


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize(("kind", "options"), BASES)
def test_full_order_starts_at_any_classical_solver(digits, prediction, kind, options):
    levels = s4s.levels("logsnr", 7, digits)
    base = s4s.solver(kind, levels, **options)
    start = LMS(base, prediction).tableau(levels, torch.zeros(7, 7, dtype=torch.float64))
    assert start.same_as(base, 1e-12)


def test_a_family_says_when_it_cannot_represent_its_base(digits):
    base = s4s.solver("unipc", s4s.levels("edm", 6, digits), order=3)
    with pytest.raises(S4SError, match="uses the last 4 outputs; take order 4 or full"):
        LMS(base, "data", 3)
    with pytest.raises(S4SError, match="between 1 and its NFE, 6"):
        LMS(base, "data", 7)
    with pytest.raises(S4SError, match="'data' or 'noise'"):
        LMS(base, "v")


def test_order_limits_what_a_step_sees(mixture):
    base = s4s.solver("dpmpp", s4s.levels("edm", 6, mixture), order=2)
    theta = torch.randn(6, 6, dtype=torch.float64)
    tableau = LMS(base, "data", 2).tableau(base.levels, theta)
    assert not tableau.B.tril(-2).any() and tableau.B.tril(-1).any()


def test_clock_keeps_the_ends_and_the_order(digits):
    clock = Clock(s4s.levels("edm", 8, digits))
    for seed in range(5):
        levels = clock.levels(3 * torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
        assert levels[0] == digits.s_max and levels[-1] == digits.s_min and (levels.diff() < 0).all()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_fit_beats_its_start_on_unseen_noise(mixture, mixture_pairs, driver):
    base = s4s.solver("ipndm", s4s.levels("time_quadratic", 4, mixture), order=2)
    result = fit(mixture, mixture_pairs, "lms", base.levels, base=base, driver=driver, settings=FAST)
    from s4s.metrics.global_error import global_error
    from s4s.seeds import sample_seeds
    from s4s.teacher import make_pairs

    test = make_pairs(mixture, s4s.solver("unipc", s4s.levels("logsnr", 40, mixture), order=3), sample_seeds("test", 200))
    errors = [
        global_error(s4s.sample(mixture, torch.from_numpy(test.y_T), tableau).numpy(), test.y_0)
        for tableau in (result.tableau, base)
    ]
    assert errors[0] < 0.95 * errors[1]
    frozen = {"coefficients": "levels", "schedule": None, "alternate": None, "joint": None}[driver]
    if frozen:
        assert torch.equal(result.tableau.levels, base.levels)
    else:
        assert not torch.equal(result.tableau.levels, base.levels)
    assert result.history[0]["iteration"] == 0 and min(h["val"] for h in result.history) <= result.history[0]["val"]


def test_evaluations_are_counted(mixture, mixture_pairs):
    levels = s4s.levels("logsnr", 3, mixture)
    settings = FAST.model_copy(update={"batch": 16})
    plain = fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=settings)
    relaxed = fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=settings.model_copy(update={"radius": 0.1}))
    validations = 4 * 64 * 3  # iterations 0, 10, 20, 30
    assert plain.evaluations == 30 * 16 * 3 * 3 + validations
    assert relaxed.evaluations == 30 * 16 * 3 * 4 + validations


def test_the_same_fit_twice_is_the_same_and_another_seed_is_not(mixture, mixture_pairs):
    levels = s4s.levels("logsnr", 3, mixture)
    runs = [
        fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=FAST.model_copy(update={"seed": s})) for s in (0, 0, 1)
    ]
    assert torch.equal(runs[0].tableau.B, runs[1].tableau.B) and not torch.equal(runs[0].tableau.B, runs[2].tableau.B)


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("radius", [0.0, 0.1])
def test_resume_equals_uninterrupted(mixture, mixture_pairs, tmp_path, monkeypatch, radius):
    """A fit killed in the middle goes on from its state to the same result, bit for bit."""
    from s4s.fitting import fit as module

    levels = s4s.levels("logsnr", 4, mixture)
    settings = FAST.model_copy(update={"radius": radius, "phase": 7})
    options = {"base": "ddim", "driver": "alternate", "decoupled": True, "settings": settings}
    expected = fit(mixture, mixture_pairs, "lms", levels, **options)
    monkeypatch.setattr(module, "STATE_SECONDS", 0.0)
    state = tmp_path / "fit.state"
    step, calls = module._Loop.step, itertools.count()

    def dies_at_the_17th(self):
        if next(calls) == 17:
            raise Interrupt
        step(self)

    monkeypatch.setattr(module._Loop, "step", dies_at_the_17th)
    with pytest.raises(Interrupt):
        fit(mixture, mixture_pairs, "lms", levels, **options, state_path=state)
    assert state.exists()
    resumed = fit(mixture, mixture_pairs, "lms", levels, **options, state_path=state)
    assert next(calls) - 1 - 17 == settings.iterations - 17  # only the missing steps were made
    assert not state.exists()
    for name in ("levels", "eval_levels", "A", "B"):
        assert torch.equal(getattr(resumed.tableau, name), getattr(expected.tableau, name))
    assert resumed.history == expected.history and resumed.evaluations == expected.evaluations


def test_a_foreign_or_damaged_state_is_not_resumed(mixture, mixture_pairs, tmp_path):
    levels = s4s.levels("logsnr", 3, mixture)
    expected = fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=FAST)
    for content in (b"", b"not a state"):
        state = tmp_path / "fit.state"
        state.write_bytes(content)
        again = fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=FAST, state_path=state)
        assert torch.equal(again.tableau.B, expected.tableau.B)
    torch.save({"identity": "of another fit"}, state)
    again = fit(mixture, mixture_pairs, "lms", levels, base="ddim", settings=FAST, state_path=state)
    assert torch.equal(again.tableau.B, expected.tableau.B)


def test_relaxed_noise_stays_in_its_ball_and_keeps_improvements_only():
    y_T = torch.randn(10, 3, 4, generator=torch.Generator().manual_seed(0))
    relaxed = RelaxedNoise(y_T.clone(), s_T=2.0, radius=0.3, step=1.0)
    rows = torch.tensor([1, 4, 7])
    candidates = relaxed.propose(rows, torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(1)))
    distance = (candidates - y_T[rows]).flatten(1).norm(dim=1)
    assert torch.allclose(distance, torch.full((3,), 0.6)), "long steps end on the ball's surface"
    relaxed.keep(rows, candidates, torch.tensor([True, False, True]))
    assert torch.equal(relaxed.y[[1, 7]], candidates[[0, 2]])
    kept = [i for i in range(10) if i not in (1, 7)]
    assert torch.equal(relaxed.y[kept], y_T[kept])
    assert (relaxed.distance_moved() <= 1 + 1e-6).all()
    short = relaxed.propose(torch.tensor([0]), torch.full((1, 3, 4), 1e-3))
    assert torch.allclose(short, y_T[:1] - 4e-3), "inside the ball a step is the plain gradient step, in units of s_T"


def test_fits_with_radius_move_the_noise(mixture, mixture_pairs):
    from s4s.fitting.fit import _Loop, _Parameters

    levels = s4s.levels("logsnr", 3, mixture)
    settings = FAST.model_copy(update={"radius": 0.2})
    base = s4s.solver("ddim", levels)
    loop = _Loop(
        mixture, mixture_pairs, _Parameters(LMS(base), levels, False), "coefficients", settings, make_distance("l2", None), None
    )
    before = loop.relaxed.y.clone()
    for _ in range(4):
        loop.step()
    moved = loop.relaxed.distance_moved()
    assert moved.max() > 0.5 and moved.max() <= 1 + 1e-5
    assert not torch.equal(before, loop.relaxed.y)


def test_distances_are_zero_on_equals_and_grow(digits):
    from s4s.models.load import load_perceptual

    x = torch.rand(4, 1, 8, 8) * 2 - 1
    for name in ("l1", "l2", "perceptual"):
        d = make_distance(name, load_perceptual("digits"))
        near, far = d(x, x + 0.05), d(x, x + 0.5)
        assert d(x, x).max() < 1e-3 and (near > d(x, x)).all() and (far > near).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "lsm"}, "unknown family 'lsm'; known: lms"),
        ({"driver": "both"}, "unknown driver 'both'"),
        ({"settings": FitSettings(distance="perceptual")}, "needs a perceptual network"),
        ({"base": "dpmpp", "levels": torch.tensor([20.0, 0.05])}, "order 3 is larger than NFE 1"),
    ],
)
def test_bad_fits_are_refused_before_any_work(mixture, mixture_pairs, change, message):
    arguments = {"family": "lms", "levels": s4s.levels("logsnr", 3, mixture), "base": "ddim", "settings": FAST} | change
    with pytest.raises(S4SError, match=message):
        fit(mixture, mixture_pairs, arguments.pop("family"), arguments.pop("levels"), **arguments)
