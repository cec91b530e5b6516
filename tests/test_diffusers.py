"""Our classical solvers are diffusers' schedulers: equal weights in float64, equal samples in float32.

A scheduler's step is linear in its sample and in the model output. Fed with symbols instead of numbers, the rows of an
identity matrix, a scheduler therefore writes down its own tableau: the weights of y_0, D_0, ..., D_{N-1} in every state.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EDMDPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    IPNDMScheduler,
    KDPM2DiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

import s4s
from s4s.models.embedded.mixture import MixtureDenoiser

# diffusers means to drop noise prediction from its DPM-Solvers, which we keep, and reads tensors in NumPy's old way
pytestmark = pytest.mark.filterwarnings("ignore:.*algorithm_type", "ignore:__array_:DeprecationWarning")

NFE = range(3, 11)
HIGHEST, LOWEST = 15.0, 0.03
# Where diffusers computes 0 * inf at s_N = 0, it is held against our final step to 0 in the limit. In float64 this is
# small enough for the limit and large enough for exp(h).
ALMOST_ZERO = 1e-150
ALGORITHM = {"data": "dpmsolver++", "noise": "dpmsolver"}
SIGMA_DATA = 0.5


class Convention(NamedTuple):
    """What a scheduler makes of a state y at level s.

    state, fed: the factors on y in its sample and in what it feeds to the network.
    output: the network output that it expects, from y, D and s.
    """

    state: Callable[[float], float]
    fed: Callable[[float], float]
    output: Callable[[Tensor, Tensor, float], Tensor]


def one(s):
    return 1.0


def alpha(s):
    return (1 + s**2) ** -0.5


def noise(y, D, s):
    return (y - D) / s


def velocity(y, D, s):
    return alpha(s) * (noise(y, D, s) - s * D)


def edm_fed(s):
    return (s**2 + SIGMA_DATA**2) ** -0.5


def edm_output(y, D, s):
    return (D - (SIGMA_DATA * edm_fed(s)) ** 2 * y) / (s * SIGMA_DATA * edm_fed(s))


VP = Convention(alpha, alpha, noise)
VE = Convention(one, alpha, noise)
VELOCITY = Convention(alpha, alpha, velocity)
EDM = Convention(one, edm_fed, edm_output)


class Wide(Tensor):
    """Stays in float64 where a scheduler would round its sample to float32."""

    def to(self, *args, **kwargs):
        return self


class LMSOfOrder(LMSDiscreteScheduler):
    """diffusers takes the order at each step; ours is 1 in a step to level 0."""

    multistep_order = 4

    def step(self, model_output, timestep, sample):
        order = self.multistep_order if self.sigmas[self.step_index + 1] > 0 else 1
        return super().step(model_output, timestep, sample, order=order)


class AuthorsSinglestep(DPMSolverSinglestepScheduler):
    """Order 3 as its authors have it: the second stage inside a step takes the exact coefficient.

    diffusers approximates that stage if its solver_type is "midpoint" and is exact if it is "heun", so "heun" is switched on
    for that stage alone.
    """

    def step(self, model_output, timestep, sample):
        before_third = self.order_list[self.step_index or 0 : (self.step_index or 0) + 2] == [2, 3]
        self.register_to_config(solver_type="heun" if before_third else "midpoint")
        return super().step(model_output, timestep, sample)


def between(depth, zero):
    """Levels at these depths from 0 to 1 in ln s, and 0 below them."""
    levels = HIGHEST * (LOWEST / HIGHEST) ** depth
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)]) if zero else levels


def even(nfe, zero=False):
    """Levels evenly spaced in ln s; where they end at 0, all but the last are."""
    return between(torch.linspace(0, 1, nfe + 1 - zero, dtype=torch.float64), zero)


def uneven(nfe, zero=False):
    """Random levels whose gaps in ln s differ by at most a factor of 10."""
    generator = torch.Generator().manual_seed(nfe)
    gaps = 0.1 + 0.9 * torch.rand(nfe - zero, generator=generator, dtype=torch.float64)
    depth = torch.cat([torch.zeros(1, dtype=torch.float64), gaps.cumsum(0) / gaps.sum()])
    return between(depth, zero)


def schedules(zero=False, nfes=NFE):
    """Random levels for each number of evaluations, and evenly spaced ones for the largest."""
    return [uneven(nfe, zero) for nfe in nfes] + [even(nfes[-1], zero)]


def above_zero(levels):
    return levels.clamp_min(ALMOST_ZERO)


def with_sigmas(cls, levels, sigmas=None, **config):
    """A scheduler that looks its levels up in `sigmas`, which are the levels unless given."""
    nfe = len(levels) - 1
    if cls is not EDMDPMSolverMultistepScheduler:
        config["num_train_timesteps"] = 100  # some constructors take time in proportion
    scheduler = cls(**config)
    scheduler.set_timesteps(nfe)
    scheduler.sigmas = levels if sigmas is None else sigmas
    scheduler.timesteps = torch.arange(nfe, 0, -1.0)  # only looked up, so any distinct values do
    return scheduler


def with_table(cls, levels, **config):
    """A scheduler that looks its levels up in `alphas_cumprod`, with one training time for each."""
    steps = len(levels) - 1
    zero = bool(levels[-1] == 0)
    scheduler = cls(num_train_timesteps=steps, set_alpha_to_one=zero, **config)
    scheduler.set_timesteps(steps)
    table = 1 / (1 + levels**2)
    scheduler.alphas_cumprod = table[:-1].flip(0)
    if not zero:
        scheduler.final_alpha_cumprod = table[-1]
    return scheduler


def states(scheduler, convention, y, conditioning, end, denoise):
    """The states y_0, ..., y_N of the scheduler's own loop, given the conditioning levels; y_N is at level `end`."""
    sample = y * convention.state(conditioning[0])
    result = [y]
    for t, s, after in zip(scheduler.timesteps, conditioning, [*conditioning[1:], end], strict=True):
        fed = scheduler.scale_model_input(sample, t) / convention.fed(s)
        sample = scheduler.step(convention.output(fed, denoise(fed, s), s), t, sample).prev_sample
        result.append(sample / convention.state(after))
    return result


