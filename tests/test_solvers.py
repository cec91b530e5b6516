"""Classical solvers: properties of all of them at once."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import s4s
from s4s import S4SError
from s4s.sampling import run
from s4s.solvers import SOLVERS

ALL = [
    (kind, dict(zip(entry.allowed, values, strict=True)))
    for kind, entry in SOLVERS.items()
    for values in itertools.product(*entry.allowed.values())
]
FIRST_ORDER = [("ddim", {}), ("dpmpp", {"order": 1}), ("ipndm", {"order": 1})]


def name(case):
    kind, options = case
    return "-".join([kind, *(f"{key}={value}" for key, value in options.items())])


def decreasing_levels(draw_from, n):
    gaps = draw_from(st.lists(st.floats(0.02, 3.0), min_size=n, max_size=n))
    last = draw_from(st.floats(0.002, 1.0))
    lam = torch.tensor([0.0, *gaps], dtype=torch.float64).cumsum(0)
    return last * torch.exp(lam[-1] - lam)


@pytest.mark.parametrize("case", ALL, ids=name)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_rows_are_consistent(case, data):
    """On any levels a solver is exact where D = 0 (y shrinks with s) and where D = y (y stays)."""
    kind, options = case
    nfe = data.draw(st.integers(options.get("order", 1), 30))
    levels = decreasing_levels(data.draw, nfe)
    a, b = s4s.solver(kind, levels, **options).reduced()
    scale = b.abs().sum(1).max().clamp_min(1)
    assert torch.allclose(a, levels / levels[0], atol=1e-9 * scale)
    assert torch.allclose(a + b.sum(1), torch.ones_like(a), atol=1e-9 * scale)


@pytest.mark.parametrize("case", FIRST_ORDER, ids=name)
@given(data=st.data())
def test_first_order_solvers_are_ddim(case, data):
    kind, options = case
    levels = decreasing_levels(data.draw, data.draw(st.integers(1, 20)))
    assert s4s.solver(kind, levels, **options).same_as(s4s.solver("ddim", levels), 1e-9)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc_1_is_ddim_up_to_its_corrector(variant):
    """The first step has no corrector before it, so it is DDIM; later ones differ by the corrector."""
    levels = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    unipc, ddim = s4s.solver("unipc", levels, order=1, variant=variant), s4s.solver("ddim", levels)
    assert torch.allclose(unipc.B[0], ddim.B[0]) and not unipc.same_as(ddim)


def end_error(mixture, kind, options, nfe, grid):
    """Error at the end of a smooth stretch of the trajectory, against 400 steps of a solver of order 4."""
    y = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * grid(1)[0]
    exact = run(mixture, y, s4s.solver("unipc", grid(400), order=3))
    return (run(mixture, y, s4s.solver(kind, grid(nfe), **options)) - exact).square().mean().sqrt().item()


def logsnr(nfe):
    return torch.exp(torch.linspace(3.0, -1.5, nfe + 1, dtype=torch.float64))


# DPM-Solver++(3M) is of order 2 as published: its second difference lacks a factor of two (see dpmpp.py). UniPC-p has
# order p + 1 with its corrector. Methods of order 3 start with lower-order steps; they do not show here because the
# denoiser hardly changes at the high levels where they are taken.
ORDERS = [
    ("ddim", {}, 1), ("dpmpp", {"order": 2}, 2), ("dpmpp", {"order": 3}, 2), ("unipc", {"order": 1}, 2),
    ("unipc", {"order": 1, "variant": "bh1"}, 2), ("unipc", {"order": 2}, 3), ("unipc", {"order": 2, "variant": "bh1"}, 3),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "order"), ORDERS, ids=lambda value: str(value))
def test_order_of_convergence(mixture, kind, options, order):
    coarse, fine = (end_error(mixture, kind, options, n, logsnr) for n in (40, 80))
    observed = torch.log2(torch.tensor(coarse / fine)).item()
    assert order - 0.25 < observed < order + 0.6, observed


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm_is_exact_on_polynomials(order):
    """With evenly spaced levels the warmed-up step integrates noise predictions that are polynomials of degree < order in s."""
    levels = torch.linspace(9.0, 1.0, 9, dtype=torch.float64)
    tableau = s4s.solver("ipndm", levels, order=order)
    weights = tableau.B[-1] * levels[:-1] / (levels[-2] - levels[-1])  # of e_j in (y_N - y_{N-1}) / (s_N - s_{N-1})
    for degree in range(order):
        integral = (levels[-1] ** (degree + 1) - levels[-2] ** (degree + 1)) / (degree + 1)
        assert torch.allclose(weights @ levels[:-1] ** degree * (levels[-1] - levels[-2]), integral)
    if order == 4:
        integral = (levels[-1] ** 5 - levels[-2] ** 5) / 5
        assert not torch.allclose(weights @ levels[:-1] ** 4 * (levels[-1] - levels[-2]), integral)


@pytest.mark.parametrize(("kind", "order"), [("dpmpp", 1), ("unipc", 1), ("unipc", 3)])
def test_exponential_integrators_are_exact_for_polynomials_in_lambda(kind, order):
    """Where D is a polynomial of degree < order in lambda, a warmed-up step solves dy/dlambda = D - y exactly.

    Not in the list: UniPC-2, whose authors put 1/2 for its predictor's coefficient, DPM-Solver++(2M), which does the
    same, and (3M), whose published second difference lacks a factor of two.
    """
    levels = torch.exp(torch.tensor([2.0, 1.7, 1.2, 0.9, 0.3, 0.0], dtype=torch.float64))
    lam = -levels.log()
    B = s4s.solver(kind, levels, order=order).B
    u, weight = np.polynomial.legendre.leggauss(20)
    h = (lam[-1] - lam[-2]).item()
    u = (u + 1) / 2 * h  # the step's own clock; y(h) = exp(-h) y(0) + int_0^h exp(u - h) D(u) du
    for degree in range(order):
        exact = (weight * h / 2 * np.exp(u - h) * u**degree).sum()
        assert abs((B[-1] @ (lam[:-1] - lam[-2]) ** degree).item() - exact) < 1e-9


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("euler", {}, "unknown solver 'euler'; known: ddim"),
        ("dpmpp", {"order": 4}, "order must be one of 1, 2, 3"),
        ("dpmpp", {"order": 3}, "order 3 is larger than NFE 2"),
        ("ddim", {"order": 1}, "no option 'order'"),
        ("unipc", {"order": 2, "variant": "bh3"}, "variant must be one of bh1, bh2"),
    ],
)
def test_bad_options_are_refused(kind, options, message):
    with pytest.raises(S4SError, match=message):
        s4s.solver(kind, torch.tensor([3.0, 2.0, 1.0]), **options)


@pytest.mark.parametrize("levels", [[3.0, 3.0, 1.0], [1.0, 2.0], [2.0, 1.0, 0.0], [2.0]])
def test_bad_levels_are_refused(levels):
    with pytest.raises(S4SError, match="levels"):
        s4s.solver("ddim", torch.tensor(levels))
