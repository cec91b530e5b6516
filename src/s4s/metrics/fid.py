"""The Fréchet distance of two Gaussians, which is FID on their features (Heusel et al. 2017, arXiv 1706.08500)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from s4s.errors import S4SError
from s4s.metrics.measures import too_few

ROUNDING = 1e-6  # of a covariance's largest entry: what float32 may cost its symmetry, and, times sqrt(d), leave below zero
MOST_ROWS = 10_000  # feature vectors that are kept of any set, for the distances that need more than moments


class Moments(NamedTuple):
    """Mean [d] and covariance [d, d] of features; the first of the features themselves, float32 [n, d], if they are known.

    Attributes:
        source: the file that they were read from.
        components: where mean and covariance are those of features [n, w] times these directions, [w, d]; rows are [n, w] then.
    """

    mean: np.ndarray
    covariance: np.ndarray
    rows: np.ndarray | None = None
    source: str = ""
    components: np.ndarray | None = None

    def directions(self, features: np.ndarray) -> np.ndarray:
        """Features [n, w] along the components, [n, d]; as they are where there are none."""
        return features if self.components is None else features @ self.components


def check_moments(
    mean: np.ndarray,
    covariance: np.ndarray,
    rows: np.ndarray | None,
    source: str | Path,
    components: np.ndarray | None = None,
) -> Moments:
    """Moments from a file, mean and covariance in float64; of one feature they may be numbers alone, as `np.cov` gives them.

    Raises:
        S4SError: if shapes do not fit, numbers are not real or not finite, or the covariance is none: not symmetric, or with
            negative variances.
    """
    for name, array in (("mu", mean), ("sigma", covariance), ("rows", rows), ("components", components)):
        if array is not None and array.dtype.kind not in "fiu":
            raise S4SError(f"{source}: {name} holds {array.dtype}, not real numbers; make the file again")
        if array is not None and not np.isfinite(array.astype(np.float64)).all():
            raise S4SError(f"{source}: {name} has numbers that are not finite (NaN or infinity); make the file again")
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    if mean.size == covariance.size == 1:
        mean, covariance = mean.reshape(1), covariance.reshape(1, 1)
    d = len(mean) if mean.ndim == 1 else 0
    if not d or covariance.shape != (d, d):
        raise S4SError(f"{source}: mu of shape {mean.shape} and sigma of shape {covariance.shape} do not fit: [d] and [d, d]")
    if components is not None and (components.ndim != 2 or components.shape[1] != d):
        raise S4SError(f"{source}: components of shape {components.shape} do not fit mu of shape {mean.shape}: [w, d] and [d]")
    wide = d if components is None else len(components)
    if rows is not None and (rows.ndim != 2 or rows.shape[1] != wide):
        raise S4SError(f"{source}: rows of shape {rows.shape}, not [n, {wide}], do not fit mu of shape {mean.shape}")
    largest, variances = np.abs(covariance).max(), covariance.diagonal()
    if np.abs(covariance - covariance.T).max() > ROUNDING * largest:
        raise S4SError(f"{source}: sigma is not symmetric, so no covariance; make the file again")
    if variances.min() < -d * np.finfo(np.float64).eps * largest or not _no_negative_variance(covariance, largest):
        raise S4SError(f"{source}: sigma has negative variances, so it is no covariance; make the file again")
    return Moments(mean, covariance, rows, str(source), components)


def _no_negative_variance(covariance: np.ndarray, largest: float) -> bool:
    """Of any sum of features, but for rounding: a tenth of the time that all eigenvalues take."""
    d = len(covariance)
    try:
        np.linalg.cholesky(covariance / (largest or 1) + ROUNDING * np.sqrt(d) * np.eye(d))
    except np.linalg.LinAlgError:
        return False
    return True


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
        """Take in what another one took in.

        Raises:
            S4SError: if that had another number of features.
        """
        if self.mean is not None and other.mean is not None and self.mean.shape != other.mean.shape:
            raise S4SError(f"FID: {len(other.mean)} features after some of {len(self.mean)}; they are of another network")
        if self.mean is None or self.scatter is None:
            self.count, self.mean, self.scatter, self.rows = other.count, other.mean, other.scatter, other.rows
        elif other.mean is not None and other.scatter is not None:
            total, shift = self.count + other.count, other.mean - self.mean
            self.scatter = self.scatter + other.scatter + np.outer(shift, shift) * (self.count * other.count / total)
            self.mean = self.mean + shift * (other.count / total)
            self.count = total
            if self.rows is not None and other.rows is not None and len(self.rows) < MOST_ROWS:
                self.rows = np.concatenate([self.rows, other.rows])[:MOST_ROWS]

    def along(self, components: np.ndarray | None) -> RunningMoments:
        """Those of the features times these directions [w, d]; the same without any.

        Raises:
            S4SError: if they are of another number of features.
        """
        if components is None or self.mean is None or self.scatter is None:
            return self
        if len(components) != len(self.mean):
            raise S4SError(f"FID: {len(self.mean)} features, but components of {len(components)}; they are of another network")
        rows = None if self.rows is None else self.rows @ components
        return RunningMoments(self.count, self.mean @ components, components.T @ self.scatter @ components, rows)

    def principal(self, number: int, what: str) -> Moments:
        """Moments along the principal components, of which there are `number`, and the features themselves.

        Raises:
            S4SError: as `moments`, of so many features; or if there are fewer features than components.
        """
        wide = 0 if self.scatter is None else len(self.scatter)
        if self.scatter is None or wide < number:
            raise S4SError(f"FID: {number} components of {wide} features; lower components")
        components = np.linalg.eigh(self.scatter)[1][:, : -number - 1 : -1]
        return self.along(components).moments(what)._replace(rows=self.rows, components=components)

    def moments(self, what: str = "samples") -> Moments:
        """The moments of all that came.

        Raises:
            S4SError: if there are too few rows for a covariance of full rank, or features are not finite.
        """
        problem = too_few(what, self.count, 0 if self.mean is None else len(self.mean))
        if problem or self.mean is None or self.scatter is None:
            raise S4SError(problem or f"FID: no {what}")
        if not all(np.isfinite(numbers).all() for numbers in (self.mean, self.scatter, self.rows) if numbers is not None):
            raise S4SError(f"FID: the features of the {what} are not all finite in float32")
        return Moments(self.mean, self.scatter / (self.count - 1), self.rows)


def moments(features: np.ndarray, what: str = "samples") -> Moments:
    """Moments of features [n, d] with more rows than columns.

    Raises:
        S4SError: if there are too few rows for a covariance of full rank, or features are not finite.
    """
    found = RunningMoments()
    found.add(features)
    return found.moments(what)


def distance_to(own: RunningMoments, reference: Moments) -> float:
    """FID of features to a reference, along its components where it has some.

    Raises:
        S4SError: as `RunningMoments.along`, `RunningMoments.moments` and `frechet_distance`.
    """
    return frechet_distance(own.along(reference.components).moments(), reference)


def frechet_distance(own: Moments, reference: Moments) -> float:
    """FID between moments of features and those of the real data's.

    It is |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)), at least 0 (Dowson and Landau 1982). With S_i = F_i F_i^T the last
    trace is the sum of the singular values of F_1^T F_2: these are the roots of the eigenvalues of S_1^(1/2) S_2 S_1^(1/2), but
    found without rooting rounding errors, so that covariances may be singular.

    Raises:
        S4SError: if the reference is of another number of features, or the distance is beyond float64.
    """
    if reference.mean.shape != own.mean.shape:
        raise S4SError(
            f"FID: {len(own.mean)} features, but the reference has {len(reference.mean)}; it is of another network"
            + (f": {reference.source}" if reference.source else "")
        )
    shift, traces = own.mean - reference.mean, np.trace(own.covariance) + np.trace(reference.covariance)
    common = np.linalg.svd(_factor(own.covariance).T @ _factor(reference.covariance), compute_uv=False).sum()
    distance = max(0.0, float(shift @ shift + traces - 2 * common))
    if not np.isfinite(distance):
        raise S4SError("FID: features are too large for float64; scale what the feature network gives")
    return distance


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F [d, rank] with F F^T the covariance; eigenvalues that are rounding errors of the largest one are no part of it."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(values.dtype).eps * values.max(initial=0)
    factor: np.ndarray = vectors[:, kept] * np.sqrt(values[kept])
    return factor