def assert_same_weights(tableau, scheduler, convention, conditioning=None):
    """Every state of the scheduler has the weights of our reduced form."""
    conditioning = tableau.levels[:-1] if conditioning is None else conditioning
    assert tableau.kappa == 1
    assert torch.allclose(tableau.eval_levels, conditioning, rtol=1e-12, atol=0)
    unit = torch.eye(tableau.nfe + 1, dtype=torch.float64).as_subclass(Wide)
    outputs = iter(unit[1:].split(1))
    theirs = states(
        scheduler, convention, unit[:1], conditioning.tolist(), tableau.levels[-1].item(), lambda y, s: next(outputs)
    )
    a, b = tableau.reduced()
    ours = torch.cat([a[:, None], b], dim=1)
    error = (torch.cat(theirs).as_subclass(Tensor) - ours).abs().max() / ours.abs().max()
    assert error < 1e-10, f"{error:.2g} on levels {tableau.levels.tolist()}"


@pytest.mark.parametrize("zero", [False, True])
def test_ddim_weights(zero):
    for levels in schedules(zero):
        tableau = s4s.solver("ddim", levels)
        assert_same_weights(tableau, with_table(DDIMScheduler, levels, clip_sample=False), VP)
        assert_same_weights(tableau, with_sigmas(EulerDiscreteScheduler, levels), VE)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("lower_order_final", [False, True])
@pytest.mark.parametrize("variant", ["midpoint", "heun"])
@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpmpp_weights(order, prediction, variant, lower_order_final, zero):
    options = {"order": order, "prediction": prediction, "variant": variant, "lower_order_final": lower_order_final}
    config = {"solver_order": order, "solver_type": variant, "lower_order_final": lower_order_final}
    limit = zero and prediction == "noise"
    config |= {"algorithm_type": ALGORITHM[prediction], "euler_at_final": limit}
    config["final_sigmas_type"] = "zero" if zero and not limit else "sigma_min"
    for levels in schedules(zero):
        tableau = s4s.solver("dpmpp", levels, **options)
        sigmas = above_zero(levels) if limit else levels
        assert_same_weights(tableau, with_sigmas(DPMSolverMultistepScheduler, levels, sigmas, **config), VP)
        if prediction == "data":
            edm = with_sigmas(EDMDPMSolverMultistepScheduler, levels, **config, sigma_data=SIGMA_DATA)
            assert_same_weights(tableau, edm, EDM)


