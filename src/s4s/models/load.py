"""Loading a model by name or by the path of its YAML file."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch

from s4s.errors import must_be, needed_for
from s4s.files.checksum import check_unchanged
from s4s.models.adapters import ADAPTERS
from s4s.models.denoiser import Denoiser
from s4s.models.denoiser_check import check_attributes, check_range
from s4s.models.description import AnyModel
from s4s.models.embedded.classifier import Classifier
from s4s.models.embedded.weights import load_classifier
from s4s.models.model_files import read_model_file

CONFIGURATION = 1 << 20  # bytes that a file of configuration has at most


class Outline(NamedTuple):
    """What schedules and solvers need to know of a model; had without its weights (EDM's pickles: no parametrisation).

    `range_is_set` says in words where a user sets s_min and s_max.
    """

    name: str
    s_min: float
    s_max: float
    path: Any
    parametrisation: dict[str, Any] = {}  # noqa: RUF012
    range_is_set: str = ""


def load_model(name_or_path: str | Path, device: str | torch.device = "cpu") -> Denoiser:
    """Load a pre-trained denoiser.

    Args:
        name_or_path: a name in config/models, or the path of a YAML file with the keys name, kind, path, ...
        device: where to put it.
    Raises:
        S4SError: if the model is unknown, its file is wrong, or the weights are missing or damaged.
    """
    named = isinstance(name_or_path, str | Path)
    must_be("load_model's argument", name_or_path, named, "a model's name or the path of its YAML file (docs/models.md); kind: "
            "python there makes one of a network of your own")  # fmt: skip
    model, place = read_model_file(name_or_path), _device(device)
    _check_folders(model)
    denoiser: Denoiser = _adapter(model.kind).load_denoiser(model, place)
    denoiser.block = model.block
    check_attributes(denoiser)
    return denoiser


def _device(device: Any) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        must_be("device", device, False, "cpu, cuda or cuda:1, as torch.device takes it")
        raise


def load_outline(name_or_path: str | Path) -> Outline:
    """A model's name, range of noise levels and path, in no time where its file or its folder's configuration says them."""
    model = read_model_file(name_or_path)
    _check_folders(model, CONFIGURATION)
    outline = Outline(model.name, *_adapter(model.kind).outline(model))._replace(range_is_set=model.range_is_set())
    check_range(outline)
    return outline


def _check_folders(model: AnyModel, largest: float = math.inf) -> None:
    """Folders are compared with what they were when they were first used; files, by those who read them."""
    for file in model.own_files():
        if file.path.is_dir():
            check_unchanged(file.path, largest)


def _adapter(kind: str) -> Any:
    with needed_for(f"a model of kind {kind}"):
        return import_module(ADAPTERS[kind])


def load_perceptual(name_or_path: str | Path, device: str | torch.device = "cpu") -> Classifier | None:
    """The network of the fit's perceptual distance that a model's YAML names, or None if it names none."""
    weights = read_model_file(name_or_path).perceptual
    return None if weights is None else load_classifier(weights, torch.device(device))[0]


def copies(name_or_path: str | Path, device: str | torch.device) -> list[tuple[Denoiser, Classifier | None]]:
    """The denoiser and the perceptual network once more on every further GPU that this process sees; none on a CPU."""
    count = torch.cuda.device_count() if torch.device(device).type == "cuda" else 0
    others = [f"cuda:{i}" for i in range(1, count)]
    return [(load_model(name_or_path, other), load_perceptual(name_or_path, other)) for other in others]
