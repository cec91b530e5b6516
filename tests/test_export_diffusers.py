"""S4SScheduler in diffusers' own pipelines: their samples are those of `s4s.sample` from the same noise."""

import copy
import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, wraps
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

import s4s
from s4s import S4SError, Tableau
from s4s.export import S4SScheduler
from s4s.export.collection import restarted
from s4s.learning.families import make_family
from s4s.models.denoiser import Denoiser
from s4s.models.edm.denoiser import EDMDenoiser, EDMPreconditioning
from s4s.models.paths import FlowMatching
from s4s.models.pipelines.scheduler_config import noise_of
from s4s.models.predicting import PredictingDenoiser
from s4s.models.provenance import made_for
from s4s.models.seeds import sample_seeds
from tests.builders import by_hand
from tests.builders import pipelines as builder
from tests.builders.weights import fill

import diffusers  # isort: skip

# diffusers reads tensors in NumPy's old way, and announces what it means to drop
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]

NFE = 5
TOLERANCE = 1e-5  # largest difference over largest value; in float64 it is 2e-6 below


class Case(NamedTuple):
    """A model of ours and diffusers' pipeline of the same network.

    Attributes:
        call: runs the pipeline, (number of steps, unit noise, options), and returns what it returns.
        scales: whether the pipeline multiplies its noise by init_noise_sigma.
        clean: what the pipeline returns, of the last state.
        own: the scheduler that the pipeline had.
    """

    model: Denoiser
    condition: Tensor | None
    pipe: Any
    network: nn.Module
    call: Callable[..., Tensor]
    scales: bool
    clean: Callable[[Tensor], Tensor]
    own: Any


class Raw(nn.Module):
    """A network called as network(x, time)."""

    def __init__(self):
        super().__init__()
        self.unet = builder.pixel_unet()

    def forward(self, sample, time):
        return self.unet(sample, time).sample


class Loop:
    """The loop of diffusers' own examples for a network without a pipeline, with guidance where there are labels."""

    def __init__(self, network, scheduler, labels=None, null=None, guidance=1.0):
        self.network, self.scheduler, self.labels, self.null, self.guidance = network, scheduler, labels, null, guidance

    @torch.no_grad()
    def __call__(self, num_inference_steps, latents):
        self.scheduler.set_timesteps(num_inference_steps)
        sample = latents * self.scheduler.init_noise_sigma
        for t in self.scheduler.timesteps:
            output = self._predict(self.scheduler.scale_model_input(sample, t), t)
            sample = self.scheduler.step(output, t, sample).prev_sample
        return sample

    def _predict(self, fed, t):
        if self.labels is None:
            return self.network(fed, t.expand(len(fed)))
        labels = torch.cat([self.null, self.labels])
        null, own = self.network(fed.repeat(2, 1, 1, 1), t.expand(len(labels)), class_labels=labels).sample.chunk(2)
        return null + self.guidance * (own - null)


