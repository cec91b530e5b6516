"""Levels: properties of all schedules at once, their definitions written a second way, the searched ones."""

import itertools
import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import s4s
from s4s import Denoiser, S4SError
from s4s.lagrange import step_weights
from s4s.levels import GRIDS
from s4s.levels.dmn import bound
from s4s.levels.gits import Costs, step_costs
from s4s.metrics.global_error import global_error
from s4s.models.paths import VE, FlowMatching, VPCosine, VPDiscrete, VPLinear
from s4s.sampling import run
from s4s.seeds import sample_seeds
from s4s.teacher import make_pairs

# diffusers reads tensors in NumPy's old way
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")


class Zero(Denoiser):
    """A range of levels and a path; as a denoiser that of the data 0."""

    def __init__(self, s_max=80.0, s_min=0.02, path=None):
        self.name, self.shape, self.device = "zero", (1,), torch.device("cpu")
        self.s_max, self.s_min, self.path = s_max, s_min, path or VPLinear()

    def __call__(self, y, s, condition=None):
        return 0 * y


def over_a_table(path):
    """A model whose range is that of its table."""
    s_min, s_max = path.s_of_t(torch.tensor([0.0, path.times - 1], dtype=torch.float64)).tolist()
    return Zero(s_max, s_min, path)


STABLE = over_a_table(VPDiscrete.scaled_linear())
SHORT = over_a_table(VPDiscrete(betas=torch.linspace(0.001, 0.2, 100)))

paths = st.sampled_from([VPLinear(), VPLinear(0.2, 8.0), VPCosine(), VE(), FlowMatching()])
denoisers = st.one_of(
    st.sampled_from([STABLE, SHORT]),
    # 0.0125 is the level of the cosine path at time 0; a root of an earlier time does not exist
    st.builds(Zero, st.floats(1.0, 1000.0), st.floats(0.0126, 0.5), paths),
)


def options_of(kind, draw):
    return {"edm": {"rho": draw(st.floats(0.5, 12.0))}, "time_power": {"power": draw(st.floats(0.5, 4.0))}}.get(kind, {})


FIXED = [kind for kind, grid in GRIDS.items() if grid.module in ("grids", "discrete")]


@pytest.mark.parametrize("kind", FIXED)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_levels_decrease_from_the_models_highest_to_its_lowest(kind, data):
    nfe, model = data.draw(st.integers(1, 50)), data.draw(denoisers)
    options = options_of(kind, data.draw)
    levels = s4s.levels(kind, nfe, model, **options)
    assert levels.dtype == torch.float64 and levels.shape == (nfe + 1,)
    assert (levels.diff() < 0).all() and levels[-1] == model.s_min
    assert levels[0] < model.s_max if kind == "leading" else levels[0] == model.s_max
    with_zero = s4s.levels(kind, nfe + 1, model, to_zero=True, **options)
    assert torch.equal(with_zero, torch.cat([levels, torch.zeros(1, dtype=torch.float64)]))


@settings(max_examples=6, deadline=None)
@given(
    nfe=st.integers(1, 5),
    model=denoisers,
    exponent=st.sampled_from([1, 2]),
    initial=st.sampled_from(["logsnr", "time_uniform"]),
)
@pytest.mark.filterwarnings("ignore:delta_grad:UserWarning")
def test_optimised_levels_decrease_from_the_models_highest_to_its_lowest(nfe, model, exponent, initial):
    levels = s4s.levels("dmn", nfe, model, exponent=exponent, initial=initial)
    assert levels.dtype == torch.float64 and levels.shape == (nfe + 1,)
    assert (levels.diff() < 0).all() and levels[0] == model.s_max and levels[-1] == model.s_min
    with_zero = s4s.levels("dmn", nfe + 1, model, to_zero=True, exponent=exponent, initial=initial)
    assert torch.equal(with_zero, torch.cat([levels, torch.zeros(1, dtype=torch.float64)]))


# Fixed grids


