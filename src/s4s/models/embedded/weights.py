"""The embedded models: weights and settings in one safetensors file, made by `snakemake train_embedded`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from s4s.errors import S4SError
from s4s.files.atomic import atomic_path
from s4s.files.bounded import check_safetensors
from s4s.models.conditions import ClassLabels
from s4s.models.denoiser import Denoiser
from s4s.models.description import EmbeddedModel, WeightFile
from s4s.models.edm.denoiser import EDMDenoiser, EDMPreconditioning
from s4s.models.embedded.autoencoder import Autoencoder
from s4s.models.embedded.classifier import Classifier
from s4s.models.embedded.mixture import IndependentMixture
from s4s.models.embedded.mlp import MLP
from s4s.models.embedded.transformer import Transformer
from s4s.models.embedded.unet import UNet
from s4s.models.model_files import checked_bytes
from s4s.models.network_weights import fill
from s4s.models.paths import FlowMatching, VPLinear
from s4s.models.paths import Path as GaussianPath
from s4s.models.predicting import PredictingDenoiser
from s4s.models.torch_checkpoint import check_network
from s4s.models.weight_formats import SAFETENSORS, instead_of

NETWORKS: dict[str, type[nn.Module]] = {"UNet": UNet, "Transformer": Transformer, "MLP": MLP}
MIXTURE_TABLES = ("weights", "means", "deviations")
PATHS: dict[str, type[GaussianPath]] = {"vp_linear": VPLinear, "flow": FlowMatching}


def save_tensors(tensors: dict[str, Tensor], record: dict[str, Any], path: str | Path) -> None:
    """Write tensors with `record` (settings, training, scores) as metadata."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, {"s4s": json.dumps(record, sort_keys=True)}))


def save_network(network: nn.Module, record: dict[str, Any], path: str | Path) -> None:
    """Write a network's weights with `record` as metadata."""
    save_tensors({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, record, path)


def load_denoiser(model: EmbeddedModel, device: torch.device) -> Denoiser:
    """The denoiser that was trained, or the exact one of a mixture, with guidance and a decoder if the model has them."""
    state, record = _read(model)
    if record.get("network") == "mixture":
        weights, means, deviations = (state[name].to(device) for name in MIXTURE_TABLES)
        return IndependentMixture(weights, means, deviations, model.name)
    kind = NETWORKS.get(str(record.get("network")))
    if kind is None:
        raise S4SError(f"{model.path}: not the weights of a denoiser; give its file under `path`")
    if record["classes"] != model.classes:
        raise S4SError(f"model {model.name}: classes: {model.classes} in its file, {record['classes']} in {model.path}")
    network = _restore(kind, record["options"], state, model, device)
    decoder = None
    if model.autoencoder is not None:
        state, about = _read(model.autoencoder)
        decoder = _restore(Autoencoder, about.get("network", {}), state, model.autoencoder, device).decode
    return assemble(network, record, model.name, model.guidance, decoder)


def assemble(
    network: nn.Module, record: dict[str, Any], name: str, guidance: float = 1.0, decoder: Any | None = None
) -> EDMDenoiser | PredictingDenoiser:
    """A network as the denoiser that its record describes (s4s/models/embedded/recipes.py)."""
    known = {"name": name, "shape": record["shape"], "s_min": record["s_min"], "s_max": record["s_max"]}
    conditioning = ClassLabels(record["classes"]) if record["classes"] is not None else None
    if record["prediction"] == "edm":
        return EDMDenoiser(network, EDMPreconditioning(record["sigma_data"]), **known)
    return PredictingDenoiser(
        network, PATHS[record["path"]](), record["prediction"], times=record["times"], device=next(network.parameters()).device,
        conditioning=conditioning, guidance=guidance, decoder=decoder, decode_batch=256, **known,
    )  # fmt: skip


def outline(model: EmbeddedModel) -> tuple[float, float, GaussianPath, dict[str, Any]]:
    """s_min, s_max, the path and the parametrisation."""
    denoiser = load_denoiser(model, torch.device("cpu"))
    return denoiser.s_min, denoiser.s_max, denoiser.path, denoiser.parametrisation


def load_classifier(weights: WeightFile, device: torch.device) -> tuple[Classifier, str]:
    """A feature network, and the name of the data set that it was trained on."""
    state, record = _read(weights)
    try:
        options, dataset = record["network"], record["dataset"]
    except KeyError as error:
        raise S4SError(f"{weights.path}: not the weights of a feature network; {error} is missing") from None
    return _restore(Classifier, options, state, weights, device), dataset


def _read(weights: WeightFile) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = checked_bytes(weights)
    check_safetensors(weights.path)
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return load(content), json.loads(header["__metadata__"]["s4s"])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        known = instead_of(weights.path, SAFETENSORS)
        raise S4SError(f"{weights.path}: not weights that `snakemake train_embedded` made ({error}){known}") from error


def _restore(kind: type, options: Any, state: dict[str, Tensor], weights: WeightFile, device: torch.device) -> Any:
    check_network(lambda: kind(**options), weights.path.stat().st_size, weights.path)
    try:
        network = kind(**options)
        fill(network, state)
    except S4SError as error:
        raise S4SError(f"{weights.path}: {error}") from error
    except (KeyError, TypeError, RuntimeError) as error:
        raise S4SError(f"{weights.path}: weights do not fit {kind.__name__}: {error}") from error
    return network.to(device).eval().requires_grad_(False)
