"""Levels: properties of all schedules at once, their definitions written a second way, the searched ones."""

import itertools
import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from diffusers.schedulers import AysSchedules
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import s4s
from s4s import Denoiser, S4SError
from s4s.learning.teacher import make_pairs
from s4s.metrics.global_error import global_error
from s4s.models.paths import VE, FlowMatching, VPCosine, VPDiscrete, VPLinear
from s4s.models.seeds import sample_seeds
from s4s.sampling import run
from s4s.schedules import SCHEDULES
from s4s.schedules.dmn import bound
from s4s.schedules.gits import Costs, step_costs
from s4s.schedules.lagrange import step_weights

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
    st.builds(Zero, st.floats(1.0, 1000.0), st.floats(0.001, 0.5), paths),
)


def options_of(kind, draw):
    return {"edm": {"rho": draw(st.floats(0.5, 12.0))}, "time_power": {"power": draw(st.floats(0.5, 4.0))}}.get(kind, {})


FIXED = [kind for kind, schedule in SCHEDULES.items() if not schedule.searched and kind not in ("ays", "explicit")]


@pytest.mark.parametrize("kind", FIXED)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_levels_decrease_from_the_models_highest_to_its_lowest(kind, data):
    nfe, model = data.draw(st.integers(1, 50)), data.draw(denoisers)
    options = options_of(kind, data.draw)
    levels = s4s.levels(kind, nfe, model, **options)
    assert levels.dtype == torch.float64 and levels.shape == (nfe + 1,)
    assert (levels.diff() < 0).all() and levels[-1] == model.s_min
    below = kind == "leading" and model.path.times != 2 * nfe  # its first time, 1 + T - T/nfe, is T - 1 there
    assert levels[0] < model.s_max if below else levels[0] == model.s_max
    with_zero = s4s.levels(kind, nfe + 1, model, to_zero=True, **options)
    assert torch.equal(with_zero, torch.cat([levels, torch.zeros(1, dtype=torch.float64)]))


@settings(max_examples=3, deadline=None)
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


# Fixed schedules


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
def test_named_time_schedules_are_powers_of_the_time(nfe, model):
    for kind, power in (("time_uniform", 1), ("time_quadratic", 2)):
        assert torch.equal(s4s.levels(kind, nfe, model), s4s.levels("time_power", nfe, model, power=power))
    assert torch.allclose(s4s.levels("linspace", nfe, model), s4s.levels("time_uniform", nfe, model), rtol=1e-7)


@given(nfe=st.integers(2, 30), model=denoisers, rho=st.floats(0.5, 12.0), power=st.floats(0.5, 4.0))
@settings(max_examples=20, deadline=None)
def test_schedules_are_even_in_their_variable(nfe, model, rho, power):
    def even(first, last):
        return first + torch.arange(nfe + 1, dtype=torch.float64) / nfe * (last - first)

    first, last = model.s_max, model.s_min
    expected = even(first ** (1 / rho), last ** (1 / rho)) ** rho
    assert torch.allclose(s4s.levels("edm", nfe, model, rho=rho), expected, rtol=1e-9)
    cosine_times = VPCosine().t_of_s(s4s.levels("cosine", nfe, model))
    assert torch.allclose(cosine_times, even(*cosine_times[[0, -1]].tolist()), rtol=1e-9, atol=1e-9)
    assert torch.allclose(s4s.levels("logsnr", nfe, model).log(), even(np.log(first), np.log(last)), rtol=1e-9, atol=1e-9)
    start, end = model.path.t_of_s(torch.tensor([first, last], dtype=torch.float64)).tolist()
    times = model.path.t_of_s(s4s.levels("time_power", nfe, model, power=power))
    assert torch.allclose(times, even(start ** (1 / power), end ** (1 / power)) ** power, rtol=1e-7, atol=1e-9 * start)


def test_edm_takes_rho_7_unless_told():
    assert torch.equal(s4s.levels("edm", 6, Zero()), s4s.levels("edm", 6, Zero(), rho=7))
    assert not torch.allclose(s4s.levels("edm", 6, Zero()), s4s.levels("edm", 6, Zero(), rho=5))


# Given numbers

