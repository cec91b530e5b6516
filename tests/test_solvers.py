"""Classical solvers: properties of all of them at once, and formulas worked out a second way."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import s4s
from s4s import S4SError
from s4s.models.paths import FlowMatching, VPLinear
from s4s.sampling import run
from s4s.solvers import SOLVERS
from s4s.solvers.__main__ import page
from s4s.solvers.dpm_v3 import Statistics

# like those of a model: l falls from 1 to 0; with many knots, so that their bends do not show in the order of convergence
KNOTS = np.linspace(-5, 5, 4001)
STATISTICS = Statistics(
    lam=KNOTS.tolist(), l=(0.5 - 0.5 * np.tanh(1.5 * KNOTS + 0.75)).tolist(), s=(-0.3 * np.exp(-((KNOTS - 1) ** 2))).tolist()
)


def every_choice(kind):
    choices = SOLVERS[kind].options.choices()
    for values in itertools.product(*choices.values()):
        options = dict(zip(choices, values, strict=True))
        yield kind, {**options, **{name: STATISTICS for name in SOLVERS[kind].files}}


ALL = [case for kind in SOLVERS for case in every_choice(kind)]
EXPONENTIAL = [case for case in ALL if SOLVERS[case[0]].exponential]
PLAIN = [case for case in ALL if not case[1].get("lower_order_final")]


def name(case):
    kind, options = case
    return "-".join([kind, *(f"{key}={value}" for key, value in options.items() if key != "statistics")])


def decreasing_levels(data, least=1, most=50):
    """Any decreasing levels: up to 50 steps, of which the longest is 150 times the shortest."""
    n = data.draw(st.integers(least, most))
    gaps = data.draw(st.lists(st.floats(0.02, 3.0), min_size=n, max_size=n))
    last = data.draw(st.floats(0.002, 1.0))
    lam = torch.tensor([0.0, *gaps], dtype=torch.float64).cumsum(0)
    return last * torch.exp(lam[-1] - lam)


@pytest.mark.parametrize("case", ALL, ids=name)
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_a_solver_is_a_tableau_with_as_many_evaluations_as_levels_below_the_first(case, data):
    """On any levels with any number of evaluations, with a final denoising step and without."""
    kind, options = case
    levels = decreasing_levels(data, max(2, options.get("order", 1)))
    tableau = s4s.solver(kind, levels, **options)
    assert tableau.nfe == len(levels) - 1 and torch.equal(tableau.levels, levels)
    assert tableau.eval_levels[0] == levels[0] and (tableau.eval_levels >= levels[-1] * (1 - 1e-12)).all()
    to_zero = torch.cat([levels[:-1], torch.zeros(1, dtype=torch.float64)])
    ending = s4s.solver(kind, to_zero, **options)
    assert ending.nfe == tableau.nfe and not ending.A[-1].any() and ending.B[-1].tolist() == [0.0] * (ending.nfe - 1) + [1.0]
    assert ending.eval_levels[-1] == levels[-2]


@pytest.mark.parametrize("case", EXPONENTIAL, ids=name)
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_exponential_integrators_solve_linear_equations_exactly(case, data):
    """At every node, on any levels: where D = 0 the state shrinks with s, where D = y it stays."""
    kind, options = case
    levels = decreasing_levels(data, options.get("order", 1))
    a, b = s4s.solver(kind, levels, **options).reduced()
    scale = b.abs().sum(1).max().clamp_min(1)
    assert torch.allclose(a, levels / levels[0], atol=1e-9 * scale)
    assert torch.allclose(a + b.sum(1), torch.ones_like(a), atol=1e-9 * scale)


@pytest.mark.parametrize("case", [case for case in ALL if case not in EXPONENTIAL and case[0] != "dpm_v3"], ids=name)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_the_other_solvers_keep_a_constant_state(case, data):
    """D = y is solved exactly by every solver but DPM-Solver-v3, whose linear part is that of its statistics."""
    kind, options = case
    a, b = s4s.solver(kind, decreasing_levels(data, options.get("order", 1), 8), **options).reduced()
    scale = (a.abs() + b.abs().sum(1)).max()
    assert torch.allclose((a + b.sum(1))[-1], torch.ones((), dtype=torch.float64), atol=1e-9 * scale)


# Order of convergence

# DPM-Solver++(3M) is of order 2 as published: its second difference lacks a factor of two (see dpmpp.py). UniPC-p has order
# p + 1 with its corrector. iPNDM and PNDM have the weights of evenly spaced levels: order 2 on others.
NOMINAL = {
    "ddim": lambda o: 1,
    "heun": lambda o: 2,
    "dpm2": lambda o: 2,
    "dpm3": lambda o: 3,
    "dpmpp": lambda o: min(o["order"], 2),
    "unipc": lambda o: o["order"] + o["corrector"],
    "deis": lambda o: o["order"],
    "ipndm": lambda o: min(o["order"], 2),
    "ipndm_v": lambda o: o["order"],
    "pndm": lambda o: 2,
    "adams": lambda o: min(o["order"], 2),
    "runge_kutta": lambda o: o["order"],
    "dpm_v3": lambda o: 2 if o["corrector"] and o["c_pseudo"] else min(o["order"], 3 - (o["p_pseudo"] and not o["corrector"])),
}


def logsnr(nfe):
    return torch.exp(torch.linspace(3.0, -1.5, nfe + 1, dtype=torch.float64))


@pytest.fixture(scope="module")
def end_error(mixture):
    """Error at the end of a smooth stretch of the trajectory, against 400 steps of a solver of order 4."""
    y = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * logsnr(1)[0]
    exact = run(mixture, y, s4s.solver("unipc", logsnr(400), order=3))

    def error(kind, options, nfe, schedule=logsnr):
        return (run(mixture, y, s4s.solver(kind, schedule(nfe), **options)) - exact).square().mean().sqrt().item()

    return error


@pytest.mark.parametrize("case", PLAIN, ids=name)
def test_order_of_convergence(end_error, case):
    kind, options = case
    order = NOMINAL[kind](options)
    coarse, fine = (end_error(kind, options, n) for n in (48, 96))
    observed = math.log2(coarse / fine)
    assert order - 0.5 < observed < order + 0.7, observed


@pytest.mark.parametrize(
    ("kind", "options", "order"), [("ipndm", {"order": 3}, 3), ("ipndm", {"order": 4}, 4), ("pndm", {}, 4)]
)
def test_fixed_weights_have_their_full_order_where_levels_are_even(mixture, kind, options, order):
    y = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 20

    def end(nfe, kind, options):
        return run(mixture, y, s4s.solver(kind, torch.linspace(20.0, 1.5, nfe + 1, dtype=torch.float64), **options))

    exact = end(800, "deis", {"order": 4, "clock": "sigma"})
    coarse, fine = ((end(n, kind, options) - exact).square().mean().sqrt().item() for n in (100, 200))
    assert order - 0.6 < math.log2(coarse / fine) < order + 0.6


# Second derivations


def first_weights(kind, levels, options):
    """Weights of what the solver extrapolates (D, e or D - y) in the last row, and the factor on the state it starts from."""
    tableau = s4s.solver(kind, levels, **options)
    row = tableau.B[-1]
    if options.get("prediction") == "data" or kind == "dpm_v3":
        return row
    return row if kind == "adams" else -row * tableau.eval_levels


# what is extrapolated is a polynomial in a clock; kernel: its weight at lambda in the exact solution of a step
CLOCKS = {
    "lambda": lambda lam: lam,
    "sigma": lambda lam: np.exp(-lam),
    "time": lambda lam: VPLinear().t_of_s(torch.as_tensor(np.exp(-lam))).numpy(),
    "flow": lambda lam: np.exp(-lam) / (1 + np.exp(-lam)),
}
DATA, NOISE, SLOPE = (lambda lam, end: np.exp(lam - end), lambda lam, end: -np.exp(-lam), lambda lam, end: 1.0)
BOTH = [("data", DATA), ("noise", NOISE)]
EXACT = [
    *[("deis", {"order": p, "clock": c}, p, c, NOISE) for p in (1, 2, 3, 4) for c in ("time", "sigma", "lambda")],
    *[("deis", {"order": 3, "clock": "time", "path": FlowMatching()}, 3, "flow", NOISE)],
    *[("ipndm_v", {"order": p}, p, "sigma", NOISE) for p in (1, 2, 3, 4)],
    *[("adams", {"order": p}, p, "lambda", SLOPE) for p in (1, 2, 3, 4)],
    *[
        ("dpmpp", {"order": 2, "variant": "heun", "prediction": v}, 2, "lambda", k)
        for v, k in (("data", DATA), ("noise", NOISE))
    ],
    *[("unipc", {"order": p, "prediction": v}, p, "lambda", k) for p in (1, 3) for v, k in (("data", DATA), ("noise", NOISE))],
    *[("dpm2", {"variant": "heun", "prediction": v}, 2, "lambda", k) for v, k in (("data", DATA), ("noise", NOISE))],
    *[("dpm3", {"variant": "heun", "prediction": v}, 3, "lambda", k) for v, k in (("data", DATA), ("noise", NOISE))],
]


@pytest.mark.parametrize(("kind", "options", "order", "clock", "kernel"), EXACT)
def test_a_step_integrates_polynomials_exactly(kind, options, order, clock, kernel):
    """Against adaptive quadrature, to 1e-10: outputs that are polynomials of degree < order in the solver's clock.

    Not in the list are solvers whose authors put a cheaper coefficient: UniPC-2 and DPM-Solver++(2M) with 1/2, (3M) with half
    the second difference, iPNDM and PNDM with the weights of even levels. diffusers is their reference (test_diffusers.py).
    """
    lam = torch.tensor([-3.0, -2.5, -1.2, -0.9, 0.3, 1.6, 2.0], dtype=torch.float64)
    levels = torch.exp(-lam)
    weights = first_weights(kind, levels, options)
    start = {"dpm2": 4, "dpm3": 3}.get(kind, 5)  # the node that the last step starts from
    u, begin, end = CLOCKS[clock], lam[start].item(), lam[-1].item()
    for degree in range(order):
        exact, _ = quad(lambda at: kernel(at, end) * u(at) ** degree, begin, end, epsabs=1e-14, epsrel=1e-13)  # noqa: B023
        got = (weights @ torch.as_tensor(u(lam[:-1].numpy()) ** degree)).item()
        assert abs(got - exact) < 1e-10 * weights.abs().sum()


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("corrector", [False, True])
def test_dpm_v3_solves_its_own_equation_exactly(order, corrector):
    """dy/dlambda = -l y - f with f = exp(S) (a polynomial of degree < order in lambda), by quadrature of smooth l and s."""
    levels = torch.exp(torch.tensor([3.0, 2.0, 1.2, 0.6, -0.2, -1.0], dtype=torch.float64))
    lam = -levels.log().numpy()
    options = {"order": order, "corrector": corrector, "c_pseudo": False, "statistics": STATISTICS}
    tableau = s4s.solver("dpm_v3", levels, **options)
    linear, scale = (lambda x: np.interp(x, KNOTS, STATISTICS.l)), (lambda x: np.interp(x, KNOTS, STATISTICS.s))
    fine = np.linspace(lam[0], lam[-1], 20001)
    L, S = (np.concatenate([[0], np.cumsum((g(fine[1:]) + g(fine[:-1])) / 2 * np.diff(fine))]) for g in (linear, scale))
    for degree in range(order):
        f = np.exp(S) * fine**degree
        integrand = np.exp(L) * f  # y(lambda) exp(L) = y_0 - the integral of this
        y = np.exp(-L) * (1.0 - np.concatenate([[0], np.cumsum((integrand[1:] + integrand[:-1]) / 2 * np.diff(fine))]))
        states, f_nodes = np.interp(lam, fine, y), np.interp(lam, fine, f)
        D = (1 - linear(lam)) * states - f_nodes
        # the warmed-up rows alone, from exact nodes; the corrector adds nothing where the predictor is exact
        row = tableau.A[-1].numpy() @ states[:-1] + tableau.B[-1].numpy() @ D[:-1]
        assert abs(row - states[-1]) < 1e-6 * np.abs(states).max()


@pytest.mark.parametrize(("l", "s", "prediction"), [(1.0, 0.0, "data"), (0.0, -1.0, "noise")])
@pytest.mark.parametrize("order", [1, 3])
def test_dpm_v3_contains_data_and_noise_prediction(l, s, prediction, order):  # noqa: E741
    """l = 1, s = 0 is UniP with data prediction and l = 0, s = -1 with noise prediction, but for UniP-2's 1/2."""
    levels = torch.exp(torch.linspace(3, -4, 9, dtype=torch.float64))
    constant = Statistics(lam=[-5, 5], l=[l, l], s=[s, s])
    ours = s4s.solver("dpm_v3", levels, statistics=constant, order=order, corrector=False)
    unip = s4s.solver("unipc", levels, order=order, prediction=prediction, corrector=False)
    rows = [n for n in range(8) if n != 1]  # row 1 is of order 2
    assert torch.allclose(ours.A[rows], unip.A[rows], atol=1e-10) and torch.allclose(ours.B[rows], unip.B[rows], atol=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_runge_kutta_is_the_textbook_method(order):
    """Against the rules written out for dy/dlambda = D(y, lambda) - y with a nonlinear D."""

    def f(y, lam):
        return torch.tanh(3 * y + lam) - y

    def step(y, lam, h):
        k1 = f(y, lam)
        if order == 1:
            return y + h * k1
        k2 = f(y + h / 2 * k1, lam + h / 2)
        if order == 2:
            return y + h * k2
        if order == 3:
            return y + h / 6 * (k1 + 4 * k2 + f(y + h * (2 * k2 - k1), lam + h))
        k3 = f(y + h / 2 * k2, lam + h / 2)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(y + h * k3, lam + h))

    lam = torch.linspace(-2, 2, 4 * order + 1, dtype=torch.float64)
    y = expected = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]
    for n in range(0, 4 * order, order):
        expected = step(expected, lam[n], lam[n + order] - lam[n])
    got = run(
        lambda y, s, condition: torch.tanh(3 * y - math.log(s)), y, s4s.solver("runge_kutta", torch.exp(-lam), order=order)
    )
    assert torch.allclose(got, expected, atol=1e-12)


