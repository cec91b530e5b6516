"""Conditional models: networks in (x, t), guidance, class labels, and conditions on their way through teaching and fitting."""

import h5py
import pytest
import torch
import yaml

import s4s
from s4s import S4SError
from s4s.files.rows import TEACHER_PAIRS, read_split, write_splits
from s4s.learning.draw import draw_samples
from s4s.learning.teacher import TeacherPairs, attributes, make_pairs
from s4s.models.conditions import ClassLabels
from s4s.models.paths import FlowMatching, VPDiscrete
from s4s.models.predicting import PredictingDenoiser
from s4s.models.seeds import index_of, sample_seeds

STD = 0.5
CENTRES = torch.tensor([[1.0, -1.0], [-1.0, 0.5], [0.3, 2.0], [0.0, 0.0]])  # the last one is the unconditional one's
PATH = VPDiscrete.scaled_linear()
PREDICTIONS = ["epsilon", "v_prediction", "sample", "flow"]


def exact(prediction, path, calls=None):
    """The network of Gaussians N(centre, STD^2) in a model's own coordinates, by the definition of what it predicts."""

    def network(x, t, class_labels):
        if calls is not None:
            calls.append(len(x))
        s = path.s_of_t(t.double())[:, None]
        alpha = path.alpha_of_s(s)
        y, centre = x / alpha, CENTRES[class_labels]
        x_0 = (STD**2 * y + s**2 * centre) / (STD**2 + s**2)
        noise = (y - x_0) / s
        kinds = {"epsilon": noise, "sample": x_0, "flow": noise - x_0, "v_prediction": alpha * noise - alpha * s * x_0}
        return kinds[prediction].to(x.dtype)

    return network


def model(prediction="epsilon", guidance=1.0, calls=None, name="classes"):
    path = FlowMatching() if prediction == "flow" else PATH
    return PredictingDenoiser(
        exact(prediction, path, calls), path, prediction, name=name, shape=(2,), s_min=0.05, s_max=14.0,
        device=torch.device("cpu"), conditioning=ClassLabels(3), guidance=guidance,
    )  # fmt: skip


def make_model(name, device, files, guidance):
    """What a YAML file with `kind: python` names."""
    return model(guidance=guidance, name=name)


def posterior_mean(y, s, label):
    return (STD**2 * y + s**2 * CENTRES[label]) / (STD**2 + s**2)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_gives_the_posterior_mean(prediction):
    y, labels = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)) * 3, torch.tensor([0, 1, 2, 0, 1, 2])
    for s in (0.06, 1.0, 12.0):
        found = model(prediction)(y, s, labels)
        assert torch.allclose(found, posterior_mean(y, s, labels), atol=2e-4)
        assert torch.allclose(model(prediction)(y, torch.full((6,), s), labels), found, atol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_guidance_is_one_call_on_twice_the_batch(prediction):
    calls, y, labels = [], torch.ones(3, 2), torch.tensor([0, 1, 2])
    guided = model(prediction, guidance=2.5, calls=calls)
    null, own = posterior_mean(y, 2.0, torch.full((3,), 3)), posterior_mean(y, 2.0, labels)
    assert torch.allclose(guided(y, 2.0, labels), null + 2.5 * (own - null), atol=1e-4)
    assert calls == [6] and guided.passes == 2 and model(prediction).passes == 1


def test_derivatives_by_the_level_are_right():
    y, labels = torch.ones(1, 2), torch.tensor([1])
    s = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(model()(y, s, labels).sum(), s)
    expected = (posterior_mean(y, 2.001, labels) - posterior_mean(y, 1.999, labels)).sum() / 0.002
    assert slope.item() == pytest.approx(expected.item(), rel=1e-2)


def test_classes_come_equally_often_and_from_the_seed_alone():
    labels = ClassLabels(10)
    first = labels.of_seeds(sample_seeds("test", 30))
    assert sorted(first[:10].tolist()) == list(range(10)) and first.bincount().tolist() == [3] * 10
    assert labels.of_seeds(sample_seeds("test", 30)[17:19]).tolist() == first[17:19].tolist()
    assert index_of(sample_seeds("val", 3, 5)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (None, "is guided and needs a condition"),
        (torch.tensor([0]), "must hold 2 class labels"),
        (torch.tensor([0.0, 1.0]), "must hold 2 class labels"),
        (torch.tensor([0, 7]), "between 0 and 2"),
    ],
)
def test_wrong_conditions_are_refused(condition, message):
    with pytest.raises(S4SError, match=message):
        model(guidance=2.0)(torch.zeros(2, 2), 1.0, condition)


