"""The score of one cell: FID and global error for each sampling seed, their mean and spread, from statistics of its shards."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s4s.errors import DamagedFile, S4SError, one_line
from s4s.files.arrays import read_arrays, write_arrays
from s4s.files.resumable_rows import whole_blocks
from s4s.files.rows import SAMPLES, TEACHER_PAIRS, Paths, Split, as_list, read_attributes, read_rows, split_sizes
from s4s.metrics.distribution import distribution_distances
from s4s.metrics.features import Features
from s4s.metrics.fid import MOST_ROWS, Moments, RunningMoments, check_moments, distance_to
from s4s.metrics.global_error import distances
from s4s.models.conditions import ClassLabels
from s4s.models.denoiser import Denoiser
from s4s.sampling import filled

KEPT = ("count", "mean", "scatter", "rows", "distance")  # of each split in a file of statistics
ROWS = 1024  # samples in memory at a time, up to whole blocks


class SplitStatistics:
    """What a score needs to know of samples of one split.

    Attributes:
        features: running moments of their features.
        distance: sum of their distances from the teacher's final samples.
    """

    def __init__(self, features: RunningMoments | None = None, distance: float = 0.0):
        self.features, self.distance = features or RunningMoments(), distance

    def join(self, other: SplitStatistics) -> None:
        """Take in those of other samples."""
        self.features.join(other.features)
        self.distance += other.distance


def statistics_of(denoiser: Denoiser, features: Features, samples: str | Path, pairs: Paths) -> dict[str, SplitStatistics]:
    """Statistics of each test split of a file of samples, or of teacher pairs taken as samples.

    States are read a few at a time, then decoded and looked at in blocks of `denoiser.block` rows, the last one filled up: so
    features are the same, to the bit, for all shards of whole blocks.

    Args:
        pairs: the teacher's pairs of the same noise: pairs.h5, or the shards of these very rows.
    Raises:
        S4SError: if samples and pairs are of different models or of different noise, or they or their features are not finite.
    """
    known, taught = read_attributes(samples), as_list(pairs)
    for path in taught:
        if known.get("model") != read_attributes(path).get("model"):
            raise S4SError(f"{samples} and {path} are of different models; make both again")
    found = {}
    for name, rows in split_sizes(samples).items():
        if not name.startswith("test~"):
            continue
        theirs = next((path for path in taught if split_sizes(path).get(name) == rows), None)
        if theirs is None:
            raise S4SError(f"{samples} and {taught[0]}: split {name} is of different noise; make both again")
        own = found[name] = SplitStatistics()
        kind = TEACHER_PAIRS if known.get("kind") == TEACHER_PAIRS else SAMPLES
        size = whole_blocks(ROWS, denoiser.block)
        for drawn, pair in zip(
            read_rows(samples, kind, name, size=size), read_rows(theirs, TEACHER_PAIRS, name, size=size), strict=True
        ):
            if not np.array_equal(drawn.seeds, pair.seeds):
                raise S4SError(f"{samples} and {theirs}: split {name} is of different noise; make both again")
            require_finite(drawn, f"{samples}: split {name}", "take another solver, or more steps")
            require_finite(pair, f"{theirs}: split {name}, the teacher's", "take another teacher")
            images = decoded(denoiser, torch.from_numpy(drawn.y_0), samples)
            found_features = features.of(images)[: len(drawn)]
            if not np.isfinite(found_features).all():
                raise S4SError(
                    f"{samples}: features ({features.name}) of split {name} are not finite; the feature network is wrong"
                )
            own.features.add(found_features)
            own.distance += float(distances(drawn.y_0, pair.y_0).sum())
    if not found:
        raise S4SError(
            f"{samples}: no test samples, so nothing to score; it has {', '.join(split_sizes(samples)) or 'no split'}"
        )
    return found


def require_finite(split: Split, what: str, remedy: str) -> None:
    wrong = ~np.isfinite(split.y_0.reshape(len(split), -1)).all(axis=1)
    if wrong.any():
        first = split.seeds[wrong][0]
        raise S4SError(f"{what}: samples are not finite (NaN or infinity), the first of them of seed {first}; {remedy}")


def decoded(denoiser: Denoiser, states: Tensor, samples: str | Path) -> Iterator[Tensor]:
    """Images of states [n, *shape], a block at a time, the last one filled up."""
    for block in states.to(denoiser.device).split(denoiser.block):
        images = denoiser.decode(filled(block, denoiser.block))
        if not bool(images.isfinite().all()):
            raise S4SError(
                f"{samples}: decoded samples are not finite though the samples are; where the model is in float16, "
                "set its precision to float32"
            )
        yield images


def score(found: dict[str, SplitStatistics], about: dict[str, Any], reference: Moments) -> dict[str, Any]:
    """The score of a cell from the statistics of its test splits; `about` is what `describe` says.

    Beside FID and global error it has what `distribution_distances` gives, where features of the real data are known.
    """
    fid = [distance_to(own.features, reference) for own in found.values()]
    others: dict[str, list[float]] = {}
    for own in (own.features for own in found.values()):
        if own.rows is not None and reference.rows is not None:
            for key, value in distribution_distances(own.rows, reference.rows).items():
                others.setdefault(key, []).append(value)
    error = [own.distance / own.features.count for own in found.values()]
    classes = about["classes"]
    count = next(iter(found.values())).features.count
    in_words = [] if not classes else [f"{classes} classes {'equally often' if count % classes == 0 else 'in turn'}"]
    return {
        **{key: about[key] for key in ("model", "solver", "nfe", "tableau")},
        "evaluations": about["nfe"] * about["passes"],
        "n_samples": count,
        "n_seeds": len(found),
        "seeds": [int(name.partition("~")[2]) for name in found],
        "features": ", ".join([*about["features"], *in_words]),
        "fid": fid,
        **_mean_and_spread("fid", fid),
        "global_error": error,
        **_mean_and_spread("global_error", error),
        **others,
    }


def describe(denoiser: Denoiser, features: Features, samples: str | Path) -> dict[str, Any]:
    """What a score says beside numbers, as plain values."""
    attributes, labels = read_attributes(samples), getattr(denoiser, "conditioning", None)
    return {
        **{key: attributes[key] for key in ("model", "solver", "nfe", "tableau")},
        "passes": denoiser.passes,
        "features": [features.name, *features.details],
        "classes": labels.classes if isinstance(labels, ClassLabels) else 0,
    }


def score_samples(denoiser: Denoiser, features: Features, samples: str | Path, pairs: Paths) -> dict[str, Any]:
    """Score a samples file against the real data (FID) and against the teacher on the same noise (global error).

    Raises:
        S4SError: as `statistics_of` and `RunningMoments.moments`.
    """
    found = statistics_of(denoiser, features, samples, pairs)
    return score(found, describe(denoiser, features, samples), features.reference())


def save_statistics(path: str | Path, found: dict[str, SplitStatistics], about: dict[str, Any]) -> None:
    """Write the statistics of a shard, .npz, and what `describe` says."""
    arrays = {"about": np.asarray(json.dumps(about))}
    for name, own in found.items():
        for key in ("count", "mean", "scatter", "rows"):
            arrays[f"{name}/{key}"] = np.asarray(getattr(own.features, key))
        arrays[f"{name}/distance"] = np.asarray(own.distance)
    write_arrays(path, arrays)


def join_statistics(paths: Iterable[str | Path]) -> tuple[dict[str, SplitStatistics], dict[str, Any]]:
    """The statistics of all splits from those of their shards, and what `describe` said of them.

    Raises:
        S4SError: if a file is not what `save_statistics` wrote, or is of other samples than those before.
    """
    found: dict[str, SplitStatistics] = {}
    about: dict[str, Any] = {}
    for path in paths:
        try:
            arrays = read_arrays(path)
            known = json.loads(str(arrays.pop("about")))
            if about and known != about:
                raise S4SError(f"it is of other samples than the shards before: {known}, not {about}")
            about = known
            for name in dict.fromkeys(key.rpartition("/")[0] for key in arrays):
                own = _read_split_statistics({key: arrays[f"{name}/{key}"] for key in KEPT}, path)
                found.setdefault(name, SplitStatistics()).join(own)
        except (S4SError, KeyError, ValueError, TypeError) as error:
            problem = one_line(error).removeprefix(f"{path}: ")
            raise DamagedFile(
                path, f"cannot read these statistics of samples ({problem}); delete the file and rerun"
            ) from error
    return found, about


def _read_split_statistics(arrays: dict[str, np.ndarray], path: str | Path) -> SplitStatistics:
    count, distance = int(arrays["count"]), float(arrays["distance"])
    if count < 1 or not 0 <= distance < np.inf:
        raise S4SError(f"{count} samples, distance {distance}")
    # what holds for a covariance holds for the scatter
    mean, scatter, rows, *_ = check_moments(arrays["mean"], arrays["scatter"], arrays["rows"], path)
    if rows is None or len(rows) != min(count, MOST_ROWS):
        raise S4SError(f"{count} samples, but the features of {0 if rows is None else len(rows)}")
    return SplitStatistics(RunningMoments(count, mean, scatter, rows), distance)


def _mean_and_spread(name: str, values: list[float]) -> dict[str, float | None]:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {f"{name}_mean": statistics.fmean(values), f"{name}_std": spread}