DIFFUSERS_AYS = {"sd": "StableDiffusionSigmas", "sdxl": "StableDiffusionXLSigmas", "svd": "StableDiffusionVideoSigmas"}
VIDEO = Zero(700.0, 0.002, VE())


def ays_model(table):
    return VIDEO if table == "svd" else STABLE


@pytest.mark.parametrize("table", DIFFUSERS_AYS)
def test_ays_has_the_published_levels_at_10_steps(table):
    """diffusers has them with few digits, and 0 in place of the last."""
    levels = s4s.levels("ays", 10, ays_model(table), table=table)
    rounded = torch.tensor(AysSchedules[DIFFUSERS_AYS[table]], dtype=torch.float64)
    assert torch.allclose(levels[:-1], rounded[:-1], rtol=0.02)
    assert levels[-1] == ays_model(table).s_min


def test_ays_takes_stable_diffusions_table_unless_told():
    levels = [14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092]
    levels += [0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582]
    assert torch.allclose(s4s.levels("ays", 10, STABLE), torch.tensor(levels, dtype=torch.float64), rtol=1e-8)


@pytest.mark.parametrize("table", DIFFUSERS_AYS)
@pytest.mark.parametrize("nfe", [1, 3, 5, 7, 20, 33])
def test_ays_is_log_linear_between_its_levels(table, nfe):
    known = s4s.levels("ays", 10, ays_model(table), table=table).tolist()
    levels = s4s.levels("ays", nfe, ays_model(table), table=table).tolist()
    assert len(levels) == nfe + 1
    for n, level in enumerate(levels):
        left, rest = divmod(10 * n, nfe)
        right = min(left + 1, 10)
        assert level == pytest.approx(known[left] * (known[right] / known[left]) ** (rest / nfe), rel=1e-7)


def test_ays_levels_above_the_models_range_are_refused():
    with pytest.raises(S4SError, match="'ays' starts at 700, above the model's highest level, 80"):
        s4s.levels("ays", 10, Zero(80.0), table="svd")


@pytest.mark.parametrize(
    ("kind", "options"), [("ays", {"table": "sd"}), ("explicit", {"values": [[20.0, 0.5, 0.03]]})], ids=["ays", "explicit"]
)
def test_levels_below_the_models_range_are_refused(kind, options):
    """Only the level 0, a final denoising step, may lie below what the model was trained for."""
    with pytest.raises(S4SError, match="model's lowest level"):
        s4s.levels(kind, 2, Zero(20.0, 0.05), **options)


def test_explicit_levels_are_those_of_the_list_of_the_right_length():
    values = [[50, 1, 0.1], [80.0, 40.0, 3.0, 0.02], [10, 0.5]]
    for row in values:
        levels = s4s.levels("explicit", len(row) - 1, Zero(), values=values)
        assert levels.dtype == torch.float64 and levels.tolist() == row
    assert s4s.levels("explicit", 2, Zero(), to_zero=True, values=values).tolist() == [10, 0.5, 0]
    with pytest.raises(S4SError, match="no list with 5 levels for nfe 4; there are lists for nfe 2, 3, 1"):
        s4s.levels("explicit", 4, Zero(), values=values)
    with pytest.raises(S4SError, match="there are lists for nfe none"):
        s4s.levels("explicit", 4, Zero(), values=[])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([3.0, 3.0, 1.0], "'explicit' at nfe 2: noise levels must decrease strictly"),
        ([3.0, 4.0, 1.0], "'explicit' at nfe 2: noise levels must decrease strictly"),
        ([3.0, 2.0, -1.0], "end at or above 0"),
        ([3.0, float("nan"), 1.0], "decrease strictly"),
        ([81.0, 2.0, 1.0], "starts at 81, above the model's highest level, 80"),
    ],
    ids=str,
)
def test_bad_explicit_levels_are_refused(row, message):
    with pytest.raises(S4SError, match=message):
        s4s.levels("explicit", 2, Zero(), values=[row])


# GITS


def random_costs(size, seed):
    """Costs at random, also where they have no meaning: below the diagonal and on it."""
    cost = np.random.default_rng(seed).exponential(size=(size, size))
    return Costs(levels=torch.linspace(10, 1, size).tolist(), cost=cost.tolist())


