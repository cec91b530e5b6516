"""The embedded models: weights and settings in one safetensors file, made by `snakemake train_embedded`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from s4s.atomic import atomic_path
from s4s.errors import S4SError
from s4s.models.classifier import Classifier
from s4s.models.edm import EDMDenoiser, EDMPreconditioning
from s4s.models.files import EmbeddedModel, WeightFile, checked_bytes
from s4s.models.paths import Path as GaussianPath
from s4s.models.unet import UNet


def save_network(network: nn.Module, record: dict[str, Any], path: str | Path) -> None:
    """Write weights with `record` (settings, training, scores) as metadata."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(state, {"s4s": json.dumps(record, sort_keys=True)}))


def load_denoiser(model: EmbeddedModel, device: torch.device) -> EDMDenoiser:
    """The denoiser that `save_network` wrote."""
    state, record = _read(model)
    network = _restore(UNet, record, state, model, device)
    known = {key: record[key] for key in ("shape", "s_min", "s_max")}
    return EDMDenoiser(network, EDMPreconditioning(record["sigma_data"]), name=model.name, **known)


def outline(model: EmbeddedModel) -> tuple[float, float, GaussianPath, dict[str, Any]]:
    """s_min, s_max, the path and the parametrisation."""
    record = _read(model)[1]
    return record["s_min"], record["s_max"], EDMDenoiser.path, EDMPreconditioning(record["sigma_data"]).description()


def load_classifier(weights: WeightFile, device: torch.device) -> Classifier:
    """The feature network that `save_network` wrote."""
    state, record = _read(weights)
    return _restore(Classifier, record, state, weights, device)


def _read(weights: WeightFile) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    content = checked_bytes(weights)
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return load(content), json.loads(header["__metadata__"]["s4s"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise S4SError(f"{weights.path}: not weights that `snakemake train_embedded` made ({error})") from error


def _restore(kind: type, record: dict, state: dict, weights: WeightFile, device: torch.device) -> Any:
    try:
        network = kind(**record["network"])
        network.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as error:
        raise S4SError(f"{weights.path}: weights do not fit {kind.__name__}: {error}") from error
    return network.to(device).eval().requires_grad_(False)
