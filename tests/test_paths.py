"""Gaussian paths: definitions written a second way, round trips, derivatives, Stable Diffusion's table."""

import math

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from s4s import S4SError
from s4s.models.paths import VE, FlowMatching, VPCosine, VPDiscrete, VPLinear

# diffusers reads tensors in NumPy's old way
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

BETAS = [0.001 + 0.0004 * i for i in range(50)]
CUMPROD = torch.linspace(0.99, 0.02, 30, dtype=torch.float64)


def beta_integral(beta_min, beta_max, t):
    return quad(lambda u: beta_min + u * (beta_max - beta_min), 0, t)[0]


def product(betas, t):
    result = 1.0
    for beta in betas[: t + 1]:
        result *= 1 - beta
    return result


def scaled_linear_betas():
    low, high = math.sqrt(0.00085), math.sqrt(0.012)
    return [(low + (high - low) * i / 999) ** 2 for i in range(1000)]


def vp_linear(beta_min, beta_max):
    def definition(t):
        alpha = math.exp(-beta_integral(beta_min, beta_max, t) / 2)
        return alpha, math.sqrt(1 - alpha**2)

    return definition


def cosine(offset):
    def definition(t):
        squared = [math.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2 for time in (0, t)]
        alpha = math.sqrt(squared[1] / squared[0])
        return alpha, math.sqrt(1 - alpha**2)

    return definition


def table(alphas_cumprod):
    def definition(t):
        value = alphas_cumprod(int(t))
        return math.sqrt(value), math.sqrt(1 - value)

    return definition


# path, (alpha, sigma) at a time, times at which the definition holds
PATHS = {
    "vp": (VPLinear(), vp_linear(0.1, 20.0), [0.001, 0.05, 0.3, 0.77, 1.0]),
    "vp-steep": (VPLinear(0.5, 5.0), vp_linear(0.5, 5.0), [0.001, 0.05, 0.3, 0.77, 1.0]),
    "betas": (VPDiscrete(betas=BETAS), table(lambda t: product(BETAS, t)), [0, 1, 17, 48, 49]),
    "cumprod": (VPDiscrete(alphas_cumprod=CUMPROD), table(lambda t: CUMPROD[t].item()), [0, 1, 17, 28, 29]),
    "stable": (VPDiscrete.scaled_linear(), table(lambda t: product(scaled_linear_betas(), t)), [0, 1, 500, 998, 999]),
    "cosine": (VPCosine(), cosine(0.008), [0.0, 0.05, 0.3, 0.77, 0.99]),
    "cosine-offset": (VPCosine(0.1), cosine(0.1), [0.0, 0.05, 0.3, 0.77, 0.99]),
    "ve": (VE(), lambda t: (1.0, t), [0.002, 0.5, 1.0, 80.0]),
    "flow": (FlowMatching(), lambda t: (1 - t, t), [0.001, 0.05, 0.3, 0.77, 0.999]),
}
each_path = pytest.mark.parametrize(("path", "definition", "times"), PATHS.values(), ids=PATHS)


@each_path
def test_alpha_and_s_are_those_of_the_definition(path, definition, times):
    t = torch.tensor(times, dtype=torch.float64)
    alpha, sigma = torch.tensor([definition(value) for value in times], dtype=torch.float64).T
    s = path.s_of_t(t)
    assert s.dtype == torch.float64 and s.shape == t.shape
    assert torch.allclose(s, sigma / alpha, rtol=1e-9)
    assert torch.allclose(path.alpha_of_s(s), alpha, rtol=1e-9)
    assert torch.allclose(s * path.alpha_of_s(s), sigma, rtol=1e-9)


