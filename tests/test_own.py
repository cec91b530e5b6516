"""A user's own solver, schedule and family, by module:function in the config, and what one line in a registry is enough for."""

import sys
from pathlib import Path

import pytest
import torch
import yaml

import s4s
from s4s import S4SError
from s4s.learning.families import FAMILIES, Entry, make_family
from s4s.learning.families.bases import follows_levels
from s4s.schedules import SCHEDULES, Schedule
from s4s.schedules.registry import module_file
from s4s.solvers import SOLVERS, Solver
from s4s.study.config import Config, read_config
from s4s.study.definitions import Classical, Learned
from s4s.study.make import classical

DEFAULT = yaml.safe_load((Path(__file__).parents[1] / "config/config.yaml").read_text())
CODE = """
import torch
from s4s.learning.families.family import Family, data_form
from s4s.solvers.exponential import data_tableau, ratios


def damped(levels, factor=1.0):
    return data_tableau(levels, factor * (1 - ratios(levels)).diag())


def in_time(levels, path=None):
    assert path is not None
    return damped(levels)


def elsewhere(levels):
    return damped(2 * levels)


def even(nfe, span, power):
    start, end = span.s_max ** (1 / power), span.s_min ** (1 / power)
    return [(start + n / nfe * (end - start)) ** power for n in range(nfe + 1)]


def too_few(nfe, span):
    return [span.s_max, span.s_min]


class Newest(Family):
    def __init__(self, base, scale=1.0):
        self.B, self.at_zero = data_form(base, "newest")
        self.size, self.scale, self.levels = base.nfe, scale, base.levels

    def tableau(self, levels, theta):
        unit = (1 - ratios(levels)) / (1 - ratios(self.levels))
        return data_tableau(levels, self.B * unit[:, None] + self.scale * theta.diag(), self.at_zero)


def nothing(base):
    return None
"""
MINE = {
    "damped-edm": {"solver": "mine:damped", "options": {"factor": 0.9}, "levels": "edm"},
    "ddim-even": {"solver": "ddim", "levels": "mine:even", "levels_options": {"power": 3}},
    "both": {"solver": "mine:damped", "levels": "mine:even", "levels_options": {"power": 3}},
    "newest": {"family": "mine:Newest", "base": "ipndm3-edm", "options": {"scale": 2.0}},
    "newest-damped": {"family": "mine:Newest", "base": "damped-edm", "driver": "coefficients"},
    "ld3-damped": {"family": "ld3", "base": "damped-edm"},
    "joint-damped": {"family": "joint", "base": "damped-edm"},
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A working directory with a module of one's own."""
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path / "mine.py"
    for name in ("mine", "package", "package.mine"):
        sys.modules.pop(name, None)


def config(**definitions) -> Config:
    values = {**DEFAULT, "definitions": {**DEFAULT["definitions"], **definitions}}
    return read_config({**values, "solvers": [*definitions], "nfe": [4]})


def test_a_config_names_them_and_runs_none_of_their_code(mine):
    mine.write_text("raise SystemExit")
    checked = config(**MINE)
    assert {cell.solver for cell in checked.cells()} == {"teacher", *MINE}
    assert "mine" not in sys.modules
    for token in MINE:
        definition = checked.definition(token)
        assert checked.own_modules(token) == [mine]
        assert type(definition).from_json(definition.to_json()) == definition
    assert [checked.own_modules(token) for token in ("ddim-edm", "joint")] == [[], []]
    assert checked.definition("newest").recipe == ("mine:Newest", "joint", True, False)


def test_in_a_package_and_on_the_path(mine, monkeypatch):
    (mine.parent / "elsewhere/package").mkdir(parents=True)
    (mine.parent / "elsewhere/package/__init__.py").write_text("raise SystemExit")
    mine.rename(mine.parent / "elsewhere/package/mine.py")
    with pytest.raises(S4SError, match=r"no module 'package\.mine' in the working directory or on PYTHONPATH"):
        config(a={"solver": "package.mine:damped", "levels": "edm"})
    monkeypatch.syspath_prepend(mine.parent / "elsewhere")
    assert config(a={"solver": "package.mine:damped", "levels": "edm"}).own_modules("a") == [module_file("package.mine:damped")]


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"solver": "yours:damped", "levels": "edm"}, "solver: no module 'yours' in the working directory or on PYTHONPATH"),
        ({"solver": "mine:", "levels": "edm"}, "must be module:function, such as"),
        ({"solver": "mine.py:damped", "levels": "edm"}, "no module 'mine.py'"),
        ({"solver": "damped", "levels": "edm"}, "must be one of ddim, .*, or module:function of your own"),
        ({"solver": "mine:damped", "levels": "edm", "order": 2}, "mine:damped takes no option order; allowed: none"),
        ({"solver": "mine:damped", "levels": "edm", "factor": 2}, "factor: unknown key; check its spelling"),
        (
            {"solver": "ddim", "levels": "edm", "options": {"order": 2}},
            "options are those of module:function of one's own; ddim",
        ),
        ({"solver": "mine:damped", "levels": "edm", "levels_options": {"rho": 2}}, "levels_options are those .*; edm takes"),
        ({"family": "gs", "base": "ddim-edm", "options": {"a": 2}}, "options are those of module:class of one's own; gs takes"),
        ({"family": "joint", "base": "ddim-edm", "weights": "mine:Newest"}, "weights: "),
        (
            {"family": "mine:Newest", "base": "ddim-edm", "weights": "lms"},
            "families s4s_alt and joint; mine:Newest has its own",
        ),
        ({"family": "mine:Newest", "base": "ddim-edm", "consistency": True}, "mine:Newest takes no option consistency"),
    ],
)
def test_what_a_config_cannot_have(mine, definition, message):
    with pytest.raises(S4SError, match=message):
        config(a=definition)