# Identities that the literature states

SAME = [
    ("UniPC-1 without corrector is DDIM", ("unipc", {"order": 1, "corrector": False}), ("ddim", {})),
    ("DPM-Solver++(1) is DDIM", ("dpmpp", {"order": 1}), ("ddim", {})),
    ("DPM-Solver-1 is DDIM", ("dpmpp", {"order": 1, "prediction": "noise"}), ("ddim", {})),
    ("iPNDM-1 is DDIM", ("ipndm", {"order": 1}), ("ddim", {})),
    ("variable-step iPNDM-1 is DDIM", ("ipndm_v", {"order": 1}), ("ddim", {})),
    ("DEIS of order 1 is DDIM", ("deis", {"order": 1}), ("ddim", {})),
    ("DPM-Solver-v3 of order 1 is DDIM where l = 1", ("dpm_v3", {"order": 1, "corrector": False}), ("ddim", {})),
    ("UniP-2 with B2 is DPM-Solver++(2M)", ("unipc", {"order": 2, "corrector": False}), ("dpmpp", {"order": 2})),
    ("rhoAB-DEIS is variable-step iPNDM", ("deis", {"order": 4, "clock": "sigma"}), ("ipndm_v", {"order": 4})),
    (
        "DEIS in lambda is the exact multistep DPM-Solver-2",
        ("deis", {"order": 2, "clock": "lambda"}),
        ("dpmpp", {"order": 2, "prediction": "noise", "variant": "heun"}),
    ),
]