@pytest.fixture(scope="module")
def pairs():
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 30, model()), order=3)
    return TeacherPairs(*(make_pairs(model(guidance=1.5), teacher, sample_seeds(split, 24)) for split in ("train", "val")))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"optimiser": "adam", "radius": 0.1}, {"derivatives": "forward"}])
def test_a_fit_sees_the_conditions_of_its_pairs(pairs, settings):
    """With the right conditions iteration 0 is the base's own error; with those of other rows it is far larger."""
    denoiser = model(guidance=1.5)
    levels = s4s.levels("time_quadratic", 4, denoiser)
    options = s4s.FitSettings(distance="l2", iterations=4, validate_every=2, **settings)
    result = s4s.fit(denoiser, pairs, "lms", levels, base="ipndm", settings=options, batch_size=7)
    base = s4s.solver("ipndm", levels)
    y_0 = s4s.sample(denoiser, torch.as_tensor(pairs.val.y_T), base, torch.as_tensor(pairs.val.condition))
    own = (y_0 - torch.as_tensor(pairs.val.y_0)).square().mean(1).sqrt().mean().item()
    assert result.history[0]["val"] == pytest.approx(own, rel=1e-3)
    assert min(entry["val"] for entry in result.history) < own


def test_conditions_are_kept_with_samples_and_pairs(tmp_path, pairs):
    denoiser = model(guidance=1.5)
    tableau = s4s.solver("ddim", s4s.levels("logsnr", 3, denoiser))
    draw_samples(denoiser, tableau, {"test~0": sample_seeds("test", 5)}, 2, tmp_path / "samples.h5")
    kept = read_split(tmp_path / "samples.h5", "samples", "test~0")
    assert kept.condition.tolist() == denoiser.conditions(kept.seeds).tolist()
    write_splits(tmp_path / "pairs.h5", TEACHER_PAIRS, {"train": pairs.train, "val": pairs.val}, attributes(denoiser, tableau))
    assert TeacherPairs.load(tmp_path / "pairs.h5").val.condition.tolist() == pairs.val.condition.tolist()
    with h5py.File(tmp_path / "pairs.h5") as file:
        assert file["train/condition"].shape == (24,)


def test_samples_do_not_depend_on_the_batch(pairs):
    denoiser = model(guidance=1.5)
    tableau = s4s.solver("ddim", s4s.levels("logsnr", 3, denoiser))
    y_T, condition = torch.as_tensor(pairs.val.y_T), torch.as_tensor(pairs.val.condition)
    whole = s4s.sample(denoiser, y_T, tableau, condition)
    assert torch.allclose(whole, s4s.sample(denoiser, y_T, tableau, condition, batch_size=5), atol=1e-5)


def python_model(tmp_path, **changes):
    values = {"name": "mine", "kind": "python", "function": "tests.test_conditions:make_model", "options": {"guidance": 2.0}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**values, **changes}))
    return tmp_path / "mine.yaml"


def test_a_python_function_makes_a_model(tmp_path):
    loaded = s4s.load_model(python_model(tmp_path))
    assert (loaded.name, loaded.passes, loaded.shape) == ("mine", 2, (2,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"function": "tests.test_conditions:absent"}, "cannot be imported"),
        ({"function": "no_such_module:make"}, "cannot be imported"),
        ({"function": "nonsense"}, "should match pattern"),
        ({"function": "builtins:dict"}, "must return an s4s.Denoiser"),
        ({"files": {"weights": {"path": "absent.pt"}}}, "absent.pt: cannot read these weights"),
    ],
)
def test_wrong_functions_are_refused(tmp_path, changes, message):
    with pytest.raises(S4SError, match=message):
        s4s.load_model(python_model(tmp_path, **changes))