@pytest.mark.parametrize("corrector", [True, False])
@pytest.mark.parametrize("lower_order_final", [False, True])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_weights(order, prediction, variant, lower_order_final, corrector):
    for levels in schedules():
        tableau, scheduler = unipc_pair(levels, order, prediction, variant, lower_order_final, corrector)
        assert_same_weights(tableau, scheduler, VP)


@pytest.mark.parametrize(("prediction", "corrector"), [("data", True), ("data", False), ("noise", False)])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_weights_to_zero(order, variant, prediction, corrector):
    """With lower_order_final only: without it diffusers takes a last step of high order and gets NaN.

    Noise prediction with the corrector has no counterpart: diffusers gets NaN, and its limit is not our y_N = D_{N-1} but
    D_{N-1} plus the last correction, for noise prediction keeps the whole corrected state.
    """
    for levels in schedules(zero=True):
        tableau, scheduler = unipc_pair(levels, order, prediction, variant, True, corrector)
        if (prediction, variant) != ("data", "bh2"):
            scheduler.sigmas = above_zero(levels)
        assert_same_weights(tableau, scheduler, VP)


def unipc_pair(levels, order, prediction, variant, lower_order_final, corrector):
    scheduler = with_sigmas(
        UniPCMultistepScheduler, levels, solver_order=order, predict_x0=prediction == "data", solver_type=variant,
        lower_order_final=lower_order_final, disable_corrector=[] if corrector else list(range(len(levels))),
    )  # fmt: skip
    options = {"order": order, "prediction": prediction, "variant": variant, "corrector": corrector}
    return s4s.solver("unipc", levels, **options, lower_order_final=lower_order_final), scheduler


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(("lower_order_final", "zero"), [(False, False), (True, False), (True, True)])
def test_deis_weights(order, lower_order_final, zero):
    """To 0 with lower_order_final only: diffusers' scheduler knows no other first-order last step."""
    for levels in schedules(zero):
        tableau = s4s.solver("deis", levels, order=order, clock="lambda", lower_order_final=lower_order_final)
        config = {"solver_order": order, "lower_order_final": lower_order_final}
        assert_same_weights(tableau, with_sigmas(DEISMultistepScheduler, levels, above_zero(levels), **config), VP)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("nfe", [15, 20])
def test_lower_order_final_in_long_runs(nfe, order):
    """From 15 evaluations on diffusers ignores lower_order_final in DPM-Solver++ and DEIS, but not in UniPC; we never do."""
    for levels in schedules(nfes=[nfe]):
        config = {"solver_order": order, "lower_order_final": True}
        dpmpp = with_sigmas(DPMSolverMultistepScheduler, levels, **config, final_sigmas_type="sigma_min")
        assert_same_weights(s4s.solver("dpmpp", levels, order=order, lower_order_final=False), dpmpp, VP)
        deis = with_sigmas(DEISMultistepScheduler, levels, **config)
        ours = s4s.solver("deis", levels, order=order, clock="lambda", lower_order_final=False)
        assert_same_weights(ours, deis, VP)
        unipc = with_sigmas(UniPCMultistepScheduler, levels, **config)
        assert_same_weights(s4s.solver("unipc", levels, order=order, lower_order_final=True), unipc, VP)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("lower_order_final", [False, True])