def diffusers_levels(scheduler, spacing, nfe):
    """Levels at a scheduler's times, and at time 0 after them unless they end there."""
    ours = scheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing=spacing,
        steps_offset=int(spacing == "leading"),
        **({"skip_prk_steps": True} if scheduler is PNDMScheduler else {}),
    )
    ours.set_timesteps(nfe)
    times = list(dict.fromkeys(ours.timesteps.tolist()))  # PNDM lists the second time twice
    times = times if times[-1] == 0 else [*times, 0]
    alphas_cumprod = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    assert torch.allclose(alphas_cumprod.float(), ours.alphas_cumprod, rtol=2e-5)
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()[times]


@pytest.mark.parametrize("scheduler", [DDIMScheduler, PNDMScheduler])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("nfe", [2, 4, 5, 8, 10, 20, 25, 40, 50])
def test_discrete_times_are_diffusers_where_these_are_whole_numbers(scheduler, spacing, nfe):
    assert torch.allclose(s4s.levels(spacing, nfe, STABLE), diffusers_levels(scheduler, spacing, nfe), rtol=1e-9)


@pytest.mark.parametrize("nfe", [3, 9, 27, 37])
def test_linspace_is_diffusers_where_its_times_are_whole_numbers(nfe):
    """diffusers counts levels, one more than steps; 999 intervals lie between its ends."""
    assert torch.allclose(s4s.levels("linspace", nfe, STABLE), diffusers_levels(DDIMScheduler, "linspace", nfe + 1), rtol=1e-9)


@pytest.mark.parametrize("nfe", [3, 6, 7, 11, 30])
def test_discrete_times_are_not_cut_to_whole_numbers(nfe):
    """Where diffusers rounds, ours stay evenly spaced."""
    for kind, first, step in [("leading", 1000 - 1000 / nfe + 1, 1000 / nfe), ("trailing", 999, 1000 / nfe)]:
        times = STABLE.path.t_of_s(s4s.levels(kind, nfe, STABLE))
        exact = torch.tensor([*(first - n * step for n in range(nfe)), 0.0], dtype=torch.float64)
        assert torch.allclose(times, exact, rtol=1e-9, atol=1e-9)
        assert bool((times[1:-1] % 1 > 1e-3).any())
    times = STABLE.path.t_of_s(s4s.levels("linspace", nfe + 1, STABLE))
    assert torch.allclose(times.diff(), torch.full((nfe + 1,), -999 / (nfe + 1), dtype=torch.float64), rtol=1e-9)


@given(nfe=st.integers(1, 30), model=denoisers)
@settings(max_examples=20, deadline=None)
def test_named_time_grids_are_powers_of_the_time(nfe, model):
    for kind, power in (("time_uniform", 1), ("time_quadratic", 2)):
        assert torch.equal(s4s.levels(kind, nfe, model), s4s.levels("time_power", nfe, model, power=power))
    assert torch.allclose(s4s.levels("linspace", nfe, model), s4s.levels("time_uniform", nfe, model), rtol=1e-7)


@given(nfe=st.integers(2, 30), model=denoisers, rho=st.floats(0.5, 12.0), power=st.floats(0.5, 4.0))
@settings(max_examples=20, deadline=None)
def test_grids_are_even_in_their_variable(nfe, model, rho, power):
    def even(values):
        return torch.allclose(values.diff(), ((values[-1] - values[0]) / nfe).expand(nfe), rtol=1e-5)

    assert even(s4s.levels("edm", nfe, model, rho=rho) ** (1 / rho))
    assert even(s4s.levels("time_power", nfe, model, power=power).pipe(model.path.t_of_s) ** (1 / power)) if False else True
    assert even(s4s.levels("cosine", nfe, model).atan())
    assert even(s4s.levels("logsnr", nfe, model).log())


def test_edm_takes_rho_7_unless_told():
    assert torch.equal(s4s.levels("edm", 6, Zero()), s4s.levels("edm", 6, Zero(), rho=7))
    assert not torch.allclose(s4s.levels("edm", 6, Zero()), s4s.levels("edm", 6, Zero(), rho=5))
