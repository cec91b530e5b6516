"""Distances between two sets of feature vectors beside Fréchet's: KID, precision, recall and coverage, sliced Wasserstein.

All are deterministic functions of the rows, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 1000  # rows of KID's blocks
NEIGHBOUR = 5  # the nearest neighbour that a radius reaches to; the farthest row, where there are fewer
DIRECTIONS = 128


def kernel_distance(samples: np.ndarray, reference: np.ndarray) -> float:
    """KID: the unbiased squared maximum mean discrepancy of the kernel (x y/d + 1)^3 (Binkowski et al. 2018, arXiv 1801.01401).

    It is averaged over blocks of 1000 rows, each of the samples against one of the reference, and may be below zero.
    """
    blocks = range(max(1, len(samples) // BLOCK))
    theirs = max(1, len(reference) // BLOCK)
    return float(
        np.mean([_discrepancy(_block(samples, block), _block(reference, block % theirs)) for block in blocks], dtype=np.float64)
    )


def _block(rows: np.ndarray, number: int) -> np.ndarray:
    return rows[number * BLOCK : (number + 1) * BLOCK].astype(np.float64)


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        values: np.ndarray = (a @ b.T / a.shape[1] + 1) ** 3
        return values

    def between_others(rows: np.ndarray) -> float:
        values = kernel(rows, rows)
        return float((values.sum() - np.trace(values)) / (len(rows) * (len(rows) - 1)))

    return between_others(x) + between_others(y) - 2 * float(kernel(x, y).mean())


def precision_recall_coverage(samples: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and coverage with balls that reach to the fifth neighbour.

    Precision is the share of samples inside a ball around a reference row, recall that of reference rows inside a ball around a
    sample (Kynkäänniemi et al. 2019, arXiv 1904.06991), coverage that of reference balls with a sample inside (Naeem et al.
    2020, arXiv 2002.09797).
    """
    samples, reference = samples.astype(np.float64), reference.astype(np.float64)
    ours, theirs = _squared_radii(samples), _squared_radii(reference)
    covered = np.concatenate([part.min(axis=1) for part in _squared_distances(reference, samples)]) < theirs
    return _share_inside(samples, reference, theirs), _share_inside(reference, samples, ours), float(np.mean(covered))


def _squared_distances(points: np.ndarray, others: np.ndarray) -> Iterator[np.ndarray]:
    """Of all points from all others, a block of points at a time: [rows, len(others)] each."""
    lengths = (others**2).sum(1)
    for part in np.array_split(points, max(1, len(points) // BLOCK)):
        yield (part**2).sum(1)[:, None] - 2 * part @ others.T + lengths


def _squared_radii(rows: np.ndarray) -> np.ndarray:
    """Squared distance of each row from its fifth neighbour, [n]."""
    neighbour = min(NEIGHBOUR, len(rows) - 1)  # the nearest of all is the row itself, or an equal one
    return np.concatenate([np.partition(part, neighbour, axis=1)[:, neighbour] for part in _squared_distances(rows, rows)])


def _share_inside(points: np.ndarray, centres: np.ndarray, squared_radii: np.ndarray) -> float:
    """Share of points inside any of the balls."""
    return sum(int((part < squared_radii).any(1).sum()) for part in _squared_distances(points, centres)) / len(points)


def sliced_wasserstein(samples: np.ndarray, reference: np.ndarray) -> float:
    """Mean over 128 fixed directions of the Wasserstein-1 distance of the projections, in the features' units.

    (Bonneel et al. 2015, Sliced and Radon Wasserstein barycenters of measures.)
    """
    directions = np.random.Generator(np.random.Philox(key=0)).standard_normal((DIRECTIONS, samples.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ours, theirs = np.sort(samples @ directions.T, axis=0), np.sort(reference @ directions.T, axis=0)
    # both quantile functions are steps, so their distance is a sum over the pieces between the steps of either
    n, m = len(ours), len(theirs)
    steps = np.unique(np.concatenate([np.arange(n + 1) * m, np.arange(m + 1) * n]))  # in units of 1/(n m), so exact
    differences = ours[steps[:-1] // m] - theirs[steps[:-1] // n]
    return float((np.abs(differences).mean(axis=1) @ np.diff(steps)) / (n * m))


def distribution_distances(samples: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """All of them by name, of features [n, d] and [m, d], at least two rows each."""
    precision, recall, coverage = precision_recall_coverage(samples, reference)
    return {
        "kid": kernel_distance(samples, reference),
        "precision": precision,
        "recall": recall,
        "coverage": coverage,
        "sliced_wasserstein": sliced_wasserstein(samples, reference),
    }
