"""A whole pipeline as a model of the workflow: `kind: pipeline`. Its own call is the denoiser (`live`)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from s4s.errors import S4SError
from s4s.models.description import PipelineModel
from s4s.models.paths import Path as GaussianPath
from s4s.models.pipelines.diffusers_folder import how_to_get, read_scheduler
from s4s.models.pipelines.live import LivePipeline, from_pipeline
from s4s.models.pipelines.loading import load_pipeline, read_index
from s4s.models.pipelines.pipeline_call import PipelineCall
from s4s.models.pipelines.prompts import PromptsOfTheirOwn, read_prompts
from s4s.models.pipelines.scheduler_config import noise_of


def load_denoiser(model: PipelineModel, device: torch.device) -> LivePipeline:
    """The pipeline, called with what the model's file says; samples take prompts as `prompts.prompt_numbers` shares them out.

    Raises:
        S4SError: if it cannot be loaded, or takes no such arguments.
    """
    prompts = None if model.prompts is None else read_prompts(model.prompts)
    parts = _check_call(model, prompts)
    pipe = load_pipeline(
        model.path, dtype=model.precision, device=device, variant=model.variant, config=model.config, lora=model.lora,
        sha256=model.sha256,
        components={"safety_checker": None} if "safety_checker" in parts else None,  # it puts black images in place of others
    )  # fmt: skip
    denoiser = from_pipeline(pipe, prompts=prompts, name=model.name, **model.call)
    if prompts is not None:
        denoiser.prompts = PromptsOfTheirOwn(len(prompts))
    if denoiser.rows > 1:  # else its rows depend on each other
        denoiser.rows = model.block
    denoiser.decode_batch = model.decode_batch
    denoiser.s_min, denoiser.s_max = model.s_min or denoiser.s_min, model.s_max or denoiser.s_max
    return denoiser


def outline(model: PipelineModel) -> tuple[float, float, GaussianPath, dict[str, Any]]:
    """s_min, s_max, the path and the parametrisation, from the scheduler's configuration alone."""
    folder = model.config or model.path
    _check_there(model)
    try:
        noise = noise_of(read_scheduler(folder / "scheduler"))
    except S4SError as error:
        raise S4SError(f"model {model.name}: {error}") from error
    parametrisation = {**noise.path.description(), "prediction": noise.prediction}
    return model.s_min or noise.s_min, model.s_max or noise.s_max, noise.path, parametrisation


def _check_there(model: PipelineModel) -> None:
    if not model.path.exists():
        get = how_to_get(model, f"get {model.url} and put it there" if model.url else "put it there")
        raise S4SError(f"{model.path}: no such folder or file; {get}, or change path in the model's YAML file")
    if model.config is None and not model.path.is_dir():
        raise S4SError(f"{model.path}: a single file holds weights alone; name the folder of its configurations as config")


def _check_call(model: PipelineModel, prompts: list[str] | None) -> Collection[str]:
    """Refuse arguments that the pipeline does not take, before its weights are read; the names of its parts."""
    _check_there(model)
    known, parts = read_index(model.config or model.path)
    try:
        PipelineCall(known.__new__(known), prompts, model.call)  # its class is all that is looked at
    except S4SError as error:
        raise S4SError(f"model {model.name}: call: {error}") from error
    return parts