@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize(
    ("kind", "variant", "cls"),
    [
        ("dpm2", "midpoint", DPMSolverSinglestepScheduler),
        ("dpm2", "heun", DPMSolverSinglestepScheduler),
        ("dpm3", "midpoint", AuthorsSinglestep),  # diffusers' own "midpoint" is not the published one, see the class
        ("dpm3", "heun", DPMSolverSinglestepScheduler),
    ],
)
def test_single_step_weights(kind, variant, cls, prediction, lower_order_final, zero):
    order = {"dpm2": 2, "dpm3": 3}[kind]
    limit = zero and prediction == "noise"
    config = {"solver_order": order, "solver_type": variant, "algorithm_type": ALGORITHM[prediction]}
    config |= {"lower_order_final": lower_order_final, "final_sigmas_type": "zero" if zero and not limit else "sigma_min"}
    for levels in schedules(zero):
        if (len(levels) - 1) % order and not lower_order_final and not zero:
            continue  # diffusers switches lower_order_final on, we fill the last step with what is left
        tableau = s4s.solver(kind, levels, prediction=prediction, variant=variant, lower_order_final=lower_order_final)
        scheduler = with_sigmas(cls, levels, above_zero(levels) if limit else levels, **config)
        if limit:
            scheduler.order_list[-1] = 1  # as diffusers has it for a last level of 0
        assert_same_weights(tableau, scheduler, VP)


@pytest.mark.parametrize("lower_order_final", [False, True])
def test_diffusers_own_midpoint_of_order_3_is_another_solver(lower_order_final):
    """So that the special class above is not there for nothing; should diffusers change, it can go."""
    levels = even(6)
    config = {"solver_order": 3, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}
    scheduler = with_sigmas(DPMSolverSinglestepScheduler, levels, **config, lower_order_final=lower_order_final)
    with pytest.raises(AssertionError, match="on levels"):
        assert_same_weights(s4s.solver("dpm3", levels, lower_order_final=lower_order_final), scheduler, VP)


def ends_of_pairs(levels):
    """s_0, s_2, s_2, s_4, s_4, ...: where the steps of a single-step solver of two evaluations begin and end."""
    last = len(levels) - 1
    return levels[[min(i + i % 2, last) for i in range(last + 1)]]


@pytest.mark.parametrize("zero", [False, True])
def test_heun_weights(zero):
    """To 0 with odd N only: diffusers' last step is then Euler's and all before it are Heun's."""
    for levels in schedules(zero, NFE[::2] if zero else NFE):
        sigmas = ends_of_pairs(levels)
        scheduler = with_sigmas(HeunDiscreteScheduler, levels, sigmas)
        assert_same_weights(s4s.solver("heun", levels), scheduler, VE, conditioning=sigmas[:-1])


@pytest.mark.parametrize("zero", [False, True])
def test_dpm2_weights_are_those_of_kdpm2(zero):
    """On levels even in ln s, for the scheduler has no other midpoint."""
    for nfe in NFE[::2] if zero else NFE:
        levels = even(nfe, zero)
        scheduler = with_sigmas(KDPM2DiscreteScheduler, levels, ends_of_pairs(levels))
        scheduler.sigmas_interpol = levels
        assert_same_weights(s4s.solver("dpm2", levels, prediction="noise", variant="midpoint"), scheduler, VE)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm_v_weights(order, zero):
    for levels in schedules(zero, [nfe for nfe in NFE if nfe >= order]):
        scheduler = with_sigmas(LMSOfOrder, levels, levels.tolist())  # its quadrature is slow on tensors
        scheduler.multistep_order = order
        tableau = s4s.solver("ipndm_v", levels, order=order)
        assert_same_weights(tableau, scheduler, VE)
        assert tableau.same_as(s4s.solver("deis", levels, order=order, clock="sigma"))


def test_ipndm_weights():
    """Not to 0: our step to 0 is of first order, diffusers keeps the order. The same holds for PNDM."""
    for levels in schedules(nfes=NFE[1:]):
        scheduler = IPNDMScheduler()
        scheduler.set_timesteps(len(levels) - 1)
        scheduler.alphas, scheduler.betas = alpha(levels), levels * alpha(levels)
        assert_same_weights(s4s.solver("ipndm", levels, order=4), scheduler, VELOCITY)


def test_pndm_weights():
    for levels in schedules():
        used = torch.cat([levels[:1], levels[2:]])
        scheduler = with_table(PNDMScheduler, used, skip_prk_steps=True)
        assert_same_weights(s4s.solver("pndm", levels), scheduler, VP, conditioning=conditioning_of_pndm(used))


