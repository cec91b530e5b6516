"""Fréchet distance by clean-fid's own arithmetic (Parmar et al. 2022, arXiv 2104.11222)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from s4s.errors import S4SError
from s4s.torchvision_operators import declare_missing_operators

declare_missing_operators()
from cleanfid.fid import frechet_distance as cleanfid_distance  # noqa: E402


class Moments(NamedTuple):
    """Mean [d] and covariance [d, d] of features."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(features: np.ndarray, what: str = "samples") -> Moments:
    """Moments of features [n, d] with more rows than columns.

    Raises:
        S4SError: if there are too few rows for a covariance of full rank, or features are not finite.
    """
    if len(features) <= features.shape[1]:
        raise S4SError(f"FID needs more {what} than features: {len(features)} {what}, {features.shape[1]} features")
    if not np.isfinite(features).all():
        raise S4SError(f"FID: the features of the {what} are not all finite")
    return Moments(features.mean(axis=0), np.cov(features, rowvar=False))


def frechet_distance(features: np.ndarray, reference: Moments) -> float:
    """FID of features [n, d] against the moments of the real data's.

    Raises:
        S4SError: as `moments`, or if the reference is of another number of features.
    """
    own = moments(features)
    if reference.mean.shape != own.mean.shape:
        raise S4SError(f"FID: {len(own.mean)} features, but the reference has {len(reference.mean)}; it is of another network")
    return float(cleanfid_distance(*own, *reference))
