"""The config: what passes, what does not, and what the errors say. No test here imports torch through the config."""

import copy
import inspect
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from s4s.config import read_config, schema
from s4s.definitions import FILES, RECIPES, Classical
from s4s.errors import S4SError
from s4s.families import FAMILIES
from s4s.fitting.drivers import DRIVERS
from s4s.fitting.settings import FitSettings
from s4s.levels import GRIDS, grid_function
from s4s.solvers import SOLVERS, make_function

ROOT = Path(__file__).parents[1]
ZERO = {"solver": "ddim", "levels": "edm"}
ALT = {"family": "s4s_alt", "base": "ddim-edm"}
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def test_the_default_is_valid_and_its_cells_are_all_of_it():
    config = read_config(DEFAULT)
    cells = config.cells()
    assert len(cells) == len(set(cells)) == 1 + sum(len(config.nfe_of(token)) for token in config.solvers)
    assert cells[0].solver == "teacher"


def test_the_defaults_in_code_are_those_of_the_config_file():
    assert read_config(DEFAULT).fit == FitSettings()


def test_the_schema_file_is_the_one_that_the_model_generates():
    text = (ROOT / "workflow/schemas/config.schema.json").read_text()
    assert text == schema(), "run: python -m s4s.config > workflow/schemas/config.schema.json"
    assert '"additionalProperties": false' in text


def test_config_and_registries_name_the_same_things():
    assert {recipe.driver for recipe in RECIPES.values()} == set(DRIVERS)
    assert {recipe.weights for recipe in RECIPES.values()} == set(FAMILIES)
    for kind, entry in SOLVERS.items():
        taken = set(inspect.signature(make_function(kind)).parameters) - {"levels"}
        assert taken - {"path"} - FILES == set(entry.options), kind
        for values in itertools.product(*entry.options.values()):
            options = dict(zip(entry.options, values, strict=True))
            assert Classical(solver=kind, levels="edm", **options).solver_options() == options
    needed = {"time_power": {"power": 1.5}, "explicit": {"values": [[3.0, 1.0]]}}
    for kind, grid in GRIDS.items():
        taken = set(inspect.signature(grid_function(kind)).parameters) - {"nfe", "span"}
        assert taken == set(grid.options) and taken - FILES <= set(Classical.model_fields), kind
        assert Classical(solver="ddim", levels=kind, **needed.get(kind, {})).level_options() == needed.get(kind, {})


def test_every_defined_solver_has_cells():
    config = read_config({**DEFAULT, "solvers": list(DEFAULT["definitions"]), "nfe": [4, 7]})
    assert {cell.solver for cell in config.cells()} == {"teacher", *DEFAULT["definitions"]}
    families = {config.definition(token).family for token in config.solvers}
    assert families == {"classical", "searched", *RECIPES}