def unit_noise(model, count=2):
    """What pipelines that draw their own noise draw with this seed."""
    return torch.randn(count, *model.shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Makes the case of a kind once."""
    folder = tmp_path_factory.mktemp("export")

    def load(values):
        path = folder / f"{values['name']}.yaml"
        path.write_text(yaml.safe_dump(values))
        return s4s.load_model(path)

    @cache
    def make(kind):
        return CASES[kind](folder / kind / "folder", load)

    yield make


def of_text(kind, scales, network, **options):
    """One of the pipelines with prompts, guidance and latents."""

    def make(folder, load):
        builder.write(kind, folder)
        pipe = quiet(diffusers.DiffusionPipeline.from_pretrained(folder))
        model = by_hand.denoiser(pipe, builder.CAPTIONS, guidance=7.5, name=kind)

        def call(steps, noise, **more):
            given = {"guidance_scale": 7.5, "latents": noise, "output_type": "latent", **options, **more}
            return pipe(builder.CAPTIONS[: len(noise)], num_inference_steps=steps, **given).images

        condition = torch.arange(2)
        return Case(model, condition, pipe, getattr(pipe, network), call, scales, lambda y: y, pipe.scheduler)

    return make


def ddpm(folder, load):
    values = builder.write("pixel_pipeline", folder)
    model, pipe = load(values), quiet(diffusers.DDPMPipeline.from_pretrained(values["path"]))

    def call(steps, noise):
        return pipe(len(noise), torch.Generator().manual_seed(0), num_inference_steps=steps, output_type="pt").images

    return Case(model, None, pipe, pipe.unet, call, False, lambda y: (y / 2 + 0.5).clamp(0, 1), pipe.scheduler)


def class_transformer(folder, load):
    """DiT, whose pipeline takes 1000 for the class that stands for none; half of its output is a variance."""
    network = builder.dit(num_embeds_ada_norm=1000, in_channels=4, out_channels=8)
    pipe = quiet(diffusers.DiTPipeline(network, builder.autoencoder(), builder.scheduler()))
    pipe.save_pretrained(folder)
    model = load({"name": "dit", "kind": "diffusers", "path": str(folder), "classes": 1000, "guidance": 4.0})
    labels = model.conditions(sample_seeds("test", 2))

    def call(steps, noise):
        options = {"generator": torch.Generator().manual_seed(0), "num_inference_steps": steps, "output_type": "pt"}
        return pipe(labels.tolist(), guidance_scale=4.0, **options).images

    return Case(model, labels, pipe, pipe.transformer, call, False, lambda y: model.decode(y) / 2 + 0.5, pipe.scheduler)


def sample_prediction(folder, load):
    values, network = builder.write("flow_transformer", folder), builder.dit()
    scheduler = builder.scheduler("DDIMScheduler", prediction_type="sample")
    scheduler.save_pretrained(folder / "scheduler")
    model = load({**values, "guidance": 1.5})
    labels = model.conditions(sample_seeds("test", 2))
    loop = Loop(network, scheduler, labels, torch.full_like(labels, 4), model.guidance)
    return Case(model, labels, loop, network, loop, True, lambda y: y, scheduler)


def edm(folder, load):
    network = Raw()
    model = EDMDenoiser(
        network, EDMPreconditioning(0.5), name="edm", shape=(3, 8, 8), s_min=0.002, s_max=80.0
    )  # fmt: skip
    scheduler = diffusers.EDMEulerScheduler()
    loop = Loop(network, scheduler)
    return Case(model, None, loop, network, loop, True, lambda y: y, scheduler)


def flux(folder, load):
    """Packed latents [B, tokens, channels], evenly spaced sigmas and a shift that nobody asked for."""
    tokenizer_2, text_encoder_2 = builder.t5()
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=40, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    pipe = quiet(diffusers.FluxPipeline(
        builder.scheduler("FlowMatchEulerDiscreteScheduler", shift=3.0, use_dynamic_shifting=True), builder.autoencoder(),
        builder.clip(), builder.tokenizer(), text_encoder_2, tokenizer_2, fill(transformer),
    ))  # fmt: skip
    with torch.no_grad():
        text, pooled, text_ids = pipe.encode_prompt(builder.CAPTIONS[:2], None, max_sequence_length=12)
    image_ids = pipe._prepare_latent_image_ids(2, 4, 4, torch.device("cpu"), torch.float32)

    def network(x, t):
        own = {"encoder_hidden_states": text, "pooled_projections": pooled, "txt_ids": text_ids, "img_ids": image_ids}
        return transformer(x, timestep=t / 1000, return_dict=False, **own)[0]  # which it multiplies by 1000

    model = PredictingDenoiser(
        network, FlowMatching(), "flow", name="flux", shape=(16, 16), s_min=0.002, s_max=999.0, times=1000,
        device=torch.device("cpu"),
    )  # fmt: skip

    def call(steps, noise, **more):
        given = {"latents": noise, "height": 16, "width": 16, "max_sequence_length": 12, "output_type": "latent", **more}
        return pipe(builder.CAPTIONS[:2], num_inference_steps=steps, **given).images

    return Case(model, None, pipe, transformer, call, False, lambda y: y, pipe.scheduler)


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


CASES = {
    "stable_diffusion": of_text("stable_diffusion", True, "unet"),
    "stable_diffusion_xl": of_text("stable_diffusion_xl", True, "unet"),
    "stable_diffusion_3": of_text("stable_diffusion_3", False, "transformer"),
    "pixart_sigma": of_text("pixart_sigma", True, "transformer", use_resolution_binning=False, clean_caption=False),
    "ddpm": ddpm,
    "dit": class_transformer,
    "sample_prediction": sample_prediction,
    "edm": edm,
    "flux": flux,
}


def levels(model, nfe=NFE, **options):
    return s4s.levels("logsnr", nfe, model, **options)


def conditioned(tableau):
    """Told levels other than the schedule's, the first one too."""
    factors = torch.linspace(0.9, 1.1, tableau.nfe, dtype=torch.float64)
    return replace(tableau, eval_levels=tableau.eval_levels * factors)


def learned_pc(model):
    base = s4s.solver("unipc", levels(model), order=3)
    family = make_family("pc", base, order=3)
    theta = 0.1 * torch.randn(family.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tableau = family.tableau(levels(model), theta)
    assert not tableau.same_as(base, 1e-2)
    return tableau


TABLEAUX: dict[str, Callable[[Denoiser], Tableau]] = {
    "dpmpp": lambda model: s4s.solver("dpmpp", levels(model), order=3),
    "unipc": lambda model: s4s.solver("unipc", levels(model), order=3),
    "heun": lambda model: s4s.solver("heun", levels(model, 6)),
    "ipndm": lambda model: s4s.solver("ipndm", levels(model), order=4),
    "conditioning": lambda model: conditioned(s4s.solver("unipc", levels(model), order=3)),
    "kappa": lambda model: replace(conditioned(s4s.solver("dpmpp", levels(model), order=2)), kappa=0.8),
    "analytic": lambda model: s4s.solver("dpmpp", levels(model, 6), order=2, analytic_first_step=True),
    "pc": learned_pc,
    "pc_conditioning": lambda model: replace(conditioned(learned_pc(model)), kappa=1.1),
    "to_zero": lambda model: s4s.solver("dpmpp", levels(model, to_zero=True), order=3, lower_order_final=True),
    "one": lambda model: s4s.solver("ddim", levels(model, 1)),
}


def made(name, model):
    """A tableau that says what it was made for."""
    return TABLEAUX[name](model).with_meta(**made_for(model))


def first_scale(model, tableau):
    """The factor on y_0 in the first input, by the formulas of the path."""
    s = tableau.eval_levels[0]
    if isinstance(model, EDMDenoiser):
        return float((s**2 + 0.25).rsqrt()) * tableau.kappa
    return float(model.path.alpha_of_s(s)) * tableau.kappa


class Ran(NamedTuple):
    last: Tensor
    returned: Any
    calls: int


def run(case, scheduler, noise, **options):
    """Run a case's pipeline; the state after its last step, what it returned, and how often its network was called."""
    states, calls = [], []
    step = scheduler.step

    @wraps(step)
    def kept(*args, **kwargs):
        result = step(*args, **kwargs)
        states.append(result[0] if isinstance(result, tuple) else result.prev_sample)
        return result

    steps = options.pop("steps", scheduler.available_steps[0])
    counter = case.network.register_forward_hook(lambda *_: calls.append(1))
    case.pipe.scheduler, scheduler.step = scheduler, kept
    try:
        returned = case.call(steps, noise, **options)
    finally:
        counter.remove()
        del scheduler.step
        case.pipe.scheduler = case.own
    last = states[-1][: len(noise)]  # DiTPipeline carries two copies of each state
    return Ran(last, returned, len(calls))


def reference(case, tableau, noise, unit_start=False):
    """`s4s.sample`; with `unit_start` from the state whose first input is the noise itself."""
    y_T = noise / first_scale(case.model, tableau) if unit_start else noise * tableau.levels[0].float()
    return s4s.sample(case.model, y_T, tableau, case.condition)


def difference(found, expected):
    assert found.shape == expected.shape and found.isfinite().all()
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


def scheduler_for(case, *tableaux):
    return S4SScheduler.from_tableau(tableaux, case.own)


@pytest.mark.parametrize("kind", CASES)
def test_a_pipeline_gives_what_sample_gives(case, kind):
    case = case(kind)
    tableau, noise = made("unipc", case.model), unit_noise(case.model)
    ran = run(case, scheduler_for(case, tableau), noise)
    expected = reference(case, tableau, noise, unit_start=not case.scales)
    assert difference(ran.last, expected) < TOLERANCE
    assert difference(ran.returned, case.clean(expected)) < TOLERANCE
    assert ran.calls == NFE


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3", "edm"])
@pytest.mark.parametrize("name", TABLEAUX)
def test_every_tableau_gives_what_sample_gives(case, kind, name):
    case = case(kind)
    tableau, noise = made(name, case.model), unit_noise(case.model)
    scheduler = scheduler_for(case, tableau)
    handle = None if case.scales else scheduler.attach(case.network)
    ran = run(case, scheduler, noise)
    if handle is not None:
        handle.remove()
    assert difference(ran.last, reference(case, tableau, noise)) < TOLERANCE
    assert ran.calls == tableau.nfe


SMOOTH = {
    **dict.fromkeys(["epsilon", "v_prediction", "sample"], ("stable_diffusion", "vp")),
    **dict.fromkeys(["flow_prediction", "flow sample"], ("stable_diffusion_3", "flow")),
    "edm": ("edm", "edm"),
}


def smooth_network(x, t, **_):
    """So smooth in the time that its rounding to float32 does not show."""
    return torch.tanh(1.5 * x) * torch.cos(t.double() / 1000).reshape(-1, *[1] * (x.ndim - 1)) + 0.1


@pytest.mark.parametrize("name", TABLEAUX)
@pytest.mark.parametrize("prediction", SMOOTH)
def test_in_float64_a_loop_is_exact(case, prediction, name):
    """For every prediction and tableau; states keep float64."""
    kind, path_type = SMOOTH[prediction]
    theirs, word = case(kind).model, prediction.split()[-1]
    if path_type == "edm":
        model = EDMDenoiser(theirs.network, EDMPreconditioning(0.5), name="x", shape=(4, 8, 8), s_min=0.002, s_max=80.0)
        model.network = smooth_network
    else:
        unit = 1000 if path_type == "flow" else 1
        model = PredictingDenoiser(
            smooth_network, theirs.path, word.replace("flow_prediction", "flow"), name="x", shape=(4, 8, 8),
            s_min=theirs.s_min, s_max=theirs.s_max, times=unit, device=theirs.device, weights=torch.float64,
        )  # fmt: skip
    model.dtype = torch.float64
    tableau, noise = made(name, model), unit_noise(model).double()
    options = {} if path_type == "edm" else {"prediction_type": word}
    scheduler = S4SScheduler.from_tableau(tableau, case(kind).own, **options)
    found = Loop(smooth_network, scheduler)(tableau.nfe, noise)
    assert found.dtype == torch.float64
    assert difference(found, s4s.sample(model, noise * tableau.levels[0], tableau)) < 2e-6


def cosine_config(**settings):
    """Its class needs torchsde."""
    values = {"sigma_min": 0.3, "sigma_max": 500.0, "sigma_data": 1.0, "prediction_type": "v_prediction", **settings}
    return {"_class_name": "CosineDPMSolverMultistepScheduler", **values}


VIDEO = {"prediction_type": "v_prediction", "timestep_type": "continuous", "sigma_min": 0.002, "sigma_max": 700.0}
SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ZERO_SNR = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
OTHER_PATHS: dict[str, Callable[[], Any]] = {
    "zero snr": lambda: diffusers.EulerDiscreteScheduler(**SD_BETAS, **ZERO_SNR),
    "shifted": lambda: diffusers.CogVideoXDDIMScheduler(**ZERO_SNR),
    "video": lambda: diffusers.EulerDiscreteScheduler(**VIDEO),
    "audio": cosine_config,
    "audio of noise": lambda: cosine_config(prediction_type="epsilon"),
    "dance": lambda: diffusers.IPNDMScheduler(),
    "inverted": lambda: diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
    "edm": lambda: diffusers.EDMEulerScheduler(),
    "edm of v": lambda: diffusers.EDMEulerScheduler(prediction_type="v_prediction"),
}


def named(like):
    return dict(like) if isinstance(like, dict) else {**like.config, "_class_name": type(like).__name__}


def predicting(like):
    """A denoiser of the smooth network, as a scheduler's config says."""
    noise = noise_of(named(like))
    model = PredictingDenoiser(
        smooth_network, noise.path, noise.prediction, name="x", shape=(4, 8, 8), s_min=noise.s_min, s_max=noise.s_max,
        times=noise.times, device=torch.device("cpu"), weights=torch.float64,
    )  # fmt: skip
    model.dtype = torch.float64
    return model


@pytest.mark.parametrize("name", ["dpmpp", "unipc", "conditioning", "kappa", "pc", "to_zero", "one"])
@pytest.mark.parametrize("kind", OTHER_PATHS)
def test_denoiser_and_scheduler_agree_on_what_a_config_says(kind, name):
    """In float64, also where the scheduler is saved and read again, or knows the network from the tableau alone."""
    like = OTHER_PATHS[kind]()
    model = predicting(like)
    tableau = TABLEAUX[name](model)
    if kind in ("zero snr", "shifted", "video", "audio") and name in ("conditioning", "kappa", "pc"):
        tableau = replace(tableau, eval_levels=tableau.eval_levels.clamp(model.s_min, model.s_max))
    tableau = tableau.with_meta(**made_for(model))
    noise = unit_noise(model).double()
    expected = s4s.sample(model, noise * tableau.levels[0], tableau)
    scheduler = S4SScheduler.from_tableau(tableau, like)
    assert scheduler.coordinates.parametrisation == model.parametrisation
    ways = [scheduler, S4SScheduler.from_config(dict(scheduler.config)), S4SScheduler.from_tableau(tableau)]
    for way in ways:
        found = Loop(smooth_network, way)(tableau.nfe, noise)
        assert found.dtype == torch.float64
        assert difference(found, expected) < 2e-6


@pytest.mark.parametrize("kind", ["zero snr", "shifted", "video", "inverted", "edm of v"])
def test_schedulers_of_other_paths_get_their_settings_back(kind):
    own = OTHER_PATHS[kind]()
    back = type(own).from_config(S4SScheduler.from_tableau(TABLEAUX["dpmpp"](predicting(own)), own).config)
    assert {key: value for key, value in back.config.items() if key in own.config and key[0] != "_"} == {
        key: value for key, value in own.config.items() if key[0] != "_"
    }


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_levels_that_a_network_does_not_know_are_refused(kind):
    like = OTHER_PATHS[kind]()
    tableau = s4s.solver("ddim", torch.tensor([2000.0, 1.0]))
    with pytest.raises(S4SError, match=r"runs over noise levels 2000 to 1, but .* covers (700 to 0.002|500 to 0.3) only"):
        S4SScheduler.from_tableau(tableau, like)


def test_mochi_gives_its_own_sigmas_unasked():
    from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

    own = OTHER_PATHS["inverted"]()
    scheduler = S4SScheduler.from_tableau([s4s.solver("ddim", levels(predicting(own), nfe)) for nfe in (2, 5, 8)], own)
    for nfe in (2, 5, 8):
        scheduler.set_timesteps(sigmas=np.array(linear_quadratic_schedule(nfe, 0.025)))
        assert len(scheduler.timesteps) == nfe
    assert scheduler.timesteps.tolist() == sorted(scheduler.timesteps.tolist())  # the time of data
    clean, noise = torch.randn(2, 2, 4, 8, 8)
    assert torch.equal(scheduler.scale_noise(clean, torch.tensor([0.0]), noise), noise)
    with pytest.raises(S4SError, match="sigmas must be the solver's own"):
        scheduler.set_timesteps(sigmas=[0.9, 0.1])


# Saved and read again


def settings(scheduler):
    return {name: value for name, value in scheduler.config.items() if name != "_use_default_values"}


def ran_twice(case, first, second):
    noise = unit_noise(case.model)
    for scheduler in (first, second):
        scheduler.set_timesteps(NFE)
    assert torch.equal(first.timesteps, second.timesteps) and torch.equal(first.sigmas, second.sigmas)
    return torch.equal(run(case, first, noise, steps=NFE).last, run(case, second, noise, steps=NFE).last)


@pytest.mark.parametrize("kind", ["stable_diffusion", "ddpm", "stable_diffusion_3", "edm"])
def test_a_scheduler_is_kept_bit_for_bit(case, kind, tmp_path):
    case = case(kind)
    scheduler = scheduler_for(case, made("unipc", case.model), made("heun", case.model))
    scheduler.save_pretrained(tmp_path)
    for again in (S4SScheduler.from_pretrained(tmp_path), S4SScheduler.from_config(scheduler.config)):
        assert again.available_steps == [5, 6] and settings(again) == settings(scheduler)
        assert ran_twice(case, scheduler, again)


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3", "ddpm"])
def test_a_saved_pipeline_keeps_its_solver(case, kind, tmp_path):
    case = case(kind)
    scheduler = scheduler_for(case, made("unipc", case.model))
    case.pipe.scheduler = scheduler
    case.pipe.save_pretrained(tmp_path)
    case.pipe.scheduler = case.own
    again = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    assert type(again) is type(case.pipe) and type(again.scheduler) is S4SScheduler
    assert ran_twice(case, scheduler, again.scheduler)


@pytest.mark.suite
def test_a_saved_pipeline_loads_in_another_program(case, tmp_path):
    """Which has imported s4s: diffusers loads no class of a module that is not."""
    case = case("ddpm")
    case.pipe.scheduler = scheduler_for(case, made("unipc", case.model))
    case.pipe.save_pretrained(tmp_path)
    case.pipe.scheduler = case.own
    program = (
        "import s4s, diffusers\n"
        f"pipe = diffusers.DiffusionPipeline.from_pretrained({str(tmp_path)!r})\nprint(pipe.scheduler.available_steps)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[5]\n", done.stderr


@pytest.mark.parametrize("attached", [False, True])
def test_a_scheduler_can_be_sent_to_another_process(case, attached):
    """Where it is attached to nothing."""
    case = case("stable_diffusion")
    scheduler = scheduler_for(case, made("kappa" if attached else "unipc", case.model))
    handle = scheduler.attach(case.network) if attached else None
    copies = pickle.loads(pickle.dumps(scheduler)), copy.deepcopy(scheduler)
    if handle is not None:
        assert copies[0].init_noise_sigma != scheduler.init_noise_sigma == copies[1].init_noise_sigma == 1
        handle.remove()
    for again in copies:
        assert ran_twice(case, scheduler, again)


@pytest.mark.parametrize("theirs", ["HeunDiscrete", "KDPM2Discrete", "UnCLIP", "PNDM"])
def test_what_a_scheduler_leaves_to_its_defaults_is_taken_over(theirs):
    own = getattr(diffusers, f"{theirs}Scheduler")()
    for config in (own.config, {"_class_name": type(own).__name__}):
        coordinates = S4SScheduler.from_tableau(s4s.solver("ddim", torch.tensor([4.0, 1.0])), config).coordinates
        alphas = own.alphas_cumprod.double()
        times = torch.tensor([1.0, 500.0, 999.0]).long()
        expected = ((1 - alphas) / alphas).sqrt()[times].tolist()
        of_clean, of_noise = zip(*(coordinates.at_time(float(time)) for time in times), strict=True)
        assert [noise / clean for clean, noise in zip(of_clean, of_noise, strict=True)] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("stable_diffusion", "DPMSolverMultistepScheduler"),
        ("ddpm", "DDPMScheduler"),
        ("sample_prediction", "DDIMScheduler"),
        ("stable_diffusion_3", "FlowMatchEulerDiscreteScheduler"),
        ("edm", "EDMEulerScheduler"),
    ],
)
def test_other_schedulers_get_their_settings_back(case, kind, other):
    case, cls = case(kind), getattr(diffusers, other)
    scheduler = scheduler_for(case, made("unipc", case.model))
    back, expected = cls.from_config(scheduler.config), cls.from_config(case.own.config)
    for name, value in expected.config.items():
        assert name.startswith("_") or back.config[name] == value, name
    for name in ("betas", "sigmas"):
        if hasattr(expected, name):
            assert torch.equal(getattr(back, name), getattr(expected, name))


@pytest.mark.parametrize("kind", ["stable_diffusion", "pixart_sigma", "ddpm", "stable_diffusion_3", "sample_prediction", "edm"])
def test_what_a_network_is_comes_from_a_scheduler_its_config_or_the_tableau(case, kind):
    case = case(kind)
    tableau = made("unipc", case.model)
    ways = [S4SScheduler.from_tableau(tableau, like) for like in (case.own, case.own.config, dict(case.own.config), None)]
    for way in ways[1:]:
        assert way.coordinates.parametrisation == ways[0].coordinates.parametrisation
        assert ran_twice(case, ways[0], way)


@pytest.mark.parametrize("betas", [("linear", 0.0001, 0.02), ("scaled_linear", 0.0015, 0.0195), ("squaredcos_cap_v2", 0, 0)])
def test_usual_noise_schedules_are_known_from_the_tableau(case, betas):
    own = diffusers.DDPMScheduler(beta_schedule=betas[0], beta_start=betas[1], beta_end=betas[2])
    like = S4SScheduler.from_config(own.config)
    high = min(10.0, like.coordinates.s_max)
    tableau = s4s.solver("ddim", torch.tensor([high, 1.0, 0.1])).with_meta(parametrisation=like.coordinates.parametrisation)
    made_by_meta = S4SScheduler.from_tableau(tableau)
    assert made_by_meta.config.beta_schedule == betas[0]
    made_by_meta.set_timesteps(2)
    like = S4SScheduler.from_tableau(tableau, own)
    like.set_timesteps(2)
    assert torch.allclose(made_by_meta.timesteps, like.timesteps, rtol=1e-6)


def test_a_flow_network_that_predicts_data_is_kept(case):
    """Although FlowMatch schedulers, whose settings it carries on, say nothing of predictions."""
    own = case("stable_diffusion_3").own
    scheduler = S4SScheduler.from_tableau(s4s.solver("ddim", torch.tensor([10.0, 1.0])), own, prediction_type="sample")
    made_directly = S4SScheduler(path_type="flow", prediction_type="sample", use_flow_sigmas=True)
    for config in (scheduler.config, {**scheduler.config, "_class_name": "S4SScheduler"}, made_directly.config):
        assert S4SScheduler.from_config(config).coordinates.parametrisation == scheduler.coordinates.parametrisation


@pytest.mark.parametrize("theirs", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
@pytest.mark.parametrize("prediction", ["flow_prediction", "sample"])
def test_other_schedulers_for_flow_matching_say_what_is_predicted(theirs, prediction):
    own = getattr(diffusers, theirs)(use_flow_sigmas=True, prediction_type=prediction)
    tableau = s4s.solver("ddim", torch.tensor([10.0, 1.0]))
    for like in (own, own.config, {**own.config, "_class_name": theirs}):
        about = S4SScheduler.from_tableau(tableau, like).coordinates.parametrisation
        assert about == {"path": "flow", "prediction": prediction.removesuffix("_prediction")}


def test_settings_may_stand_in_for_what_a_tableau_does_not_say():
    tableau = s4s.solver("ddim", torch.tensor([10.0, 1.0, 0.1]))
    scheduler = S4SScheduler.from_tableau(tableau, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    assert scheduler.coordinates.s_max == pytest.approx(14.6146, abs=1e-3)
    with pytest.raises(S4SError, match=r"says nothing of its network; pass the scheduler that the pipeline has: .*like="):
        S4SScheduler.from_tableau(tableau)


# Several numbers of steps


@pytest.fixture
def files(case, tmp_path):
    """Stable Diffusion's solvers as a run of the workflow leaves them."""
    for nfe in (3, 5, 8):
        tableau = s4s.solver("dpmpp", levels(case("stable_diffusion").model, nfe), order=2)
        tableau.with_meta(**made_for(case("stable_diffusion").model)).save(tmp_path / f"m/solver/nfe~{nfe}.json")
    return tmp_path / "m/solver"


def test_one_scheduler_holds_solvers_for_several_numbers_of_steps(case, files):
    case, noise = case("stable_diffusion"), unit_noise(case("stable_diffusion").model)
    scheduler = S4SScheduler.from_tableau(files, case.own)
    assert scheduler.available_steps == [3, 5, 8]
    for nfe in (5, 3, 8, 3):
        ran = run(case, scheduler, noise, steps=nfe)
        assert difference(ran.last, reference(case, Tableau.load(files / f"nfe~{nfe}.json"), noise)) < TOLERANCE
        assert ran.calls == nfe == scheduler.num_inference_steps == len(scheduler.timesteps)
    with pytest.raises(S4SError, match=r"^no solver for 4 steps; there are solvers for 3, 5 and 8: pass one of"):
        run(case, scheduler, noise, steps=4)
    as_list = S4SScheduler.from_tableau([files / "nfe~3.json", Tableau.load(files / "nfe~8.json")], case.own)
    assert as_list.available_steps == [3, 8]


def test_the_same_run_twice_gives_the_same(case):
    case = case("stable_diffusion")
    scheduler, noise = scheduler_for(case, made("pc", case.model)), unit_noise(case.model)
    assert torch.equal(run(case, scheduler, noise).last, run(case, scheduler, noise).last)


def test_a_run_needs_set_timesteps_and_has_an_end(case):
    case = case("stable_diffusion")
    scheduler, x = scheduler_for(case, made("dpmpp", case.model)), unit_noise(case.model)
    with pytest.raises(S4SError, match=r"^the run is over or has not begun; call set_timesteps"):
        scheduler.step(x, 999, x)
    with pytest.raises(S4SError, match="no solver for 0 steps; there are solvers for 5"):
        scheduler.set_timesteps()
    scheduler.set_timesteps(NFE)
    for t in scheduler.timesteps:
        x = scheduler.step(x, t, x, return_dict=False)[0]
    assert scheduler.step_index == NFE
    with pytest.raises(S4SError, match=r"^the run is over or has not begun; call set_timesteps"):
        scheduler.step(x, scheduler.timesteps[-1], x)
    with pytest.raises(S4SError, match=r"holds no solver; make it with S4SScheduler\.from_tableau"):
        S4SScheduler().set_timesteps(5)


def test_a_solver_may_come_as_its_json_form(case):
    case, tableau = case("stable_diffusion"), made("unipc", case("stable_diffusion").model)
    expected = S4SScheduler.from_tableau(tableau, case.own)
    for form in (tableau.as_json(), json.loads(json.dumps(tableau.as_json())), [tableau.as_json()], {NFE: tableau}):
        assert S4SScheduler.from_tableau(form, case.own).config.tableaux == expected.config.tableaux
    for wrong in (5, None, '{"nfe": 5}', {"nfe": 5}, [None]):
        with pytest.raises(S4SError, match=r"^no tableau given|^tableau: "):
            S4SScheduler.from_tableau(wrong, case.own)
    for wrong in (None, 5, "file", [5], {"nfe": 5}):
        with pytest.raises(S4SError, match=r"^tableaux must be a list of solvers in their JSON form"):
            S4SScheduler(tableaux=wrong)


def in_thread(function, *arguments):
    """What a function gives or raises in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


def steps_of(scheduler, x, times):
    for t in times:
        x = scheduler.step(x, t, x).prev_sample
    return x


SECOND = {"at its first step": 0, "in its middle": 2, "before its last": NFE - 1}


@pytest.mark.parametrize("begun", SECOND.values(), ids=SECOND)
def test_of_two_threads_with_one_scheduler_the_first_is_refused(case, begun):
    """It would go on with the other's states."""
    case = case("stable_diffusion")
    scheduler, x = scheduler_for(case, made("unipc", case.model)), unit_noise(case.model)
    scheduler.set_timesteps(NFE)
    expected = steps_of(scheduler, x, scheduler.timesteps)
    with ThreadPoolExecutor(1) as other:
        other.submit(scheduler.set_timesteps, NFE).result()
        other.submit(steps_of, scheduler, x, scheduler.timesteps[:begun]).result()
        scheduler.set_timesteps(NFE)
        for refused in (
            other.submit(scheduler.step, x, scheduler.timesteps[begun], x),
            other.submit(scheduler.set_begin_index, 1),
        ):
            with pytest.raises(S4SError, match=r"^another thread has begun a run with this scheduler; give each thread"):
                refused.result()
        assert torch.equal(steps_of(scheduler, x, scheduler.timesteps), expected)
        other.submit(scheduler.set_timesteps, NFE).result()  # one after another is right
        assert torch.equal(other.submit(steps_of, scheduler, x, scheduler.timesteps).result(), expected)


def test_threads_that_take_turns_at_one_run_or_have_their_own_are_not_refused(case):
    case = case("stable_diffusion")
    scheduler, x = scheduler_for(case, made("unipc", case.model)), unit_noise(case.model)
    scheduler.set_timesteps(NFE)
    expected = steps_of(scheduler, x, scheduler.timesteps)
    in_thread(scheduler.set_timesteps, NFE)
    turns = x
    for n, t in enumerate(scheduler.timesteps):
        turns = (in_thread(scheduler.step, turns, t, turns) if n % 2 else scheduler.step(turns, t, turns)).prev_sample
    assert torch.equal(turns, expected)
    own = copy.deepcopy(scheduler)
    scheduler.set_timesteps(NFE)
    steps_of(scheduler, x, scheduler.timesteps[:2])
    in_thread(own.set_timesteps, NFE)
    assert torch.equal(in_thread(steps_of, own, x, own.timesteps), expected)
    scheduler.set_timesteps(NFE)  # an abandoned run is no obstacle
    assert torch.equal(steps_of(scheduler, x, scheduler.timesteps), expected)


class Smooth(nn.Module):
    def forward(self, sample, time):
        return smooth_network(sample, time)


@pytest.mark.parametrize(("name", "attached"), [("pc", False), ("kappa", False), ("kappa", True)])
def test_views_that_share_a_scheduler(case, name, attached):
    """StableDiffusionPanoramaPipeline runs several views with one scheduler, whose attributes it copies and puts back."""
    case, smooth_network = case("stable_diffusion"), Smooth()
    scheduler, views = scheduler_for(case, made(name, case.model)), [unit_noise(case.model), unit_noise(case.model) / 2]
    expected = [Loop(smooth_network, scheduler)(NFE, view) for view in views]
    if attached:
        scheduler.attach(smooth_network)
    scheduler.set_timesteps(NFE)
    found, status = [view * scheduler.init_noise_sigma for view in views], [copy.deepcopy(scheduler.__dict__)] * 2
    for t in scheduler.timesteps:
        for n in range(2):
            scheduler.__dict__.update(status[n])
            output = smooth_network(found[n], t.expand(2))
            found[n] = scheduler.step(output, t, found[n]).prev_sample
            status[n] = copy.deepcopy(scheduler.__dict__)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@torch.no_grad()
def test_what_ddim_alone_has_is_refused(case):
    case = case("ddpm")
    tableau, noise = made("unipc", case.model), unit_noise(case.model)
    scheduler = scheduler_for(case, tableau)
    pipe = quiet(diffusers.DDIMPipeline(case.network, case.own))
    pipe.scheduler = scheduler
    arguments = {"num_inference_steps": NFE, "output_type": "np", "batch_size": 2}
    found = torch.from_numpy(pipe(generator=torch.Generator().manual_seed(0), **arguments).images).permute(0, 3, 1, 2)
    expected = case.clean(reference(case, tableau, noise, unit_start=True))
    assert difference(found, expected) < TOLERANCE
    with pytest.raises(S4SError, match="asks its scheduler's step for eta, which a solver"):
        pipe(eta=0.5, **arguments)
    scheduler.set_timesteps(NFE)
    with pytest.raises(S4SError, match="asks its scheduler's step for per_token_timesteps, which"):
        scheduler.step(noise, scheduler.timesteps[0], noise, per_token_timesteps=None)
    with pytest.raises(S4SError, match="counts with noise levels itself"):
        scheduler.scale_model_input(torch.tensor(3.0), scheduler.timesteps[0])


def test_a_refused_set_timesteps_changes_nothing(case):
    case = case("stable_diffusion")
    scheduler, x = scheduler_for(case, made("dpmpp", case.model)), unit_noise(case.model)
    with pytest.raises(S4SError, match="timesteps must be the solver's own"):
        scheduler.set_timesteps(timesteps=[5, 4, 3, 2, 1])
    assert scheduler.num_inference_steps is None
    with pytest.raises(S4SError, match=r"^the run is over or has not begun"):
        scheduler.step(x, 999, x)


# Runs that start from an image


def clean_and_noise(model, seed=0):
    """Clean latents, and the noise that a pipeline draws with this seed."""
    clean = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(7))
    return clean, torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(seed))


IMAGE_TO_IMAGE = {
    "stable_diffusion": "StableDiffusionImg2ImgPipeline",
    "stable_diffusion_xl": "StableDiffusionXLImg2ImgPipeline",
    "stable_diffusion_3": "StableDiffusion3Img2ImgPipeline",
}


def image_to_image(case, kind, scheduler, clean, **options):
    case.pipe.scheduler = scheduler
    try:
        pipe = quiet(getattr(diffusers, IMAGE_TO_IMAGE[kind]).from_pipe(case.pipe))
    finally:
        case.pipe.scheduler = case.own
    pipe.scheduler = scheduler
    given = {"num_inference_steps": NFE, "guidance_scale": 7.5, "generator": torch.Generator().manual_seed(0), **options}
    return pipe(builder.CAPTIONS[:2], image=clean, output_type="latent", **given).images


@pytest.mark.parametrize("name", ["unipc", "conditioning", "kappa", "pc_conditioning", "to_zero"])
@pytest.mark.parametrize("kind", IMAGE_TO_IMAGE)
def test_image_to_image_runs_on_the_levels_that_remain(case, kind, name, caplog):
    """At strength 0.6 three of five steps, from the third conditioning level on."""
    case = case(kind)
    tableau, (clean, noise) = made(name, case.model), clean_and_noise(case.model)
    with caplog.at_level(logging.WARNING, "s4s"):
        found = image_to_image(case, kind, scheduler_for(case, tableau), clean, strength=0.6)
    remaining = torch.cat([tableau.eval_levels[2:], tableau.levels[-1:]])
    y = clean + noise * remaining[0].float()
    assert difference(found, s4s.sample(case.model, y, restarted(remaining), case.condition)) < TOLERANCE
    assert [record.getMessage()[:33] for record in caplog.records if record.name.startswith("s4s")] == [
        "The run begins at step 3 of 5. A "
    ]


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("name", ["unipc", "kappa", "pc_conditioning"])
@pytest.mark.parametrize("kind", IMAGE_TO_IMAGE)
def test_at_full_strength_the_whole_solver_runs(case, kind, name, attached, caplog):
    case = case(kind)
    tableau, (clean, noise) = made(name, case.model), clean_and_noise(case.model)
    scheduler = scheduler_for(case, tableau)
    handle = scheduler.attach(case.network) if attached else None
    with caplog.at_level(logging.WARNING, "s4s"):
        found = image_to_image(case, kind, scheduler, clean, strength=1.0)
    if handle is not None:
        handle.remove()
    y = clean + noise * tableau.levels[0].float()
    assert difference(found, s4s.sample(case.model, y, tableau, case.condition)) < TOLERANCE
    assert not [record for record in caplog.records if record.name.startswith("s4s")]


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_image_to_image_with_packed_latents(case, strength):
    case = case("flux")
    tableau = made("conditioning", case.model)
    pipe = quiet(diffusers.FluxImg2ImgPipeline(**{**case.pipe.components, "scheduler": scheduler_for(case, tableau)}))
    clean, noise = (torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (7, 0))
    found = pipe(
        builder.CAPTIONS[:2], image=clean, strength=strength, num_inference_steps=NFE, height=16, width=16,
        max_sequence_length=12, output_type="latent", generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    packed = pipe._pack_latents
    clean, noise = (packed(rows, 2, 4, 8, 8) for rows in (clean, noise))
    if strength < 1:
        remaining = torch.cat([tableau.eval_levels[2:], tableau.levels[-1:]])
        tableau = restarted(remaining)
    y = clean + noise * tableau.levels[0].float()
    assert difference(found, s4s.sample(case.model, y, tableau, case.condition)) < TOLERANCE


@pytest.mark.parametrize("name", ["unipc", "pc_conditioning"])
def test_base_and_refiner_share_a_run(case, name):
    """SDXL's base ends after two of five steps, and the refiner goes on from its state with DPM-Solver++ on the rest."""
    case = case("stable_diffusion_xl")
    tableau, noise, states = made(name, case.model), unit_noise(case.model), {}
    case.pipe.scheduler = scheduler_for(case, tableau)
    half = case.call(NFE, noise, denoising_end=0.5)
    found = image_to_image(case, "stable_diffusion_xl", scheduler_for(case, tableau), half, denoising_start=0.5)
    y_T = noise * tableau.levels[0].float()
    s4s.sample(case.model, y_T, tableau, case.condition, callback=lambda n, y, output: states.update({n: y}))
    remaining = torch.cat([tableau.eval_levels[2:], tableau.levels[-1:]])
    expected = s4s.sample(case.model, states[2], restarted(remaining), case.condition)
    assert difference(found, expected) < TOLERANCE


def test_a_whole_run_follows_one_from_the_middle(case):
    case = case("stable_diffusion")
    scheduler, (clean, noise) = scheduler_for(case, made("pc_conditioning", case.model)), clean_and_noise(case.model)
    before = run(case, scheduler, noise).last
    image_to_image(case, "stable_diffusion", scheduler, clean, strength=0.4)
    assert torch.equal(run(case, scheduler, noise).last, before)


def test_too_little_strength_is_refused(case):
    case = case("stable_diffusion")
    with pytest.raises(S4SError, match=r"^none of the 5 steps is left"):
        scheduler = scheduler_for(case, made("unipc", case.model))
        image_to_image(case, "stable_diffusion", scheduler, unit_noise(case.model), strength=0.1)


def test_no_run_begins_where_conditioning_levels_rise(case):
    case = case("stable_diffusion")
    tableau = made("unipc", case.model)
    tableau = replace(tableau, eval_levels=tableau.eval_levels[[0, 1, 3, 2, 4]])
    with pytest.raises(
        S4SError, match=r"^no run can begin at step 3 of this solver, whose conditioning levels do not decrease"
    ):
        image_to_image(case, "stable_diffusion", scheduler_for(case, tableau), unit_noise(case.model), strength=0.6)


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3", "edm"])
def test_noise_is_added_on_the_path(case, kind):
    """At any time, also row by row and before set_timesteps; at the first time of the run what it starts from."""
    case = case(kind)
    tableau, (clean, noise) = made("kappa", case.model), clean_and_noise(case.model)
    scheduler = scheduler_for(case, tableau)
    expected = []
    for s in (0.3, 7.0):
        plain = s4s.solver("ddim", torch.tensor([s, 0.1], dtype=torch.float64))
        expected.append((clean + noise * s) * first_scale(case.model, plain))
    times = torch.tensor([scheduler.coordinates.factors(s).time for s in (0.3, 7.0)])
    rows = torch.stack([expected[0][0], expected[1][1]])
    for set_up in (lambda: None, lambda: scheduler.set_timesteps(NFE)):
        set_up()
        for add in (scheduler.add_noise, lambda clean, noise, time: scheduler.scale_noise(clean, time, noise)):
            assert difference(add(clean, noise, times), rows) < 1e-4
            assert difference(add(clean, noise, times[:1]), expected[0]) < 1e-4
    several = scheduler.add_noise(clean[:1], noise[:1], times)
    assert len(several) == 2 and difference(several[:1], expected[0][:1]) < 1e-4
    start = scheduler.add_noise(clean, noise, scheduler.timesteps[:1])
    own = (clean + noise * tableau.levels[0].float()) * first_scale(case.model, tableau)
    assert difference(start, own) < 1e-6
    before = scheduler_for(case, tableau).add_noise(clean, noise, scheduler.timesteps[2:3])
    for t in scheduler.timesteps:
        scheduler.step(clean, t, own)
    assert torch.equal(scheduler.add_noise(clean, noise, scheduler.timesteps[2:3]), before)  # the run is over


def test_the_beginning_may_be_put_back(case):
    case, noise = case("stable_diffusion"), unit_noise(case("stable_diffusion").model)
    scheduler = scheduler_for(case, made("pc", case.model))
    expected = Loop(smooth_network, scheduler)(NFE, noise)
    scheduler.set_timesteps(NFE)
    scheduler.set_begin_index(2)
    scheduler.set_begin_index(0)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(smooth_network(x, t), t, x).prev_sample
    assert torch.equal(x, expected)
    with pytest.raises(S4SError, match="begin_index must be from 0 to 4, not -1"):
        scheduler.set_begin_index(-1)


def test_at_the_last_time_of_flow_matching_all_is_noise(case):
    case = case("stable_diffusion_3")
    scheduler, (clean, noise) = scheduler_for(case, made("dpmpp", case.model)), clean_and_noise(case.model)
    assert torch.equal(scheduler.scale_noise(clean, torch.tensor([1000.0]), noise), noise)


@pytest.mark.parametrize("kind", ["heun", "pndm", "runge_kutta", "unipc", "conditioning", "pc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_run_is_given_noise_of_the_next_node(case, kind, dtype):
    """As inpainting does: the run's own state were the image known; some solvers tell the network a time twice."""
    case = case("stable_diffusion")
    several = {"heun": 8, "pndm": 9, "runge_kutta": 8}
    tableau = s4s.solver(kind, levels(case.model, several[kind])) if kind in several else made(kind, case.model)
    assert (len(tableau.eval_levels.unique()) < tableau.nfe) == (kind in several)
    scheduler, (clean, noise) = scheduler_for(case, tableau), clean_and_noise(case.model)
    scheduler.set_timesteps(tableau.nfe)
    scales, states = case.model.path.alpha_of_s(tableau.eval_levels), []
    y = (clean + noise * tableau.levels[0]).double()
    s4s.sampling.run(lambda *_: clean.double(), y, tableau, callback=lambda n, y, D: states.append(y))
    for n, t in enumerate(scheduler.timesteps):
        found = scheduler.add_noise(clean.to(dtype), noise.to(dtype), t[None])
        expected = (states[n] * scales[n]).float()
        assert found.dtype == dtype and difference(found, expected) < (1e-6 if dtype == torch.float32 else 2e-3)
        scheduler.step(found, t, found)


def inpaint(case, scheduler, image, mask, strength):
    parts = {**case.pipe.components, "scheduler": scheduler}
    pipe = quiet(diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False))
    return pipe(
        builder.CAPTIONS[:2], image=image, mask_image=mask, height=16, width=16, strength=strength, num_inference_steps=NFE,
        generator=torch.Generator().manual_seed(0), output_type="latent", guidance_scale=7.5,
    ).images  # fmt: skip


@pytest.mark.parametrize("name", ["unipc", "pc_conditioning", "kappa"])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_inpainting(case, name, strength):
    """Everything masked gives what no inpainting gives; what is not masked is the image itself."""
    case = case("stable_diffusion")
    tableau, image = made(name, case.model), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(7))
    scheduler, generator = scheduler_for(case, tableau), torch.Generator().manual_seed(0)  # the pipeline draws from one, too
    clean = case.pipe.vae.encode(2 * image - 1).latent_dist.sample(generator) * case.pipe.vae.config.scaling_factor
    noise = torch.randn(2, *case.model.shape, generator=generator)
    everything = inpaint(case, scheduler, image, torch.ones(2, 1, 16, 16), strength)
    expected = reference(case, tableau, noise)
    if strength < 1:
        remaining = torch.cat([tableau.eval_levels[2:], tableau.levels[-1:]])
        y = clean + noise * remaining[0].float()
        expected = s4s.sample(case.model, y, restarted(remaining), case.condition)
    assert difference(everything, expected) < TOLERANCE
    left = torch.zeros(2, 1, 16, 16)
    left[..., :8] = 1
    found = inpaint(case, scheduler, image, left, strength)
    assert found.isfinite().all() and torch.equal(found[..., 4:], clean[..., 4:])
    assert difference(found[..., :4], everything[..., :4]) > 1e-3


# What runs start from


@pytest.mark.parametrize("kind", ["stable_diffusion_3", "ddpm", "dit", "flux"])
def test_a_pipeline_that_starts_from_unit_noise_must_be_given_another_noise_scale(case, kind):
    case = case(kind)
    tableau, noise = made("kappa", case.model), unit_noise(case.model)
    scheduler = scheduler_for(case, tableau)
    with pytest.raises(S4SError, match=r"^this solver starts from 0.\d+ times unit noise, but .* from 1 times; call .*attach"):
        run(case, scheduler, noise)
    expected = reference(case, tableau, noise)
    handle = scheduler.attach(case.network)
    assert difference(run(case, scheduler, noise).last, expected) < TOLERANCE
    assert scheduler.attach(case.network).there and not handle.there  # takes its place
    again = run(case, scheduler, noise).last
    scheduler.attach(case.network).remove()
    assert difference(again, expected) < TOLERANCE
    with pytest.raises(S4SError, match="attach"):
        run(case, scheduler, noise)


def test_what_was_announced_before_a_run_is_not_for_it(case):
    """Neither a look at init_noise_sigma nor a run from an image lets a run from unit noise pass."""
    case = case("stable_diffusion_3")
    scheduler, noise = scheduler_for(case, made("kappa", case.model)), unit_noise(case.model)
    assert scheduler.init_noise_sigma < 0.9
    with pytest.raises(S4SError, match="attach"):
        run(case, scheduler, noise)
    image_to_image(case, "stable_diffusion_3", scheduler, clean_and_noise(case.model)[0], strength=1.0)
    with pytest.raises(S4SError, match="attach"):
        run(case, scheduler, noise)


def test_a_controlnet_is_attached_too(case, monkeypatch):
    case = case("flux")
    tableau, noise = made("kappa", case.model), unit_noise(case.model)
    scheduler = scheduler_for(case, tableau)
    values = {name: value for name, value in case.network.config.items() if not name.startswith("_")}
    del values["out_channels"]
    controlnet = fill(diffusers.FluxControlNetModel(**values))
    pipe = quiet(diffusers.FluxControlNetPipeline(**{**case.pipe.components, "controlnet": controlnet, "scheduler": scheduler}))
    pipe.vae.register_to_config(shift_factor=0.0)

    def call(latents):
        return pipe(
            builder.CAPTIONS[:2], control_image=torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)), height=16,
            width=16, max_sequence_length=12, num_inference_steps=NFE, latents=latents, output_type="latent",
            generator=torch.Generator().manual_seed(0),
        ).images  # fmt: skip

    handle = scheduler.attach(case.network, controlnet)
    found = call(noise)
    handle.remove()
    with pytest.raises(S4SError, match="attach"):
        call(noise)
    start = scheduler.init_noise_sigma
    monkeypatch.setattr("s4s.export.initial_noise_scale.InitialNoiseScale.first_input", lambda self, x, start: x)
    assert difference(found, call(noise * start)) < TOLERANCE


