"""Feature networks: what FID is measured on. FID on our own features is named by those features."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from s4s.errors import DamagedFile, S4SError, one_line
from s4s.files.arrays import read_arrays, write_arrays
from s4s.files.bounded import SLACK, checked_zip
from s4s.metrics.fid import Moments, RunningMoments, check_moments, moments
from s4s.metrics.real_images import read_images
from s4s.models.description import FeatureNetwork
from s4s.models.embedded.classifier import Classifier
from s4s.models.embedded.datasets import load_dataset
from s4s.models.embedded.weights import load_classifier
from s4s.models.model_files import check_file, read_model_file

IMAGE_BATCH = 64
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
        """Moments of the features of the real data that samples are compared with."""

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
            return _known_moments(self.known)
        return moments(self.of(load_dataset(self.dataset).held_out.split(REFERENCE_BATCH)), "reference")


class StateFeatures(Features):
    """The components of a state themselves, for data that are no images; the reference is moments in a file."""

    def __init__(self, model: FeatureNetwork):
        self.model, self.name = model, str(model.name)

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def reference(self) -> Moments:
        return read_moments(check_file(self.model))


class ImageFeatures(Features):
    """A network of images that are stored with 8 bits, with statistics or images of the real data.

    Args:
        model: the model's `features`.
        known: moments that were computed from the images before, an .npz file.
    """

    def __init__(self, model: FeatureNetwork, device: torch.device, known: Path | None = None):
        self.model, self.device, self.known = model, device, known
        self.name = model.name or "Inception-v3"
        source = model.statistics.path.name if model.statistics else f"images in {model.images.name}" if model.images else ""
        self.details = ("8-bit images", f"reference {source}")
        path = check_file(model)
        try:
            with path.open("rb") as file:
                checked_zip(file, path, SLACK)  # its code is compressed
            self._load(path)
        except S4SError:
            raise
        except (RuntimeError, ValueError, AttributeError, BadZipFile) as error:
            raise S4SError(f"{path}: not a TorchScript feature network: {one_line(error)}") from error

    def _load(self, path: Path) -> None:
        self.network = torch.jit.load(str(path), map_location=self.device).eval()

    def __call__(self, images: Tensor) -> Tensor:
        return self.of_pixels(eight_bit(images))

    def of_pixels(self, pixels: Tensor) -> Tensor:
        """Features of whole numbers 0...255, uint8 [B, 3, H, W]."""
        return torch.cat([self._features(part.to(self.device).float()) for part in pixels.split(IMAGE_BATCH)])

    def _features(self, images: Tensor) -> Tensor:
        """What the network gives, [images, features]; of one that drops dimensions of 1 too."""
        try:
            found = self.network(images)
        except RuntimeError as error:
            if "memory" in str(error):
                raise
            size, problem = f"{images.shape[3]}x{images.shape[2]}", str(error).strip().splitlines()[-1]
            raise S4SError(f"{self.model.path}: fails on images of {size} pixels: {problem}") from error
        if not isinstance(found, Tensor) or found.is_complex():
            raise S4SError(f"{self.model.path}: gives no tensor of real numbers; make it give features [images, features]")
        count = len(images)
        if found.ndim < 2 and (count == 1 or found.shape == (count,)):
            found = found.reshape(count, -1)
        if found.ndim != 2 or len(found) != count:
            raise S4SError(
                f"{self.model.path}: gives features of shape {list(found.shape)} of {count} images, not [images, features]; "
                "end the network with flatten(1)"
            )
        if not bool(found.isfinite().all()):
            raise S4SError(f"{self.model.path}: gives features that are not finite (NaN or infinity) of images in 0...255")
        return found

    def reference(self) -> Moments:
        if self.model.statistics is not None:
            return read_moments(check_file(self.model.statistics))
        return _known_moments(self.known) if self.known else self.image_moments()

    def image_moments(self) -> Moments:
        """Moments of the features of the real images."""
        assert self.model.images is not None
        found = RunningMoments()
        with torch.inference_mode():
            for image in read_images(self.model.images):
                found.add(self.of_pixels(image[None]).double().cpu().numpy())
        return found.moments("reference images")


class InceptionFeatures(ImageFeatures):
    """The 2048 features of Inception-v3 through clean-fid's wrapper and resizing."""

    def __init__(self, model: FeatureNetwork, device: torch.device, known: Path | None = None):
        from cleanfid.resize import build_resizer

        super().__init__(model, device, known)
        self.resizer = build_resizer(model.resize)
        self.details = (f"clean-fid's mode {model.resize}", *self.details)

    def _load(self, path: Path) -> None:
        from cleanfid.inception_torchscript import InceptionV3W

        with tempfile.TemporaryDirectory() as folder:  # the wrapper asks for a folder
            (Path(folder) / "inception-2015-12-05.pt").symlink_to(path.resolve())
            self.network = InceptionV3W(folder, download=False, resize_inside=self.model.resize == "legacy_tensorflow")
        self.network.to(self.device).eval()
        with torch.inference_mode():
            self.network(torch.zeros(1, 3, 299, 299, device=self.device))  # it must give 2048 features

    def of_pixels(self, pixels: Tensor) -> Tensor:
        found = []
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for part in pixels.split(IMAGE_BATCH):
                resized = pool.map(lambda image: self.resizer(image.permute(1, 2, 0).numpy()), part.cpu())
                batch = torch.from_numpy(np.stack([*resized])).permute(0, 3, 1, 2)
                found.append(self._features(batch.to(self.device).float()))
        return torch.cat(found)


def eight_bit(images: Tensor) -> Tensor:
    """Images [B, 1 or 3, H, W] in [-1, 1] as whole numbers 0...255, uint8 [B, 3, H, W], rounded as EDM's code does."""
    return (images * 127.5 + 128).clip(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)


def read_moments(path: Path) -> Moments:
    """mu and sigma of an .npz file: EDM's fid-refs, clean-fid's statistics and ADM's reference batches have them.

    Files of ours also have rows, the first of the features themselves.

    Raises:
        S4SError: if it is no such file, or they are no moments.
    """
    found = read_arrays(path, {"mu", "sigma", "rows"}.__contains__)
    if missing := {"mu", "sigma"} - found.keys():
        raise S4SError(f"{path}: no {' and no '.join(sorted(missing))}; statistics are an .npz file with mu and sigma")
    if (rows := found.get("rows")) is not None and len(np.atleast_1d(rows)) < 2:
        raise S4SError(f"{path}: rows has fewer than 2 of them; make the file again")
    return check_moments(found["mu"], found["sigma"], rows, path)


def _known_moments(path: Path) -> Moments:
    """Those of a file that `write_moments` wrote, which can be written again."""
    try:
        return read_moments(path)
    except S4SError as error:
        raise DamagedFile(path, str(error).removeprefix(f"{path}: ")) from error


def write_moments(path: str | Path, found: Moments) -> None:
    """Write moments so that `read_moments` gives them back."""
    arrays = {"mu": found.mean, "sigma": found.covariance}
    write_arrays(path, arrays if found.rows is None else arrays | {"rows": found.rows})


def load_features(
    name_or_path: str | Path, device: str | torch.device = "cpu", reference: str | Path | None = None
) -> Features:
    """The feature network that a model's YAML file names.

    Args:
        name_or_path: as for `load_model`.
        device: where to put it.
        reference: moments of the real data that were computed before, an .npz file.
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
    kind = InceptionFeatures if weights.kind == "inception" else ImageFeatures
    return kind(weights, torch.device(device), known)