@given(size=st.integers(2, 10), seed=st.integers(0, 2**32 - 1), gamma=st.floats(0.2, 5.0), data=st.data())
@settings(max_examples=40, deadline=None)
def test_gits_finds_the_path_that_trying_all_finds(size, seed, gamma, data):
    nfe = data.draw(st.integers(1, size - 1))
    costs = random_costs(size, seed)

    def price(path):
        return sum(gamma**k * costs.cost[i][j] for k, (i, j) in enumerate(itertools.pairwise(path)))

    paths = [(0, *inner, size - 1) for inner in itertools.combinations(range(1, size - 1), nfe - 1)]
    best = min(paths, key=price)
    levels = s4s.levels("gits", nfe, Zero(10.0, 1.0), costs=costs, gamma=gamma)
    assert levels.tolist() == pytest.approx([costs.levels[i] for i in best])


def test_gamma_weighs_the_later_steps():
    """One of two steps is bad; the larger gamma, the earlier it is taken."""
    costs = Costs(levels=[3.0, 2.0, 1.5, 1.0], cost=[[0, 1, 5, 9], [0, 0, 9, 4], [0, 0, 0, 1], [0, 0, 0, 0]])
    model = Zero(3.0, 1.0)
    assert s4s.levels("gits", 2, model, costs=costs, gamma=2.0).tolist() == [3, 1.5, 1]
    assert s4s.levels("gits", 2, model, costs=costs, gamma=0.5).tolist() == [3, 2, 1]
    assert torch.equal(s4s.levels("gits", 2, model, costs=costs), s4s.levels("gits", 2, model, costs=costs, gamma=1.15))


def test_steps_along_straight_lines_cost_nothing():
    levels = np.geomspace(20, 0.05, 9)
    clean, direction = np.random.default_rng(0).normal(size=(2, 5, 1, 2, 3))
    states = clean + levels[:, None, None] * direction
    costs = step_costs(levels.tolist(), states, np.repeat(clean, 8, axis=1))
    assert costs.levels == levels.tolist() and np.abs(costs.cost).max() < 1e-13


def test_costs_of_steps_are_mean_distances():
    rng = np.random.default_rng(1)
    levels = [9.0, 4.0, 2.5, 1.0, 0.2]
    states, outputs = rng.normal(size=(7, 5, 2, 3)), rng.normal(size=(7, 4, 2, 3))
    cost = step_costs(levels, states, outputs).cost
    assert np.shape(cost) == (5, 5)
    for i, j in itertools.product(range(5), repeat=2):
        distances = []
        for row in range(7):
            kept = levels[j] / levels[i]  # DDIM keeps this fraction of the state and fills up with the output
            if i < j:
                landed = kept * states[row, i] + (1 - kept) * outputs[row, i]
                distances.append(((landed - states[row, j]) ** 2).sum() ** 0.5)
        assert cost[i][j] == pytest.approx(np.mean(distances) if distances else 0, rel=1e-12)


@pytest.fixture(scope="module")
def mixture_costs(mixture):
    teacher = s4s.solver("unipc", s4s.levels("edm", 40, mixture), order=3)
    pairs = make_pairs(mixture, teacher, sample_seeds("search", 64), trajectory=True)
    return step_costs(teacher.levels.tolist(), pairs.trajectory, pairs.outputs)


@pytest.mark.parametrize("nfe", [4, 5, 8])
def test_gits_levels_are_better_than_those_they_are_chosen_from(mixture, mixture_costs, nfe):
    """For DDIM, whose steps the costs are about, on noise that they were not found with."""
    chosen, fixed = s4s.levels("gits", nfe, mixture, costs=mixture_costs), s4s.levels("edm", nfe, mixture)
    assert set(chosen.tolist()) <= set(mixture_costs.levels)
    assert chosen[0] == mixture.s_max and chosen[-1] == mixture.s_min
    y_T = s4s.initial_noise(mixture, sample_seeds("test", 200))
    exact = run(mixture, y_T, s4s.solver("unipc", s4s.levels("logsnr", 100, mixture), order=3)).numpy()
    errors = [global_error(run(mixture, y_T, s4s.solver("ddim", schedule)).numpy(), exact) for schedule in (chosen, fixed)]
    assert errors[0] < errors[1]


