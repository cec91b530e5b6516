"""Denoisers of live pipelines: equality with the pipeline's own runs, prompts, sessions, refusals."""

import gc
import pickle
import signal
import threading
import warnings

import diffusers
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import s4s
from s4s import S4SError
from s4s.export import S4SScheduler
from s4s.models.pipelines import live
from s4s.models.pipelines.live import PromptsInTurn
from s4s.models.seeds import sample_seeds
from tests.builders import pipelines as builder

PROMPTS = ["a cat", "a dog in the sea", "bread", "a house"]
GUIDED = {
    "stable_diffusion": {"guidance_scale": 5.0},
    "stable_diffusion_xl": {"guidance_scale": 5.0, "height": 16, "width": 16},
    "stable_diffusion_3": {"guidance_scale": 4.0, "height": 16, "width": 16},
    "pixart_sigma": {"guidance_scale": 4.5, "height": 16, "width": 16, "use_resolution_binning": False, "clean_caption": False},
}
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
OWN = {
    "DDIMScheduler": {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
    "EulerDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {},
    "HeunDiscreteScheduler": {},
    "PNDMScheduler": {"skip_prk_steps": True},
    "EulerAncestralDiscreteScheduler": {},
    "DDPMScheduler": {"clip_sample": False},
}


def ddpm(**options):
    return diffusers.DDPMPipeline(builder.pixel_unet(**options), builder.scheduler("DDPMScheduler"))


def dit():
    network = builder.dit(in_channels=4, out_channels=8, num_embeds_ada_norm=1000)  # the pipeline's own number of no class
    return diffusers.DiTPipeline(network, builder.autoencoder(), builder.scheduler(set_alpha_to_one=False, steps_offset=1))


def close(a, b, tolerance=1e-5):
    """Relative to the largest."""
    return bool((a - b).abs().max() <= tolerance * b.abs().max())


@pytest.fixture(scope="module")
def pipes():
    """Each pipeline, made once."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = {**builder.OF_TEXT, "ddpm": ddpm, "dit": dit}[kind]()
            made[kind].set_progress_bar_config(disable=True)
        return made[kind]

    return of


@pytest.fixture(scope="module")
def denoisers(pipes):
    """A denoiser of each, made once."""
    made = {}

    def of(kind):
        if kind not in made:
            given = {"ddpm": {}, "dit": {"prompts": [1, 3, 2], "guidance_scale": 4.0}}.get(kind)
            given = {"prompts": PROMPTS, **GUIDED[kind]} if given is None else given
            made[kind] = s4s.from_pipeline(pipes(kind), **given)
        return made[kind]

    yield of
    for denoiser in made.values():
        denoiser.close()


@pytest.fixture
def sd(pipes):
    """A pipeline of Stable Diffusion that a test may break: own settings, shared networks."""
    return diffusers.StableDiffusionPipeline(**pipes("stable_diffusion").components, requires_safety_checker=False)


def adapter(tmp_path_factory, pipe, kind):
    """The denoiser of `kind: diffusers` of the same networks."""
    folder = tmp_path_factory.mktemp(kind)
    pipe.save_pretrained(folder / "pipe")
    (folder / "captions.txt").write_text("\n".join(PROMPTS))
    model = {"name": kind, "kind": "diffusers", "path": str(folder / "pipe")}
    if kind in GUIDED:
        model |= {"prompts": {"path": str(folder / "captions.txt")}, "guidance": GUIDED[kind]["guidance_scale"]}
    (folder / "model.yaml").write_text(yaml.safe_dump(model))
    return s4s.load_model(folder / "model.yaml")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory, pipes):
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = adapter(tmp_path_factory, pipes(kind), kind)
        return made[kind]

    return of


def states(denoiser, rows=2):
    y = torch.randn(rows, *denoiser.shape, generator=torch.Generator().manual_seed(1)) * 2
    return y, torch.tensor([0.7, 3.0])[torch.arange(rows) % 2].double(), torch.arange(rows) % 3


@pytest.mark.parametrize("kind", [*GUIDED, "ddpm"])
def test_it_is_the_denoiser_of_the_adapter(adapters, denoisers, kind):
    denoiser, expected = denoisers(kind), adapters(kind)
    y, s, condition = states(denoiser, 4)
    own = None if kind == "ddpm" else condition
    assert denoiser.shape == expected.shape and denoiser.passes == expected.passes
    assert (denoiser.s_min, denoiser.s_max) == (expected.s_min, expected.s_max)
    assert close(denoiser(y, s, own), expected(y, s, own))
    assert close(denoiser(y, 1.3, own), expected(y, 1.3, own))
    assert denoiser(y.double(), s, own).dtype == torch.float64


def test_classes_are_prompts(denoisers, pipes):
    """DiT's guidance takes the first half of a doubled batch; the network is asked as the pipeline asks it."""
    denoiser, network = denoisers("dit"), pipes("dit").transformer
    y, s, condition = states(denoiser, 3)
    x, t = denoiser.path.from_ys(y, s)
    labels = torch.tensor([1, 3, 2])
    null = torch.full((3,), 1000)
    assert denoiser.passes == 2
    with torch.no_grad():
        both = network(torch.cat([x, x]), t.float().repeat(2), class_labels=torch.cat([labels, null])).sample[:, :4]
    given, none = both.chunk(2)
    expected = y - s.view(-1, 1, 1, 1).float() * (none + 4.0 * (given - none))
    assert close(denoiser(y, s, condition), expected)


@pytest.mark.parametrize("kind", GUIDED)
def test_sampling_is_the_schedulers_run_in_the_pipeline(denoisers, pipes, kind):
    denoiser, pipe = denoisers(kind), pipes(kind)
    own, condition = pipe.scheduler, torch.tensor([0, 1, 2])
    tableau = s4s.solver("dpmpp", s4s.levels("logsnr", 3, denoiser), order=2)
    y = s4s.initial_noise(denoiser, range(3))
    expected = s4s.sample(denoiser, y, tableau, condition)
    latents = y / denoiser.s_max
    pipe.scheduler = S4SScheduler.from_tableau(tableau, own)
    attachment = pipe.scheduler.attach(*[pipe.transformer] if kind == "stable_diffusion_3" else [])
    try:
        options = {"num_inference_steps": 3, "latents": latents.clone(), **GUIDED[kind]}
        found = pipe(PROMPTS[:3], output_type="latent", **options).images
        images = pipe(PROMPTS[:3], output_type="pt", **options | {"latents": latents.clone()}).images
    finally:
        pipe.scheduler = own
        attachment.remove()
    assert close(found, expected)
    assert (denoiser.decode(expected) / 2 + 0.5 - images).abs().max() < 1e-4


def own_run(pipe, prompts, noise, steps, **call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"generator": torch.Generator().manual_seed(0), "output_type": "latent", **call}
        return pipe(prompts, num_inference_steps=steps, latents=noise.clone(), **options).images


@pytest.mark.parametrize("kind", OWN)
def test_the_own_schedulers_run_is_the_pipelines(sd, kind):
    """One row at a time, so that what is drawn is the same for each."""
    sd.scheduler = getattr(diffusers, kind)(**BETAS, **OWN[kind])
    sd.set_progress_bar_config(disable=True)
    call = GUIDED["stable_diffusion"]
    denoiser = s4s.from_pipeline(sd, prompts=PROMPTS, **call)
    noise = torch.randn(2, *denoiser.shape, generator=torch.Generator().manual_seed(3))
    expected = torch.cat([own_run(sd, PROMPTS[i], noise[i : i + 1], 3, **call) for i in range(2)])
    assert close(denoiser.run_own_scheduler(noise, torch.tensor([0, 1]), 3), expected)
    denoiser.close()


@pytest.mark.parametrize("shift", [{"shift": 3.0}, {"use_dynamic_shifting": True}])
def test_the_own_run_of_flow_matching_has_its_shift(pipes, shift):
    pipe = diffusers.StableDiffusion3Pipeline(**pipes("stable_diffusion_3").components)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = builder.scheduler("FlowMatchEulerDiscreteScheduler", **shift)
    call = GUIDED["stable_diffusion_3"] | ({"mu": 0.9} if "shift" not in shift else {})
    denoiser = s4s.from_pipeline(pipe, prompts=PROMPTS, **call)
    noise = torch.randn(2, *denoiser.shape, generator=torch.Generator().manual_seed(3))
    expected = own_run(pipe, PROMPTS[:2], noise, 3, **call)
    assert close(denoiser.run_own_scheduler(noise, torch.tensor([0, 1]), 3), expected)
    denoiser.close()


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3"])
def test_gradients_are_those_through_the_adapter(adapters, denoisers, kind):
    found = []
    for denoiser in (denoisers(kind), adapters(kind)):
        y, s, condition = states(denoiser, 3)
        y, s = y.requires_grad_(), torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
        output = denoiser(y, s, condition)
        found.append(torch.autograd.grad((output * y.detach().cos()).sum(), [y, s]))
    assert all(close(a, b, 1e-4) for a, b in zip(*found, strict=True))


def test_each_row_has_the_gradient_of_its_own_level(adapters, denoisers):
    """Rows of one level go together through the pipeline, and yet differ in what their levels do."""
    found = []
    for denoiser in (denoisers("stable_diffusion"), adapters("stable_diffusion")):
        y, _, condition = states(denoiser, 3)
        s = torch.tensor([1.1, 1.1, 2.0], dtype=torch.float64, requires_grad=True)
        found.append(torch.autograd.grad(denoiser(y, s, condition).square().sum(), s)[0])
    assert close(*found, 1e-4)


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3"])
def test_tangents_are_those_through_the_adapter(adapters, denoisers, kind):
    found = []
    for denoiser in (denoisers(kind), adapters(kind)):
        y, _, condition = states(denoiser, 3)
        s = torch.tensor([1.1, 1.1, 2.0], dtype=torch.float64)
        with torch.autograd.forward_ad.dual_level(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            dual = torch.autograd.forward_ad.make_dual
            output = denoiser(dual(y, y.cos()), dual(s, torch.tensor([0.3, -0.2, 0.1]).double()), condition)
            found.append(torch.autograd.forward_ad.unpack_dual(output).tangent)
    assert close(*found, 1e-4)


def test_the_callers_modes_are_those_of_the_pipeline(adapters, denoisers):
    denoiser, expected = denoisers("stable_diffusion"), adapters("stable_diffusion")
    y, s, condition = states(denoiser)
    with torch.inference_mode():
        denoiser.close()  # so that a run begins in this mode
        inside = denoiser(y * 1, s, condition)
    assert close(inside, expected(y, s, condition))
    assert denoiser(y.requires_grad_(), s, condition).requires_grad  # and goes on with gradients
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough, rough_expected = denoiser(y, s, condition), expected(y, s, condition)
    assert close(rough, rough_expected, 2e-2)
    with torch.no_grad():
        assert not close(rough, expected(y, s, condition), 1e-4)
        assert close(denoiser(y, s, condition), expected(y, s, condition))
