"""Networks in folders that diffusers' save_pretrained wrote: `kind: diffusers`. Nothing is fetched, and no code runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.utils.import_utils import is_accelerate_available
from torch import Tensor, nn

from s4s.errors import S4SError, one_line
from s4s.files.bounded import read_json
from s4s.models.conditions import ClassLabels
from s4s.models.description import DiffusersModel, PipelineModel
from s4s.models.network_weights import check_loaded
from s4s.models.paths import Path as GaussianPath
from s4s.models.pipelines.scheduler_config import Noise, noise_of
from s4s.models.predicting import PredictingDenoiser
from s4s.models.torch_checkpoint import check_network, check_sizes, weights_in
from s4s.models.weight_formats import check_has_weights

ALIAS = "Transformer2DModel"  # what DiT's folders of old versions of diffusers name
NETWORKS = ("UNet2DModel", "DiTTransformer2DModel")
INDEX = "model_index.json"
STEM = "diffusion_pytorch_model"  # of diffusers' files of weights
LOCAL: dict[str, Any] = {"local_files_only": True}


def load_denoiser(model: DiffusersModel, device: torch.device) -> PredictingDenoiser:
    """The UNet or transformer of a folder, with the pipeline's autoencoder as the decoder.

    Raises:
        S4SError: if the folder is missing, holds no such thing, or a part cannot be read.
    """
    dtype = getattr(torch, model.precision)
    folder = _folder(model)
    pipeline = read_settings(folder, INDEX) if (folder / INDEX).is_file() else None
    network = read_network(_network_folder(folder, pipeline), dtype, lambda kind: _check_class(model, kind))
    _check(model, network)
    names = [name for name in ("vae", "vqvae") if pipeline and name in pipeline and (folder / name).is_dir()]
    autoencoder = read_network(folder / names[0], torch.float32) if names else None
    nn.Module.to(network, device, dtype).eval().requires_grad_(False)  # diffusers' own `to` warns
    noise = _noise_of(model)
    size, channels = network.config.sample_size, network.config.in_channels

    def predict(x: Tensor, t: Tensor, **arguments: Any) -> Tensor:
        output: Tensor = network(x, timestep=t, return_dict=False, **arguments)[0]
        return output[:, :channels]  # what follows is a learned variance

    return PredictingDenoiser(
        predict, noise.path, noise.prediction, name=model.name, device=device, weights=dtype, times=noise.times,
        shape=(channels, *((size, size) if isinstance(size, int) else size)), s_min=noise.s_min, s_max=noise.s_max,
        guidance=model.guidance,
        conditioning=None if model.classes is None else ClassLabels(model.classes, model.null_class),
        decoder=autoencoder and _decoder(autoencoder, device, dtype), decode_batch=model.decode_batch,
    )  # fmt: skip


def outline(model: DiffusersModel) -> tuple[float, float, GaussianPath, dict[str, Any]]:
    """s_min, s_max, the path and the parametrisation, from the scheduler's configuration alone."""
    noise = _noise_of(model)
    return noise.s_min, noise.s_max, noise.path, {**noise.path.description(), "prediction": noise.prediction}


def _noise_of(model: DiffusersModel) -> Noise:
    """The noise of the scheduler's configuration, but for what the model's file says instead."""
    own = {"prediction_type": model.prediction} if model.prediction in ("v_prediction", "sample") else {}
    try:
        noise = noise_of({**_scheduler(model), **own})
    except S4SError as error:
        raise S4SError(f"model {model.name}: {error}") from error
    s_min, s_max = model.s_min or noise.s_min, model.s_max or noise.s_max
    return replace(noise, s_min=s_min, s_max=s_max, prediction=model.prediction or noise.prediction)