def conditioning_of_pndm(used):
    """Its first step is Heun's, and the end of it is evaluated again."""
    return torch.cat([used[:2], used[1:-1]])


# The second half: each scheduler with its own levels, in float32, on a network.

STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
STEPS = (5, 6, 10, 20)


class Pair(NamedTuple):
    """Our solver and a scheduler of diffusers.

    config: the scheduler's, beside those of the noise table.
    read: the levels of all nodes and the conditioning levels, from the scheduler after set_timesteps.
    options: our solver's, as a function of the number of evaluations.
    """

    kind: str
    cls: type
    config: dict
    convention: Convention
    read: Callable[..., tuple[Tensor, Tensor]]
    options: Callable[[int], dict] = lambda nfe: {}


def read_sigmas(scheduler):
    levels = scheduler.sigmas.double()
    return levels, levels[:-1]


def read_heun(scheduler):
    """Levels between the ends of steps are listed in ours and used by nobody."""
    conditioning, ends = scheduler.sigmas.double()[:-1], scheduler.sigmas.double()[1::2]
    levels = torch.stack([conditioning[::2], (conditioning[::2] * ends).sqrt()], 1).flatten()
    return torch.cat([levels[:-1], ends[-1:]]), conditioning


def read_kdpm2(scheduler):
    levels = torch.stack([scheduler.sigmas[::2], scheduler.sigmas_interpol[1::2]], 1).flatten().double()
    levels = levels[: len(scheduler.timesteps) + 1]
    return levels, levels[:-1]


def read_table(scheduler):
    table = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], scheduler.final_alpha_cumprod[None]]).double()
    levels = ((1 - table) / table).sqrt()
    return levels, levels[:-1]


def read_pndm(scheduler):
    all_conditioning, _ = read_table(scheduler)
    used = torch.cat([all_conditioning[:2], all_conditioning[3:]])
    return torch.cat([used[:1], (used[:1] * used[1:2]).sqrt(), used[1:]]), conditioning_of_pndm(used)


def read_ipndm(scheduler):
    levels = scheduler.betas.double() / scheduler.alphas.double()
    return levels, levels[:-1]


def data_dpm(order, **config):
    return {"solver_order": order, "algorithm_type": "dpmsolver++", "final_sigmas_type": "zero", **config}


def noise_dpm(order, **config):
    return {"solver_order": order, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", **config}


def short(order, **options):
    """diffusers' lower_order_final, which ends at 15 evaluations in some schedulers."""
    return lambda nfe: {"order": order, "lower_order_final": nfe < 15, **options}


PAIRS = {
    "ddim": Pair("ddim", DDIMScheduler, {"clip_sample": False}, VP, read_table),
    "ddim-alpha_0": Pair(
        "ddim", DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}, VP, read_table
    ),
    "euler": Pair("ddim", EulerDiscreteScheduler, {}, VE, read_sigmas),
    "heun": Pair("heun", HeunDiscreteScheduler, {}, VE, read_heun),
    "kdpm2": Pair("dpm2", KDPM2DiscreteScheduler, {}, VE, read_kdpm2),
    "dpm2": Pair("dpm2", DPMSolverSinglestepScheduler, noise_dpm(2, lower_order_final=True), VP, read_sigmas,
                 lambda nfe: {"lower_order_final": True}),
    "dpmpp2s": Pair("dpm2", DPMSolverSinglestepScheduler, data_dpm(2), VP, read_sigmas,
                    lambda nfe: {"prediction": "data"}),
    "dpm3": Pair("dpm3", DPMSolverSinglestepScheduler, noise_dpm(3, solver_type="heun", lower_order_final=True), VP,
                 read_sigmas, lambda nfe: {"variant": "heun", "lower_order_final": True}),
    "dpmpp3s": Pair("dpm3", AuthorsSinglestep, data_dpm(3), VP, read_sigmas, lambda nfe: {"prediction": "data"}),
    "dpmpp2m": Pair("dpmpp", DPMSolverMultistepScheduler, data_dpm(2), VP, read_sigmas, short(2)),
    "dpmpp3m": Pair("dpmpp", DPMSolverMultistepScheduler, data_dpm(3), VP, read_sigmas, short(3)),
    "dpmpp2m-karras": Pair("dpmpp", DPMSolverMultistepScheduler, data_dpm(2, use_karras_sigmas=True, solver_type="heun"),
                           VP, read_sigmas, short(2, variant="heun")),
    "dpm3m": Pair("dpmpp", DPMSolverMultistepScheduler, noise_dpm(3), VP, read_sigmas, short(3, prediction="noise")),
    "edm-dpmpp2m": Pair("dpmpp", EDMDPMSolverMultistepScheduler, {"sigma_min": LOWEST, "sigma_max": HIGHEST}, EDM,
                        read_sigmas, short(2)),
    "unipc2": Pair("unipc", UniPCMultistepScheduler, {"solver_order": 2}, VP, read_sigmas,
                   lambda nfe: {"order": 2, "lower_order_final": True}),
    "unipc3-bh1": Pair("unipc", UniPCMultistepScheduler,
                       {"solver_order": 3, "solver_type": "bh1", "predict_x0": False, "final_sigmas_type": "sigma_min"},
                       VP, read_sigmas,
                       lambda nfe: {"order": 3, "variant": "bh1", "prediction": "noise", "lower_order_final": True}),
    "deis2": Pair("deis", DEISMultistepScheduler, {"solver_order": 2}, VP, read_sigmas, short(2, clock="lambda")),
    "deis3": Pair("deis", DEISMultistepScheduler, {"solver_order": 3}, VP, read_sigmas, short(3, clock="lambda")),
    "lms": Pair("ipndm_v", LMSOfOrder, {}, VE, read_sigmas),
    "pndm": Pair("pndm", PNDMScheduler, {"skip_prk_steps": True, "steps_offset": 1}, VP, read_pndm),
    "ipndm": Pair("ipndm", IPNDMScheduler, {}, VELOCITY, read_ipndm),
}  # fmt: skip


