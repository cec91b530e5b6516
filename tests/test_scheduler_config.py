"""What is read of schedulers' configs, held against diffusers' own schedulers."""

import importlib
import math
import sys
import types

import pytest
import torch

from s4s import S4SError
from s4s.export.coordinates import of_noise
from s4s.models.pipelines.scheduler_config import noise_of

import diffusers  # isort: skip

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]

V_ZERO = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def noise_like(own):
    return noise_of({**own.config, "_class_name": type(own).__name__})


@pytest.mark.parametrize("betas", [SD, {}, {"beta_schedule": "squaredcos_cap_v2"}], ids=["scaled", "linear", "cosine"])
@pytest.mark.parametrize(
    ("theirs", "options"),
    [
        ("DDIMScheduler", V_ZERO),
        ("DDPMScheduler", V_ZERO),
        ("EulerDiscreteScheduler", V_ZERO),
        ("DPMSolverMultistepScheduler", V_ZERO),
        ("UniPCMultistepScheduler", V_ZERO),
        ("CogVideoXDDIMScheduler", V_ZERO),
        ("CogVideoXDPMScheduler", {"prediction_type": "v_prediction"}),
        ("CogVideoXDDIMScheduler", {**V_ZERO, "snr_shift_scale": 1.0}),
        ("DDIMScheduler", {}),
    ],
)
def test_the_table_is_that_of_diffusers(theirs, options, betas):
    own = getattr(diffusers, theirs)(**{**betas, **options})
    noise = noise_like(own)
    times = torch.arange(0, 999)
    table = own.alphas_cumprod.double()
    level = noise.path.s_of_t(times.double())
    assert torch.allclose(1 / (1 + level**2).sqrt(), table[:999].sqrt(), rtol=1e-3, atol=2e-6)  # theirs is of float32
    last = float(own.alphas_cumprod[-1])
    if options.get("rescale_betas_zero_snr") and betas is SD:
        assert last in (0, 2**-24)
        lowest = min(2**-24, float(table[998]) / 2)  # CogVideoX's shift leaves less than that before the last
        assert noise.s_max == pytest.approx(lowest**-0.5, rel=1e-2)
    assert noise.s_min == pytest.approx(float(((1 - table[0]) / table[0]).sqrt()), rel=5e-3)
    assert (noise.kind, noise.times, noise.prediction) == ("vp", 1, own.config.prediction_type)


def test_a_table_that_ends_in_noise_alone_is_cut_there():
    """Whatever makes it end there."""
    betas = torch.cat([torch.linspace(0.1, 0.5, 9), torch.ones(1)]).tolist()
    noise = noise_of({"_class_name": "DDIMScheduler", "trained_betas": betas, "prediction_type": "v_prediction"})
    assert noise.s_max == pytest.approx(4096, rel=1e-6) and noise.path.times == 10


def test_what_predicts_noise_cannot_end_in_noise_alone():
    with pytest.raises(S4SError, match=r"^prediction_type epsilon with rescale_betas_zero_snr is not supported: .*; set pred"):
        noise_of({"_class_name": "EulerDiscreteScheduler", **SD, "rescale_betas_zero_snr": True})
    noise_of({"_class_name": "EulerDiscreteScheduler", **SD, "rescale_betas_zero_snr": True, "prediction_type": "sample"})


def ddim(noise, y, s, after, network):
    """One step in our coordinates, with the network's output for what it is fed; and what it was told."""
    factors = of_noise(noise).factors(s)
    x = factors.scale * y
    denoised = factors.of_input * x + factors.of_output * network(x, factors.time)
    return after / s * y + (1 - after / s) * denoised, factors.time


def smooth(x, time):
    return torch.tanh(1.5 * x) * math.cos(float(time)) + 0.1


@pytest.mark.parametrize(
    "own",
    [
        diffusers.EulerDiscreteScheduler(
            **SD, prediction_type="v_prediction", timestep_type="continuous", sigma_min=0.002, sigma_max=700.0,
            use_karras_sigmas=True,
        ),
        diffusers.EulerDiscreteScheduler(**SD, **V_ZERO, timestep_spacing="trailing"),
        diffusers.EDMEulerScheduler(),
        diffusers.EDMEulerScheduler(prediction_type="v_prediction"),
        diffusers.EDMEulerScheduler(prediction_type="v_prediction", sigma_data=1.0),
    ],
    ids=["video", "zero snr", "edm", "edm of v", "edm of v with unit data"],
)  # fmt: skip
def test_a_step_is_that_of_eulers_schedulers(own):
    noise = noise_like(own)
    own.set_timesteps(6)
    y = float(own.sigmas[0]) * torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    for n, t in enumerate(own.timesteps):
        s, after = own.sigmas[n : n + 2].tolist()
        fed = own.scale_model_input(y, t)
        found, time = ddim(noise, y, s, after, smooth)
        assert time == pytest.approx(float(t), rel=1e-4, abs=1e-3)
        y = own.step(smooth(fed, time), t, y, return_dict=False)[0]
        assert torch.allclose(y, found, rtol=1e-4, atol=1e-4 * max(s, 1e-2))
    if own.config.get("sigma_max"):
        assert (noise.s_min, noise.s_max) == (own.config.sigma_min, own.config.sigma_max)


