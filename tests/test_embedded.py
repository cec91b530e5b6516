"""The embedded models: their data, what ships, what they denoise, and that they can be trained again."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

import s4s
from s4s import S4SError
from s4s.metrics.fid import frechet_distance, moments
from s4s.metrics.load import load_features
from s4s.models.embedded.datasets import DATASETS, STRIDE, TILE, RealData, load_dataset, turned
from s4s.models.embedded.recipes import EMBEDDED_FILES, RECIPES
from s4s.models.embedded.training import denoising_loss, latents_of, train_autoencoder, train_denoiser
from s4s.models.embedded.weights import assemble, load_classifier, save_network
from s4s.models.load import load_perceptual
from s4s.models.model_files import read_model_file
from s4s.models.seeds import sample_seeds

ROOT = Path(__file__).parents[1]
SIZES = {"digits": (1297, 500), "patches": (7290, 2430), "breast_cancer": (369, 200)}


@pytest.fixture(scope="module")
def models():
    return {name: s4s.load_model(name) for name in EMBEDDED_FILES}


@pytest.mark.parametrize("name", DATASETS)
def test_data_are_split_for_good(name):
    data, again = load_dataset(name), load_dataset(name)
    assert (len(data.train), len(data.held_out)) == SIZES[name] == (len(data.train_labels), len(data.held_out_labels))
    assert all(torch.equal(a, b) for a, b in zip(data, again, strict=True))
    seen = {row.tobytes() for row in data.train.numpy()}
    assert not any(row.tobytes() in seen for row in data.held_out.numpy())
    assert {*data.train_labels.tolist()} == {*data.held_out_labels.tolist()}


def test_patches_of_a_tile_are_all_on_one_side():
    """A quarter of the tiles is held out; patches of tiles next to each other share no pixel."""
    data = load_dataset("patches")
    a_tile = ((TILE - data.train.shape[2]) // STRIDE + 1) ** 2
    assert len(data.train) % a_tile == 0 and len(data.held_out) * 3 == len(data.train)
    assert data.train.min() >= -1 and data.train.max() <= 1
    first, second = data.train[0], data.train[1]
    assert torch.equal(first[:, :, STRIDE:], second[:, :, :-STRIDE])


def test_turned_images_have_labels_of_their_rotation():
    images = torch.arange(2 * 4.0).reshape(2, 1, 2, 2)
    data = turned(RealData(images, torch.tensor([0, 1]), images[:1], torch.tensor([1])))
    assert data.train_labels.tolist() == [0, 4, 1, 5, 2, 6, 3, 7] and data.held_out_labels.tolist() == [4, 5, 6, 7]
    assert torch.equal(data.train[2], images[0].rot90(1, (1, 2))) and torch.equal(data.train[:2], images)


def test_measurements_are_standardised_by_the_training_part():
    data = load_dataset("breast_cancer")
    assert torch.allclose(data.train.mean(0), torch.zeros(30), atol=1e-5)
    assert torch.allclose(data.train.std(0), torch.ones(30), atol=1e-5)


def test_what_ships_is_small_and_its_checksums_are_right():
    total = 0
    for name, files in EMBEDDED_FILES.items():
        model = read_model_file(name)
        assert {*files} <= {file.path.name for file in model.all_files()}
        for file in model.all_files():
            assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
        total += sum((ROOT / "resources" / name / file).stat().st_size for file in files)
    assert total < 20e6


def held_out_states(name, denoiser):
    """States of data that no network saw, and their conditions."""
    if name == "mixture":
        return denoiser.draw(500).float(), None
    data = load_dataset(RECIPES[name].dataset)
    if RECIPES[name].autoencoder:
        data = latents_of(data._replace(train=data.train[:8], train_labels=data.train_labels[:8]), denoiser.decoder.__self__)
    condition = data.held_out_labels if RECIPES[name].classes else None
    return data.held_out, condition


@pytest.mark.parametrize("name", EMBEDDED_FILES)
def test_denoisers_beat_what_needs_no_network(name, models):
    """At every level: better on held-out states than leaving the noise, and than the best linear denoiser of each component."""
    denoiser = models[name]
    clean, condition = held_out_states(name, denoiser)
    clean, condition = clean[:500], None if condition is None else condition[:500]
    assert clean.shape[1:] == denoiser.shape
    mean, variance = clean.mean(0), clean.var(0)
    for s in (0.2, 0.5, 1.0, 2.0):
        noisy = clean + s * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        error = (denoiser(noisy, s, condition) - clean).square().mean()
        linear = mean + variance / (variance + s**2) * (noisy - mean)
        assert error < s**2 and error < (linear - clean).square().mean()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.suite if name == "patches-latent" else ()) for name in EMBEDDED_FILES]
)
def test_samples_are_like_the_data(name, models):
    """Many steps from noise: nearer to the reference than samples of the right mean and spread without structure."""
    denoiser, features = models[name], load_features(name)
    seeds = sample_seeds("test", 300)
    tableau = s4s.solver("unipc", s4s.levels("logsnr", 20, denoiser), order=3)
    y_0 = s4s.sample(denoiser, s4s.initial_noise(denoiser, seeds), tableau, denoiser.conditions(seeds), 100)
    own = moments(features.of([denoiser.decode(y_0)]))
    noise = y_0.mean(0) + y_0.std(0) * torch.randn(y_0.shape, generator=torch.Generator().manual_seed(0))
    plain = moments(features.of([denoiser.decode(noise)]))
    near = frechet_distance(own, features.reference())
    assert near < (1.0 if name == "mixture" else 0.5) * frechet_distance(plain, features.reference())


def test_samples_of_a_class_are_of_that_class(models):
    """The classifier of `digits`, which never saw a sample, agrees with what was asked for; guidance makes it agree more."""
    denoiser, classifier = models["digits-cond"], load_perceptual("digits-cond")
    seeds = sample_seeds("test", 400)
    condition, y_T = denoiser.conditions(seeds), s4s.initial_noise(denoiser, seeds)
    tableau = s4s.solver("unipc", s4s.levels("logsnr", 10, denoiser), order=3)
    assert denoiser.passes == 2 and torch.bincount(condition).tolist() == [40] * 10
    found = classifier(s4s.sample(denoiser, y_T, tableau, condition, 100)).argmax(1)
    assert (found == condition).float().mean() > 0.95


def test_guidance_goes_from_the_unconditional_output_through_the_conditional_one(models):
    denoiser = models["digits-cond"]
    plain = assemble(denoiser.network, RECIPES["digits-cond"].record(), "plain")
    y, labels = 2 * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 3, 9])
    null, own = plain(y, 1.5), plain(y, 1.5, labels)
    assert torch.allclose(denoiser(y, 1.5, labels), null + denoiser.guidance * (own - null), atol=1e-5)


def test_latents_are_decoded_to_colour_images(models):
    denoiser = models["patches-latent"]
    images = denoiser.decode(torch.randn(3, 4, 8, 8))
    assert images.shape == (3, 3, 32, 32) and load_features("patches-latent")(images).shape == (3, 32)


def test_the_flow_of_a_mixture_is_where_solvers_go(models):
    """In closed form: what 40 to 160 steps of a solver approach with its order, from 1e-3 to rounding."""
    mixture = models["mixture"]
    y_T = s4s.initial_noise(mixture, sample_seeds("test", 50))
    exact = mixture.flow(y_T, mixture.s_max, mixture.s_min)
    errors = []
    for steps in (20, 40, 80):
        tableau = s4s.solver("unipc", s4s.levels("logsnr", steps, mixture), order=3)
        errors.append((s4s.sample(mixture, y_T, tableau) - exact).square().mean().sqrt().item())
    assert errors[0] < 5e-3 and errors[1] < errors[0] / 6 and errors[2] < errors[1] / 6 and errors[2] < 3e-5
    back = mixture.flow(exact, mixture.s_min, mixture.s_max)
    assert torch.allclose(back, y_T.double(), rtol=1e-6, atol=1e-6)
    inside = y_T * 3 / mixture.s_max
    assert torch.allclose(mixture.flow(inside, 3.0, 3.0), inside.double(), atol=1e-9)


def test_the_flow_of_a_mixture_keeps_its_distribution(models):
    """Noisy data at one level become noisy data at another: their moments are the exact ones."""
    mixture = models["mixture"]
    clean = mixture.draw(20_000)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    there = mixture.flow(clean + 10 * noise, 10.0, 0.1)
    mean, covariance = mixture.moments()
    covariance = covariance + 0.01 * torch.eye(len(mean))
    scale = covariance.diagonal().sqrt()
    assert ((there.mean(0) - mean) / scale).abs().max() < 5 / len(there) ** 0.5
    assert ((there.T.cov() - covariance) / (scale[:, None] * scale)).abs().max() < 0.05


def test_the_mixture_is_near_the_digits_that_it_was_made_of(models):
    """Its moments are those of the digits' principal components, which are independent only to second order."""
    from sklearn.decomposition import PCA

    components = PCA(16, random_state=0).fit_transform(load_dataset("digits").train.flatten(1).double().numpy())
    mean, covariance = models["mixture"].moments()
    assert np.abs(mean.numpy()).max() < 1e-6
    assert np.allclose(covariance.diagonal().numpy(), components.var(0), rtol=0.01)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.suite if name in ("digits", "tabular") else pytest.mark.nightly) for name in RECIPES],
)
def test_a_short_training_lowers_the_loss(name, tmp_path):
    """From the network's own start; what is saved can be loaded again, and gives the same."""
    recipe = RECIPES[name]
    data = load_dataset(recipe.dataset)
    if recipe.autoencoder:
        few = data._replace(train=data.train[::30], train_labels=data.train_labels[::30], held_out=data.held_out[::30],
                            held_out_labels=data.held_out_labels[::30])  # fmt: skip
        autoencoder, about = train_autoencoder(few, {"latent": 4, "width": 8}, steps=30, batch=16)
        assert about["held_out_psnr_db"] > 8
        data = latents_of(few, autoencoder)
        assert len(data.train) == 2 * len(few.train) and 0.8 < data.train.std() < 1.2
    _, untrained = train_denoiser(name, recipe, data, steps=1)
    network, record = train_denoiser(name, recipe, data, steps=60)
    assert record["loss"]["held_out"] < 0.98 * untrained["loss"]["held_out"]
    save_network(network, record, tmp_path / "denoiser.safetensors")
    classes = f"classes: {recipe.classes}" if recipe.classes else ""
    (tmp_path / "mine.yaml").write_text(f"name: mine\nkind: embedded\npath: denoiser.safetensors\n{classes}\n")
    again, own = s4s.load_model(tmp_path / "mine.yaml"), assemble(network, record, name)
    y = torch.randn(3, *recipe.shape)
    assert torch.equal(again(y, 1.0), own(y, 1.0))