@pytest.mark.parametrize(("first", "second"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_identities(first, second, data):
    levels = decreasing_levels(data, 4, 20)
    constant = {"statistics": Statistics(lam=[-12, 12], l=[1, 1], s=[0, 0])}
    one, other = (s4s.solver(kind, levels, **o, **(constant if kind == "dpm_v3" else {})) for kind, o in (first, second))
    assert one.same_as(other, 1e-9)


def test_variable_step_ipndm_is_ipndm_on_even_levels():
    levels = torch.linspace(9.0, 1.0, 9, dtype=torch.float64)
    for order in (1, 2, 3, 4):
        assert s4s.solver("ipndm_v", levels, order=order).same_as(s4s.solver("ipndm", levels, order=order), 1e-10)
    uneven = levels**2
    assert not s4s.solver("ipndm_v", uneven, order=2).same_as(s4s.solver("ipndm", uneven, order=2))


def test_heun_is_dpm_solver_2_with_the_stage_at_the_end_of_the_step():
    """The relation that EDM and DPM-Solver's authors note: r_m -> 1 turns DPM-Solver-2 into Heun's method."""
    for gap in (1e-4, 1e-6):
        levels = torch.tensor([4.0, 1.0 + gap, 1.0, 0.2 * (1 + gap), 0.2], dtype=torch.float64)
        a, b = s4s.solver("dpm2", levels, variant="midpoint").reduced()
        a_heun, b_heun = s4s.solver("heun", levels).reduced()
        assert torch.allclose(a[-1], a_heun[-1]) and torch.allclose(b[-1], b_heun[-1], atol=10 * gap)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_corrector_adds_one_order_to_unip(end_error, variant, prediction, order):
    """The published claim, without any network: UniP-p has order p, UniPC-p order p + 1 with as many evaluations."""
    observed = []
    for corrector in (False, True):
        options = {"order": order, "variant": variant, "prediction": prediction, "corrector": corrector}
        coarse, fine = (end_error("unipc", options, n) for n in (48, 96))
        observed.append(math.log2(coarse / fine))
    assert order - 0.3 < observed[0] < order + 0.3 and order + 0.7 < observed[1] < order + 1.7


# Starts and ends


@pytest.mark.parametrize("kind", ["ddim", "dpmpp", "unipc", "ipndm", "deis", "heun", "dpm2", "pndm"])
@pytest.mark.parametrize("to_zero", [False, True])
def test_analytic_first_step_is_the_solver_with_the_first_output_replaced(mixture, kind, to_zero):
    """Against running all N + 1 evaluations on a network whose first output is the analytic one."""
    levels = torch.exp(torch.linspace(3.0, -2.0, 8, dtype=torch.float64))
    if to_zero:
        levels[-1] = 0
    y = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * levels[0]
    calls = []

    def network(y, s, condition):
        calls.append(s)
        return y * (1 - s / math.sqrt(1 + s**2)) if len(calls) == 1 else mixture(y, s)

    expected = run(network, y, s4s.solver(kind, levels))
    tableau = s4s.solver(kind, levels, analytic_first_step=True)
    assert len(calls) == 7 and tableau.nfe == 6 and tableau.meta["options"] == {"analytic_first_step": True}
    assert torch.allclose(run(mixture, y, tableau), expected, atol=1e-10)
    assert torch.allclose(tableau.eval_levels, torch.tensor(calls[1:], dtype=torch.float64))


def test_a_start_above_the_first_level_scales_the_noise(mixture):
    levels = torch.tensor([8.0, 4.0, 1.0, 0.1], dtype=torch.float64)
    y = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 20
    tableau = s4s.solver("unipc", levels, order=3, start=20.0)
    assert tableau.levels[0] == 20 and tableau.eval_levels[0] == 8
    assert torch.allclose(
        run(mixture, y, tableau), run(mixture, y * (8 / 20), s4s.solver("unipc", levels, order=3)), atol=1e-12
    )
    with pytest.raises(S4SError, match="start must be at or above the first level, 8"):
        s4s.solver("ddim", levels, start=5.0)


def test_a_final_denoising_step_returns_the_last_output(mixture):
    levels = torch.tensor([8.0, 2.0, 0.5, 0.0], dtype=torch.float64)
    y = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 8
    for kind, options in ALL:
        if kind not in ("runge_kutta", "heun", "dpm2", "dpm3", "pndm"):  # whose steps fall apart differently without the zero
            before = run(
                mixture, y, s4s.solver(kind, levels[:-1], **{**options, "order": 1} if "order" in options else options)
            )
            if options.get("order", 1) == 1 and not options.get("corrector") and not options.get("lower_order_final"):
                after = run(mixture, y, s4s.solver(kind, levels, **options))
                assert torch.allclose(after, mixture(before, 0.5), atol=1e-10), kind


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("euler", {}, "unknown solver 'euler'; known: adams, ddim"),
        ("dpmpp", {"order": 4}, "order must be one of 1, 2, 3"),
        ("dpmpp", {"order": 3}, "order 3 is larger than NFE 2"),
        ("ddim", {"order": 1}, "no option 'order'"),
        ("unipc", {"order": 2, "variant": "bh3"}, "variant must be one of bh1, bh2"),
        ("deis", {"order": 2, "clock": "t"}, "clock must be one of time, sigma, lambda"),
        ("dpm_v3", {"order": 2}, "needs the option 'statistics'"),
        ("dpm_v3", {"order": 2, "statistics": "no/such.json"}, "no/such.json: cannot read these statistics"),
    ],
)
def test_bad_options_are_refused(kind, options, message):
    with pytest.raises(S4SError, match=message):
        s4s.solver(kind, torch.tensor([3.0, 2.0, 1.0]), **options)


