"""Models and metrics: loading, checks of weights, the exact denoiser, FID."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import s4s
from s4s import S4SError
from s4s.metrics.fid import frechet_distance, moments
from s4s.metrics.global_error import global_error
from s4s.metrics.load import load_features
from s4s.models.embedded.datasets import HELD_OUT_DIGITS, load_dataset

ROOT = Path(__file__).parents[1]


def test_the_shipped_weights_are_small_and_their_checksums_right():
    model = yaml.safe_load((ROOT / "config/models/digits.yaml").read_text())
    files = [model, model["features"], model["perceptual"]]
    assert sum((ROOT / "config/models" / entry["path"]).stat().st_size for entry in files) < 2e6
    for entry in files:
        content = (ROOT / "config/models" / entry["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]


def test_digits_denoise_held_out_images(digits):
    """At every level the denoiser beats both doing nothing and the mean image, on images it never saw."""
    data = load_dataset("digits")
    assert len(data.held_out) == HELD_OUT_DIGITS and len(data.train) == 1297
    clean = data.held_out
    for s in (0.2, 0.5, 1.0, 2.0):
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        error = (digits(clean + s * noise, s) - clean).square().mean()
        assert error < 0.8 * min(s**2, (clean - data.train.mean(0)).square().mean())


def test_scalar_and_per_row_levels_agree(digits):
    y = torch.randn(5, 1, 8, 8) * 3
    assert torch.allclose(digits(y, 3.0), digits(y, torch.full((5,), 3.0)), atol=1e-5)


def test_the_mixtures_denoiser_is_the_posterior_mean(mixture):
    """Against the average of data drawn from the mixture, weighted by the likelihood of y."""
    g = torch.Generator().manual_seed(0)
    which = torch.multinomial(mixture.weights, 400_000, replacement=True, generator=g)
    x = mixture.means[which] + mixture.std * torch.randn(400_000, 2, generator=g, dtype=torch.float64)
    for y, s in [(torch.tensor([0.5, 0.2]), 0.5), (torch.tensor([-2.0, 1.0]), 2.0)]:
        likelihood = torch.exp(-(y - x).square().sum(1) / (2 * s**2))
        expected = (likelihood[:, None] * x).sum(0) / likelihood.sum()
        assert torch.allclose(mixture(y[None].double(), s)[0], expected, atol=0.01)


def model_copy(tmp_path, **changes):
    folder = tmp_path / "models"
    shutil.copytree(ROOT / "resources/digits", tmp_path / "weights")
    folder.mkdir()
    model = yaml.safe_load((ROOT / "config/models/digits.yaml").read_text())
    model["path"] = "../weights/denoiser.safetensors"
    for key in ("features", "perceptual"):
        model[key]["path"] = f"../weights/{Path(model[key]['path']).name}"
    model.update(changes)
    (folder / "mine.yaml").write_text(yaml.safe_dump(model))
    return folder / "mine.yaml"


def test_a_model_is_its_yaml_wherever_it_lies(tmp_path, digits):
    mine = s4s.load_model(model_copy(tmp_path, name="mine"))
    y = torch.randn(2, 1, 8, 8)
    assert mine.name == "mine" and mine.shape == (1, 8, 8) and torch.equal(mine(y, 1.0), digits(y, 1.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "denoiser.safetensors: wrong sha256: the model file expects 0000"),
        ({"path": "absent.safetensors"}, "absent.safetensors: cannot read these weights"),
        (
            {"kind": "embeded"},
            "Input tag 'embeded' found using 'kind' does not match any of the expected tags: 'embedded', 'edm',",
        ),
        ({"pth": "x"}, "pth: unknown key"),
        (
            {"path": "../weights/classifier.safetensors", "sha256": None},
            "classifier.safetensors: not the weights of a denoiser",
        ),
        ({"path": "mine.yaml", "sha256": None}, "not weights that"),
    ],
)
def test_bad_model_files_are_refused(tmp_path, changes, message):
    with pytest.raises(S4SError, match=message):
        s4s.load_model(model_copy(tmp_path, **changes))


def test_unknown_models_are_refused():
    with pytest.raises(S4SError, match=r"unknown model 'cifar'; known: .*, digits,"):
        s4s.load_model("cifar")


def test_frechet_distance_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200_000, 3)), 1.5 + 2 * rng.normal(size=(200_000, 3))
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(3 * 1.5**2 + 3 * (2 - 1) ** 2, rel=0.02)
    assert abs(frechet_distance(moments(x), moments(x))) < 1e-6


def test_frechet_distance_refuses_what_it_cannot_measure():
    with pytest.raises(S4SError, match="3 samples, 5 features"):
        frechet_distance(moments(np.zeros((3, 5))), moments(np.zeros((9, 5))))
    with pytest.raises(S4SError, match="not all finite"):
        frechet_distance(moments(np.full((9, 5), np.nan)), moments(np.zeros((9, 5))))


def test_features_tell_digits_from_noise():
    features, data = load_features("digits"), load_dataset("digits")
    near = frechet_distance(moments(features.of([data.train])), features.reference())
    far = frechet_distance(moments(features.of([torch.rand(500, 1, 8, 8) * 2 - 1])), features.reference())
    assert near < 0.2 < 5 < far


def test_global_error_is_the_mean_over_samples_of_the_rms():
    x = np.zeros((2, 1, 2, 2), np.float32)
    y = np.stack([np.full((1, 2, 2), 3.0), np.full((1, 2, 2), 1.0)]).astype(np.float32)
    assert global_error(x, y) == 2.0
