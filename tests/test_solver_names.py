"""Display names: what people read of a solver, beside the token that paths and CSV files have."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

import s4s
from s4s.learning.families import recipes
from s4s.reporting.figures import levels_and_coefficients
from s4s.reporting.solver_names import (
    FAMILIES,
    SCHEDULE_NAMES,
    TOKENS,
    method_name,
    name_of_tableau,
    name_of_token,
    names,
    unique,
)
from s4s.reporting.tables import COLUMNS, latex, markdown
from s4s.schedules import SCHEDULES
from s4s.solvers import SOLVERS
from s4s.study.definitions import Classical

DEFINITIONS = yaml.safe_load((Path(__file__).parents[1] / "config/config.yaml").read_text())["definitions"]
CLASSICAL = {token: Classical(**values) for token, values in DEFINITIONS.items() if "solver" in values}


@pytest.mark.parametrize(
    ("token", "name"),
    [
        ("unipc3-gits", "UniPC-3, GITS schedule"),
        ("dpmpp3m-logsnr", "DPM-Solver++ (3M), log-SNR schedule"),
        ("ddim-time_uniform", "DDIM, time-uniform schedule"),
        ("ipndm3_afs-gits", "iPNDM-3 with analytic first step, GITS schedule"),
        ("s4s_alt", "S4S-Alt"),
        ("joint", "S4S-Joint"),
        ("ld3", "LD3"),
        ("s4s_lms-time_quadratic", "S4S, time-quadratic schedule"),
        ("joint_l1", "S4S-Joint (joint_l1)"),
        ("mine", "mine"),
    ],
)
def test_a_token_is_shown_as_the_solvers_name(token, name):
    assert name_of_token(token) == name


def test_every_solver_schedule_and_family_has_a_name_of_its_own():
    assert {*SCHEDULE_NAMES} == {*SCHEDULES} and {*FAMILIES} == {*recipes()}
    found = [method_name(kind, {"order": 2}) for kind in SOLVERS]
    assert len({*found}) == len(SOLVERS) and not {*found} & {*SOLVERS}
    assert len({*TOKENS.values()}) == len(TOKENS)


@pytest.mark.parametrize("token", [token for token in CLASSICAL if token in TOKENS])
def test_the_name_by_the_token_is_that_by_what_the_tableau_says(token):
    """All classical definitions of the config, but for DMN's other exponent, have a token that is known."""
    definition = CLASSICAL[token]
    meta = {"token": token, "solver": definition.solver, "options": definition.solver_options(), "schedule": definition.levels}
    tableau = s4s.solver("ddim", [2.0, 1.0, 0.5]).with_meta(**meta)
    assert name_of_tableau(tableau) == name_of_token(token)


def test_the_configs_tokens_are_known():
    assert {*CLASSICAL} - {*TOKENS} == {"unipc3-dmn_pixel"}


def test_names_are_derived_from_a_tableau_where_the_token_says_nothing():
    plain = s4s.solver("unipc", [2.0, 1.0, 0.5], order=2).with_meta(schedule="gits", token="mine")
    assert name_of_tableau(plain) == "UniPC-2, GITS schedule"
    assert name_of_tableau(plain.with_meta(fit={"family": "joint"})) == "S4S-Joint (mine)"
    assert name_of_tableau(plain.with_meta(solver="package:solver")) == "package:solver, GITS schedule"


def test_no_two_solvers_of_a_table_have_the_same_name():
    assert unique({"a": "X", "b": "X", "c": "Y"}) == {"a": "X (a)", "b": "X (b)", "c": "Y"}
    scores = pd.DataFrame({"solver": ["joint", "joint_l1", "best"], "family": ["joint", "joint", "s4s_alt"]})
    assert names(scores.solver, scores) == {"joint": "S4S-Joint", "joint_l1": "S4S-Joint (joint_l1)", "best": "S4S-Alt (best)"}


def test_tables_and_figures_show_names_not_tokens(tmp_path):
    rows = [
        ["digits", solver, family, "", "", nfe, nfe, 8, 2, 1.0 / nfe, 0.1, "f", 1.0 / nfe, 0.1, 0, 0.0]
        for solver, family in [("teacher", "teacher"), ("unipc3-gits", "searched"), ("s4s_alt", "s4s_alt")]
        for nfe in ((64,) if solver == "teacher" else (3, 4))
    ]
    scores = pd.DataFrame(rows, columns=COLUMNS)
    for text in (markdown(scores, "fid"), latex(scores, "global_error")):
        assert "UniPC-3, GITS schedule" in text and "S4S-Alt" in text and "unipc3-gits" not in text and "s4s_alt" not in text
    s4s.solver("unipc", [2.0, 1.0, 0.5], order=2).with_meta(schedule="gits", token="mine").save(tmp_path / "mine.json")
    figure = levels_and_coefficients({"mine": str(tmp_path / "mine.json")})
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["UniPC-2, GITS schedule"]
