"""Feature networks: what FID is measured on. FID on our own features is named by those features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.models.classifier import Classifier
from s4s.models.digits import load_digits
from s4s.models.embedded import load_classifier
from s4s.models.files import read_model_file


class Features(ABC):
    """A named map from decoded images to feature vectors, and the features of the real data."""

    name: str

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Features [B, d] of images [B, ...]."""

    @abstractmethod
    def reference(self) -> np.ndarray:
        """Features [n, d] of the real data that samples are compared with."""

    def of(self, images: Tensor, batch_size: int = 1024) -> np.ndarray:
        """Features of many images, float64 [n, d], without gradients."""
        with torch.inference_mode():
            return torch.cat([self(batch) for batch in images.split(batch_size)]).double().cpu().numpy()


class ClassifierFeatures(Features):
    """The last hidden layer of the embedded digit classifier; the reference is the held-out digits."""

    def __init__(self, network: Classifier, name: str):
        self.network, self.name = network, name

    def __call__(self, images: Tensor) -> Tensor:
        return self.network.features(images.to(next(self.network.parameters()).device).clamp(-1, 1))

    def reference(self) -> np.ndarray:
        return self.of(load_digits().held_out)


def load_features(name_or_path: str | Path, device: str | torch.device = "cpu") -> Features:
    """The feature network that a model's YAML file names."""
    model = read_model_file(name_or_path)
    weights = model.features
    if weights is None:
        raise S4SError(
            f"model {model.name} has no features to measure FID on; name their network under `features` in its YAML file"
        )
    network = load_classifier(weights, torch.device(device))
    return ClassifierFeatures(network, f"{weights.path.parent.name}-{weights.path.stem}")