def test_a_step_of_mochi_is_that_of_its_scheduler():
    own = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    noise = noise_like(own)
    own.set_timesteps(sigmas=[0.99, 0.8, 0.5, 0.1])
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    alpha = noise.path.alpha_of_s
    for n, t in enumerate(own.timesteps):
        s, after = ((1 - data) / data for data in own.sigmas[n : n + 2].double())
        found, time = ddim(noise, x / alpha(s), float(s), float(after), lambda x, time: smooth(x, time / 1000))
        assert time == pytest.approx(float(t), rel=1e-4)
        x = own.step(smooth(x, time / 1000), t, x, return_dict=False)[0]
        assert torch.allclose(x.double(), (found * alpha(after)).double(), atol=1e-5)


def test_a_step_of_dance_diffusion_is_that_of_its_scheduler():
    """Its first, which is DDIM's."""
    own = diffusers.IPNDMScheduler()
    noise = noise_like(own)
    own.set_timesteps(5)
    own.set_begin_index(2)
    alpha, sigma = own.alphas.double(), own.betas.double()
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    s, after = (sigma / alpha)[2:4].tolist()
    found, time = ddim(noise, x / alpha[2], s, after, smooth)
    assert time == pytest.approx(float(own.timesteps[2]), rel=1e-5)
    theirs = own.step(smooth(x, time), own.timesteps[2], x).prev_sample
    assert torch.allclose(theirs.double(), (found * alpha[3]).double(), atol=1e-5)


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_stable_audio_is_its_schedulers(prediction, monkeypatch):
    """Whose random numbers come from torchsde, which is not needed here."""
    monkeypatch.setitem(sys.modules, "torchsde", types.ModuleType("torchsde"))
    module = importlib.import_module("diffusers.schedulers.scheduling_cosine_dpmsolver_multistep")
    own = module.CosineDPMSolverMultistepScheduler(prediction_type=prediction)
    noise = noise_like(own)
    assert (noise.kind, noise.s_min, noise.s_max) == ("cosine", 0.3, 500)
    y, output = torch.randn(2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for s in (0.3, 1.0, 7.0, 500.0):
        sigma, factors = torch.tensor(s, dtype=torch.float64), of_noise(noise).factors(s)
        assert torch.allclose(own.precondition_inputs(y, sigma), factors.scale * y)
        assert float(own.precondition_noise(sigma)) == pytest.approx(factors.time, rel=1e-9)
        ours = factors.of_input * factors.scale * y + factors.of_output * output
        assert torch.allclose(own.precondition_outputs(y, output, sigma), ours)
    with pytest.raises(S4SError, match=r"with sigma_data 0\.5 is not supported; 1 is"):
        noise_of({**own.config, "sigma_data": 0.5, "_class_name": "CosineDPMSolverMultistepScheduler"})


# Which of diffusers' schedulers are understood, with their defaults; docs/pipelines.md has the same in words
KINDS = {
    "vp": "CogVideoXDDIM CogVideoXDPM DDIMInverse DDIMParallel DDIM DDPMParallel DDPM DEISMultistep DPMSolverMultistepInverse "
    "DPMSolverMultistep DPMSolverSinglestep EulerAncestralDiscrete EulerDiscrete HeunDiscrete KDPM2AncestralDiscrete "
    "KDPM2Discrete LMSDiscrete PNDM RePaint SASolver UnCLIP UniPCMultistep",
    "flow": "FlowMatchEulerDiscrete FlowMatchHeunDiscrete LTXEulerAncestralRF",
    "edm": "EDMDPMSolverMultistep EDMEuler",
    "cosine": "CosineDPMSolverMultistep IPNDM",
    "distilled": "CMStochasticIterative FlowMapEulerDiscrete FlowMatchLCM HeliosDMD LCM Piflow SCM TCD",
    "no ODE": "Amused BlockRefinement DiscreteDDIM EntropyBound VQDiffusion",
    "no path": "DDPMWuerstchen KarrasVe MiniMaxH3 RFD4Proteina ScoreSdeVe",
    "stages": "Helios",
}
REFUSED = {
    "distilled": "distilled to jump to the data .*; take the model that it was distilled from",
    "no ODE": "works on discrete tokens, .*; no solver here fits it",
    "no path": "no betas; take one that has some",
    "stages": "in stages of rising resolution",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_scheduler_is_understood_or_refused_in_a_line(kind):
    for name in KINDS[kind].split():
        config = {"_class_name": f"{name}Scheduler"}
        if kind not in REFUSED:
            assert noise_of(config).kind == kind
            continue
        with pytest.raises(S4SError, match=REFUSED[kind]) as error:
            noise_of(config)
        assert len(str(error.value).splitlines()) == 1 and name in str(error.value)


def test_no_scheduler_of_diffusers_was_forgotten():
    known = {f"{name}Scheduler" for names in KINDS.values() for name in names.split()}
    kinds = [value for name in dir(diffusers) if isinstance(value := getattr(diffusers, name, None), type)]
    classes = {kind.__name__ for kind in kinds if issubclass(kind, diffusers.SchedulerMixin)}
    assert classes - {"SchedulerMixin"} <= known | {"DPMSolverSDEScheduler"}
