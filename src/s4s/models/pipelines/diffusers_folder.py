"""Folders that diffusers' save_pretrained wrote: `kind: diffusers`. Nothing is fetched and no code of theirs is run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
from diffusers.utils.import_utils import is_accelerate_available
from torch import Tensor, nn

from s4s.errors import S4SError, one_line
from s4s.files.bounded import read_json
from s4s.models.conditions import ClassLabels, Conditioning
from s4s.models.description import PipelineModel, StableDiffusionModel
from s4s.models.network_weights import check_loaded
from s4s.models.paths import Path as GaussianPath
from s4s.models.pipelines.prompts import Encode, EncodedRows, Prompts, StoredRows, read_prompts
from s4s.models.pipelines.scheduler_config import Noise, noise_of
from s4s.models.predicting import PredictingDenoiser, Prediction
from s4s.models.torch_checkpoint import check_network, check_sizes, weights_in
from s4s.models.weight_formats import check_has_weights

ALIAS = "Transformer2DModel"  # what DiT's and PixArt's folders of old versions of diffusers name
NETWORKS = ("UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel", "PixArtTransformer2DModel", "SD3Transformer2DModel")
INDEX = "model_index.json"
STEM = "diffusion_pytorch_model"  # of diffusers' files of weights
LOCAL: dict[str, Any] = {"local_files_only": True}


class Parts(NamedTuple):
    """A network, its autoencoder if it works on latents, and what makes the text encoder."""

    network: Any
    autoencoder: Any | None
    text_encoder: Callable[[], Encode]


def load_denoiser(model: PipelineModel, device: torch.device, embeddings: Path | None = None) -> PredictingDenoiser:
    """The UNet or transformer of a folder, with the pipeline's autoencoder as the decoder and its text encoder for prompts.

    Raises:
        S4SError: if the folder is missing, holds no such thing, or a part cannot be read.
    """
    dtype = getattr(torch, model.precision)
    folder = _folder(model)
    pipeline = read_settings(folder, INDEX) if (folder / INDEX).is_file() else None
    if model.prompts is not None and embeddings is None:
        from s4s.models.pipelines.text_encoders import check_pipeline  # it imports transformers

        check_pipeline(read_settings(folder, INDEX))
    network = read_network(_network_folder(folder, pipeline), dtype, lambda kind: _check_class(model, kind))
    names = [name for name in ("vae", "vqvae") if pipeline and name in pipeline and (folder / name).is_dir()]
    autoencoder = read_network(folder / names[0], torch.float32) if names else None
    parts = Parts(network, autoencoder, lambda: text_encoder(model, device))
    return assemble(model, parts, _scheduler(model), model.prediction, device, embeddings, model.null_class)


def outline(model: PipelineModel) -> tuple[float, float, GaussianPath, dict[str, Any]]:
    """s_min, s_max, the path and the parametrisation, from the scheduler's configuration alone."""
    return outline_of(model, _scheduler(model), model.prediction)


def outline_of(
    model: PipelineModel | StableDiffusionModel, scheduler: dict[str, Any], prediction: Prediction | None
) -> tuple[float, float, GaussianPath, dict[str, Any]]:
    """The same, from a scheduler's configuration."""
    noise = _noise_of(model, scheduler, prediction)
    return noise.s_min, noise.s_max, noise.path, {**noise.path.description(), "prediction": noise.prediction}


def assemble(
    model: PipelineModel | StableDiffusionModel,
    parts: Parts,
    scheduler: dict[str, Any],
    prediction: Prediction | None,
    device: torch.device,
    embeddings: Path | None,
    null_class: int | None = None,
) -> PredictingDenoiser:
    """A denoiser of a model's parts, with the noise schedule of a scheduler's configuration."""
    dtype, config = getattr(torch, model.precision), parts.network.config
    _check(model, parts.network)
    nn.Module.to(parts.network, device, dtype).eval().requires_grad_(False)  # diffusers' own `to` warns
    noise = _noise_of(model, scheduler, prediction)
    size, channels = config.sample_size, config.in_channels
    sizes = _sizes(parts)

    def predict(x: Tensor, t: Tensor, **arguments: Any) -> Tensor:
        if sizes is not None:
            added = {name: None if value is None else value.to(x).expand(len(x), -1) for name, value in sizes.items()}
            if "text_embeds" in arguments:
                added["text_embeds"] = arguments.pop("text_embeds")
            arguments["added_cond_kwargs"] = added
        output: Tensor = parts.network(x, timestep=t, return_dict=False, **arguments)[0]
        return output[:, :channels]  # what follows is a learned variance

    return PredictingDenoiser(
        predict, noise.path, noise.prediction, name=model.name, device=device, weights=dtype, times=noise.times,
        shape=(channels, *((size, size) if isinstance(size, int) else size)), s_min=noise.s_min, s_max=noise.s_max,
        guidance=model.guidance,
        conditioning=_conditioning(model, parts, embeddings, null_class),
        decoder=parts.autoencoder and _decoder(parts.autoencoder, device, dtype), decode_batch=model.decode_batch,
    )  # fmt: skip