def _decoder(autoencoder: Any, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    config = autoencoder.config
    if config.get("latents_mean") is not None:
        raise S4SError(f"{type(autoencoder).__name__} with latents_mean is not supported; bring it with `kind: python`")
    if dtype == torch.float16 and config.get("force_upcast"):
        dtype = torch.float32  # it overflows otherwise
    nn.Module.to(autoencoder, device, dtype).eval().requires_grad_(False)
    scale, shift = config.scaling_factor, config.get("shift_factor") or 0.0
    return lambda latents: autoencoder.decode(latents.to(dtype) / scale + shift, return_dict=False)[0].clamp(-1, 1)


def _check_class(model: DiffusersModel, kind: str) -> None:
    """Refuse a network that is called otherwise; by its name, before it is read."""
    if kind not in (*NETWORKS, ALIAS):
        raise S4SError(
            f"model {model.name}: a {kind} alone is not supported; use `kind: pipeline` for its pipeline, `kind: python`, or "
            f"one of {', '.join(NETWORKS)}"
        )


def _check(model: DiffusersModel, network: Any) -> None:
    """Refuse a network that takes something else, and a description that does not say whether it is conditioned on classes."""
    kind, config = type(network).__name__, network.config
    if kind == ALIAS:
        raise S4SError(f"model {model.name}: its {kind} is no DiT; use `kind: pipeline`, or `kind: python`")
    if config.get("out_channels") not in (None, config.in_channels, 2 * config.in_channels):
        raise S4SError(f"model {model.name}: its {kind} takes more than a noisy state; use `kind: pipeline`")
    if config.get("class_embed_type"):
        raise S4SError(f"model {model.name}: its {kind} is conditioned on more than classes; use `kind: python`")
    of_classes = bool(config.get("num_class_embeds") or config.get("num_embeds_ada_norm"))
    if (model.classes is not None) != of_classes:
        say = "is conditioned on classes; give `classes`" if of_classes else "takes no classes; leave out `classes`"
        raise S4SError(f"model {model.name}: its {kind} {say} in the model's YAML file")


def _folder(model: DiffusersModel) -> Path:
    if model.path.is_dir():
        return model.path
    raise S4SError(f"{model.path}: no such folder; {how_to_get(model)}, or change path in the model's YAML file")


def how_to_get(model: DiffusersModel | PipelineModel, otherwise: str = "put it there") -> str:
    """What to do where a model's folder is absent."""
    return f"hf download {model.repository} --local-dir {model.path}" if model.repository else otherwise


def _network_folder(folder: Path, pipeline: dict[str, Any] | None) -> Path:
    if pipeline is None:
        return folder
    found = [name for name in ("unet", "transformer") if name in pipeline and (folder / name).is_dir()]
    if len(found) != 1:
        raise S4SError(
            f"{folder}: a pipeline needs one of the folders unet and transformer; found: {', '.join(found) or 'none'}"
        )
    return folder / found[0]


def _scheduler(model: DiffusersModel) -> dict[str, Any]:
    folder = model.scheduler or _folder(model) / "scheduler"
    if model.scheduler is None and not folder.is_dir():
        raise S4SError(f"{model.path}: no scheduler; name the folder of one as `scheduler` in the model's YAML file")
    return read_scheduler(folder)


def read_scheduler(folder: Path) -> dict[str, Any]:
    """scheduler_config.json of a folder."""
    return read_settings(folder, "scheduler_config.json")


def read_network(
    folder: Path, dtype: torch.dtype, check: Callable[[str], None] = lambda kind: None, variant: str | None = None
) -> Any:
    """A network of diffusers with all its weights, of a variant such as fp16; its class is checked before they are read.

    Raises:
        S4SError: if it is no network of diffusers, or its weights are not all there.
    """
    name = read_settings(folder, "config.json")["_class_name"]
    known = getattr(diffusers, str(name), None)
    if not isinstance(known, type) or not issubclass(known, diffusers.ModelMixin):
        raise S4SError(f"{folder}: {name!r} is no network of diffusers {diffusers.__version__}")
    check(name)
    check_has_weights(folder, STEM, variant=variant)
    check_sizes(folder)
    check_network(lambda: known.from_config(read_settings(folder, "config.json")), weights_in(folder), folder)
    try:
        network, info = known.from_pretrained(
            folder, torch_dtype=dtype, low_cpu_mem_usage=is_accelerate_available(), output_loading_info=True,
            **LOCAL, **({"variant": variant} if variant else {}),
        )  # fmt: skip
    except Exception as error:  # whatever a damaged file does to diffusers
        raise S4SError(f"{folder}: cannot be read: {one_line(error)}") from error
    check_loaded(network, info, folder)
    return network


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file that save_pretrained wrote.

    Raises:
        S4SError: if it is not there, or names no class.
    """
    try:
        content = read_json(folder / name)
    except FileNotFoundError:
        raise S4SError(f"{folder}: has no {name}") from None
    except OSError as error:
        raise S4SError(f"{folder / name}: cannot be read: {error.strerror}") from error
    if not isinstance(content, dict) or not isinstance(content.get("_class_name"), str):
        raise S4SError(f"{folder / name}: names no class; was it written by save_pretrained?")
    return content
