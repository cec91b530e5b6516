"""Loading the feature network that a model's file names."""

from __future__ import annotations

from pathlib import Path

import torch

from s4s.errors import S4SError
from s4s.metrics.features import ClassifierFeatures, Features, StateFeatures
from s4s.metrics.image_features import OF_IMAGES
from s4s.models.embedded.weights import load_classifier
from s4s.models.model_files import read_model_file


def load_features(
    name_or_path: str | Path, device: str | torch.device = "cpu", reference: str | Path | None = None
) -> Features:
    """The feature network that a model's YAML file names.

    Args:
        name_or_path: as for `load_model`.
        device: where to put it.
        reference: moments of what samples are compared with, computed before, an .npz file.
    Raises:
        S4SError: if the model names none, or its file is wrong.
    """
    model = read_model_file(name_or_path)
    weights, known = model.features, Path(reference) if reference else None
    if weights is None:
        raise S4SError(
            f"model {model.name} has no features to measure FID on; name their network under `features` in its YAML file"
        )
    if weights.kind == "classifier":
        network, dataset = load_classifier(weights, torch.device(device))
        return ClassifierFeatures(network, dataset, f"{weights.path.parent.name}-{weights.path.stem}", known)
    if weights.kind == "states":
        return StateFeatures(weights)
    return OF_IMAGES[weights.kind](weights, torch.device(device), known)
