"""S4SScheduler in diffusers' own pipelines, built small: the same as `s4s.sample`, kept when saved, wrong solvers refused."""

from dataclasses import replace

import pytest
import torch
import yaml

import s4s
from s4s import S4SError
from s4s.export import S4SScheduler
from s4s.export.collection import restarted
from s4s.families import make_family
from s4s.models.paths import FlowMatching, VPDiscrete
from s4s.provenance import made_for
from s4s.seeds import sample_seeds
from tests.builders import pipelines as builder

import diffusers  # isort: skip

NFE = 4


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A function from a kind of pipeline to its folder and its denoiser."""
    found = {}

    def get(kind):
        if kind not in found:
            folder = tmp_path_factory.mktemp(kind)
            values = builder.write(kind, folder / "folder")
            (folder / "model.yaml").write_text(yaml.safe_dump(values))
            found[kind] = folder / "folder", s4s.load_model(folder / "model.yaml")
        return found[kind]

    return get


def pipeline(folder, cls=diffusers.DiffusionPipeline):
    pipe = cls.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def learned(base, seed=0):
    """What a fit may leave: a predictor-corrector's weights, told levels and a first input of its own."""
    family = make_family("pc", base)
    generator = torch.Generator().manual_seed(seed)
    theta = 0.03 * torch.randn(family.size, generator=generator, dtype=torch.float64)
    told = base.eval_levels * torch.exp(0.03 * torch.randn(base.nfe, generator=generator, dtype=torch.float64))
    return replace(family.tableau(base.levels, theta), eval_levels=told, kappa=1.1)


def tableaux(model, nfe=NFE):
    """Solvers of all sorts on the model's levels."""
    levels = s4s.levels("time_uniform", nfe, model)
    to_zero = s4s.levels("time_uniform", nfe, model, to_zero=True)
    made = {
        "dpmpp": s4s.solver("dpmpp", levels, order=3),
        "unipc": s4s.solver("unipc", levels, order=3),
        "heun": s4s.solver("heun", levels),
        "to_zero": s4s.solver("dpmpp", to_zero, order=2, lower_order_final=True),
        "learned": learned(s4s.solver("unipc", levels, order=2)),
    }
    return {name: tableau.with_meta(**made_for(model)) for name, tableau in made.items()}


def start(model):
    return torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))


def close(found, expected, tolerance=1e-5):
    return bool(found.isfinite().all()) and (found - expected).abs().max() <= tolerance * expected.abs().max()


def of_text(pipe, model, noise, steps=NFE, **options):
    options = {"guidance_scale": 7.5, "output_type": "latent", "num_inference_steps": steps, **options}
    if type(pipe).__name__.startswith("PixArt"):
        options |= {"use_resolution_binning": False, "clean_caption": False}
    return pipe(builder.CAPTIONS[:2], latents=noise, **options).images


def ours(model, noise, tableau):
    return s4s.sample(model, noise * tableau.levels[0].float(), tableau, model.conditions(sample_seeds("test", len(noise))))


@pytest.mark.parametrize("solver", ["dpmpp", "unipc", "heun", "to_zero", "learned"])
@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_xl", "pixart_sigma"])
def test_pipelines_of_text_give_what_our_sampler_gives(written, kind, solver):
    folder, model = written(kind)
    tableau, noise, pipe = tableaux(model)[solver], start(model), pipeline(folder)
    pipe.scheduler = S4SScheduler.from_tableau(tableau, pipe.scheduler)
    calls = []
    network = getattr(pipe, "unet", None) or pipe.transformer
    handle = network.register_forward_hook(lambda *_: calls.append(1))
    assert close(of_text(pipe, model, noise), ours(model, noise, tableau))
    assert len(calls) == NFE
    handle.remove()


# not heun, whose two steps from s = 999 blow a network of random weights up, rounding with it
@pytest.mark.parametrize("solver", ["dpmpp", "unipc", "to_zero", "learned"])
def test_flow_matching_gives_what_our_sampler_gives(written, solver):
    folder, model = written("stable_diffusion_3")
    tableau, noise, pipe = tableaux(model)[solver], start(model), pipeline(folder)
    pipe.scheduler = S4SScheduler.from_tableau(tableau, pipe.scheduler)
    if solver == "learned":  # this pipeline ignores init_noise_sigma
        with pytest.raises(S4SError, match=r"starts from 1\.\d+ times unit noise, but the pipeline started from 1 times"):
            of_text(pipe, model, noise)
        pipe.scheduler.attach(pipe.transformer)
        expected = ours(model, noise, tableau)
    else:  # unit noise instead of t = 0.999 times
        expected = ours(model, noise / 0.999, tableau)
    assert close(of_text(pipe, model, noise), expected)