def _noise_of(model: PipelineModel | StableDiffusionModel, scheduler: dict[str, Any], prediction: Prediction | None) -> Noise:
    """The noise of a scheduler's configuration, but for what the model's file says instead."""
    own = {"prediction_type": prediction} if prediction in ("v_prediction", "sample") else {}
    try:
        noise = noise_of({**scheduler, **own})
    except S4SError as error:
        raise S4SError(f"model {model.name}: {error}") from error
    s_min, s_max = model.s_min or noise.s_min, model.s_max or noise.s_max
    return replace(noise, s_min=s_min, s_max=s_max, prediction=prediction or noise.prediction)


def _decoder(autoencoder: Any, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    config = autoencoder.config
    if config.get("latents_mean") is not None:
        raise S4SError(f"{type(autoencoder).__name__} with latents_mean is not supported; bring it with `kind: python`")
    if dtype == torch.float16 and config.get("force_upcast"):
        dtype = torch.float32  # it overflows otherwise
    nn.Module.to(autoencoder, device, dtype).eval().requires_grad_(False)
    scale, shift = config.scaling_factor, config.get("shift_factor") or 0.0
    return lambda latents: autoencoder.decode(latents.to(dtype) / scale + shift, return_dict=False)[0].clamp(-1, 1)


def _sizes(parts: Parts) -> dict[str, Tensor | None] | None:
    """What SDXL and PixArt are given of an image's size, [1, n] each: that it is whole and square; None for other networks."""
    config, pixart = parts.network.config, getattr(parts.network, "use_additional_conditions", None)  # PixArt has it
    if config.get("addition_embed_type") is None and pixart is None:
        return None
    halvings = 0 if parts.autoencoder is None else len(parts.autoencoder.config.block_out_channels) - 1
    pixels = config.sample_size * 2**halvings
    if pixart is None:
        return {"time_ids": torch.tensor([[pixels, pixels, 0, 0, pixels, pixels]])}
    sizes = torch.tensor([[pixels, pixels]]), torch.tensor([[1.0]])
    return dict(zip(("resolution", "aspect_ratio"), sizes if pixart else (None, None), strict=True))


def _check_class(model: PipelineModel | StableDiffusionModel, kind: str) -> None:
    """Refuse a network that is called otherwise; by its name, before it is read."""
    if kind not in (*NETWORKS, ALIAS):
        raise S4SError(f"model {model.name}: a {kind} is not supported; use `kind: python`, or one of {', '.join(NETWORKS)}")


def _check(model: PipelineModel | StableDiffusionModel, network: Any) -> None:
    """Refuse a network that takes something else, and a description that does not say what it is conditioned on."""
    kind, config = type(network).__name__, network.config
    if kind == ALIAS:
        raise S4SError(f"model {model.name}: its {kind} is neither a DiT nor a PixArt; use `kind: python`")
    if config.get("out_channels") not in (None, config.in_channels, 2 * config.in_channels):
        raise S4SError(f"model {model.name}: its {kind} takes more than a noisy state (inpainting?); use `kind: python`")
    of_text = "encoder_hidden_states" in inspect.signature(type(network).forward).parameters
    others = ["class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim", *(["num_class_embeds"] if of_text else [])]
    if config.get("addition_embed_type") not in (None, "text_time") or any(config.get(name) for name in others):
        raise S4SError(f"model {model.name}: its {kind} is conditioned on more than classes or text; use `kind: python`")
    of_classes = bool(config.get("num_class_embeds") or config.get("num_embeds_ada_norm")) and not of_text
    for given, wanted, what in [(model.prompts, of_text, "prompts"), (model.classes, of_classes, "classes")]:
        if (given is not None) != wanted:
            say = f"is conditioned on {what}; give `{what}`" if wanted else f"takes no {what}; leave out `{what}`"
            raise S4SError(f"model {model.name}: its {kind} {say} in the model's YAML file")


def _conditioning(
    model: PipelineModel | StableDiffusionModel, parts: Parts, embeddings: Path | None, null_class: int | None
) -> Conditioning | None:
    if model.classes is not None:
        return ClassLabels(model.classes, null_class)
    if model.prompts is None:
        return None
    prompts = read_prompts(model.prompts)
    if embeddings is not None:
        return Prompts(len(prompts), StoredRows(embeddings, prompts))
    return Prompts(len(prompts), EncodedRows(prompts, parts.text_encoder()))


def text_encoder(model: PipelineModel, device: torch.device) -> Encode:
    """What turns prompts into embeddings."""
    from s4s.models.pipelines.text_encoders import read_encoder

    folder = _folder(model)
    return read_encoder(folder, read_settings(folder, INDEX), device, getattr(torch, model.precision))


def _folder(model: PipelineModel) -> Path:
    if model.path.is_dir():
        return model.path
    get = f"hf download {model.repository} --local-dir {model.path}" if model.repository else "put it there"
    raise S4SError(f"{model.path}: no such folder; {get}, or change path in the model's YAML file")


def _network_folder(folder: Path, pipeline: dict[str, Any] | None) -> Path:
    if pipeline is None:
        return folder
    found = [name for name in ("unet", "transformer") if name in pipeline and (folder / name).is_dir()]
    if len(found) != 1:
        raise S4SError(
            f"{folder}: a pipeline needs one of the folders unet and transformer; found: {', '.join(found) or 'none'}"
        )
    return folder / found[0]


def _scheduler(model: PipelineModel) -> dict[str, Any]:
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
