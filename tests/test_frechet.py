"""The Fréchet distance of two Gaussians against closed forms and against clean-fid's arithmetic."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from s4s.metrics.fid import Moments, frechet_distance


def rotation(size, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def covariance(size, rank, seed):
    """Random, of some rank, with eigenvalues over six orders of magnitude."""
    rng = np.random.default_rng(seed)
    values = np.where(np.arange(size) < rank, 10.0 ** rng.uniform(-4, 2, size), 0)
    q = rotation(size, seed + 1)
    return (q * values) @ q.T


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 10_000))
def test_a_gaussian_is_at_distance_0_from_itself_and_at_the_squared_shift_from_its_shifted_self(size, rank, seed):
    own, mean = covariance(size, min(rank, size), seed), np.random.default_rng(seed).normal(size=size)
    scale = max(1.0, np.trace(own))
    assert 0 <= frechet_distance(Moments(mean, own), Moments(mean, own)) < 1e-11 * scale
    assert frechet_distance(Moments(mean + 1, own), Moments(mean, own)) == pytest.approx(size, abs=1e-11 * scale)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 10_000))
def test_covariances_that_commute_are_as_far_apart_as_the_roots_of_their_eigenvalues(size, rank, other_rank, seed):
    """Of lower rank too: the eigenvalues that are 0 are the first ones of the one, the last ones of the other."""
    rng, q = np.random.default_rng(seed), rotation(size, seed)
    a, b = rng.uniform(0.01, 100, (2, size))
    a[: max(0, size - rank)], b[other_rank:] = 0, 0
    zero = np.zeros(size)
    found = frechet_distance(Moments(zero, (q * a) @ q.T), Moments(zero, (q * b) @ q.T))
    assert found == pytest.approx(np.square(np.sqrt(a) - np.sqrt(b)).sum(), rel=1e-9, abs=1e-9)


def test_a_point_is_as_far_from_a_gaussian_as_its_trace_says():
    own, zero = covariance(20, 20, 0), np.zeros(20)
    found = frechet_distance(Moments(zero, np.zeros((20, 20))), Moments(zero, own))
    assert found == pytest.approx(np.trace(own))


def test_two_directions_are_as_far_apart_as_the_angle_between_them_says():
    """Rank one each: tr (S_1 S_2)^(1/2) = |u . v|."""
    u, v = np.random.default_rng(0).normal(size=(2, 50))
    zero = np.zeros(50)
    found = frechet_distance(Moments(zero, np.outer(u, u)), Moments(zero, np.outer(v, v)))
    assert found == pytest.approx(u @ u + v @ v - 2 * abs(u @ v), rel=1e-12)


@pytest.mark.parametrize(("size", "seed"), [(2, 0), (3, 1), (32, 2), (200, 3)])
def test_it_is_what_clean_fid_computes(size, seed, monkeypatch):
    """Of covariances of full rank; to singular ones clean-fid adds 1e-6 I. SciPy 1.18 is to drop sqrtm's option `disp`."""
    fid = pytest.importorskip("cleanfid.fid")
    monkeypatch.setattr(fid, "linalg", SimpleNamespace(sqrtm=lambda product, disp: (sqrtm(product), disp)))
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(5 * size, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size) for _ in range(2)]
    own, other = (Moments(x.mean(axis=0), np.cov(x, rowvar=False)) for x in rows)
    theirs = fid.frechet_distance(own.mean, own.covariance, other.mean, other.covariance)
    assert frechet_distance(own, other) == pytest.approx(theirs, rel=1e-9)


def test_a_steep_spectrum_costs_no_accuracy():
    """512 features whose eigenvalues fall by nine orders of magnitude, in a common basis."""
    values, q = np.geomspace(1e-9, 1, 512), rotation(512, 0)
    own, other = (q * values) @ q.T, (q * values[::-1]) @ q.T
    wanted = np.square(np.sqrt(values) - np.sqrt(values[::-1])).sum()
    assert frechet_distance(Moments(q[0], own), Moments(q[0], other)) == pytest.approx(wanted, rel=1e-9)