def test_the_config_needs_no_torch():
    code = "import sys, s4s.config, s4s.models.files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def edited(**changes):
    config = copy.deepcopy(DEFAULT)
    definitions = changes.pop("definitions", {})
    config.update(changes)
    config["definitions"].update(definitions)
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nfe": [0]}, r"nfe\.0: .*greater than or equal to 1 \(given: 0\)"),
        ({"nfe": [64]}, r"nfe \[64\] must be smaller than the teacher's 64 steps"),
        ({"nfe": [3, 3]}, "lists an entry twice"),
        ({"nfe": [2]}, "definitions.dpmpp3m-edm: order 3 is larger than nfe .2.*min_nfe: 3"),
        ({"nfe": []}, "nfe: .*at least 1"),
        ({"solvers": ["dpmp3m-edm"]}, "unknown solver 'dpmp3m-edm'; defined: "),
        ({"models": ["digit"]}, "unknown model 'digit'; known: .*digits"),
        ({"models": ["no/such.yaml"]}, "no/such.yaml: no such model file"),
        ({"seed": [1]}, "config: seed: unknown key"),
        ({"seeds": [-1]}, r"seeds\.0"),
        ({"teacher": {"step": 3}}, "teacher.step: unknown key"),
        ({"fit": {"distance": "l3"}}, "fit.distance: .*'perceptual', 'l2', 'l1', 'lpips' or 'features'.*l3"),
        ({"fit": {"radius": -1}}, "fit.radius"),
        ({"definitions": {"ddim-edm": {"solver": "dimm", "levels": "edm"}}}, "definitions.ddim-edm.*solver.*dimm"),
        ({"definitions": {"ddim-edm": {"solver": "ddim", "levels": "edm", "order": 2}}}, "ddim takes no option order"),
        ({"definitions": {"ddim-edm": {"solver": "unipc", "levels": "edm"}}}, "unipc needs an order, one of 1, 2, 3"),
        ({"definitions": {"ddim-edm": {"solver": "ddim", "levels": "logsnr", "rho": 3}}}, "rho belongs to levels: edm"),
        ({"definitions": {"ddim-edm": {"solver": "ddim", "levels": "edmm"}}}, "levels: must be one of edm, logsnr"),
        ({"definitions": {"ddim-edm": {"solver": "unipc", "order": 2, "levels": "edm", "variant": "heun"}}}, "one of bh1, bh2"),
        ({"definitions": {"ddim-edm": {"solver": "ddim", "levels": "time_power"}}}, "time_power needs power"),
        ({"definitions": {"ddim-edm": {"solver": "ddim", "levels": "explicit"}}}, "explicit needs values"),
        ({"definitions": {"ddim-edm": {"solver": "ddim", "levels": "explicit", "values": [[1, 2]]}}}, "decrease strictly"),
        (
            {
                "definitions": {"ddim-edm": {"solver": "ddim", "levels": "edm", "to_zero": True}},
                "nfe": [1],
                "solvers": ["ddim-edm"],
            },
            "to_zero needs",
        ),
        (
            {"definitions": {"s4s_alt": {**ALT, "prediction": "noise", "base": "heun-edm"}}},
            "at 'heun-edm': .* needs one of ddim",
        ),
        (
            {"definitions": {"gs": {"family": "gs", "base": "ipndm3_afs-gits"}}, "solvers": ["gs"]},
            "gs recomputes its formula",
        ),
        ({"definitions": {"s4s_alt": {**ALT, "base": "zero"}, "zero": {**ZERO, "to_zero": True}}}, "ends at level 0"),
        ({"definitions": {"s4s_alt": {**ALT, "weights": "bns"}}}, "weights"),
        ({"definitions": {"gs": {"family": "gs", "base": "ddim-edm", "weights": "lms"}}}, "gs has its own"),
        ({"definitions": {"gs": {"family": "gs", "base": "ddim-edm", "order": 2}}}, "gs takes no option order"),
        ({"definitions": {"ld3": {"family": "ld3", "base": "ddim-edm", "driver": "alternate"}}}, "ld3 has no coefficients"),
        (
            {"definitions": {"gs": {"family": "gs", "base": "ddim-edm", "fit": {"preset": "sg"}}}, "solvers": ["gs"]},
            "gs.fit: preset",
        ),
        ({"fit": {"precision": "bfloat16"}}, "differences of outputs in bfloat16"),
        ({"teacher": {"solver": "dpm_v3"}}, "the teacher cannot be dpm_v3"),
        ({"teacher": {"levels": "gits"}}, "the teacher's levels must be one of edm, logsnr"),
        ({"teacher": {"levels": "time_power"}}, "the teacher's levels must be one of edm, logsnr"),
        ({"teacher": {"solver": "heun"}}, "unipc3-gits needs trajectories of the teacher's solver, which must be one of ddim"),
        ({"search": {"steps": 6}}, "8 gits levels|10 gits levels cannot be chosen from search.steps 6"),
        ({"definitions": {"ddim-edm": {"solver": "ddim", "levels": "explicit", "values": [[2, 0]], "to_zero": True}}}, "at 0"),
        (
            {
                "definitions": {
                    "dyweight": {"family": "dyweight", "base": "ddim-edm"},
                    "ddim-edm": {"solver": "ddim", "levels": "leading"},
                },
                "solvers": ["dyweight"],
            },
            "and leading levels",
        ),
        ({"search": {"levels": "dmn"}}, "search.levels must be one of edm, logsnr"),
        ({"definitions": {"s4s_alt": {"family": "s4s_alt", "base": "nothing"}}}, "base: 'nothing' is not a classical solver"),
        ({"definitions": {"s4s_alt": {**ALT, "family": "s4s_lms", "decoupled": True}}}, "decoupled levels belong to"),
        ({"definitions": {"s4s_alt": {**ALT, "fit": {"iters": 3}}}}, "s4s_alt.fit: iters: unknown key"),
        ({"definitions": {"s4s_alt": {**ALT, "order": 7}}}, "order 7 is larger than nfe"),
    ],
)
def test_bad_configs_name_the_key_and_what_is_allowed(changes, message):
    with pytest.raises(S4SError, match=message):
        read_config(edited(**changes))


def test_min_nfe_leaves_cells_out():
    config = read_config(edited(solvers=["ipndm4-edm"], nfe=[3, 5]))
    assert [cell.nfe for cell in config.cells() if cell.solver == "ipndm4-edm"] == [5]


def test_the_stage_of_a_fit_names_all_of_its_files():
    """Else an edit of a new file would not rerun the fits."""
    rules = (ROOT / "rules/code.smk").read_text()
    for path in (ROOT / "src/s4s/fitting").glob("*.py"):
        assert f'"{path.stem}"' in rules or f'"fitting/{path.stem}"' in rules, path.name