def test_costs_survive_their_file(mixture, mixture_costs, tmp_path):
    path = tmp_path / "costs.json"
    mixture_costs.save(path)
    assert Costs.load(path) == mixture_costs
    from_file = s4s.levels("gits", 6, mixture, costs=str(path))
    assert torch.equal(from_file, s4s.levels("gits", 6, mixture, costs=mixture_costs))


GOOD_COSTS = random_costs(4, 0).model_dump()
BAD_COSTS = {
    "not-json": "levels",
    "empty": "",
    "cut-off": json.dumps(GOOD_COSTS)[:-20],
    "wrong-key": json.dumps({**GOOD_COSTS, "gamma": 1}),
    "missing-key": json.dumps({"levels": [2, 1]}),
    "wrong-format": json.dumps({**GOOD_COSTS, "format": "s4s-gits-costs/0"}),
    "not-finite": json.dumps({**GOOD_COSTS, "levels": [float("nan"), 3, 2, 1]}),
    "too-few-rows": json.dumps({**GOOD_COSTS, "cost": GOOD_COSTS["cost"][:-1]}),
    "ragged-rows": json.dumps({**GOOD_COSTS, "cost": [*GOOD_COSTS["cost"][:-1], [0.0]]}),
    "rows-too-short": json.dumps({**GOOD_COSTS, "cost": [row[:3] for row in GOOD_COSTS["cost"]]}),
}


@pytest.mark.parametrize("text", BAD_COSTS.values(), ids=BAD_COSTS)
def test_bad_files_of_costs_are_refused_by_name(text, tmp_path):
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(S4SError, match=str(path)):
        s4s.levels("gits", 2, Zero(10.0, 1.0), costs=str(path))


def test_missing_and_binary_files_of_costs_are_refused_by_name(tmp_path):
    with pytest.raises(S4SError, match=rf"{tmp_path}/no\.json: cannot read"):
        s4s.levels("gits", 2, Zero(), costs=f"{tmp_path}/no.json")
    with pytest.raises(S4SError, match=f"{tmp_path}: cannot read"):
        s4s.levels("gits", 2, Zero(), costs=str(tmp_path))
    (tmp_path / "binary.json").write_bytes(bytes([0xFF, 0xFE, 0x80]))
    with pytest.raises(S4SError, match=rf"{tmp_path}/binary\.json: .*not text"):
        s4s.levels("gits", 2, Zero(), costs=f"{tmp_path}/binary.json")


@pytest.mark.parametrize(
    ("nfe", "gamma", "message"),
    [
        (4, 1.0, "nfe 4 needs trajectories with at least 4 steps; there are 3"),
        (2, 0.0, "gamma must be > 0, got 0"),
        (2, -1.0, "gamma must be > 0, got -1"),
        (2, float("nan"), "gamma must be > 0, got nan"),
    ],
)
def test_impossible_searches_are_refused(nfe, gamma, message):
    with pytest.raises(S4SError, match=message):
        s4s.levels("gits", nfe, Zero(10.0, 1.0), costs=random_costs(4, 0), gamma=gamma)


# DMN and the weights that it is made of


def lagrange(nodes, k, u):
    """The polynomial that is 1 at nodes[k] and 0 at the others."""
    return np.prod([(u - other) / (nodes[k] - other) for m, other in enumerate(nodes) if m != k])


def quad_weights(lam, orders, kernel, clock):
    """W[n][j] by adaptive quadrature, polynomial by polynomial."""
    result = np.zeros((len(orders), len(orders)))
    for n, order in enumerate(orders):
        nodes = [clock(lam[n - k]) for k in range(order)]
        for k in range(order):
            integral = quad(lambda u, k=k, nodes=nodes: kernel(u) * lagrange(nodes, k, clock(u)), lam[n], lam[n + 1], epsabs=0)
            result[n, n - k] = integral[0]
    return result


