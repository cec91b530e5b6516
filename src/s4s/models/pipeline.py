"""Folders that diffusers' save_pretrained wrote: `kind: diffusers`. Nothing is fetched and no code of theirs is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from s4s.errors import S4SError
from s4s.models.conditions import ClassLabels, Conditioning
from s4s.models.files import PipelineModel, StableDiffusionModel
from s4s.models.paths import FlowMatching, VPDiscrete
from s4s.models.paths import Path as GaussianPath
from s4s.models.predicting import PredictingDenoiser, Prediction
from s4s.models.prompts import Encode, EncodedRows, Prompts, StoredRows, read_prompts
from s4s.torchvision_operators import declare_missing_operators

declare_missing_operators()
import diffusers  # noqa: E402

FLOW_TIMES = 1000  # flow-matching transformers are called at 1000 t
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
    folder, pipeline = _folder(model), _read(_folder(model), "model_index.json", needed=False)
    network = _component(_network_folder(folder, pipeline), dtype)
    names = [name for name in ("vae", "vqvae") if pipeline and name in pipeline and (folder / name).is_dir()]
    autoencoder = _component(folder / names[0], dtype) if names else None
    parts = Parts(network, autoencoder, lambda: clip_encoder(folder, device, dtype))
    return assemble(model, parts, _scheduler(model), model.prediction, device, embeddings, model.null_class)


def outline(model: PipelineModel) -> tuple[float, float, GaussianPath]:
    """s_min, s_max and the path, from the scheduler's configuration alone."""
    return range_of(model, _scheduler(model))


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
    _check_conditions(model, parts.network)
    for part in (parts.network, parts.autoencoder):
        if part is not None:
            nn.Module.to(part, device, dtype).eval().requires_grad_(False)  # diffusers' own `to` warns
    s_min, s_max, path = range_of(model, scheduler)
    kind = prediction or ("flow" if isinstance(path, FlowMatching) else scheduler.get("prediction_type", "epsilon"))
    channels = config.in_channels
    scale = FLOW_TIMES if isinstance(path, FlowMatching) else 1

    def predict(x: Tensor, t: Tensor, **arguments: Tensor) -> Tensor:
        output = parts.network(x, timestep=scale * t, return_dict=False, **arguments)[0]
        return output[:, :channels]  # what follows is a learned variance

    size = config.sample_size
    return PredictingDenoiser(
        predict, path, kind, name=model.name, shape=(channels, *((size, size) if isinstance(size, int) else size)),
        s_min=s_min, s_max=s_max, device=device, weights=dtype, guidance=model.guidance,
        conditioning=_conditioning(model, parts, embeddings, null_class),
        decoder=None if parts.autoencoder is None else _decoder(parts.autoencoder), decode_batch=model.decode_batch,
    )  # fmt: skip


def range_of(model: PipelineModel | StableDiffusionModel, scheduler: dict[str, Any]) -> tuple[float, float, GaussianPath]:
    """s_min, s_max and the path of a scheduler's configuration; flow matching reaches s = 0 and infinity, so s needs bounds."""
    if scheduler["_class_name"].startswith("FlowMatch"):
        return model.s_min or 0.002, model.s_max or 999.0, FlowMatching()
    path = VPDiscrete(diffusers.DDPMScheduler.from_config(scheduler).betas)
    first, last = path.s_of_t(torch.tensor([0.0, path.times - 1.0], dtype=torch.float64)).tolist()
    return model.s_min or first, model.s_max or last, path


def clip_encoder(folder: Path, device: torch.device, dtype: torch.dtype, text_model: Any = None) -> Encode:
    """Texts to embeddings [n, tokens, width] with the tokenizer and CLIP text model of a pipeline folder, or `text_model`."""
    from transformers import CLIPTextModel, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", **LOCAL)
        encoder = text_model or CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=dtype, **LOCAL)
    except (OSError, ValueError) as error:
        raise S4SError(f"{folder}: the tokenizer and the CLIP text encoder cannot be read: {_short(error)}") from error
    encoder = nn.Module.to(encoder, device, dtype).eval().requires_grad_(False)
    length = encoder.config.max_position_embeddings

    @torch.inference_mode()
    def encode(texts: list[str]) -> Tensor:
        tokens = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return encoder(tokens.input_ids.to(device)).last_hidden_state

    return encode


def _decoder(autoencoder: Any) -> Callable[[Tensor], Tensor]:
    scale, shift = autoencoder.config.scaling_factor, getattr(autoencoder.config, "shift_factor", None) or 0.0
    return lambda latents: autoencoder.decode(latents / scale + shift, return_dict=False)[0].clamp(-1, 1)


def _check_conditions(model: PipelineModel | StableDiffusionModel, network: Any) -> None:
    """Refuse a description without what the network is conditioned on, or with what it does not take."""
    of_text = isinstance(network, diffusers.UNet2DConditionModel)
    of_classes = bool(network.config.get("num_class_embeds") or network.config.get("num_embeds_ada_norm"))
    for given, wanted, what in [(model.prompts, of_text, "prompts"), (model.classes, of_classes, "classes")]:
        if (given is not None) != wanted:
            say = f"is conditioned on {what}; give `{what}`" if wanted else f"takes no {what}; leave out `{what}`"
            raise S4SError(f"model {model.name}: its {type(network).__name__} {say} in the model's YAML file")


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
    return clip_encoder(_folder(model), device, getattr(torch, model.precision))


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
    return _read(folder, "scheduler_config.json") or {}


def _component(folder: Path, dtype: torch.dtype) -> Any:
    name = (_read(folder, "config.json") or {}).get("_class_name")
    known = getattr(diffusers, str(name), None)
    if not isinstance(known, type) or not issubclass(known, diffusers.ModelMixin):
        raise S4SError(f"{folder}: {name!r} is no network of diffusers {diffusers.__version__}")
    try:
        return known.from_pretrained(folder, torch_dtype=dtype, low_cpu_mem_usage=False, **LOCAL)
    except (OSError, ValueError, RuntimeError) as error:
        raise S4SError(f"{folder}: cannot be read: {_short(error)}") from error


def _read(folder: Path, name: str, needed: bool = True) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / name).read_text())
    except FileNotFoundError:
        if not needed:
            return None
        raise S4SError(f"{folder}: has no {name}") from None
    except ValueError as error:
        raise S4SError(f"{folder / name}: not JSON: {error}") from error
    if not isinstance(content, dict) or "_class_name" not in content:
        raise S4SError(f"{folder / name}: names no class; was it written by save_pretrained?")
    return content


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
