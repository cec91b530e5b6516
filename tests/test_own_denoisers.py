"""Models of one's own: what is wrong with one is said in one line before any sample is made; a right one changes nothing."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import s4s
from s4s import Denoiser, S4SError
from s4s.learning.teacher import TeacherPairs, make_pairs
from s4s.models.denoiser import as_column
from s4s.models.denoiser_check import check_denoiser
from s4s.models.load import load_outline
from s4s.models.paths import FlowMatching, VPDiscrete
from s4s.models.predicting import PredictingDenoiser
from s4s.models.seeds import sample_seeds
from s4s.sampling import run
from s4s.solvers.dpm_v3_statistics import model_statistics

CPU = torch.device("cpu")
SPREAD = torch.tensor([0.25, 1.0, 0.5, 0.1])  # variances of the data


class Own(Denoiser):
    """The exact denoiser of a Gaussian in four dimensions; `change` is made to its output."""

    def __init__(self, change=lambda output, y, s: output, **attributes):
        self.name, self.shape, self.s_min, self.s_max, self.device = "own", (4,), 0.02, 40.0, CPU
        self.change, self.calls = change, 0
        for name, value in attributes.items():
            setattr(self, name, value)

    def __call__(self, y, s, condition=None):
        self.calls += 1
        column = as_column(s, y)
        return self.change(y * SPREAD / (SPREAD + column**2), y, column)


def sampled(model, rows=3, condition=None):
    tableau = s4s.solver("ddim", s4s.levels("edm", 3, SimpleNamespace(**{**vars(Own()), "path": Own.path})))
    return s4s.sample(model, torch.ones(rows, 4), tableau, condition)


BUFFER = torch.empty(2, 4)


def in_place(output, y, s):
    y.mul_(1 / (1 + s**2))
    return y


def in_place_and_another(output, y, s):
    y.clamp_(-1, 1)
    return output


def one_buffer(output, y, s):
    return torch.add(output, 0, out=BUFFER if len(y) == 2 else None)


def normalised_over_the_batch(output, y, s):
    return (output - output.mean(0)) / (output.std(0) + 1e-3)


def level_of_the_first_row(output, y, s):
    return y * SPREAD / (SPREAD + s[0] ** 2)


def levels_along_the_state(output, y, s):
    flat = s.flatten()
    return y * 0.25 / (0.25 + (flat if len(flat) == 1 else flat.repeat(2)) ** 2)


def fails_below_one(output, y, s):
    return output if bool((s > 1).all()) else {}["layer"]


WRONG = {
    "in place": (in_place, "changes its input in place|in the memory of its input"),
    "in place, another output": (in_place_and_another, "it changes its input in place; compute with a copy"),
    "its input": (lambda output, y, s: y, r"in the memory of its input; return output\.clone\(\)"),
    "a view of its input": (lambda output, y, s: y.view(-1).view(y.shape), "in the memory of its input"),
    "one buffer": (one_buffer, r"its output of one call changes with the next; return output\.clone\(\)"),
    "one row": (lambda output, y, s: output[:1], r"has shape \[1, 4\] for y \[2, 4\]; return a state for each row"),
    "the mean": (lambda output, y, s: output.mean(0), r"has shape \[4\] for y \[2, 4\]"),
    "another width": (lambda output, y, s: output[:, :3], r"has shape \[2, 3\] for y \[2, 4\]"),
    "a further axis": (lambda output, y, s: output[:, None], r"has shape \[2, 1, 4\] for y \[2, 4\]"),
    "both halves": (lambda output, y, s: torch.cat([output, output]), r"has shape \[4, 4\] for y \[2, 4\]"),
    "a tuple": (lambda output, y, s: (output,), "is a tuple, not a tensor"),
    "a list": (lambda output, y, s: [output], "is a list, not a tensor"),
    "a dict": (lambda output, y, s: {"sample": output}, "is a dict, not a tensor"),
    "NumPy": (lambda output, y, s: output.detach().numpy(), "is a ndarray, not a tensor"),
    "nothing": (lambda output, y, s: None, "is a NoneType, not a tensor"),
    "float64": (lambda output, y, s: output.double(), r"is torch.float64, its states are torch.float32; return output\.to"),
    "bfloat16": (lambda output, y, s: output.bfloat16(), "is torch.bfloat16, its states are torch.float32"),
    "float16": (lambda output, y, s: output.half(), "is torch.float16"),
    "whole numbers": (lambda output, y, s: output.long(), "is torch.int64"),
    "complex": (lambda output, y, s: output.to(torch.complex64), "is torch.complex64"),
    "elsewhere": (lambda output, y, s: output.to("meta"), "is on meta, its states are on cpu"),
    "nan": (lambda output, y, s: output * float("nan"), "at noise level 40 is not finite; look for nan in its weights"),
    "infinite at s_max": (lambda output, y, s: output / (s < 39), "at noise level 40 is not finite"),
    "nan at s_min": (lambda output, y, s: output * (s - 0.03).sqrt(), r"at noise level 0\.02 is not finite"),
    "dropout": (lambda output, y, s: nn.functional.dropout(output, 0.3), "is another for the same input.*network.eval"),
    "noise of its own": (lambda output, y, s: output + 0.05 * torch.randn(1), "draw no random numbers"),
    "numpy's noise": (lambda output, y, s: output + np.random.rand(), "is another for the same input"),
    "the batch": (normalised_over_the_batch, "depends on the other rows, by .*network.eval"),
    "what row 0 gives": (lambda output, y, s: y - (y - output)[:1], "depends on the other rows"),
    "what the last row gives": (lambda output, y, s: y - (y - output)[-1:], "depends on the other rows"),
    "the largest": (lambda output, y, s: output / y.abs().max(), "depends on the other rows"),
    "the first level": (
        level_of_the_first_row,
        r"with a noise level for each row, s \[B\], its output is not that of each level",
    ),
    "the mean level": (lambda output, y, s: y * SPREAD / (SPREAD + s.mean() ** 2), "with a noise level for each row"),
    "levels along the state": (levels_along_the_state, "with a noise level for each row"),
    "an error": (
        lambda output, y, s: output @ torch.ones(3),
        r"called with y \[2, 4\] at noise level 40: RuntimeError: .*py:\d+",
    ),
    "an error at s_min": (fails_below_one, r"at noise level 0\.02: KeyError: 'layer' .*test_own_denoisers\.py:\d+"),
    "an error in torch": (lambda output, y, s: nn.Linear(3, 4)(y), r"RuntimeError: .*test_own_denoisers\.py:\d+"),
    "one level only": (lambda output, y, s: output * s.item() / s.item(), "at a level for each row: RuntimeError"),
}


@pytest.mark.parametrize("change, message", WRONG.values(), ids=WRONG)
def test_a_model_that_gives_wrong_samples_is_refused(change, message):
    with pytest.raises(S4SError, match=message) as error:
        sampled(Own(change))
    assert str(error.value).startswith("model own: ") and "\n" not in str(error.value)


ATTRIBUTES = {
    "name of two words": ({"name": "my model"}, "'my model': its name must consist of letters"),
    "path for a name": ({"name": "../own"}, "its name must consist of"),
    "no text": ({"name": 7}, "model 7: its name must consist"),
    "number for a shape": ({"shape": 4}, "its shape must be a tuple of whole numbers above 0, .* not 4"),
    "empty shape": ({"shape": ()}, r"its shape must be .* not \(\)"),
    "nothing in a state": ({"shape": (3, 0)}, "its shape must be"),
    "fractions": ({"shape": (4.0,)}, "its shape must be"),
    "device in words": ({"device": "cpu"}, "its device must be a torch.device, not 'cpu'"),
    "half": ({"dtype": torch.float16}, r"its dtype must be torch\.float32 or torch\.float64, .* not torch\.float16"),
    "type in words": ({"dtype": "float32"}, "its dtype must be"),
    "no path": ({"path": "vp"}, r"its path must be one of s4s\.models\.paths, not 'vp'"),
    "no block": ({"block": 0}, "its block must be a whole number above 0, not 0"),
    "half a pass": ({"passes": 1.5}, "its passes must be"),
    "endless guidance": ({"guidance": float("inf")}, "its guidance must be a finite number"),
    "upside down": ({"s_min": 40.0, "s_max": 0.02}, r"s_min and s_max are 40\.0 and 0\.02; they must be numbers with 1e-06 <="),
    "no range": ({"s_min": 1.0, "s_max": 1.0}, "they must be numbers"),
    "down to 0": ({"s_min": 0.0}, "they must be numbers"),
    "below 0": ({"s_min": -1.0}, "they must be numbers"),
    "endless": ({"s_max": float("inf")}, "they must be numbers"),
    "nan": ({"s_min": float("nan")}, "they must be numbers"),
    "too wide": ({"s_min": 1e-8, "s_max": 1e4}, r"s_min and s_max are 1e-08 and 10000\.0; .* 1e-06 <= s_min < s_max <= 1e\+06"),
    "too high": ({"s_max": 1e9}, "they must be numbers"),
    "range in words": ({"s_max": "40"}, "they must be numbers"),
}


@pytest.mark.parametrize("attributes, message", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_attributes_are_those_of_a_denoiser(attributes, message):
    model = Own(**attributes)
    for call in (sampled, lambda model: s4s.initial_noise(model, range(2)), check_denoiser):
        with pytest.raises(S4SError, match=message):
            call(model)
    assert model.calls == 0
    if {"s_min", "s_max"} & {*attributes}:
        with pytest.raises(S4SError, match=message):
            s4s.levels("edm", 4, model)


@pytest.mark.parametrize("name", ["name", "shape", "s_min", "s_max", "device"])
def test_an_attribute_that_is_absent_is_named(name):
    model = Own()
    delattr(model, name)
    with pytest.raises(S4SError, match=f"an? Own has no attribute {name}; a model is an s4s.Denoiser with"):
        sampled(model)


def test_what_is_no_model_is_refused():
    with pytest.raises(S4SError, match=r"a Linear has no attribute name; .*PredictingDenoiser makes one of a network"):
        sampled(nn.Linear(4, 4))
    alike = SimpleNamespace(name="own", shape=(4,), s_min=0.1, s_max=9.0, device=CPU, dtype=torch.float32)
    with pytest.raises(S4SError, match=r"a SimpleNamespace has no attribute path; a model is an s4s.Denoiser"):
        check_denoiser(alike)
    with pytest.raises(S4SError, match="model Linear: s_min and s_max are None and None"):
        s4s.levels("edm", 3, nn.Linear(4, 4))


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (lambda seeds: torch.zeros(1), "must return a row for each seed"),
        (lambda seeds: torch.zeros(()), "must return a row for each seed"),
        (lambda seeds: torch.arange(len(seeds)), "which depends on it alone"),
        (lambda seeds: torch.rand(len(seeds)), "which depends on it alone"),
        (lambda seeds: [0] * len(seeds), "returns a list; it must return a tensor, or None"),
        (lambda seeds: torch.zeros(3) if len(seeds) == 3 else None, "returns a NoneType; it must"),
        (lambda seeds: seeds.sum(axis=1), r"model own: conditions\(seeds\): AxisError"),
    ],
)
def test_conditions_are_of_their_own_seeds(conditions, message):
    with pytest.raises(S4SError, match=message):
        sampled(Own(conditions=conditions))


def test_a_condition_has_a_row_for_each_state():
    with pytest.raises(S4SError, match="condition must have a row for each of the 3 rows of y_T, got 2"):
        sampled(Own(), condition=torch.zeros(2))


def test_a_condition_is_left_as_it_is():
    class Conditional(Own):
        def __call__(self, y, s, condition=None):
            condition += 1
            return super().__call__(y, s)

    with pytest.raises(S4SError, match="changes its input in place"):
        sampled(Conditional(), condition=torch.zeros(3))


def test_a_right_model_is_asked_five_times_once_and_nothing_else_changes():
    model, torch_state, numpy_state = Own(), torch.get_rng_state(), np.random.get_state()[1].copy()
    other = Own(lambda output, y, s: output + 0 * torch.rand(1))  # draws, and does nothing with it
    first, again = sampled(model), sampled(model)
    assert model.calls == 5 + 2 * 3 and torch.equal(first, again)
    check_denoiser(other)
    assert torch.equal(torch.get_rng_state(), torch_state) and (np.random.get_state()[1] == numpy_state).all()
    tableau = s4s.solver("ddim", s4s.levels("edm", 3, model))
    assert torch.equal(first, run(model, torch.ones(3, 4), tableau))
    assert sampled(model, rows=0).shape == (0, 4)


def test_networks_in_training_are_found_whatever_is_around_them():
    def of(*layers):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 64), *layers, nn.Linear(64, 4))
        options = dict(name="own", shape=(4,), s_min=0.03, s_max=14.0, device=CPU)
        return network, PredictingDenoiser(lambda x, t: network(x), VPDiscrete.scaled_linear(), "epsilon", **options)

    for layer, message in ((nn.Dropout(0.1), "for the same input"), (nn.BatchNorm1d(64), "on the other rows")):
        network, model = of(layer)
        with pytest.raises(S4SError, match=rf"{message}.*call network\.eval"):
            check_denoiser(model)
        network.eval()
        check_denoiser(model)


def test_a_compiled_network_is_not_compiled_for_the_check():
    """It would be for two rows, and later for the rows of samples once more, in another way."""
    compiled, options = [], dict(name="own", shape=(4,), s_min=0.03, s_max=14.0, device=CPU)

    def backend(graph, inputs):
        compiled.append(inputs)
        return graph.forward

    network = torch.compile(lambda x, t: torch.tanh(x) * t[:, None] / 1000, backend=backend)
    model = PredictingDenoiser(network, VPDiscrete.scaled_linear(), "epsilon", **options)
    check_denoiser(model)
    assert not compiled
    model(torch.ones(3, 4), 1.0)
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda x, t: x[:1], r"its network returns shape \[1, 4\] for states \[2, 4\]"),
        (lambda x, t: x.mean(1, keepdim=True), r"its network returns shape \[2, 1\] for states"),
        (lambda x, t: x.sum(), r"its network returns shape \[\] for states"),
        (lambda x, t: (x,), "AttributeError: 'tuple' object has no attribute 'to'"),
        (lambda x, t: x * (t < 990)[:, None] / (t < 990)[:, None], "at noise level 14.6 is not finite"),
    ],
)
def test_a_network_in_a_denoiser_of_ours_is_checked_too(network, message):
    options = dict(name="own", shape=(4,), s_min=0.03, s_max=14.6, device=CPU)
    with pytest.raises(S4SError, match=f"model own: .*({message})"):
        check_denoiser(PredictingDenoiser(network, VPDiscrete.scaled_linear(), "epsilon", **options))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "flow"])
def test_a_network_in_a_denoiser_of_ours_may_work_in_place(prediction):
    """On flow and v_prediction its input is needed once more."""
    options = dict(name="own", shape=(4,), s_min=0.03, s_max=14.6, device=CPU)
    one, other = (
        PredictingDenoiser(network, VPDiscrete.scaled_linear(), prediction, **options)
        for network in (lambda x, t: x.mul_(0.5), lambda x, t: x * 0.5)
    )
    y = torch.randn(3, 4)
    assert torch.equal(one(y, 2.0), other(y, 2.0))
    check_denoiser(one)


@dataclasses.dataclass
class Plain(Own):
    """A model that compares by value has no hash."""

    width: int = 4

    def __post_init__(self):
        Own.__init__(self)


def test_models_without_a_hash_and_in_double_precision():
    check_denoiser(Plain())
    model = Own(lambda output, y, s: output.double(), dtype=torch.float64)
    check_denoiser(model)
    check_denoiser(Own(path=FlowMatching(), shape=[4], s_max=999))


def test_a_buffer_of_one_size_of_batch_is_found_while_sampling():
    """As a graph that was recorded for this size has one."""
    kept = torch.empty(3, 4)
    model = Own(lambda output, y, s: kept.copy_(output).view_as(kept) if len(y) == 3 else output)
    with pytest.raises(S4SError, match=r"model own: its output of evaluation 2 is that of an earlier call; .*output\.clone"):
        s4s.sample(model, torch.ones(3, 4), s4s.solver("ipndm", s4s.levels("edm", 4, model), order=2))
    squeezed = Own(lambda output, y, s: output[0] if len(y) == 1 else output)
    with pytest.raises(S4SError, match=r"evaluation 1 has shape \[4\] for y \[1, 4\]"):
        sampled(squeezed, rows=1)


def pairs_of(model):
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 8, model), order=3)
    return TeacherPairs(*(make_pairs(model, teacher, sample_seeds(split, 8)) for split in ("train", "val")))


def fitted(model, **options):
    settings = s4s.FitSettings(distance="l2", iterations=1, batch=4, validate_every=1, **options.pop("settings", {}))
    levels = s4s.levels("edm", 3, Own())
    return s4s.fit(model, pairs_of(Own()), "lms", levels, settings=settings, **options)


def level_as_a_number(output, y, s):
    return y * SPREAD / (SPREAD + s.detach() ** 2)


def frozen(output, y, s):
    with torch.inference_mode():
        return (y * SPREAD / (SPREAD + s**2)).clone()


NO_GRADIENT = {
    "detached": (lambda output, y, s: output.detach(), "its output has no gradient by its input; leave out torch.no_grad"),
    "inference": (frozen, "its output has no gradient by its input"),
    "of the noise": (lambda output, y, s: y - (y - output).detach(), "is not the slope of its output"),
    "of a half": (lambda output, y, s: torch.cat([output[:, :1], output[:, 1:].detach()], 1), "is not the slope of its output"),
    "rounded": (lambda output, y, s: (output * 1e4).round() / 1e4, "is not the slope of its output"),
}


@pytest.mark.parametrize("change, message", NO_GRADIENT.values(), ids=NO_GRADIENT)
def test_a_fit_that_needs_gradients_has_them(change, message):
    with pytest.raises(S4SError, match=f"model own: .*{message}.*gauss_newton with radius 0"):
        fitted(Own(change), settings={"radius": 0.1})
    with pytest.raises(S4SError, match=message):
        fitted(Own(change), settings={"optimiser": "adam"})
    assert fitted(Own(change)).tableau.nfe == 3


def test_a_fit_of_levels_by_gradients_has_those_by_the_level():
    settings = {"settings": {"optimiser": "adam"}}
    with pytest.raises(S4SError, match="no gradient by the noise level s; compute with s as a tensor"):
        fitted(Own(level_as_a_number), driver="joint", decoupled=True, **settings)
    assert fitted(Own(level_as_a_number), **settings).tableau.nfe == 3
    assert fitted(Own(), driver="joint", decoupled=True, **settings).tableau.nfe == 3


def test_statistics_need_gradients_too():
    states = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(S4SError, match="no gradient by its input"):
        model_statistics(Own(lambda output, y, s: output.detach()), [40.0, 1.0, 0.02], states, states[:, 1:])


@pytest.mark.parametrize("first", [lambda model: pairs_of(model), lambda model: fitted(model), check_denoiser])
def test_a_model_of_nan_is_named_wherever_it_comes_first(first):
    with pytest.raises(S4SError, match="model own: its output at noise level 40 is not finite; look for nan in its weights"):
        first(Own(lambda output, y, s: output * float("nan")))


def make(name, device, files, **attributes):
    """What a YAML file with `kind: python` names."""
    model = Own(name=name, **attributes)
    if attributes.get("s_min", 1) is None:
        del model.s_min
    return model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"s_min": 50}, "model mine: s_min and s_max are 50 and 40.0"),
        ({"s_min": None}, "an? Own has no attribute s_min"),
        ({"shape": [4, "a"]}, "model mine: its shape must be"),
    ],
)
def test_a_python_models_attributes_are_checked_when_it_is_loaded(tmp_path, options, message):
    values = {"name": "mine", "kind": "python", "function": "tests.test_own_denoisers:make", "options": options}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    for load in (s4s.load_model, load_outline):
        with pytest.raises(S4SError, match=message):
            load(tmp_path / "mine.yaml")


def test_a_range_in_a_models_file_is_checked(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"name": "x", "kind": "edm", "path": "x.pkl", "s_min": 90}))
    with pytest.raises(S4SError, match=r"model x: s_min and s_max are 90\.0 and 80\.0"):
        load_outline(tmp_path / "mine.yaml")
