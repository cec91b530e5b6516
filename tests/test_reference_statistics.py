"""Statistics and samples that no distance can be made of are refused by the file's name; right ones stay as they are."""

import json
import pickle

import numpy as np
import pytest
import torch

from s4s import S4SError
from s4s.files.rows import SAMPLES, TEACHER_PAIRS, Split, write_splits
from s4s.metrics.distribution import distribution_distances
from s4s.metrics.features import Features
from s4s.metrics.fid import Moments, RunningMoments, frechet_distance, moments
from s4s.metrics.image_features import ImageFeatures
from s4s.metrics.load import load_features
from s4s.metrics.moments_file import read_moments, write_moments
from s4s.metrics.score import SplitStatistics, join_statistics, save_statistics, score, score_samples
from s4s.models.description import FeatureNetwork
from tests.builders import features as builder
from tests.test_features import described

ROWS = np.random.default_rng(0).normal(2, 1, size=(12, 4)).astype(np.float32)
MU, SIGMA = ROWS.mean(axis=0, dtype=np.float64), np.cov(ROWS.astype(np.float64), rowvar=False)


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


DAMAGED = {  # what -> key, what it is instead, what the message says
    "mu with nan": ("mu", changed(MU, 1, np.nan), "mu has numbers that are not finite"),
    "mu with infinity": ("mu", changed(MU, 0, -np.inf), "mu has numbers that are not finite"),
    "sigma with nan": ("sigma", changed(SIGMA, (2, 2), np.nan), "sigma has numbers that are not finite"),
    "sigma with nan above the diagonal": ("sigma", changed(SIGMA, (0, 2), np.nan), "sigma has numbers that are not finite"),
    "sigma with infinity": ("sigma", changed(SIGMA, (1, 1), np.inf), "sigma has numbers that are not finite"),
    "rows with nan": ("rows", changed(ROWS, (3, 1), np.nan), "rows has numbers that are not finite"),
    "rows with infinity": ("rows", changed(ROWS, (0, 0), np.inf), "rows has numbers that are not finite"),
    "a negative variance": ("sigma", changed(SIGMA, (1, 1), -SIGMA[1, 1]), "sigma has negative variances"),
    "a small negative variance": ("sigma", np.diag([1, 2, 3, -1e-7]), "sigma has negative variances"),
    "all variances negative": ("sigma", -SIGMA, "sigma has negative variances"),
    "a negative variance along a diagonal": ("sigma", np.ones((4, 4)) * 2 - np.eye(4), "sigma has negative variances"),
    "not symmetric": ("sigma", changed(SIGMA, (0, 3), 0.5), "sigma is not symmetric"),
    "complex numbers": ("sigma", SIGMA + 0.1j, "sigma holds complex128, not real numbers"),
    "text": ("mu", np.array(["1", "2", "3", "4"]), "mu holds <U1, not real numbers"),
    "true and false": ("mu", np.ones(4, bool), "mu holds bool, not real numbers"),
    "mu of another network": ("mu", np.zeros(5), "mu of shape .* do not fit"),
    "mu in a column": ("mu", MU[:, None], "mu of shape .* do not fit"),
    "no features": ("mu", np.zeros(0), "mu of shape .* do not fit"),
    "variances alone": ("sigma", np.ones(4), "mu of shape .* do not fit"),
    "rows of another network": ("rows", ROWS[:, :3], "rows of shape .* do not fit"),
    "one row": ("rows", ROWS[:1], "rows has fewer than 2"),
    "Python objects": ("mu", np.array([1, None, 2, 3], dtype=object), "not an .npz file of numbers .*allow_pickle"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_statistics_that_are_none_are_refused_by_the_files_name(what, tmp_path):
    key, value, message = DAMAGED[what]
    path = tmp_path / "held_out.npz"
    np.savez(path, **{"mu": MU, "sigma": SIGMA, "rows": ROWS} | {key: value})
    network = builder.write(builder.Small(4), tmp_path / "small.pt")
    readers = [
        lambda: read_moments(path),
        lambda: load_features(described(tmp_path, kind="states", name="x", path=str(path))).reference(),
        lambda: load_features("digits", reference=path).reference(),
        lambda: load_features(
            described(tmp_path, kind="torchscript", name="x", path=str(network), statistics={"path": str(path)})
        ).reference(),
    ]
    for read in readers:
        with pytest.raises(S4SError, match=rf"held_out\.npz: {message}") as error:
            read()
        assert "\n" not in str(error.value)


def test_files_that_are_no_statistics_are_refused_by_their_name(tmp_path):
    path = tmp_path / "real.npz"

    def refused(message):
        with pytest.raises(S4SError, match=rf"real\.npz: {message}"):
            read_moments(path)

    refused("not an .npz file of numbers .*No such file")
    np.savez(path, mean=MU, sigma=SIGMA)
    refused("no mu; statistics are an .npz file with mu and sigma")
    np.savez(path, arr_0=np.zeros((3, 8, 8, 3)))
    refused("no mu and no sigma")
    np.savez(path, mu=MU, sigma=SIGMA)
    whole = path.read_bytes()
    for content in (
        b"",
        b"mu",
        whole[:-30],
        whole.replace(b"<f8", b"<q9"),
        pickle.dumps({"mu": MU}),
        whole.replace(b"NUMPY", b"NUMPX"),
    ):
        path.write_bytes(content)
        refused("not an .npz file of numbers")
    with path.open("wb") as file:
        np.save(file, MU)
    refused("not an .npz file of numbers")


@pytest.mark.parametrize(
    "sigma",
    [SIGMA, np.zeros((4, 4)), np.diag([1e9, 1, 1e-9, 0]), np.cov(ROWS[:3].astype(np.float64), rowvar=False),
     np.ones((4, 4), int), np.cov(1e3 + ROWS[:3], rowvar=False, dtype=np.float32), SIGMA * 1e-300, SIGMA * 1e300],
    ids=["full", "zero", "steep", "of rank 2", "whole numbers", "of rank 2 in float32", "tiny", "huge"],
)  # fmt: skip
def test_statistics_that_are_some_come_back_to_the_bit(sigma, tmp_path):
    np.savez(tmp_path / "real.npz", mu=MU, sigma=sigma, rows=ROWS)
    found = read_moments(tmp_path / "real.npz")
    assert np.array_equal(found.mean, MU) and np.array_equal(found.covariance, sigma.astype(np.float64))
    assert np.array_equal(found.rows, ROWS) and found.rows.dtype == np.float32
    write_moments(tmp_path / "again.npz", found)
    assert np.array_equal(read_moments(tmp_path / "again.npz").covariance, found.covariance)


def test_a_reference_of_another_network_is_named(tmp_path):
    np.savez(tmp_path / "real.npz", mu=MU, sigma=SIGMA)
    own = moments(np.random.default_rng(0).normal(size=(20, 1)))  # one feature would fit any by broadcasting
    with pytest.raises(S4SError, match=r"1 features, but the reference has 4; it is of another network: .*real\.npz"):
        frechet_distance(own, read_moments(tmp_path / "real.npz"))


def test_a_distance_beyond_float64_is_none():
    far = Moments(MU * 1e200, SIGMA)
    with pytest.raises(S4SError, match="too large for float64"):
        frechet_distance(far, Moments(MU, SIGMA))


# --- samples


class Given(Features):
    """States themselves as features, or what `of_states` makes of them."""

    name = "given"

    def __init__(self, of_states=lambda states: states):
        self.of_states = of_states

    def __call__(self, images):
        return self.of_states(images.flatten(1))

    def reference(self):
        return moments(np.random.default_rng(1).normal(size=(50, 2)), "reference")


@pytest.fixture
def sampled(mixture, tmp_path):
    """Writes samples and pairs of the plane, 30 each, with changes of some; gives their paths."""
    about = {"model": mixture.name, "solver": "ddim", "nfe": 4, "tableau": "x"}

    def write(of_samples=lambda y: y, of_pairs=lambda y: y, split="test~0"):
        seeds, y = np.arange(100, 130, dtype=np.uint64), np.random.default_rng(0).normal(size=(30, 2))
        write_splits(tmp_path / "s.h5", SAMPLES, {split: Split(seeds, of_samples(y.copy()), y)}, about)
        write_splits(tmp_path / "p.h5", TEACHER_PAIRS, {split: Split(seeds, of_pairs(y.copy()), y)}, about)
        return tmp_path / "s.h5", tmp_path / "p.h5"

    return write


def test_samples_that_are_finite_are_scored(mixture, sampled):
    found = score_samples(mixture, Given(), *sampled())
    assert np.isfinite([found["fid_mean"], found["kid"][0], found["precision"][0]]).all() and found["global_error_mean"] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_named(mixture, sampled, value):
    with pytest.raises(
        S4SError, match=r"s\.h5: split test~0: samples are not finite .*of seed 107; take another solver, or more"
    ):
        score_samples(mixture, Given(), *sampled(of_samples=lambda y: changed(y, (7, 1), value)))
    with pytest.raises(
        S4SError, match=r"p\.h5: split test~0, the teacher's: samples are not finite .*seed 129; take another teacher"
    ):
        score_samples(mixture, Given(), *sampled(of_pairs=lambda y: changed(y, (29, 0), value)))


def test_decoders_and_feature_networks_that_overflow_are_named(mixture, sampled, monkeypatch):
    with pytest.raises(S4SError, match=r"s\.h5: features \(given\) of split test~0 are not finite"):
        score_samples(mixture, Given(lambda states: states / 0), *sampled())
    monkeypatch.setattr(mixture, "decode", lambda states: states.half() * 1e5, raising=False)
    with pytest.raises(S4SError, match=r"s\.h5: decoded samples are not finite though .*precision to float32"):
        score_samples(mixture, Given(), *sampled())


def test_a_file_without_test_samples_is_named(mixture, sampled):
    with pytest.raises(S4SError, match=r"s\.h5: no test samples, so nothing to score; it has train"):
        score_samples(mixture, Given(), *sampled(split="train"))


DAMAGED_SHARDS = [
    ("mean", changed(MU, 0, np.nan)), ("scatter", -SIGMA), ("scatter", changed(SIGMA, (0, 0), np.inf)), ("scatter", SIGMA[:2]),
    ("rows", changed(ROWS, (1, 1), np.nan)), ("rows", ROWS[:5]), ("rows", None), ("count", 0), ("count", -3), ("count", 13),
    ("distance", np.nan), ("distance", -1.0), ("distance", np.array([1.0, 2.0])), ("distance", None), ("about", "{"),
    ("about", json.dumps({"solver": "other"})),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), DAMAGED_SHARDS)
def test_statistics_of_shards_that_are_damaged_are_named(key, value, tmp_path):
    running = RunningMoments()
    running.add(ROWS)
    paths = [tmp_path / "0.npz", tmp_path / "1.npz"]
    for path in paths:
        save_statistics(path, {"test~0": SplitStatistics(running, 1.5)}, {"solver": "ddim"})
    found, about = join_statistics(paths)
    assert found["test~0"].features.count == 24 and found["test~0"].distance == 3 and about == {"solver": "ddim"}
    with np.load(paths[1]) as file:
        arrays = dict(file)
    name = key if key == "about" else f"test~0/{key}"
    np.savez(paths[1], **{k: v for k, v in (arrays | {name: value}).items() if v is not None})
    with pytest.raises(
        S4SError, match=r"1\.npz: cannot read these statistics of samples \(.*\); delete the file and rerun"
    ) as error:
        join_statistics(paths)
    assert str(error.value).count("1.npz") == 1


def test_features_beyond_float32_are_not_kept_as_infinity():
    running = RunningMoments()
    with np.errstate(over="ignore"):
        running.add(ROWS.astype(np.float64) * 1e40)
    with pytest.raises(S4SError, match="not all finite"):
        running.moments()


def test_moments_of_other_features_are_not_joined():
    running, other = RunningMoments(), RunningMoments()
    running.add(ROWS)
    other.add(ROWS[:, :1])
    with pytest.raises(S4SError, match="1 features after some of 4"):
        running.join(other)


# --- one feature


class Dropping(torch.nn.Module):
    """A network that drops dimensions of 1, as `squeeze` does."""

    def __init__(self, features: int):
        super().__init__()
        self.small = builder.Small(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.small(x).squeeze()


@pytest.mark.parametrize("network", [builder.Small, Dropping])
@pytest.mark.parametrize("count", [1, 3])
def test_a_network_of_one_feature_or_few_gives_rows_of_them(network, count, tmp_path):
    path = builder.write(network(count), tmp_path / "small.pt")
    features = ImageFeatures(FeatureNetwork(kind="torchscript", name="x", path=path, images=tmp_path), torch.device("cpu"))
    pixels = torch.randint(0, 256, (70, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = features.of_pixels(pixels)
    assert found.shape == (70, count) and features.of_pixels(pixels[:65]).shape == (65, count)
    one_by_one = torch.cat([features.of_pixels(image[None]) for image in pixels])
    assert torch.allclose(found, one_by_one, atol=1e-5)


class Wrong(torch.nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(1)[:, :4]
        if self.kind == "maps":
            return rows[:, :, None, None]
        if self.kind == "turned":
            return rows.t()
        if self.kind == "flat":
            return rows.flatten()
        if self.kind == "complex":
            return torch.complex(rows, rows)
        if self.kind == "of another size":
            return x.flatten(1) @ torch.ones(3 * 8 * 8, 4)
        return rows / 0


NOT_ROWS = {
    "maps": r"gives .* shape \[5, 4, 1, 1\] of 5 images, not .*end the network with flatten",
    "turned": r"gives .* shape \[4, 5\] of 5 images",
    "flat": r"gives .* shape \[20\] of 5 images",
    "complex": "gives no tensor of real numbers",
    "nan": "gives features that are not finite",
    "of another size": r"fails on images of 8x9 pixels: .*cannot be multiplied",
}


@pytest.mark.parametrize("kind", NOT_ROWS)
def test_networks_that_give_no_rows_of_features_are_named(kind, tmp_path):
    path = builder.write(Wrong(kind), tmp_path / "wrong.pt")
    features = ImageFeatures(FeatureNetwork(kind="torchscript", name="x", path=path, images=tmp_path), torch.device("cpu"))
    with pytest.raises(S4SError, match=rf"wrong\.pt: {NOT_ROWS[kind]}") as error:
        features.of_pixels(torch.zeros(5, 3, 9, 8, dtype=torch.uint8))
    assert "\n" not in str(error.value)


def test_one_feature_is_scored_as_its_closed_form_says(tmp_path):
    """mu and sigma as np.mean and np.cov give them of a column: also without dimensions."""
    x, y = np.random.default_rng(0).normal(1, 2, (500, 1)), np.random.default_rng(1).normal(0, 1, (400, 1))
    wanted = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    for mu in (y.mean(axis=0), y.mean()):
        np.savez(tmp_path / "real.npz", mu=mu, sigma=np.cov(y, rowvar=False), rows=y.astype(np.float32))
        reference = read_moments(tmp_path / "real.npz")
        assert reference.mean.shape == (1,) and reference.covariance.shape == (1, 1)
        assert frechet_distance(moments(x), reference) == pytest.approx(wanted, rel=1e-12)
    running = RunningMoments()
    running.add(x)
    about = {"model": "m", "solver": "s", "nfe": 4, "tableau": "t", "passes": 1, "features": ["x"], "classes": 0}
    save_statistics(tmp_path / "0.npz", {"test~0": SplitStatistics(running, 1.0)}, about)
    found = score(*join_statistics([tmp_path / "0.npz"]), reference)
    assert found["fid_mean"] == pytest.approx(wanted, rel=1e-12)
    assert all(np.isfinite(value) for value in distribution_distances(x, y).values())
    assert found["sliced_wasserstein"][0] > 0.5 and 0 < found["precision"][0] <= 1