@each_path
def test_the_scaled_state_is_the_data_plus_s_times_the_noise(path, definition, times):
    clean, noise = torch.randn(2, len(times), 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha, sigma = torch.tensor([definition(value) for value in times], dtype=torch.float64).T.reshape(2, -1, 1, 1)
    y, s = path.to_ys(alpha * clean + sigma * noise, torch.tensor(times, dtype=torch.float64))
    assert torch.allclose(y, clean + s.reshape(-1, 1, 1) * noise, rtol=1e-9, atol=1e-9)


@each_path
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_round_trips(path, definition, times, data):
    """From (x, t) to (y, s) and back, with one time for the batch and with one for each row."""
    shares = data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=5))
    all_t = torch.tensor([times[0] + share * (times[-1] - times[0]) for share in shares], dtype=torch.float64)
    all_x = torch.randn(len(shares), 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        x = all_x.to(dtype)
        for t in (all_t.to(dtype), all_t[0].to(dtype)):
            y, s = path.to_ys(x, t)
            assert y.dtype == dtype and y.shape == x.shape and s.shape == t.shape
            x_again, t_again = path.from_ys(y, s)
            assert x_again.dtype == dtype and t_again.shape == t.shape
            assert torch.allclose(x_again, x, rtol=tolerance, atol=tolerance)
            assert torch.allclose(t_again, t.to(t_again.dtype), rtol=tolerance, atol=tolerance * times[-1])


@each_path
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_levels_round_trip_and_one_time_acts_like_a_row_of_it(path, definition, times, data):
    t = torch.tensor(times[0] + data.draw(st.floats(0.001, 1)) * (times[-1] - times[0]), dtype=torch.float64)
    s = path.s_of_t(t)
    assert torch.allclose(path.s_of_t(path.t_of_s(s)), s, rtol=1e-11)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.equal(path.to_ys(x, t)[0], path.to_ys(x, t.expand(3))[0])
    assert torch.equal(path.from_ys(x, s)[0], path.from_ys(x, s.expand(3))[0])


@each_path
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_level_increases_with_time(path, definition, times, dtype):
    s = path.s_of_t(torch.linspace(times[0], times[-1], 500, dtype=dtype))
    assert (s >= 0).all() and (s.diff() > 0).all()
    assert (path.t_of_s(s).diff() > 0).all()
    assert (path.alpha_of_s(s).diff() < 0).all() or isinstance(path, VE)


@each_path
def test_derivatives_are_right(path, definition, times):
    """Inside the range, and between the entries of a table, at which its levels have a kink."""
    t = torch.tensor([0.113, 0.459, 0.871], dtype=torch.float64) * (times[-1] - times[0]) + times[0]
    s = path.s_of_t(t)
    assert torch.autograd.gradcheck(path.s_of_t, t.clone().requires_grad_())
    assert torch.autograd.gradcheck(path.t_of_s, s.clone().requires_grad_())
    assert torch.autograd.gradcheck(path.alpha_of_s, s.clone().requires_grad_())
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.autograd.gradcheck(path.to_ys, (x.requires_grad_(), t.clone().requires_grad_()))
    assert torch.autograd.gradcheck(path.from_ys, (x, s.clone().requires_grad_()))


def test_the_table_is_stable_diffusions():
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    t = torch.arange(1000)
    ours = 1 / (1 + VPDiscrete.scaled_linear().s_of_t(t) ** 2)
    assert torch.allclose(ours, scheduler.alphas_cumprod.double(), rtol=2e-5)  # diffusers multiplies 1000 float32 numbers
    given_table = VPDiscrete(alphas_cumprod=scheduler.alphas_cumprod)
    assert torch.allclose(1 / (1 + given_table.s_of_t(t) ** 2), scheduler.alphas_cumprod.double(), rtol=1e-12)
    assert given_table.times == 1000


def test_between_its_entries_a_table_is_linear_in_the_logarithm():
    path = VPDiscrete(betas=BETAS)
    t = torch.tensor([0.0, 7.0, 48.0], dtype=torch.float64)
    low, high = path.s_of_t(t).log(), path.s_of_t(t + 1).log()
    for share in (0.25, 0.5, 0.9):
        assert torch.allclose(path.s_of_t(t + share).log(), low + share * (high - low), rtol=1e-12)
    beyond = path.s_of_t(torch.tensor([48.0, 49.0, 51.0], dtype=torch.float64)).log()
    assert torch.allclose(beyond[2] - beyond[1], 2 * (beyond[1] - beyond[0]))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"betas": [0.1, 0.2], "alphas_cumprod": [0.9, 0.7]},
        {"betas": []},
        {"betas": [0.1]},
        {"betas": 0.1},
        {"betas": [0.1, 0.0]},
        {"betas": [0.0, 0.1]},
        {"betas": [0.1, -0.1]},
        {"betas": [0.1, 1.0]},
        {"betas": [0.1, float("nan")]},
        {"betas": [[0.1, 0.2], [0.3, 0.4]]},
        {"alphas_cumprod": [0.5]},
        {"alphas_cumprod": [0.5, 0.9]},
        {"alphas_cumprod": [0.5, 0.5]},
        {"alphas_cumprod": [1.0, 0.5]},
        {"alphas_cumprod": [0.5, 0.0]},
        {"alphas_cumprod": [0.9, float("nan"), 0.1]},
        {"alphas_cumprod": [float("inf"), 0.1]},
    ],
    ids=str,
)
def test_bad_tables_are_refused(arguments):
    with pytest.raises(S4SError, match="a discrete path needs"):
        VPDiscrete(**arguments)