def test_attached_networks_must_be_those_that_run_on_the_sample_alone(case):
    case = case("stable_diffusion")
    scheduler, noise = scheduler_for(case, made("kappa", case.model)), unit_noise(case.model)
    other = nn.Identity()
    handle = scheduler.attach(other)
    with pytest.raises(S4SError, match="attach was given a network that this pipeline did not run; call remove"):
        run(case, scheduler, noise)
    handle.remove()
    handle = scheduler.attach(other)
    with pytest.raises(S4SError, match="cannot tell which argument of a Identity is the sample"):
        other(input=noise)
    handle.remove()
    network = fill(diffusers.UNet2DConditionModel(**{**dict(case.network.config), "in_channels": 9}))
    parts = {**case.pipe.components, "unet": network, "scheduler": scheduler}
    pipe = quiet(diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False))
    scheduler.attach(network)
    with pytest.raises(
        S4SError, match=r"feeds its network \[9, 8, 8\], more than the sample, \[4, 8, 8\], which attach cannot"
    ):
        pipe(
            builder.CAPTIONS[:2], image=torch.rand(2, 3, 16, 16), mask_image=torch.ones(2, 1, 16, 16), height=16, width=16,
            num_inference_steps=NFE, strength=1.0,
        )  # fmt: skip


def test_a_run_from_the_middle_that_attach_takes_for_the_start_is_refused(case):
    """Of pipelines from video to video, which do not call set_begin_index."""
    case, network = case("stable_diffusion"), Smooth()
    scheduler, x = scheduler_for(case, made("kappa", case.model)), unit_noise(case.model)
    scheduler.attach(network)
    scheduler.set_timesteps(NFE)
    t = scheduler.timesteps[2]
    with pytest.raises(S4SError, match=r"begins a run in the middle and does not say so .*; call remove\(\) on what"):
        scheduler.step(network(x, t[None]), t, x)
    scheduler.set_timesteps(NFE)
    scheduler.set_begin_index(2)
    assert torch.equal(network(x, t[None]), smooth_network(x, t[None]))