def test_noise_prediction_needs_a_base_that_is_known_to_be_exponential(mine):
    with pytest.raises(S4SError, match="with this prediction needs one of ddim"):
        config(**MINE, a={"family": "joint", "base": "damped-edm", "prediction": "noise"})
    with pytest.raises(S4SError, match="its steps use all earlier outputs"):
        config(**MINE, a={"family": "joint", "base": "damped-edm", "order": 2})


def test_own_solvers_and_levels_make_a_tableau(mine, digits):
    edm = classical(Classical(solver="ddim", levels="edm"), 4, digits, "a")
    damped = classical(Classical(solver="mine:damped", levels="edm", options={"factor": 0.5}), 4, digits, "a")
    assert torch.equal(damped.B, 0.5 * edm.B) and torch.equal(damped.levels, edm.levels)
    assert damped.meta["solver"] == "mine:damped" and damped.meta["options"] == {"factor": 0.5}
    even = Classical(solver="ddim", levels="mine:even", levels_options={"power": 7}, to_zero=True)
    levels = classical(even, 5, digits, "a").levels
    assert torch.allclose(levels[:-1], edm.levels) and levels[-1] == 0
    assert classical(Classical(solver="mine:in_time", levels="edm"), 4, digits, "a").same_as(edm)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (
            {"solver": "mine:undamped", "levels": "edm"},
            "'mine:undamped' cannot be imported .*; put its module into the working",
        ),
        ({"solver": "mine:damped", "levels": "edm", "options": {"fcator": 2}}, "no option 'fcator'; allowed: factor"),
        ({"solver": "mine:elsewhere", "levels": "edm"}, "must return a Tableau on the levels that it is given"),
        ({"solver": "mine:too_few", "levels": "edm"}, "needs the option 'span'"),
        ({"solver": "ddim", "levels": "mine:even"}, "schedule 'mine:even' needs the option 'power'"),
        ({"solver": "ddim", "levels": "mine:too_few"}, r"at nfe 4: needs 5 levels, but made \[2\]"),
    ],
)
def test_what_is_wrong_with_their_code_is_said_when_it_is_run(mine, digits, definition, message):
    with pytest.raises(S4SError, match=message):
        classical(Classical(**definition), 4, digits, "a")


