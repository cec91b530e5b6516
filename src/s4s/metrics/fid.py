"""The Fréchet distance of two Gaussians, which is FID on their features (Heusel et al. 2017, arXiv 1706.08500)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from s4s.errors import S4SError

MOST_ROWS = 10_000  # feature vectors that are kept of any set, for the distances that need more than moments


class Moments(NamedTuple):
    """Mean [d] and covariance [d, d] of features; the first of the features themselves, float32 [n, d], if they are known."""

    mean: np.ndarray
    covariance: np.ndarray
    rows: np.ndarray | None = None


class RunningMoments:
    """Count, mean and scatter of features that come in pieces, and the first 10,000 of the features themselves.

    Pieces are joined by Chan, Golub and LeVeque's update (1983), so that the order changes rounding errors only.
    """

    def __init__(
        self,
        count: int = 0,
        mean: np.ndarray | None = None,
        scatter: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ):
        self.count, self.mean, self.scatter, self.rows = count, mean, scatter, rows

    def add(self, features: np.ndarray) -> None:
        """Take in features [n, d]."""
        values = features.astype(np.float64)
        centred = values - (mean := values.mean(axis=0))
        self.join(RunningMoments(len(values), mean, centred.T @ centred, features[:MOST_ROWS].astype(np.float32)))

    def join(self, other: RunningMoments) -> None:
        """Take in what another one took in."""
        if self.mean is None or self.scatter is None:
            self.count, self.mean, self.scatter, self.rows = other.count, other.mean, other.scatter, other.rows
        elif other.mean is not None and other.scatter is not None:
            total, shift = self.count + other.count, other.mean - self.mean
            self.scatter = self.scatter + other.scatter + np.outer(shift, shift) * (self.count * other.count / total)
            self.mean = self.mean + shift * (other.count / total)
            self.count = total
            if self.rows is not None and other.rows is not None and len(self.rows) < MOST_ROWS:
                self.rows = np.concatenate([self.rows, other.rows])[:MOST_ROWS]

    def moments(self, what: str = "samples") -> Moments:
        """The moments of all that came.

        Raises:
            S4SError: if there are too few rows for a covariance of full rank, or features are not finite.
        """
        if self.mean is None or self.scatter is None or self.count <= len(self.mean):
            size = 0 if self.mean is None else len(self.mean)
            raise S4SError(f"FID needs more {what} than features: {self.count} {what}, {size} features")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scatter).all()):
            raise S4SError(f"FID: the features of the {what} are not all finite")
        return Moments(self.mean, self.scatter / (self.count - 1), self.rows)


def moments(features: np.ndarray, what: str = "samples") -> Moments:
    """Moments of features [n, d] with more rows than columns.

    Raises:
        S4SError: if there are too few rows for a covariance of full rank, or features are not finite.
    """
    found = RunningMoments()
    found.add(features)
    return found.moments(what)


def frechet_distance(own: Moments, reference: Moments) -> float:
    """FID between moments of features and those of the real data's.

    It is |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)), at least 0 (Dowson and Landau 1982). With S_i = F_i F_i^T the last
    trace is the sum of the singular values of F_1^T F_2: these are the roots of the eigenvalues of S_1^(1/2) S_2 S_1^(1/2), but
    found without rooting rounding errors, so that covariances may be singular.

    Raises:
        S4SError: if the reference is of another number of features.
    """
    if reference.mean.shape != own.mean.shape:
        raise S4SError(f"FID: {len(own.mean)} features, but the reference has {len(reference.mean)}; it is of another network")
    shift, traces = own.mean - reference.mean, np.trace(own.covariance) + np.trace(reference.covariance)
    common = np.linalg.svd(_factor(own.covariance).T @ _factor(reference.covariance), compute_uv=False).sum()
    return max(0.0, float(shift @ shift + traces - 2 * common))


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F [d, rank] with F F^T the covariance; eigenvalues that are rounding errors of the largest one are no part of it."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(values.dtype).eps * values.max(initial=0)
    factor: np.ndarray = vectors[:, kept] * np.sqrt(values[kept])
    return factor