def lambdas(nfe, seed, low=-3.0, high=3.0):
    """Nodes from `low` to `high` with uneven steps."""
    steps = np.random.default_rng(seed).uniform(0.3, 1.0, nfe)
    return torch.tensor(np.concatenate([[low], low + (high - low) * np.cumsum(steps) / steps.sum()]))


BOUND_ORDERS = {2: [1, 1], 3: [1, 2, 1], 4: [1, 2, 2, 1], 5: [1, 2, 3, 2, 1], 7: [1, 2, 3, 3, 3, 2, 1]}


@pytest.mark.parametrize("exponent", [1, 2])
@pytest.mark.parametrize("nfe", BOUND_ORDERS)
def test_the_bound_is_the_papers_sum(nfe, exponent):
    lam = lambdas(nfe, nfe)
    weights = quad_weights(lam.tolist(), BOUND_ORDERS[nfe], np.exp, lambda u: u)
    alpha = [1 / (1 + np.exp(-2 * u)) ** 0.5 for u in lam.tolist()]
    sigma = [(1 - a**2) ** 0.5 for a in alpha]
    error = [s if exponent == 1 else v**2 / a for s, v, a in zip(np.exp(-lam.numpy()), sigma, alpha, strict=True)][:nfe]
    weighted = weights * error
    middle = weighted[1 : nfe - 1]
    expected = np.abs(weighted[-1]).sum() + np.abs(weighted[0]).sum()
    for row in middle[:2]:
        expected += np.sqrt((row**2).sum())
    for j in range(nfe):
        expected += abs(sum(row[j] for row in middle[2:]))
    assert bound(lam, exponent).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("exponent", [1, 2])
@pytest.mark.parametrize("nfe", [1, 2, 3, 5])
def test_the_bounds_gradient_is_right(nfe, exponent):
    assert torch.autograd.gradcheck(lambda lam: bound(lam, exponent), lambdas(nfe, 5).requires_grad_())


@pytest.mark.parametrize("exponent", [1, 2])
@pytest.mark.parametrize(("model", "nfe"), [(Zero(20.0, 0.05), 4), (STABLE, 3)], ids=["pixel", "latent"])
def test_optimised_levels_have_a_smaller_bound_than_both_starts(model, nfe, exponent):
    def value(levels):
        return bound(-levels.log(), exponent).item()

    starts = [value(s4s.levels(kind, nfe, model)) for kind in ("logsnr", "time_uniform")]
    found = [value(s4s.levels("dmn", nfe, model, exponent=exponent, initial=i)) for i in ("logsnr", "time_uniform")]
    assert max(found) < 0.95 * min(starts)
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_dmn_takes_exponent_2_and_logsnr_unless_told():
    model = Zero(20.0, 0.05)
    stated = s4s.levels("dmn", 3, model, exponent=2, initial="logsnr")
    assert torch.equal(s4s.levels("dmn", 3, model), stated)
    assert torch.equal(s4s.levels("dmn", 4, model, to_zero=True)[:-1], stated)
    assert not torch.allclose(s4s.levels("dmn", 3, model, exponent=1), stated, rtol=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exponent", [1, 2])
@pytest.mark.parametrize("nfe", [1, 2])
def test_optimising_gives_no_warnings(nfe, exponent):
    """Where the bound has little curvature, or none, the optimiser's own warnings would reach the user."""
    s4s.levels("dmn", nfe, Zero(20.0, 0.05), exponent=exponent, initial="time_uniform")


KERNELS = {
    "exp": (torch.exp, np.exp),
    "one": (torch.ones_like, lambda u: 1.0),
    "decay": (lambda u: -torch.exp(-u), lambda u: -np.exp(-u)),
}
CLOCKS = {"lambda": (None, lambda u: u), "s": (lambda u: torch.exp(-u), lambda u: np.exp(-u))}
ORDERS = [1, 2, 3, 4, 4, 3, 1, 2]
each_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
each_clock = pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)


