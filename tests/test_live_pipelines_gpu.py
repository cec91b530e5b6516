"""Live pipelines on a GPU: half precision, offloading, no waiting between evaluations, compiled networks, a fit, exceptions."""

from contextlib import contextmanager

import pytest
import torch

import s4s
from s4s.export import S4SScheduler
from tests.builders import pipelines as builder

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
PIPELINES = {"flow": builder.stable_diffusion_3, "table": builder.stable_diffusion}
PROMPTS = ["a cat", "the sea", "bread", "two dogs"]


@pytest.fixture(params=PIPELINES)
def pipe(request):
    made = PIPELINES[request.param]()
    made.set_progress_bar_config(disable=True)
    return made


@contextmanager
def refusing_to_wait():
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def asked(pipe, **call):
    denoiser = s4s.from_pipeline(pipe, prompts=PROMPTS, guidance_scale=3.0, **call)
    try:
        yield denoiser
    finally:
        denoiser.close()


def solver(denoiser, nfe=3):
    return s4s.solver("ipndm", s4s.levels("logsnr", nfe, denoiser), order=3)


def drawn(denoiser):
    seeds = range(3)
    return s4s.initial_noise(denoiser, seeds), denoiser.conditions(seeds)


def test_half_precision_has_float32_states(pipe):
    with asked(pipe.to("cuda", torch.bfloat16)) as denoiser:
        assert denoiser.weights == torch.bfloat16 and denoiser.dtype == torch.float32 and denoiser.device.type == "cuda"
        y_T, condition = drawn(denoiser)
        found = s4s.sample(denoiser, y_T, solver(denoiser), condition)
        assert found.dtype == torch.float32 and found.device.type == "cuda" and bool(found.isfinite().all())


def test_a_gpu_samples_what_the_cpu_samples(pipe):
    with asked(pipe) as denoiser:
        y_T, condition = drawn(denoiser)
        here = s4s.sample(denoiser, y_T, solver(denoiser), condition)
    with asked(pipe.to("cuda")) as denoiser:
        there = s4s.sample(denoiser, y_T, solver(denoiser), condition).cpu()
    assert torch.allclose(there, here, atol=1e-2 * float(here.abs().max()))


@pytest.mark.parametrize("offload", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_networks_may_be_offloaded(pipe, offload):
    pytest.importorskip("accelerate")
    getattr(pipe, offload)()
    with asked(pipe) as denoiser:
        y_T, condition = drawn(denoiser)
        assert denoiser.device.type == "cuda"
        assert bool(s4s.sample(denoiser, y_T, solver(denoiser), condition).isfinite().all())


def test_a_pipeline_may_be_loaded_by_a_device_map(pipe, tmp_path):
    pytest.importorskip("accelerate")
    pipe.save_pretrained(tmp_path)
    with asked(type(pipe).from_pretrained(tmp_path, device_map="cuda")) as denoiser:
        y_T, condition = drawn(denoiser)
        assert bool(s4s.sample(denoiser, y_T, solver(denoiser), condition).isfinite().all())


def test_no_evaluation_waits(pipe):
    with asked(pipe.to("cuda")) as denoiser:
        y_T, condition = drawn(denoiser)
        tableau = solver(denoiser)
        s4s.sample(denoiser, y_T, tableau, condition)  # begins the sessions
        with refusing_to_wait():
            s4s.sample(denoiser, y_T, tableau, condition)


def test_no_step_of_the_scheduler_waits(pipe):
    with asked(pipe.to("cuda")) as denoiser:
        tableau = solver(denoiser)
    pipe.scheduler = scheduler = S4SScheduler.from_tableau(tableau, pipe.scheduler)
    step, steps = scheduler.step, []

    def watched(*args, **kwargs):
        with refusing_to_wait():
            steps.append(step(*args, **kwargs))
        return steps[-1]

    scheduler.step = watched
    pipe("a cat", num_inference_steps=3, output_type="latent")
    assert len(steps) == 3


def test_a_compiled_network_is_asked(pipe):
    name = "transformer" if hasattr(pipe, "transformer") else "unet"
    pipe.to("cuda")
    with asked(pipe) as denoiser:
        y_T, condition = drawn(denoiser)
        plain = s4s.sample(denoiser, y_T, solver(denoiser), condition)
    getattr(pipe, name).compile()
    with asked(pipe) as denoiser:
        compiled = s4s.sample(denoiser, y_T, solver(denoiser), condition)
    assert torch.allclose(compiled, plain, atol=1e-2 * float(plain.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fit(pipe, dtype):
    pipe.to("cuda", dtype)
    scheduler = s4s.fit_pipeline(pipe, nfe=3, prompts=PROMPTS, pairs=4, distilled=True, show_progress=False, guidance_scale=3.0)
    assert scheduler.available_steps == [3]
    pipe.scheduler = scheduler
    images = pipe("a cat", num_inference_steps=3, guidance_scale=3.0, output_type="latent").images
    assert images.device.type == "cuda" and bool(images.isfinite().all())


def test_a_pipeline_is_where_it_was_after_an_exception(pipe):
    name = "transformer" if hasattr(pipe, "transformer") else "unet"
    pipe.to("cuda")
    network, scheduler = getattr(pipe, name), pipe.scheduler
    before = pipe("a cat", num_inference_steps=2, output_type="latent", generator=torch.Generator().manual_seed(0)).images

    def broken(*_):
        raise RuntimeError("a broken network")

    with asked(pipe) as denoiser:
        y_T, condition = drawn(denoiser)
        handle = network.register_forward_pre_hook(broken)
        with pytest.raises(RuntimeError, match="a broken network"):
            denoiser(y_T, 1.0, condition)
        handle.remove()
    assert pipe.scheduler is scheduler and pipe.device.type == "cuda"
    after = pipe("a cat", num_inference_steps=2, output_type="latent", generator=torch.Generator().manual_seed(0)).images
    assert torch.allclose(after, before, atol=1e-5 * float(before.abs().max()))
