"""Distances between two sets of feature vectors beside Fréchet's: KID, precision, recall and coverage, sliced Wasserstein.

All are deterministic functions of the rows, in their order.
"""

from __future__ import annotations

import numpy as np

BLOCK = 1000  # rows of KID's blocks
NEIGHBOUR = 5  # the nearest neighbour that a radius reaches to; the farthest row, where there are fewer
DIRECTIONS = 128
EPS = float(np.finfo(np.float64).eps)


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
    """Precision, recall and coverage with balls that reach to the fifth neighbour, which is inside.

    Precision is the share of samples inside a ball around a reference row, recall that of reference rows inside a ball around a
    sample (Kynkäänniemi et al. 2019, arXiv 1904.06991), coverage that of reference balls with a sample inside (Naeem et al.
    2020, arXiv 2002.09797). Distances that differ by no more than rounding count as equal, so that rows which repeat, or lie
    on a grid, give the same whatever they are scaled and shifted by.
    """
    resolution = max(EPS, *(float(np.finfo(np.result_type(rows, np.float32)).eps) for rows in (samples, reference)))
    largest = np.float64(max(np.abs(samples).max(), np.abs(reference).max()))
    ours, theirs = (np.ldexp(rows.astype(np.float64), -np.frexp(largest)[1]) for rows in (samples, reference))
    centre = theirs.mean(axis=0)
    ours, theirs, far = ours - centre, theirs - centre, float(np.linalg.norm(centre))
    our_reach, their_reach = (_squared_reach(rows, resolution, far) for rows in (ours, theirs))
    precise, recalled, covered = 0, np.zeros(len(theirs), bool), np.zeros(len(theirs), bool)
    for block in _blocks(len(ours)):
        squared = _squared_distances(ours[block], theirs)
        precise += int((inside := squared <= their_reach).any(axis=1).sum())
        covered |= inside.any(axis=0)
        recalled |= (squared <= our_reach[block, None]).any(axis=0)
    return precise / len(ours), float(recalled.mean()), float(covered.mean())


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, count, BLOCK)]


def _squared_distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of all points from all others, [n, m], within (d + 3) 2^-53 (|x| + |y|)^2."""
    squared: np.ndarray = (points**2).sum(1)[:, None] - 2 * points @ others.T + (others**2).sum(1)
    return squared


def _squared_reach(rows: np.ndarray, resolution: float, far: float) -> np.ndarray:
    """Squared distance of each row up to which a point is inside its ball, [n]: that of its fifth neighbour, and of rounding.

    A row that was `far` from zero before it was centred has been rounded by up to half of `resolution` times its length. So
    have neighbours and points; both distances may be wrong by that, and their squares by what `_squared_distances` says.
    """
    neighbour = min(NEIGHBOUR, len(rows) - 1)  # the nearest of all is the row itself, or an equal one
    near = [
        np.partition(_squared_distances(rows[block], rows), neighbour, axis=1)[:, neighbour] for block in _blocks(len(rows))
    ]
    radii = np.sqrt(np.maximum(np.concatenate(near), 0))
    lengths = 2 * np.linalg.norm(rows, axis=1) + radii  # at least those of a row and of a point at its ball's edge
    reach: np.ndarray = (radii + 2 * resolution * (lengths + 2 * far)) ** 2 + (rows.shape[1] + 3) * EPS * lengths**2
    return reach


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
