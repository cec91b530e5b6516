"""The score of one cell: FID and global error for each sampling seed, their mean and spread."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch

from s4s.errors import S4SError
from s4s.metrics.features import Features
from s4s.metrics.fid import frechet_distance
from s4s.metrics.global_error import global_error
from s4s.models.conditions import ClassLabels
from s4s.models.denoiser import Denoiser
from s4s.samples import KIND
from s4s.store import read_attributes, read_split, split_names
from s4s.teacher import KIND as PAIRS


def score_samples(
    denoiser: Denoiser, features: Features, samples: str | Path, pairs: str | Path, batch_size: int = 1024
) -> dict[str, Any]:
    """Score a samples file against the real data (FID) and against the teacher on the same noise (global error).

    States are decoded and looked at `batch_size` at a time.

    Raises:
        S4SError: if samples and pairs are of different models or of different noise.
    """
    attributes = read_attributes(samples)
    if attributes.get("model") != read_attributes(pairs).get("model"):
        raise S4SError(f"{samples} and {pairs} are of different models; make both again")
    reference = features.reference()
    names = [name for name in split_names(samples) if name.startswith("test~")]
    fid, error, count = [], [], 0
    for name in names:
        drawn, taught = read_split(samples, KIND, name), read_split(pairs, PAIRS, name)
        if not (drawn.seeds.shape == taught.seeds.shape and (drawn.seeds == taught.seeds).all()):
            raise S4SError(f"{samples} and {pairs}: split {name} is of different noise; make both again")
        batches = torch.from_numpy(drawn.y_0).split(batch_size)
        fid.append(frechet_distance(features.of(denoiser.decode(y_0.to(denoiser.device)) for y_0 in batches), reference))
        error.append(global_error(drawn.y_0, taught.y_0))
        count = len(drawn.seeds)
    return {
        **{key: attributes[key] for key in ("model", "solver", "nfe", "tableau")},
        "evaluations": attributes["nfe"] * denoiser.passes,
        "n_samples": count,
        "n_seeds": len(names),
        "features": ", ".join([features.name, *features.details, *_classes(denoiser, count)]),
        "fid": fid,
        "global_error": error,
        **_moments("fid", fid),
        **_moments("global_error", error),
    }


def _classes(denoiser: Denoiser, count: int) -> list[str]:
    """How often each class is there, in words."""
    labels = getattr(denoiser, "conditioning", None)
    if not isinstance(labels, ClassLabels):
        return []
    return [f"{labels.classes} classes equally often" if count % labels.classes == 0 else f"{labels.classes} classes in turn"]


def _moments(name: str, values: list[float]) -> dict[str, float | None]:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {f"{name}_mean": statistics.fmean(values), f"{name}_std": spread}
