"""FID on images: clean-fid's Inception path with a stand-in file, statistics, folders of images, wrong files."""

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from s4s import S4SError
from s4s.metrics.fid import frechet_distance, moments
from s4s.metrics.image_features import eight_bit
from s4s.metrics.load import load_features
from s4s.metrics.moments_file import read_moments, write_moments
from tests.builders import features as builder


def described(folder, **features):
    """A model's YAML file that names these features."""
    model = {"name": "x", "kind": "edm", "path": "absent.pkl", "features": features}
    (folder / "model.yaml").write_text(yaml.safe_dump(model))
    return folder / "model.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The stand-in for Inception, a small network, 12 images of 20x16 pixels and statistics."""
    path = tmp_path_factory.mktemp("features")
    builder.write(builder.Inception(), path / "inception-2015-12-05.pt")
    builder.write(builder.Small(), path / "small.pt")
    (path / "images/below").mkdir(parents=True)
    for i, picture in enumerate(pictures(12)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path / ("images" if i % 2 else "images/below") / f"{i:02}.png")
    np.savez(path / "real.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    return path


def pictures(count):
    """uint8 [count, 3, 20, 16]."""
    states = torch.randn(count, 3, 20, 16, generator=torch.Generator().manual_seed(0))
    return eight_bit(states)


@pytest.mark.parametrize("mode", ["clean", "legacy_tensorflow"])
def test_inception_features_are_clean_fids_own(folder, mode):
    """Against clean-fid reading the same images from their files."""
    from cleanfid.fid import get_folder_features
    from cleanfid.inception_torchscript import InceptionV3W

    features = load_features(described(folder, kind="inception", path="inception-2015-12-05.pt", images="images", resize=mode))
    wrapper = InceptionV3W(str(folder), download=False, resize_inside=mode != "clean")
    theirs = get_folder_features(
        str(folder / "images"), wrapper, num_workers=0, device=torch.device("cpu"), mode=mode, verbose=False
    )
    order = sorted(range(12), key=lambda i: f"{'' if i % 2 else 'below/'}{i:02}")
    states = pictures(12)[order].float() / 127.5 - 1
    ours = features.of([states[:5], states[5:]])
    assert ours.shape == (12, 2048) and np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
    assert features.name == "Inception-v3"
    assert features.details == (f"clean-fid's mode {mode}", "8-bit images", "reference images in images")


def test_states_are_rounded_to_eight_bits():
    states = torch.tensor([-2.0, -1.0, -0.999, 0.0, 1.0, 3.0]).reshape(1, 1, 1, 6)
    assert eight_bit(states).shape == (1, 3, 1, 6) and eight_bit(states)[0, 2, 0].tolist() == [0, 0, 0, 128, 255, 255]
    every = torch.arange(256).reshape(1, 1, 16, 16)
    assert torch.equal(eight_bit(every / 127.5 - 1)[:, :1], every.to(torch.uint8))


def test_a_folder_of_images_is_a_reference(folder):
    path = described(folder, kind="torchscript", name="small", path="small.pt", images="images")
    features = load_features(path)
    found = features.reference()
    states = pictures(12).float() / 127.5 - 1
    assert np.allclose(found.mean, features.of([states]).mean(axis=0), atol=1e-6)
    write_moments(folder / "known.npz", found)
    again = load_features(path, reference=folder / "known.npz").reference()
    assert (again.mean == found.mean).all() and (again.covariance == found.covariance).all()
    assert again.rows.dtype == np.float32 and (again.rows == found.rows).all() and len(found.rows) == 12
    assert abs(frechet_distance(moments(features.of([states])), again)) < 1e-6


def test_statistics_are_a_reference(folder):
    features = load_features(
        described(folder, kind="inception", path="inception-2015-12-05.pt", statistics={"path": "real.npz"})
    )
    assert features.reference().covariance.shape == (2048, 2048) and features.details[-1] == "reference real.npz"
    with pytest.raises(S4SError, match="12 samples, 2048 features"):
        frechet_distance(moments(features.of([pictures(12).float() / 127.5 - 1])), features.reference())
    with pytest.raises(S4SError, match="8 features, but the reference has 2048; it is of another network"):
        frechet_distance(moments(np.random.default_rng(0).normal(size=(20, 8))), features.reference())


def test_adm_reference_batches_are_read(tmp_path):
    """They hold images too."""
    rows = np.random.default_rng(0).normal(size=(30, 4))
    np.savez(tmp_path / "batch.npz", arr_0=np.zeros((3, 8, 8, 3), np.uint8), mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    assert np.allclose(read_moments(tmp_path / "batch.npz").mean, moments(rows).mean)


@pytest.mark.parametrize("rows", [np.zeros((5, 3)), np.zeros(4), np.zeros((5, 4, 1))], ids=lambda rows: str(rows.shape))
def test_rows_that_do_not_fit_the_moments_are_refused(tmp_path, rows):
    np.savez(tmp_path / "moments.npz", mu=np.zeros(4), sigma=np.eye(4), rows=rows)
    with pytest.raises(S4SError, match=r"rows of shape .* do not fit mu of shape"):
        read_moments(tmp_path / "moments.npz")


def test_the_classifier_sees_values_of_data_only():
    """What samples have beyond -1 and 1 is cut off, as where images are stored."""
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    features = load_features("digits")
    assert torch.equal(features(2 * images), features((2 * images).clamp(-1, 1)))
    assert not torch.equal(features(2 * images), features(images))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"kind": "inception", "path": "small.pt", "images": "images"}, "small.pt: not a TorchScript feature network"),
        ({"kind": "torchscript", "name": "x", "path": "real.npz", "images": "images"}, "not a TorchScript feature network"),
        ({"kind": "torchscript", "path": "small.pt", "images": "images"}, "needs a name"),
        ({"kind": "inception", "path": "small.pt"}, "need one of statistics, images and teacher: true"),
        ({"kind": "inception", "path": "absent.pt", "images": "images"}, "absent.pt: cannot read these weights"),
        ({"kind": "torchscript", "name": "x", "path": "small.pt", "statistics": {"path": "small.pt"}}, "mu and sigma"),
        ({"kind": "torchscript", "name": "x", "path": "small.pt", "images": "absent"}, "absent: no images; allowed: .bmp"),
    ],
)
def test_wrong_features_are_refused(folder, features, message):
    with pytest.raises(S4SError, match=message):
        load_features(described(folder, **features)).reference()


def test_damaged_images_are_refused(folder, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(b"no image")
    path = described(folder, kind="torchscript", name="x", path="small.pt", images=str(tmp_path / "pictures"))
    with pytest.raises(S4SError, match=r"a\.png: cannot read this image"):
        load_features(path).reference()