@pytest.mark.parametrize("solver", ["unipc", "to_zero", "learned"])
def test_ddpm_pipeline_with_v_prediction(written, solver):
    folder, model = written("pixel_pipeline")
    tableau, pipe = tableaux(model)[solver], pipeline(folder)
    pipe.scheduler = S4SScheduler.from_tableau(tableau, pipe.scheduler)
    handle = pipe.scheduler.attach(pipe.unet)
    generator = torch.Generator().manual_seed(0)
    images = pipe(2, generator, num_inference_steps=NFE, output_type="np").images
    expected = ours(model, start(model), tableau)
    assert close(torch.from_numpy(images), (expected / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1))
    handle.remove()


def test_a_raw_network_with_edm_preconditioning():
    model = s4s.load_model("digits")
    tableau = tableaux(model)["learned"]
    scheduler = S4SScheduler.from_tableau(tableau)
    scheduler.set_timesteps(NFE)
    x = start(model) * scheduler.init_noise_sigma
    with torch.inference_mode():
        for t in scheduler.timesteps:
            x = scheduler.step(model.network(x, t[None]), t, x).prev_sample
    assert close(x, ours(model, start(model), tableau))


def test_a_network_that_predicts_data():
    """D is known, so any path will do: D = y / (1 + s^2), data from a unit Gaussian."""
    path = VPDiscrete.scaled_linear()
    levels = path.s_of_t(torch.tensor([999.0, 500.0, 100.0, 0.0], dtype=torch.float64))
    tableau, noise = s4s.solver("unipc", levels, order=2), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler = S4SScheduler.from_tableau(tableau, prediction_type="sample", **betas)
    scheduler.set_timesteps(3)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        s = path.s_of_t(t.double())
        x = scheduler.step(x / (1 + s**2).sqrt(), t, x, return_dict=False)[0]
    expected = s4s.sampling.run(lambda y, s, _: y / (1 + s**2), noise * levels[0], tableau)
    assert x.dtype == torch.float64 and close(x, expected)


def test_a_saved_pipeline_keeps_its_solvers(tmp_path, written):
    folder, model = written("stable_diffusion")
    pipe, noise = pipeline(folder), start(model)
    original = dict(pipe.scheduler.config)
    for nfe in (3, 5):
        tableaux(model, nfe)["learned"].save(tmp_path / f"solver/nfe~{nfe}.json")
    pipe.scheduler = S4SScheduler.from_tableau(tmp_path / "solver", pipe.scheduler)
    pipe.save_pretrained(tmp_path / "saved")
    again = pipeline(tmp_path / "saved")
    assert pipe.scheduler.available_steps == again.scheduler.available_steps == [3, 5]
    for nfe in (5, 3):
        assert torch.equal(of_text(pipe, model, noise, nfe), of_text(again, model, noise, nfe))
    with pytest.raises(S4SError, match="no solver for 50 steps; there are solvers for 3 and 5: pass one of these as num_inf"):
        of_text(pipe, model, noise, 50)
    back = diffusers.DPMSolverMultistepScheduler.from_config(again.scheduler.config)
    keys = ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "prediction_type")
    assert {key: back.config[key] for key in keys} == {key: original.get(key, back.config[key]) for key in keys}


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3", "pixart_sigma"])
def test_a_tableau_says_what_network_it_is_for(written, kind):
    folder, model = written(kind)
    tableau = tableaux(model)["dpmpp"]
    like, alone = S4SScheduler.from_tableau(tableau, pipeline(folder).scheduler), S4SScheduler.from_tableau(tableau)
    for scheduler in (like, alone):
        scheduler.set_timesteps(NFE)
    assert torch.equal(like.timesteps, alone.timesteps) and like.config.prediction_type == alone.config.prediction_type
    with pytest.raises(S4SError, match="pass the scheduler that the pipeline has"):
        S4SScheduler.from_tableau(replace(tableau, meta={}))


@pytest.mark.parametrize(("strength", "begin"), [(1.0, 0), (0.5, 2)])
@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3"])
def test_image_to_image(written, kind, strength, begin):
    """From the noised image on: the whole solver, or DPM-Solver++ on the levels that remain."""
    folder, model = written(kind)
    tableau = tableaux(model)["learned"]
    cls = diffusers.StableDiffusionImg2ImgPipeline if kind == "stable_diffusion" else diffusers.StableDiffusion3Img2ImgPipeline
    pipe = pipeline(folder, cls)
    pipe.scheduler = S4SScheduler.from_tableau(tableau, pipe.scheduler)
    image = start(model)
    options = {"num_inference_steps": NFE, "guidance_scale": 7.5, "output_type": "latent", "strength": strength}
    found = pipe(builder.CAPTIONS[:2], image=image, generator=torch.Generator().manual_seed(1), **options).images
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    rest = restarted(torch.cat([tableau.eval_levels[begin:], tableau.levels[-1:]])) if begin else tableau
    y = image + rest.levels[0].float() * noise
    assert close(found, s4s.sample(model, y, rest, model.conditions(sample_seeds("test", 2))))