@pytest.mark.parametrize("levels", [[3.0, 3.0, 1.0], [1.0, 2.0], [2.0, 1.0, -1.0], [2.0], [0.0], [float("nan"), 1.0]])
def test_bad_levels_are_refused(levels):
    with pytest.raises(S4SError, match="levels"):
        s4s.solver("ddim", torch.tensor(levels))


def test_an_analytic_first_step_needs_two_steps():
    with pytest.raises(S4SError, match="at least 2 levels below the first"):
        s4s.solver("ddim", torch.tensor([2.0, 1.0]), analytic_first_step=True)


# Registry and documentation


def test_the_page_of_solvers_is_the_one_that_the_docstrings_make():
    text = (Path(__file__).parents[1] / "docs/solvers.md").read_text()
    assert text == page(), "run: python -m s4s.solvers > docs/solvers.md"
    for kind in SOLVERS:
        section = text.split(f"### `{kind}`")[1].split("###")[0]
        assert all(f"* **{field}:**" in section for field in ("Formula", "Order", "NFE per step", "Source", "Use", "Options"))


def test_each_solver_is_in_one_file_of_its_name():
    folder = Path(s4s.solvers.__path__[0])
    shared = {"exponential", "single_step", "first_evaluation", "conditioning", "cached", "as_ld3", "dpm_v3_statistics"}
    helpers = {"__init__", "__main__", *shared}
    assert {path.stem for path in folder.glob("*.py")} - helpers == set(SOLVERS)
