"""Stable Diffusion v1.x in a single file: `kind: stable_diffusion`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor, nn

from s4s.errors import S4SError, one_line
from s4s.models.description import StableDiffusionModel
from s4s.models.network_weights import fill
from s4s.models.paths import Path as GaussianPath
from s4s.models.pipelines.diffusers_folder import LOCAL, Parts, assemble, outline_of, read_scheduler
from s4s.models.pipelines.prompts import Encode
from s4s.models.pipelines.text_encoders import encoder, read_part
from s4s.models.predicting import PredictingDenoiser
from s4s.models.torch_checkpoint import check_network, check_sizes, read_checkpoint
from s4s.models.weight_formats import LATENT_DIFFUSION, STABLE_DIFFUSION, by_names, names_in

TEXT = "cond_stage_model.transformer.text_model."


def load_denoiser(model: StableDiffusionModel, device: torch.device, embeddings: Path | None = None) -> PredictingDenoiser:
    """The UNet and the autoencoder of the checkpoint (the averaged weights, where it has both), its text encoder for prompts.

    Raises:
        S4SError: if a file cannot be read, or the checkpoint does not fit the configurations.
    """
    state = _state(model)
    unet = _filled(model, UNet2DConditionModel, "unet", lambda config: convert_ldm_unet_checkpoint(state, config))
    vae = _filled(model, AutoencoderKL, "vae", lambda config: convert_ldm_vae_checkpoint(state, config))
    parts = Parts(unet, vae, lambda: text_encoder(model, device, state))
    return assemble(model, parts, read_scheduler(model.config / "scheduler"), None, device, embeddings)


def outline(model: StableDiffusionModel) -> tuple[float, float, GaussianPath, dict[str, Any]]:
    """s_min, s_max, the path and the parametrisation, from the scheduler's configuration alone."""
    return outline_of(model, read_scheduler(model.config / "scheduler"), None)


def text_encoder(model: StableDiffusionModel, device: torch.device, state: dict[str, Tensor] | None = None) -> Encode:
    """What turns prompts into embeddings."""
    from transformers import CLIPTextConfig, CLIPTextModel

    state = _state(model) if state is None else state
    weights = {key.removeprefix(TEXT): value for key, value in state.items() if key.startswith(TEXT)}
    weights.pop("embeddings.position_ids", None)  # a table of 0, 1, 2, ... in files of old versions of transformers
    check_sizes(model.config / "text_encoder")
    try:
        config = CLIPTextConfig.from_pretrained(model.config / "text_encoder", **LOCAL)
        check_network(lambda: CLIPTextModel(config), model.path.stat().st_size, model.config / "text_encoder")
        text_model = CLIPTextModel(config)
        fill(text_model, weights)
    except (OSError, ValueError, RuntimeError) as error:
        raise _misfit(model, "text_encoder", error) from error
    dtype = getattr(torch, model.precision)
    nn.Module.to(text_model, device, dtype).eval().requires_grad_(False)
    tokenizer = read_part(model.config / "tokenizer", "CLIPTokenizer", device, dtype)
    return encoder("StableDiffusionPipeline", {"text_encoder": text_model, "tokenizer": tokenizer}, device)


def _state(model: StableDiffusionModel) -> dict[str, Tensor]:
    _check_names(model, names_in(model.path))  # before gigabytes are read
    state = read_checkpoint(model)
    _check_names(model, state)
    return averaged(state)


def averaged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint without a second set of weights: those that sample better replace the others."""
    names = {key: "model_ema." + key.removeprefix("model.").replace(".", "") for key in state if key.startswith("model.")}
    return {key: state.get(names.get(key, key), value) for key, value in state.items() if not key.startswith("model_ema.")}


def _check_names(model: StableDiffusionModel, names: Iterable[str]) -> None:
    if known := by_names(names, STABLE_DIFFUSION, LATENT_DIFFUSION):
        raise S4SError(f"{model.path}: not Stable Diffusion v1 in a single file{known}")


def _filled(model: StableDiffusionModel, kind: Any, name: str, weights: Any) -> nn.Module:
    check_sizes(model.config / name)
    try:
        config = kind.load_config(model.config / name, **LOCAL)
        check_network(lambda: kind.from_config(config), model.path.stat().st_size, model.config / name)
        network: nn.Module = kind.from_config(config)
        fill(network, weights(config))
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise _misfit(model, name, error) from error
    return network


def _misfit(model: StableDiffusionModel, name: str, error: Exception) -> S4SError:
    return S4SError(f"{model.path}: does not fit the configuration in {model.config / name}: {one_line(error, 600)}")
