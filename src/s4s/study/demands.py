"""What scores and fits demand of the config and of the files that are there already, said before any job starts. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from s4s.errors import S4SError
from s4s.files.bounded import safetensors_header
from s4s.learning.settings import lacks_network
from s4s.metrics.measures import too_few
from s4s.models.description import AnyModel, FeatureNetwork
from s4s.study.comparison import Showcase
from s4s.study.config import Config
from s4s.study.definitions import Learned

INCEPTION, EFFICIENTNET = 2048, 1280  # features
HEADER_BYTES = 1 << 20  # of a classifier's file


def check_demands(file: str, model: AnyModel, own: Config) -> None:
    """Raise S4SError where the jobs of a model would fail for what can be known before them.

    Args:
        file: the model's YAML file. own: the model's own settings.
    """
    features = model.features
    if features is None:
        raise S4SError(
            f"{file}: features: missing; the workflow scores samples with this network, so name one (docs/models.md), or use "
            "s4s fit, which needs none"
        )
    known = features_of(features)
    theirs = None if features.statistics is None else _moments(features.statistics.path)
    if None not in (known, theirs) and known != theirs:
        raise S4SError(
            f"{file}: features: statistics have {theirs} features, but the network gives {known}; give those of this network"
        )
    size, components = known or theirs, features.components
    if size is not None and components is not None and components > size:
        raise S4SError(f"{file}: features.components: {components} of {size} features; lower components")
    if (compared := components or size) is not None:
        _check_samples(file, features, own.samples, compared)
        if features.teacher and (problem := too_few("samples of the teacher", own.teacher.reference, compared)):
            raise S4SError(f"config: teacher.reference: {problem} (of the network under features in {file}); raise it")
    for token in own.solvers:
        if isinstance(own.definition(token), Learned) and (
            problem := lacks_network(own.fit_settings(token).distance, model.perceptual is not None)
        ):
            raise S4SError(f"{file}: perceptual: missing, but the fit of {token} needs it: {problem}")


def check_showcase(where: str, shown: Showcase | None, models: Mapping[str, AnyModel], own: Mapping[str, Config]) -> None:
    """Raise S4SError if a showcase is of cells that are not there, or of samples that are no images.

    Args:
        own: of each model of the comparison, its settings there.
    """
    if shown is None:
        return
    for model in shown.models:
        features = models[model].features
        if features is not None and features.kind == "states":
            raise S4SError(f"{where}: showcase: states of {model} are no images; leave it out")
        for nfe in shown.nfe:
            there = [cell.solver for cell in own[model].cells() if cell.nfe == nfe]
            if missing := [token for token in shown.solvers if token not in there]:
                raise S4SError(f"{where}: showcase: {missing[0]} is not compared at NFE {nfe} on {model}; take others of both")
            if all(isinstance(own[model].definition(token), Learned) for token in there):
                raise S4SError(f"{where}: showcase: no training-free solver is compared at NFE {nfe} on {model}; add one")


def _check_samples(file: str, features: FeatureNetwork, samples: int, size: int) -> None:
    if problem := too_few("samples", samples, size):
        raise S4SError(
            f"config: samples: {problem} (of the network under features in {file}); raise samples to {size + 1} or more, here, "
            "under per_model or under study in that file"
        )
    if features.images is not None and features.images.is_dir():
        files = (path for path in features.images.rglob("*") if path.is_file())  # no more images than these
        count = sum(1 for _ in itertools.islice(files, size + 1))
        if problem := too_few("reference images", count, size):
            raise S4SError(
                f"{file}: features.images: {problem} in {features.images}; put more there, or give statistics instead"
            )


def features_of(features: FeatureNetwork) -> int | None:
    """The number of features of a network, where that can be said without running it."""
    if features.kind == "inception":
        return INCEPTION
    if features.kind == "efficientnet_lite0":
        return EFFICIENTNET
    if features.kind == "classifier":
        return _hidden(features.path)
    return _moments(features.path) if features.kind == "states" else None


def _hidden(path: Path) -> int | None:
    """Of the last hidden layer of an embedded classifier; what is wrong with the file is said by who loads it."""
    try:
        return int(safetensors_header(path, HEADER_BYTES)["hidden.bias"]["shape"][0])
    except (ValueError, TypeError, LookupError):
        return None


def _moments(path: Path) -> int | None:
    """Of the real data's statistics; what is wrong with the file is said by who loads it."""
    if not path.is_file():
        return None
    from s4s.files.arrays import read_arrays  # which imports NumPy

    try:
        return len(read_arrays(path, lambda name: name == "mu")["mu"])
    except (S4SError, KeyError, TypeError):
        return None