@pytest.fixture(scope="module")
def plane():
    """The mixture of conftest.py in float32."""
    means = torch.tensor([[-1.0, 0.3], [0.8, -0.5], [0.1, 0.9]])
    return MixtureDenoiser(means, torch.tensor([0.5, 0.3, 0.2]), std=0.3, s_min=LOWEST, s_max=HIGHEST)


def make_scheduler(pair, steps):
    if pair.cls is IPNDMScheduler:  # its own table starts at s = infinity
        levels = uneven(steps)
        scheduler = pair.cls(trained_betas=(levels * alpha(levels)).tolist())
    elif pair.cls is EDMDPMSolverMultistepScheduler:
        scheduler = pair.cls(**pair.config)
    else:
        scheduler = pair.cls(**STABLE_DIFFUSION, **pair.config)
    scheduler.set_timesteps(steps)
    if pair.cls is DEISMultistepScheduler:  # in float32 its coefficients, differences of large numbers, are off by 1e-5
        scheduler.sigmas = scheduler.sigmas.double()
    return scheduler


def assert_same_samples(pair, steps, model, count):
    scheduler = make_scheduler(pair, steps)
    levels, conditioning = pair.read(scheduler)
    y = torch.randn(count, *model.shape, generator=torch.Generator().manual_seed(steps)) * levels[0].item()
    tableau = s4s.solver(pair.kind, levels, **pair.options(len(conditioning)))
    assert torch.equal(tableau.eval_levels, conditioning)
    with torch.inference_mode():
        theirs = states(scheduler, pair.convention, y, conditioning.tolist(), levels[-1].item(), model)[-1]
    ours = s4s.sample(model, y, tableau)
    error = (ours - theirs).abs().max() / ours.abs().max()
    assert theirs.dtype == torch.float32
    assert error < 1e-5, f"{error:.2g}"


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("pair", PAIRS)
def test_samples(pair, steps, plane):
    assert_same_samples(PAIRS[pair], steps, plane, count=64)


@pytest.mark.parametrize("pair", ["ddim", "heun", "dpmpp2s", "dpmpp2m", "dpmpp3m", "unipc2", "deis3", "pndm"])
def test_samples_of_digits(pair, digits):
    assert_same_samples(PAIRS[pair], 7, digits, count=4)
