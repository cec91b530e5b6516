"""Fréchet distance by clean-fid's own arithmetic (Parmar et al. 2022, arXiv 2104.11222)."""

from __future__ import annotations

import numpy as np

from s4s.errors import S4SError
from s4s.torchvision_operators import declare_missing_operators

declare_missing_operators()
from cleanfid.fid import frechet_distance as cleanfid_distance  # noqa: E402


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """FID of two sets of features [n, d] and [m, d], each with more rows than columns.

    Raises:
        S4SError: if there are too few samples for a covariance of full rank, or features are not finite.
    """
    for name, rows in [("samples", features), ("reference", reference)]:
        if len(rows) <= rows.shape[1]:
            raise S4SError(f"FID needs more {name} than features: {len(rows)} samples, {rows.shape[1]} features")
        if not np.isfinite(rows).all():
            raise S4SError(f"FID: the features of the {name} are not all finite")
    moments = [(rows.mean(axis=0), np.cov(rows, rowvar=False)) for rows in (features, reference)]
    return float(cleanfid_distance(*moments[0], *moments[1]))