def scheduler_of(kind="DDIMScheduler", **options):
    return builder.scheduler(kind, **options)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (scheduler_of("FlowMatchEulerDiscreteScheduler"), "network with path vp_discrete.*, but .* has path flow"),
        (scheduler_of(prediction_type="v_prediction"), "with prediction epsilon.*, but .* has prediction v_prediction"),
        (diffusers.DDPMScheduler(), r"with levels 0.0\d+ / .* / 14.61.*, but .* has levels"),
        (diffusers.DDIMScheduler(rescale_betas_zero_snr=True), "is not supported: it has rescale_betas_zero_snr"),
        (diffusers.KarrasVeScheduler(), "noise schedule of a KarrasVeScheduler is not supported: no betas"),
    ],
)
def test_another_network_is_refused(written, like, message):
    tableau = tableaux(written("stable_diffusion")[1])["dpmpp"]
    with pytest.raises(S4SError, match=message) as error:
        S4SScheduler.from_tableau(tableau, like)
    assert len(str(error.value).splitlines()) == 1


def test_other_bad_input(tmp_path, written):
    model = written("stable_diffusion")[1]
    tableau = tableaux(model)["dpmpp"]
    wide = s4s.solver("ddim", torch.tensor([80.0, 1.0, 0.03], dtype=torch.float64))
    like = scheduler_of()
    with pytest.raises(S4SError, match=r"runs over noise levels 80 to 0.03, but .* covers 14.61\d+ to 0.029"):
        S4SScheduler.from_tableau(wide, like)
    with pytest.raises(S4SError, match="a solver with 4 evaluations already"):
        S4SScheduler.from_tableau([tableau, tableau], like)
    with pytest.raises(S4SError, match="no tableau in this folder"):
        S4SScheduler.from_tableau(tmp_path, like)
    with pytest.raises(S4SError, match="this scheduler holds no solver"):
        S4SScheduler.from_config(like.config).set_timesteps(4)
    scheduler = S4SScheduler.from_tableau(tableau, like)
    with pytest.raises(S4SError, match="call set_timesteps"):
        scheduler.step(torch.zeros(1, 4, 8, 8), 999, torch.zeros(1, 4, 8, 8))
    scheduler.set_timesteps(4)
    own = scheduler.timesteps
    scheduler.set_timesteps(timesteps=[round(t) for t in own.tolist()])
    for name in ("timesteps", "sigmas"):
        with pytest.raises(S4SError, match=f"{name} must be the solver's own, "):
            scheduler.set_timesteps(**{name: [900.0, 400.0, 300.0, 2.0]})


def test_a_pipeline_of_flow_matching_may_pass_even_sigmas():
    levels = FlowMatching().s_of_t(torch.tensor([0.999, 0.6, 0.3, 0.01], dtype=torch.float64))
    scheduler = S4SScheduler.from_tableau(s4s.solver("dpmpp", levels, order=2), scheduler_of("FlowMatchEulerDiscreteScheduler"))
    scheduler.set_timesteps(sigmas=[1.0, 2 / 3, 1 / 3], mu=1.15)
    assert scheduler.timesteps.tolist() == pytest.approx([999.0, 600.0, 300.0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_lower_precision_keeps_its_type(written, dtype):
    model = written("stable_diffusion")[1]
    scheduler = S4SScheduler.from_tableau(tableaux(model)["learned"], scheduler_of())
    ends = []
    for kind in (torch.float32, dtype):
        scheduler.set_timesteps(NFE)
        x = (start(model) * scheduler.init_noise_sigma).to(kind)
        for t in scheduler.timesteps:
            x = scheduler.step(torch.tanh(x), t, x).prev_sample
        assert x.dtype == kind
        ends.append(x.float())
    assert close(ends[1], ends[0], 0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_what_the_cpu_gives(written):
    folder, model = written("stable_diffusion")
    tableau, noise, pipe = tableaux(model)["learned"], start(model), pipeline(folder).to("cuda")
    pipe.scheduler = S4SScheduler.from_tableau(tableau, pipe.scheduler)
    assert close(of_text(pipe, model, noise.cuda()).cpu(), ours(model, noise, tableau), 1e-3)
