"""Samples of the teacher as what samples are compared with, where there are no real data."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from s4s.files.rows import TEACHER_PAIRS, Paths, as_list, read_rows
from s4s.metrics.fid import Moments
from s4s.metrics.image_features import ImageFeatures
from s4s.metrics.score import ROWS, decoded, require_finite
from s4s.models.denoiser import Denoiser
from s4s.models.description import REFERENCE


def teacher_moments(denoiser: Denoiser, features: ImageFeatures, pairs: Paths) -> Moments:
    """Moments of the features of the teacher's final samples of the split `reference`, in the order of its shards.

    Raises:
        S4SError: if a file has no such split, or samples are not finite or too few.
    """

    def found() -> Iterator[Tensor]:
        for path in as_list(pairs):
            for rows in read_rows(path, TEACHER_PAIRS, REFERENCE, size=ROWS):
                require_finite(rows, f"{path}: split {REFERENCE}, the teacher's", "take another teacher")
                blocks = decoded(denoiser, torch.from_numpy(rows.y_0), path)
                yield torch.cat([features(images) for images in blocks])[: len(rows)]

    return features.of_all(found(), "samples of the teacher")
