"""The public names, called with what they do not take: one line that says what they do."""

import pytest
import torch

import s4s
from s4s import S4SError

LEVELS = torch.tensor([10.0, 1.0, 0.1], dtype=torch.float64)
WRONG = {
    "None": None, "object": object(), "number": 2.5, "text": "abc", "bytes": b"abc", "list": [1, [2]], "dict": {"a": 1},
    "network": torch.nn.Linear(2, 2), "tensor": torch.zeros(3, 2), "type": s4s.Tableau,
}  # fmt: skip
TABLEAU = s4s.solver("ddim", LEVELS)

# name -> a call with one wrong argument, and what of WRONG is right there
CALLS = {
    "load_model": (lambda m, x: s4s.load_model(x), ()),
    "load_model's device": (lambda m, x: s4s.load_model("digits", x), ()),
    "Tableau.load": (lambda m, x: s4s.Tableau.load(x), ()),
    "Tableau.from_json": (lambda m, x: s4s.Tableau.from_json(x), ("dict",)),  # several lines
    "Tableau": (lambda m, x: s4s.Tableau(x, torch.eye(2), torch.eye(2)), ()),
    "Tableau's A": (lambda m, x: s4s.Tableau(LEVELS, x, torch.eye(2)), ()),
    "Tableau's kappa": (lambda m, x: s4s.Tableau(LEVELS, torch.eye(2), torch.eye(2), kappa=x), ("number",)),
    "solver": (lambda m, x: s4s.solver(x, LEVELS), ()),
    "solver's levels": (lambda m, x: s4s.solver("ddim", x), ()),
    "solver's start": (lambda m, x: s4s.solver("ddim", LEVELS, start=x), ("None",)),
    "solver's order": (lambda m, x: s4s.solver("dpmpp", LEVELS, order=x), ()),
    "levels": (lambda m, x: s4s.levels(x, 3, m), ()),
    "levels's nfe": (lambda m, x: s4s.levels("edm", x, m), ()),
    "levels's model": (lambda m, x: s4s.levels("edm", 3, x), ()),
    "initial_noise": (lambda m, x: s4s.initial_noise(x, [1]), ()),
    "initial_noise's seeds": (lambda m, x: s4s.initial_noise(m, x), ()),
    "sample": (lambda m, x: s4s.sample(x, torch.zeros(1, 2), TABLEAU), ()),
    "sample's noise": (lambda m, x: s4s.sample(m, x, TABLEAU), ("tensor",)),
    "sample's tableau": (lambda m, x: s4s.sample(m, torch.zeros(1, 2), x), ()),
    "sample's batch_size": (lambda m, x: s4s.sample(m, torch.zeros(1, 2), TABLEAU, batch_size=x), ("None",)),
    "TeacherPairs.load": (lambda m, x: s4s.TeacherPairs.load(x), ()),
    "fit": (lambda m, x: s4s.fit(x, None, "lms", LEVELS), ()),
    "fit's pairs": (lambda m, x: s4s.fit(m, x, "lms", LEVELS), ()),
    "fit's settings": (lambda m, x: s4s.fit(m, s4s.TeacherPairs(None, None), "lms", LEVELS, settings=x), ("None",)),
    "fit's base": (lambda m, x: s4s.fit(m, s4s.TeacherPairs(None, None), "lms", LEVELS, base=x), ()),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_one_line(mixture, name):
    call, right = CALLS[name]
    for what, value in WRONG.items():
        if what in right:
            continue
        with pytest.raises(S4SError) as error:
            call(mixture, value)
        assert 0 < len(str(error.value)) < 400 and "\n" not in str(error.value), what


def test_load_model_says_what_it_takes():
    for wrong in (object(), None, torch.nn.Linear(2, 2), 5, ["digits"]):
        with pytest.raises(
            S4SError, match=r"^load_model's argument must be a model's name or the path of its YAML file.*, got "
        ):
            s4s.load_model(wrong)