@each_clock
@each_kernel
def test_weights_of_a_step_sum_to_the_kernels_integral(kernel, clock):
    lam = lambdas(8, 0)
    W = step_weights(lam, ORDERS, kernel[0], clock[0])
    expected = [quad(kernel[1], a, b)[0] for a, b in itertools.pairwise(lam.tolist())]
    assert W.shape == (8, 8) and torch.allclose(W.sum(1), torch.tensor(expected, dtype=torch.float64), rtol=1e-10)
    used = torch.tensor([[n - order < j <= n for j in range(8)] for n, order in enumerate(ORDERS)])
    assert (W[~used] == 0).all() and (W[used] != 0).all()


@each_clock
@each_kernel
def test_weights_are_exact_for_polynomials_in_the_clock(kernel, clock):
    lam = lambdas(8, 1)
    W = step_weights(lam, ORDERS, kernel[0], clock[0]).numpy()
    nodes = clock[1](lam[:8].numpy())
    scale = np.abs(nodes).max()
    for n, order in enumerate(ORDERS):
        for degree in range(order):
            exact = quad(lambda u, d=degree: kernel[1](u) * (clock[1](u) / scale) ** d, lam[n], lam[n + 1])[0]
            assert W[n] @ (nodes / scale) ** degree == pytest.approx(exact, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("nfe", [1, 4, 6])
def test_weights_are_integrals_of_lagranges_polynomials(nfe):
    lam, orders = lambdas(nfe, 2), ORDERS[:nfe]
    expected = quad_weights(lam.tolist(), orders, np.exp, lambda u: np.exp(-u))
    assert np.allclose(step_weights(lam, orders, torch.exp, lambda u: torch.exp(-u)), expected, rtol=1e-9, atol=1e-12)


@each_clock
@each_kernel
def test_weights_are_differentiable(kernel, clock):
    lam = lambdas(3, 3, -1.0, 1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda at: step_weights(at, ORDERS[:3], kernel[0], clock[0]), lam)


# Errors


@pytest.mark.parametrize(
    ("kind", "nfe", "options", "message"),
    [
        ("euler", 4, {}, "^unknown schedule 'euler'; known: ays, cosine, dmn, edm"),
        ("edm", 4.0, {}, "^nfe must be a whole number of at least 1, got 4.0$"),
        ("edm", True, {}, "whole number of at least 1, got True"),
        ("edm", "4", {}, "whole number of at least 1, got '4'"),
        ("edm", None, {}, "whole number of at least 1, got None"),
        ("edm", -1, {}, "at least 1, got -1"),
        ("edm", 1, {"to_zero": True}, "at least 2, got 1"),
        ("cosine", 4, {"power": 2}, "^schedule 'cosine' has no option 'power'; allowed: none$"),
        ("edm", 4, {"roh": 7}, "^schedule 'edm' has no option 'roh'; allowed: rho$"),
        ("dmn", 4, {"gamma": 1}, "'dmn' has no option 'gamma'; allowed: exponent, initial$"),
        ("time_power", 4, {}, "^schedule 'time_power' needs the option 'power'$"),
        ("explicit", 4, {}, "'explicit' needs the option 'values'"),
        ("gits", 4, {}, "'gits' needs the option 'costs'"),
        ("time_power", 4, {"power": 0}, "power must be > 0, got 0"),
        ("time_power", 4, {"power": -1}, "power must be > 0, got -1"),
        ("edm", 4, {"rho": 0}, "rho must be > 0, got 0"),
        ("ays", 4, {"table": "flux"}, "table must be one of sd, sdxl, svd, got 'flux'"),
        ("dmn", 4, {"exponent": 3}, "exponent must be one of 1, 2, got 3"),
        ("dmn", 4, {"initial": "edm"}, "initial must be one of logsnr, time_uniform, got 'edm'"),
    ],
)
def test_impossible_schedules_are_refused(kind, nfe, options, message):
    with pytest.raises(S4SError, match=message):
        s4s.levels(kind, nfe, Zero(), **options)


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULES if kind not in ("explicit", "gits")])
def test_a_final_denoising_step_needs_another_before_it(kind):
    options = {"power": 3} if kind == "time_power" else {}
    with pytest.raises(S4SError, match="at least 2, got 1"):
        s4s.levels(kind, 1, STABLE, to_zero=True, **options)
    assert s4s.levels(kind, 2, STABLE, to_zero=True, **options)[-1] == 0
