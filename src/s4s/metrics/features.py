"""Feature networks: what FID is measured on. FID on our own features is named by those features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s4s.metrics.fid import Moments, moments
from s4s.metrics.moments_file import known_moments, read_moments
from s4s.models.description import FeatureNetwork
from s4s.models.embedded.classifier import Classifier
from s4s.models.embedded.datasets import load_dataset
from s4s.models.model_files import check_file

REFERENCE_BATCH = 512


class Features(ABC):
    """A named map from decoded images to feature vectors, and the moments of the real data's features.

    Attributes:
        name: what tables call it.
        details: how images are prepared and what the reference is, in a few words each.
    """

    name: str
    details: tuple[str, ...] = ()

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Features [B, d] of images [B, ...] in [-1, 1]."""

    @abstractmethod
    def reference(self) -> Moments:
        """Moments of the features of what samples are compared with."""

    def of(self, batches: Iterable[Tensor]) -> np.ndarray:
        """Features of batches of images, float64 [n, d], without gradients."""
        with torch.inference_mode():
            return torch.cat([self(batch).double().cpu() for batch in batches]).numpy()


class ClassifierFeatures(Features):
    """The last hidden layer of an embedded classifier; the reference is the held-out part of its data.

    Args:
        known: moments that were computed from it before, an .npz file.
    """

    def __init__(self, network: Classifier, dataset: str, name: str, known: Path | None = None):
        self.network, self.dataset, self.name, self.known = network, dataset, name, known

    def __call__(self, images: Tensor) -> Tensor:
        return self.network.features(images.to(next(self.network.parameters()).device).clamp(-1, 1))

    def reference(self) -> Moments:
        if self.known:
            return known_moments(self.known)
        return moments(self.of(load_dataset(self.dataset).held_out.split(REFERENCE_BATCH)), "reference")


class StateFeatures(Features):
    """The components of a state themselves, for data that are no images; the reference is moments in a file."""

    def __init__(self, model: FeatureNetwork):
        self.model, self.name = model, str(model.name)

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def reference(self) -> Moments:
        return read_moments(check_file(self.model))