def test_the_loss_is_that_of_what_the_network_gives():
    """For the flow: noise less data."""
    recipe = RECIPES["patches-latent"]
    network = torch.nn.Conv2d(4, 4, 1).requires_grad_(False)
    denoiser = assemble(_Ignoring(network), recipe.record(), "flow")
    x, noise, s = torch.randn(5, 4, 8, 8), torch.randn(5, 4, 8, 8), torch.rand(5) + 0.5
    t = (s / (1 + s))[:, None, None, None]
    expected = (network((1 - t) * x + t * noise) - (noise - x)).square().mean()
    assert torch.allclose(denoising_loss(denoiser, recipe, x, s, noise), expected, rtol=1e-4)


class _Ignoring(torch.nn.Module):
    """A network that ignores the time."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, time):
        return self.network(x)


@pytest.mark.parametrize("name", [pytest.param("tabular", marks=pytest.mark.suite), "mixture"])
def test_the_program_that_trains_writes_what_ships(name, tmp_path):
    command = [sys.executable, ROOT / "workflow/scripts/train_embedded.py", "--model", name, "--steps", "20", "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    assert {path.name for path in tmp_path.iterdir()} == {*EMBEDDED_FILES[name]}
    if name == "mixture":
        shipped = (ROOT / "resources/mixture/held_out.npz").read_bytes()
        with np.load(tmp_path / "held_out.npz") as made, np.load(ROOT / "resources/mixture/held_out.npz") as ours:
            assert shipped and all(np.allclose(made[key], ours[key], rtol=1e-6, atol=1e-9) for key in ("mu", "sigma"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 9}, "classes: 9 in its file, 10 in "),
        ({"classes": None, "guidance": 1.0}, "classes: None in its file, 10 in "),
        ({"classes": None}, "guidance other than 1 needs classes"),
        ({"features": {"kind": "states", "path": "x.npz"}}, "kind states needs a name"),
        ({"features": {"kind": "states", "name": "x", "path": "x.npz", "images": "y"}}, "classifier and states take none"),
        ({"autoencoder": {"path": "../../resources/digits/classifier.safetensors"}}, "weights do not fit Autoencoder"),
    ],
)
def test_descriptions_that_contradict_the_weights_are_refused(changes, message, tmp_path):
    description = yaml.safe_load((ROOT / "config/models/digits-cond.yaml").read_text()) | changes
    for entry in [description, description["features"], description["perceptual"], description.get("autoencoder", {})]:
        if entry.get("path", "").startswith("../../"):
            entry["path"] = str(ROOT / "config/models" / entry["path"])
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(description))
    with pytest.raises(S4SError, match=message):
        s4s.load_model(tmp_path / "mine.yaml")


def test_a_denoiser_is_not_taken_for_a_feature_network(tmp_path):
    weights = read_model_file("digits")
    with pytest.raises(S4SError, match=r"denoiser\.safetensors: weights do not fit Classifier"):
        load_classifier(weights, torch.device("cpu"))


def test_features_tell_patches_from_blurred_and_noisy_ones():
    """Training patches are nearer to the held-out ones than what was made of them, though they show other tiles."""
    features, data = load_features("patches-latent"), load_dataset("patches")
    generator = torch.Generator().manual_seed(0)
    images = data.train[torch.randperm(len(data.train), generator=generator)[:768]]
    blurred = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="bilinear")
    noisy = images + 0.4 * torch.randn(images.shape, generator=generator)
    plain, soft, grainy = (frechet_distance(moments(features.of([x])), features.reference()) for x in (images, blurred, noisy))
    assert 0.4 < plain < 1.2 and soft > 3 * plain and grainy > 3 * plain
