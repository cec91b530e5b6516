"""Tiny pipelines run as diffusers runs them, listen to what they are told, and give a fit something to learn."""

import inspect
from functools import wraps

import numpy as np
import pytest
import torch

from s4s import from_pipeline
from s4s.export.pipeline_solvers import classical
from tests.builders.tiny_pipelines import PIPELINES

TOLD = ("prompt", "class_labels")  # how a pipeline calls what it draws
GUIDANCE = ("true_cfg_scale", "distilled_guidance_scale", "guidance_scale", "pag_scale")


def size(values):
    """Root of the mean square."""
    return float(values.double().square().mean().sqrt())


def change(values, others):
    """How far values are from others, in parts of those."""
    return size(values - others) / size(others)


def run(pipe, case, rows, **changes):
    """Latents, or pixels, of these rows; each has its own prompt and noise."""
    told = {} if case.prompts is None else {
        next(name for name in TOLD if name in inspect.signature(pipe.__call__).parameters): [case.prompts[row] for row in rows]
    }  # fmt: skip
    noise = [torch.Generator().manual_seed(row) for row in rows]
    made = pipe(**told, generator=noise, num_inference_steps=2, **{"output_type": "latent", **case.call, **changes})[0]
    return (
        torch.from_numpy(made) if isinstance(made, np.ndarray) else made if torch.is_tensor(made) else torch.stack(list(made))
    )


def sizes_of_steps(pipe):
    """Fills with the size of what the scheduler is given at every step."""
    sizes, step = [], pipe.scheduler.step

    @wraps(step)  # pipelines look at its arguments
    def listened(model_output, *others, **options):
        sizes.append(size(model_output))
        return step(model_output, *others, **options)

    pipe.scheduler.step = listened
    return sizes


@pytest.mark.suite
@pytest.mark.parametrize("name", sorted(PIPELINES.keys() - {"compiled"}))  # which takes minutes to compile
def test_a_tiny_pipeline_runs_and_listens(name):
    case = PIPELINES[name]
    if case.missing:
        pytest.skip(f"needs {case.needs}")
    pipe = case.make()
    pipe.set_progress_bar_config(disable=True)
    sizes = sizes_of_steps(pipe)
    alone = run(pipe, case, [0])
    assert torch.isfinite(alone).all()
    assert 0.1 < sizes[0] < 3, sizes

    if case.prompts is not None:
        assert len(set(case.prompts)) == len(case.prompts) >= 2
        if case.together:
            apart = max(
                change(run(pipe, case, [row]), row_of_both[None]) for row, row_of_both in enumerate(run(pipe, case, [0, 1]))
            )
            assert (apart > 1e-4) == bool(case.apart), apart
        other = PIPELINES[name].prompts[1]
        told = type(case)(case.make, case.call, [other])
        assert change(run(pipe, told, [0]), alone) > 0.01

    for strength in (name for name in GUIDANCE if case.call.get(name)):
        assert change(run(pipe, case, [0], **{strength: 1.5 * case.call[strength]}), alone) > 0.005, strength


def test_every_build_of_a_tiny_pipeline_is_the_same():
    case = PIPELINES["flux"]
    first, second = (case.make().transformer.state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.suite
def test_a_fit_tries_the_schedules_that_a_path_has():
    case = PIPELINES["svd"]  # on EDM's path, whose time is below 0 for small noise
    denoiser = from_pipeline(case.make(), **case.call)
    try:
        found = {on: classical(denoiser, "iPNDM-3", on, 3) for on in ("time_quadratic", "time_uniform", "logsnr")}
    finally:
        denoiser.close()
    assert [on for on, tableau in found.items() if tableau is None] == ["time_quadratic"]