def test_the_last_scheduler_that_is_attached_scales(case):
    case, network = case("stable_diffusion"), Smooth()
    first, second = (scheduler_for(case, made("kappa", case.model)) for _ in range(2))
    noise = unit_noise(case.model)
    expected = Loop(network, second)(NFE, noise)
    first.attach(network)
    first.set_timesteps(NFE)
    second.attach(network)
    assert difference(Loop(network, second)(NFE, noise), expected) < TOLERANCE
    with pytest.raises(S4SError, match="this solver starts from"):
        first.step(noise, first.timesteps[0], noise)


def test_attaching_changes_nothing_where_the_pipeline_scales(case):
    case = case("stable_diffusion")
    tableau, noise = made("kappa", case.model), unit_noise(case.model)
    scheduler = scheduler_for(case, tableau)
    expected, start = run(case, scheduler, noise).last, scheduler.init_noise_sigma
    handle = scheduler.attach(case.network)
    assert scheduler.init_noise_sigma == 1 and start < 0.9
    attached = run(case, scheduler, noise).last
    handle.remove()
    assert difference(attached, expected) < TOLERANCE
    assert scheduler.init_noise_sigma == start and torch.equal(run(case, scheduler, noise).last, expected)


def test_init_noise_sigma_of_another_number_of_steps_is_refused(case):
    case = case("edm")
    scheduler = scheduler_for(case, made("unipc", case.model), replace(made("heun", case.model), kappa=0.5))
    x = unit_noise(case.model) * scheduler.init_noise_sigma
    scheduler.set_timesteps(6)
    with pytest.raises(S4SError, match="or set_timesteps before taking init_noise_sigma"):
        scheduler.step(x, scheduler.timesteps[0], x)