def test_an_own_family_is_fitted(mine, mixture, mixture_pairs):
    definition = Learned(family="mine:Newest", base="ipndm2-edm", options={"scale": 0.5}, driver="coefficients")
    recipe, levels = definition.recipe, s4s.levels("edm", 4, mixture)
    settings = s4s.FitSettings(iterations=4, distance="l2")
    result = s4s.fit(
        mixture, mixture_pairs, recipe.weights, levels, base=s4s.solver("ipndm", levels, order=2), driver=recipe.driver,
        family_options=definition.family_options, settings=settings,
    )  # fmt: skip
    validation = result.tableau.meta["validation"]
    assert validation["learned"] < validation["start"]
    again = Learned.from_record(definition.record(settings))
    assert again.record(settings) == definition.record(settings)


def test_what_is_wrong_with_an_own_family_is_said(mine, mixture):
    base = s4s.solver("ddim", s4s.levels("edm", 4, mixture))
    with pytest.raises(S4SError, match="no option 'scala'; allowed: scale"):
        make_family("mine:Newest", base, scala=1)
    with pytest.raises(S4SError, match=r"must make an s4s\.learning\.families\.family\.Family, not None"):
        make_family("mine:nothing", base)


def test_a_solver_of_ones_own_can_be_a_base_that_follows_the_levels(mine, mixture):
    levels = s4s.levels("edm", 4, mixture)
    base = s4s.solver("mine:damped", levels, factor=0.9)
    moved = levels * torch.tensor([1, 0.9, 0.9, 0.9, 1], dtype=torch.float64)
    made = make_family("ld3", base).tableau(moved, torch.zeros(0, dtype=torch.float64))
    assert made.same_as(s4s.solver("mine:damped", moved, factor=0.9))


def test_one_module_and_one_line_is_a_registered_one(mine, mixture, monkeypatch):
    """As README says: nothing else knows the names."""
    monkeypatch.setitem(FAMILIES, "newest", Entry("mine:Newest", cannot_start=follows_levels, driver="alternate"))
    monkeypatch.setitem(SOLVERS, "damped", Solver("mine:in_time", stages=1))
    monkeypatch.setitem(SCHEDULES, "few", Schedule("mine:too_few", from_the_top=False))
    checked = config(
        damped={"solver": "damped", "levels": "few"}, damped_edm={"solver": "damped", "levels": "edm"},
        a={"family": "newest", "base": "damped_edm"}, s4s={"family": "s4s_lms", "base": "damped_edm", "order": 1},
    )  # fmt: skip
    assert checked.definition("a").recipe == ("newest", "alternate", True, False)
    with pytest.raises(S4SError, match=r"newest recomputes its formula .* on leading, few levels"):
        config(damped={"solver": "damped", "levels": "few"}, a={"family": "newest", "base": "damped"})
    with pytest.raises(S4SError, match="steps of 2 evaluations can start at ddim or dpm2 or damped"):
        config(a={"family": "s4s_ss", "base": "ipndm2-edm", "min_nfe": 3})
    base = s4s.solver("damped", s4s.levels("edm", 4, mixture), path=mixture.path)
    assert make_family("newest", base).size == 4 and base.meta["solver"] == "damped"


@pytest.mark.parametrize("name", ["evil:run", "evil.sub:run", "subprocess:Popen", "evil:missing"])
def test_what_a_file_says_of_its_solver_is_not_called(mixture, mixture_pairs, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('PWNED', 'w')\nrun = print\n")
    base = s4s.solver("ddim", s4s.levels("logsnr", 3, mixture))
    base.with_meta(solver=name, options={"args": "touch PWNED", "shell": True}).save("t.json")
    with pytest.raises(s4s.S4SError, match=f"meta says that '{name}' made it.*is not called"):
        s4s.fit(mixture, mixture_pairs, "ld3", base.levels, base=s4s.Tableau.load("t.json"))
    assert not (tmp_path / "PWNED").exists()
