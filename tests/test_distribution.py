"""KID, precision, recall, coverage and sliced Wasserstein: closed forms, brute force, and what they tell apart."""

import numpy as np
import pytest
import scipy  # whose stats are imported where they are used

from s4s.metrics.distribution import (
    distribution_distances,
    kernel_distance,
    precision_recall_coverage,
    sliced_wasserstein,
)
from s4s.metrics.fid import MOST_ROWS, RunningMoments


def normal(n, d, seed=0, mean=0.0, std=1.0):
    return np.random.default_rng(seed).normal(mean, std, size=(n, d))


def test_kid_is_the_unbiased_discrepancy_of_the_cubic_kernel():
    """Against sums over pairs, one at a time."""
    x, y = normal(7, 3), normal(5, 3, seed=1, mean=0.5)

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    xx = np.mean([k(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


def test_kid_of_blocks_is_their_mean_and_without_bias():
    """Three blocks of 1000 against two; for the same distribution it scatters around zero."""
    x, y = normal(3000, 4), normal(2500, 4, seed=1)
    parts = [kernel_distance(x[i * 1000 : (i + 1) * 1000], y[j * 1000 : (j + 1) * 1000]) for i, j in [(0, 0), (1, 1), (2, 0)]]
    assert kernel_distance(x, y) == pytest.approx(np.mean(parts), rel=1e-12)
    same = [kernel_distance(normal(60, 4, seed=2 * i), normal(60, 4, seed=2 * i + 1)) for i in range(100)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 10 < kernel_distance(x, y + 1)


def test_precision_recall_and_coverage_are_those_of_their_definitions():
    """Against distances between all pairs."""
    x, y = normal(80, 3, mean=0.7), normal(60, 3, seed=1)

    def radii(rows):
        return np.sort(np.linalg.norm(rows[:, None] - rows, axis=2), axis=1)[:, 5]  # the first is the row itself

    between = np.linalg.norm(x[:, None] - y, axis=2)
    precision = (between <= radii(y)).any(axis=1).mean()
    recall = (between <= radii(x)[:, None]).any(axis=0).mean()
    coverage = (between.min(axis=0) <= radii(y)).mean()
    assert precision_recall_coverage(x, y) == pytest.approx((precision, recall, coverage))
    assert 0 < precision < 1 and 0 < recall < 1 and 0 < coverage < 1


def by_definition(samples, reference):
    """Of rows of whole numbers, so without rounding."""

    def squared(a, b):
        return sum((int(i) - int(j)) ** 2 for i, j in zip(a, b, strict=True))

    def radii(rows):
        return [sorted(squared(row, other) for other in rows)[min(5, len(rows) - 1)] for row in rows]

    ours, theirs = radii(samples), radii(reference)
    precise = [any(squared(x, y) <= r for y, r in zip(reference, theirs, strict=True)) for x in samples]
    recalled = [any(squared(x, y) <= r for x, r in zip(samples, ours, strict=True)) for y in reference]
    covered = [any(squared(x, y) <= r for x in samples) for y, r in zip(reference, theirs, strict=True)]
    return tuple(sum(inside) / len(inside) for inside in (precise, recalled, covered))


def drawn(kind, n, seed):
    """Whole numbers [n, d] with rows that repeat, or distances that are equal."""
    rng = np.random.default_rng(seed)
    return {
        "one-hot, repeated": lambda: np.eye(6, dtype=int)[rng.integers(6, size=n)],
        "one-hot, some repeated": lambda: np.eye(40, dtype=int)[rng.integers(40, size=n)],
        "grid": lambda: rng.integers(0, 6, (n, 2)),
        "grid in 9 dimensions": lambda: rng.integers(0, 2, (n, 9)),
        "one feature": lambda: rng.integers(0, 90, (n, 1)),
        "copies of a few": lambda: rng.integers(-50, 50, (7, 3))[rng.integers(0, 2 + 3 * seed, n)],
        "all equal": lambda: np.full((n, 4), 3),
        "far apart": lambda: rng.integers(0, 3, (n, 3)) + 1000 * rng.integers(0, 2, (n, 1)),
        "around the origin": lambda: np.array([[3, 4], [5, 0], [0, 0], [-4, 3], [1, 7], [5, 5]])[rng.integers(0, 6, n)],
    }[kind]()


KINDS = ["one-hot, repeated", "one-hot, some repeated", "grid", "grid in 9 dimensions", "one feature", "copies of a few",
         "all equal", "far apart", "around the origin"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [(30, 40), (6, 6), (2, 30)])
def test_rows_that_repeat_or_are_equally_far_give_what_the_definition_says_whatever_the_scale_and_shift(kind, counts):
    x, y = drawn(kind, counts[0], seed=0), drawn(kind, counts[1], seed=1)
    wanted = by_definition(x, y)
    for scale in (1, 3, 7.7, 10, 1e-9, 1e12, -0.3):
        for shift in (0, 1, 1e3, -77.7, np.linspace(-5, 1e4, x.shape[1])):
            for dtype in (np.float64, np.float32):
                rows = [((given + shift) * scale).astype(dtype) for given in (x, y)]
                assert precision_recall_coverage(*rows) == wanted, (scale, shift, dtype)
    assert precision_recall_coverage(x, y) == precision_recall_coverage(x.astype(np.float32), y) == wanted


def test_one_hot_rows_are_all_inside():
    rng = np.random.default_rng(0)
    x, y = (np.eye(30)[rng.integers(30, size=200)] for _ in range(2))
    assert {precision_recall_coverage(scale * x, scale * y) for scale in (1, 3, 7.7, 10)} == {(1, 1, 1)}


def test_rows_beside_those_that_repeat_are_outside():
    """By a thousandth of their size; balls around rows that repeat have no extent."""
    y = np.repeat(normal(10, 2048), 6, axis=0).astype(np.float32)
    assert precision_recall_coverage(y, y) == (1, 1, 1)
    assert precision_recall_coverage(y * np.float32(1.001), y) == (0, 0, 0)


def test_fewer_modes_cost_recall_and_coverage_and_wild_samples_cost_precision():
    modes = np.concatenate([normal(200, 2, seed=i, mean=20.0 * i, std=0.5) for i in range(4)])
    one = normal(800, 2, seed=9, std=0.5)
    precision, recall, coverage = precision_recall_coverage(one, modes)
    assert precision > 0.9 and recall == pytest.approx(0.25, abs=0.02) and coverage == pytest.approx(0.25, abs=0.02)
    wild = np.concatenate([modes, normal(800, 2, seed=9, mean=-100)])
    precision, recall, coverage = precision_recall_coverage(wild, modes)
    assert precision == pytest.approx(0.5, abs=0.01) and recall > 0.95 and coverage > 0.95


def test_sliced_wasserstein_of_a_shift_is_its_mean_length_along_directions():
    """E |<u, v>| of a shift v over directions u of the unit sphere in 3 dimensions is |v|/2."""
    x = normal(500, 3)
    assert sliced_wasserstein(x, x) == 0
    assert sliced_wasserstein(x + np.array([0.0, 0.0, 2.0]), x) == pytest.approx(1.0, rel=0.1)
    assert sliced_wasserstein(x, x[::-1]) == pytest.approx(0, abs=1e-12)


def test_sliced_wasserstein_is_that_of_scipy_along_each_direction():
    for x, y in (
        (normal(30, 4), normal(45, 4, seed=1, mean=0.3)),
        (normal(50, 4), normal(50, 4, seed=1)),
        (normal(7, 4), normal(3, 4, seed=1)),
    ):
        directions = np.random.Generator(np.random.Philox(key=0)).standard_normal((128, 4))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        each = [scipy.stats.wasserstein_distance(x @ direction, y @ direction) for direction in directions]
        assert sliced_wasserstein(x, y) == pytest.approx(np.mean(each), rel=1e-12)


def test_the_distances_are_the_same_each_time_and_none_for_the_set_itself():
    x, y = normal(300, 5), normal(200, 5, seed=1)
    assert distribution_distances(x, y) == distribution_distances(x, y)
    own = distribution_distances(x, x)
    assert own["precision"] == own["recall"] == own["coverage"] == 1 and own["sliced_wasserstein"] == 0 and own["kid"] <= 0


def test_the_first_rows_are_kept_in_the_order_of_pieces():
    rows = normal(MOST_ROWS + 500, 2).astype(np.float32)
    left, right = RunningMoments(), RunningMoments()
    for piece in np.split(rows[:7000], [1, 3000]):
        left.add(piece)
    right.add(rows[7000:])
    left.join(right)
    assert left.count == len(rows) and np.array_equal(left.moments().rows, rows[:MOST_ROWS])
