"""Features of images that are stored with 8 bits: networks of others, and what samples are compared with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from s4s.errors import S4SError, one_line
from s4s.files.bounded import SLACK, checked_zip
from s4s.metrics.efficientnet_lite import EfficientNetLite0
from s4s.metrics.features import Features
from s4s.metrics.fid import Moments, RunningMoments
from s4s.metrics.measures import OF_TEACHER
from s4s.metrics.moments_file import known_moments, read_moments
from s4s.metrics.real_images import read_images
from s4s.models.description import FeatureNetwork
from s4s.models.model_files import check_file
from s4s.models.torch_checkpoint import read_checkpoint

IMAGE_BATCH = 64


class ImageFeatures(Features):
    """Any TorchScript network of images, with statistics or images to compare with, or samples of the teacher.

    Args:
        model: the model's `features`.
        known: moments that were computed before from the images or the teacher's samples, an .npz file.
    """

    called = ""  # where the model's file gives no name
    network: Callable[[Tensor], Tensor]

    def __init__(self, model: FeatureNetwork, device: torch.device, known: Path | None = None):
        self.model, self.device, self.known = model, device, known
        self.name = model.name or self.called.format(pixels=model.pixels)
        source = model.statistics.path.name if model.statistics else f"images in {model.images.name}" if model.images else ""
        along = (f"{model.components} principal components",) if model.components else ()
        self.details = ("8-bit images", *along, OF_TEACHER if model.teacher else f"reference {source}")
        self._load()

    def _load(self) -> None:
        path = check_file(self.model)
        try:
            with path.open("rb") as file:
                checked_zip(file, path, SLACK)  # its code is compressed
            self._load_script(path)
        except S4SError:
            raise
        except (RuntimeError, ValueError, AttributeError, BadZipFile) as error:
            raise S4SError(f"{path}: not a TorchScript feature network: {one_line(error)}") from error

    def _load_script(self, path: Path) -> None:
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
        if self.known:
            return known_moments(self.known)
        if self.model.images is None:
            raise S4SError(
                f"{self.model.path}: the reference is samples of the teacher, whose moments the workflow makes; give their file"
            )
        return self.of_all(self.of_pixels(image[None]) for image in read_images(self.model.images))

    def of_all(self, features: Iterable[Tensor], what: str = "reference images") -> Moments:
        """Moments of all features of a reference, given a few at a time."""
        found = RunningMoments()
        with torch.inference_mode():
            for some in features:
                found.add(some.double().cpu().numpy())
        return found.principal(self.model.components, what) if self.model.components else found.moments(what)


class InceptionFeatures(ImageFeatures):
    """The 2048 features of Inception-v3 through clean-fid's wrapper and resizing."""

    called = "Inception-v3"

    def __init__(self, model: FeatureNetwork, device: torch.device, known: Path | None = None):
        from cleanfid.resize import build_resizer

        super().__init__(model, device, known)
        self.resizer = build_resizer(model.resize)
        self.details = (f"clean-fid's mode {model.resize}", *self.details)

    def _load_script(self, path: Path) -> None:
        from cleanfid.inception_torchscript import InceptionV3W

        with tempfile.TemporaryDirectory() as folder:  # the wrapper asks for a folder
            (Path(folder) / "inception-2015-12-05.pt").symlink_to(path.resolve())
            network = InceptionV3W(folder, download=False, resize_inside=self.model.resize == "legacy_tensorflow")
        network.to(self.device).eval()
        with torch.inference_mode():
            network(torch.zeros(1, 3, 299, 299, device=self.device))  # it must give 2048 features
        self.network = network

    def of_pixels(self, pixels: Tensor) -> Tensor:
        found = []
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for part in pixels.split(IMAGE_BATCH):
                resized = pool.map(lambda image: self.resizer(image.permute(1, 2, 0).numpy()), part.cpu())
                batch = torch.from_numpy(np.stack([*resized])).permute(0, 3, 1, 2)
                found.append(self._features(batch.to(self.device).float()))
        return torch.cat(found)


class EfficientNetFeatures(ImageFeatures):
    """The 1280 features of EfficientNet-Lite0, of images resized to a number of pixels."""

    called = "EfficientNet-Lite0 at {pixels}x{pixels}"

    def _load(self) -> None:
        path, state = self.model.path, read_checkpoint(self.model, old=True)
        try:
            network = EfficientNetLite0(state, self.device)
        except S4SError as error:
            raise S4SError(f"{path}: {error}") from error
        size = (self.model.pixels, self.model.pixels)

        def features(pixels: Tensor) -> Tensor:
            images = interpolate(pixels / 127.5 - 1, size, mode="bicubic", align_corners=False)
            return network(images.contiguous(memory_format=torch.channels_last))  # a third faster on a CPU

        self.network = features


def eight_bit(images: Tensor) -> Tensor:
    """Images [B, 1 or 3, H, W] in [-1, 1] as whole numbers 0...255, uint8 [B, 3, H, W], rounded as EDM's code does."""
    return (images * 127.5 + 128).clip(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)


# kind in a model's file -> class
OF_IMAGES = {"torchscript": ImageFeatures, "inception": InceptionFeatures, "efficientnet_lite0": EfficientNetFeatures}