# What is refused


def sd(case, **changes):
    return {**case("stable_diffusion").own.config, **changes}


def edm_of_v(case):
    return diffusers.EDMEulerScheduler(prediction_type="v_prediction")


def flow_of_noise(case):
    return diffusers.UniPCMultistepScheduler(use_flow_sigmas=True)


def euler_of_video(case):
    return diffusers.EulerDiscreteScheduler(prediction_type="v_prediction", timestep_type="continuous")


REFUSED: dict[str, tuple[Callable[[Any], Any], str | None, str]] = {
    "vp_on_flow": (lambda case: case("stable_diffusion_3").own, "stable_diffusion", r"path vp_discrete .*has path flow"),
    "flow_on_vp": (lambda case: case("stable_diffusion").own, "stable_diffusion_3", r"path flow .*has path vp_discrete"),
    "edm_on_vp": (lambda case: case("stable_diffusion").own, "edm", r"path edm .*has path vp_discrete"),
    "vp_on_edm": (lambda case: case("edm").own, "stable_diffusion", r"path vp_discrete .*has path edm"),
    "prediction": (lambda case: sd(case, prediction_type="v_prediction"), "stable_diffusion", r"n epsilon .*prediction v_pred"),
    "betas": (lambda case: sd(case, beta_end=0.02), "stable_diffusion", r"levels 0.029\d+ / .* / 14.6\d* .*has levels 0.029"),
    "times": (lambda case: sd(case, num_train_timesteps=500), "stable_diffusion", r"with times 1000 .*has times 500"),
    "range": (lambda case: case("stable_diffusion").own, None, r"levels 80 to 0.05, but .* covers 14.61\d* to 0.029\d* only"),
    "zero_snr": (
        lambda case: sd(case, rescale_betas_zero_snr=True),
        "stable_diffusion",
        r"epsilon with rescale_betas_zero_snr",
    ),
    "rescaled": (
        lambda case: sd(case, rescale_betas_zero_snr=True, prediction_type="sample"),
        "sample_prediction",
        r"levels 0.029\d+ / .* / 14.6\d* .*has levels 0.029\d* / .* / 4096",
    ),
    "shifted": (lambda case: sd(case, snr_shift_scale=3.0), "stable_diffusion", r"has levels 0.05"),
    "inverted": (
        lambda case: diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        "stable_diffusion_3",
        r"path flow .*has path flow_inverted",
    ),
    "shift": (
        lambda case: sd(case, snr_shift_scale=0),
        "stable_diffusion",
        r"snr_shift_scale must be a positive number, got 0",
    ),
    "no_betas": (lambda case: diffusers.KarrasVeScheduler(), "stable_diffusion", r"of a KarrasVeScheduler is not .*: no betas"),
    "own_path": (lambda case: diffusers.IPNDMScheduler(), "stable_diffusion", r"path vp_discrete .*has path vp_cosine"),
    "conditioning_levels": (euler_of_video, "stable_diffusion", r"path vp_discrete .*has path edm"),
    "flow_of_noise": (flow_of_noise, None, r"a UniPC.* with use_flow_sigmas and prediction_type epsilon is not .*; flow_pred"),
    "nameless": (lambda case: diffusers.FlowMatchHeunDiscreteScheduler().config, None, r"does not name it \(pass the schedu"),
    "consistency": (lambda case: diffusers.CMStochasticIterativeScheduler().config, None, r"does not name it .*: no betas"),
    "edm_of_v": (edm_of_v, "edm", r"with prediction edm .*has prediction v_prediction"),
    "wrong": (lambda case: sd(case, prediction_type="wrong"), "stable_diffusion", r"predicts epsilon or .*, not wrong"),
    "schedule": (lambda case: sd(case, beta_schedule="wrong"), "stable_diffusion", r"noise schedule is not supported: wrong"),
    "path": (lambda case: sd(case, path_type="wrong"), "stable_diffusion", r"path_type must be vp, flow, edm or cosine, got"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_solver_of_another_network_is_refused(case, name):
    like, kind, message = REFUSED[name]
    high = s4s.solver("ddim", torch.tensor([80.0, 1.0, 0.05]))
    tableau = made("dpmpp", case(kind).model) if kind else high
    with pytest.raises(S4SError, match=message) as error:
        S4SScheduler.from_tableau(tableau, like(case))
    assert len(str(error.value).splitlines()) == 1
    others = ("rescaled", "shifted", "inverted", "own_path", "conditioning_levels", "edm_of_v")
    made_for_another = name in ("vp_on_flow", "flow_on_vp", "edm_on_vp", "vp_on_edm", "prediction", "betas", "times", *others)
    assert made_for_another == ("was made for" in str(error.value))
    if made_for_another:
        assert f"(model {case(kind).model.name})" in str(error.value)


@pytest.mark.parametrize("theirs", ["LCM", "TCD", "CMStochasticIterative", "FlowMatchLCM", "SCM", "FlowMapEulerDiscrete"])
def test_schedulers_of_distilled_networks_are_refused(theirs):
    """Such a network jumps to the data: it is no denoiser whose ODE a solver could follow."""
    own = getattr(diffusers, f"{theirs}Scheduler")()
    tableau = s4s.solver("ddim", torch.tensor([2.0, 1.0]))
    named = {**own.config, "_class_name": f"{theirs}Scheduler"}
    for like in (own, named, *([own.config] if theirs in ("LCM", "TCD") else [])):
        with pytest.raises(S4SError, match=r"is not supported: its network was distilled .*; take the model that it was dist"):
            S4SScheduler.from_tableau(tableau, like)


@pytest.mark.parametrize(
    "like", ["stable-diffusion", 5, "pipeline", torch.zeros(2)], ids=["name", "number", "pipeline", "tensor"]
)
def test_like_takes_a_scheduler(case, like):
    like = case("stable_diffusion").pipe if like == "pipeline" else like
    with pytest.raises(S4SError, match=r"^like must be the pipeline's own scheduler, pipe\.scheduler, or its config, not "):
        S4SScheduler.from_tableau(s4s.solver("ddim", torch.tensor([2.0, 1.0])), like)


def test_a_wrong_prediction_for_flow_matching_is_refused(case):
    tableau = made("dpmpp", case("stable_diffusion_3").model)
    with pytest.raises(S4SError, match="on the path flow predicts flow_prediction or sample, not epsilon"):
        S4SScheduler.from_tableau(tableau, case("stable_diffusion_3").own, prediction_type="epsilon")


def test_a_solver_may_be_used_on_another_network_when_one_says_so(case):
    tableau = made("dpmpp", case("stable_diffusion").model).with_meta(parametrisation=None)
    S4SScheduler.from_tableau(tableau, sd(case, prediction_type="v_prediction")).set_timesteps(NFE)


def test_wrong_files_are_refused(case, tmp_path):
    own = case("stable_diffusion").own
    tableau = made("dpmpp", case("stable_diffusion").model)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.json").write_text("nothing")
    (tmp_path / "other.json").write_text(json.dumps({"format": "s4s-tableau/1", "nfe": 3}))
    tableau.save(tmp_path / "two/nfe~5.json")
    tableau.save(tmp_path / "two/other.json")
    for source, message in [
        (tmp_path / "empty", r"empty: no tableau in this folder; it must hold files such as nfe~5.json"),
        (tmp_path / "absent.json", r"absent.json"),
        (tmp_path / "text.json", r"text.json: .*Invalid JSON"),
        (tmp_path / "other.json", r"other.json.*levels"),
        (tmp_path / "two", r"other.json: there is a solver with 5 evaluations already; give one for each number"),
        ([tableau, tableau], r"^tableau: there is a solver with 5 evaluations already"),
        ([], r"^no tableau given; give a tableau, its file, or a folder"),
    ]:
        with pytest.raises(S4SError, match=message):
            S4SScheduler.from_tableau(source, own)
    for wrong in ([tableau], tableau.as_json()):
        with pytest.raises(S4SError, match=r"^tableaux must be a list of solvers in their JSON form; from_tableau takes"):
            S4SScheduler.from_config(own.config, tableaux=wrong)


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3", "edm"])
def test_levels_may_be_given_where_they_are_the_solvers_own(case, kind):
    case = case(kind)
    scheduler = scheduler_for(case, made("conditioning", case.model))
    scheduler.set_timesteps(NFE)
    times, sigmas = scheduler.timesteps.clone(), scheduler.sigmas.clone()
    for given in (
        {"timesteps": times.tolist()},
        {"timesteps": np.array(times)},
        {"sigmas": sigmas[:-1].tolist()},
        {"sigmas": sigmas[:-1].tolist(), "mu": 0.7},
        *([{"timesteps": [round(time) for time in times.tolist()]}] if kind == "stable_diffusion" else []),
        *([{"sigmas": np.linspace(1, 1 / NFE, NFE), "mu": 1.15}] if kind == "stable_diffusion_3" else []),
        *([{"timesteps": np.linspace(1000, 1, NFE).astype(int)}] if kind == "stable_diffusion_3" else []),  # CogView4
        *([{"timesteps": times.int().tolist()}] if kind != "edm" else []),
    ):
        scheduler.set_timesteps(device="cpu", **given)
        assert torch.equal(scheduler.timesteps, times) and scheduler.num_inference_steps == NFE
    for given, shown in (
        ({"timesteps": (times + 9).tolist()}, times),
        ({"sigmas": (sigmas[:-1] * 1.1).tolist()}, sigmas[:-1]),
        ({"sigmas": torch.linspace(1, 0.1, NFE).tolist()}, sigmas[:-1]),
        *([({"sigmas": np.linspace(1, 1 / NFE, NFE)}, sigmas[:-1])] if kind != "stable_diffusion_3" else []),
    ):
        with pytest.raises(S4SError, match=r"^(timesteps|sigmas) must be the solver's own, ") as error:
            scheduler.set_timesteps(**given)
        assert ", ".join(f"{value:.6g}" for value in shown.tolist()) in str(error.value)
    with pytest.raises(S4SError, match="no solver for 2 steps"):
        scheduler.set_timesteps(timesteps=times[:2].tolist())


@pytest.mark.parametrize(
    "given", [list, tuple, Tensor.numpy, Tensor.double, Tensor.bfloat16, Tensor.half, lambda values: [*values]],
    ids=["list", "tuple", "numpy", "float64", "bfloat16", "float16", "list of tensors"],
)  # fmt: skip
@pytest.mark.parametrize("what", ["timesteps", "sigmas"])
def test_levels_may_be_any_list(case, what, given):
    case = case("stable_diffusion")
    scheduler = scheduler_for(case, made("unipc", case.model))
    scheduler.set_timesteps(NFE)
    own = {"timesteps": scheduler.timesteps.clone(), "sigmas": scheduler.sigmas[:-1].clone()}
    values = given(own[what].tolist()) if given in (list, tuple) else given(own[what])
    scheduler.set_timesteps(NFE, **{what: values})
    assert torch.equal(scheduler.timesteps, own["timesteps"])


STEPS = [torch.tensor(NFE), torch.tensor([NFE]), torch.tensor(float(NFE)), np.int64(NFE), np.array(NFE), np.float32(NFE), 5.0]


@pytest.mark.parametrize("steps", STEPS, ids=repr)
def test_a_number_of_steps_may_come_from_anywhere(case, steps):
    scheduler = scheduler_for(case("stable_diffusion"), made("unipc", case("stable_diffusion").model))
    scheduler.set_timesteps(steps)
    assert scheduler.num_inference_steps == NFE and type(scheduler.num_inference_steps) is int
    assert len(scheduler.timesteps) == NFE


WRONG_STEPS: list[tuple[dict[str, Any], str]] = [
    *(
        ({"num_inference_steps": wrong}, r"^num_inference_steps must be a whole number, got ")
        for wrong in ("5", True, 5.5, torch.tensor(True), torch.tensor([5, 5]), float("nan"), np.array([3, 5]), [5])
    ),
    ({"num_inference_steps": -5}, r"^no solver for -5 steps; there are solvers for 5"),
    ({"sigmas": "0.1"}, r"^sigmas must be a list of numbers, got '0.1'"),
    ({"sigmas": 5}, r"^sigmas must be a list of numbers, got 5"),
    ({"timesteps": torch.tensor(5)}, r"^timesteps must be a list of numbers, got tensor"),
    ({"timesteps": torch.zeros(1, 5)}, r"^timesteps must be a list of numbers, got tensor"),
    ({"timesteps": {999: 1}}, r"^timesteps must be a list of numbers, got \{999"),
    ({"sigmas": [float("inf")] * 5}, r"^sigmas must be finite numbers, got "),
    ({"sigmas": []}, r"^no solver for 0 steps; there are solvers for 5"),
    ({"num_inference_steps": 3, "sigmas": [1.0] * 5}, r"^different numbers of steps: sigmas 5, num_inference_steps 3"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG_STEPS, ids=[repr(wrong) for wrong, _ in WRONG_STEPS])
def test_what_is_no_number_of_steps_is_said_in_one_line(case, wrong, message):
    scheduler = scheduler_for(case("stable_diffusion"), made("unipc", case("stable_diffusion").model))
    scheduler.set_timesteps(NFE)
    before = scheduler.timesteps
    with pytest.raises(S4SError, match=message) as error:
        scheduler.set_timesteps(**wrong)
    assert len(str(error.value).splitlines()) == 1 and scheduler.timesteps is before


def test_times_of_flow_matching_count_as_the_pipelines_scheduler_does(case):
    own = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1)
    scheduler = S4SScheduler.from_tableau(made("unipc", case("stable_diffusion_3").model), own)
    scheduler.set_timesteps(NFE)
    assert torch.allclose(scheduler.timesteps, scheduler.sigmas[:-1])


# Precision and devices


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("attached", [False, True])
def test_lower_precision_is_kept(case, dtype, attached):
    case = case("stable_diffusion")
    scheduler, noise = scheduler_for(case, made("pc", case.model)), unit_noise(case.model)
    expected = run(case, scheduler, noise).last
    handle = scheduler.attach(case.network) if attached else None
    nn.Module.to(case.pipe.unet, dtype=dtype)
    nn.Module.to(case.pipe.text_encoder, dtype=dtype)
    try:
        found = run(case, scheduler, noise.to(dtype)).last
    finally:
        nn.Module.to(case.pipe.unet, dtype=torch.float32)
        nn.Module.to(case.pipe.text_encoder, dtype=torch.float32)
        if handle is not None:
            handle.remove()
    assert found.dtype == dtype
    assert (found - expected).square().mean().sqrt() < 0.05 * expected.std()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3"])
def test_a_gpu_gives_what_the_cpu_gives(case, kind):
    case = case(kind)
    scheduler, noise = scheduler_for(case, made("pc", case.model)), unit_noise(case.model)
    expected = run(case, scheduler, noise).last
    case.pipe.to("cuda")
    try:
        found = run(case, scheduler, noise.cuda())
        assert found.last.device.type == scheduler.timesteps.device.type == "cuda"
        assert difference(found.last.cpu(), expected) < 1e-2
    finally:
        case.pipe.to("cpu")
