"""The config: what passes, what does not, and what the errors say. No test here imports torch through the config."""

import copy
import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import s4s
from s4s.errors import S4SError
from s4s.learning.drivers import DRIVERS
from s4s.learning.families import FAMILIES, make_family, recipes
from s4s.learning.settings import PRESETS, FitSettings
from s4s.schedules import SCHEDULES, schedule_function
from s4s.solvers import EXPONENTIAL, SOLVERS, make_function
from s4s.study.config import read_config, schema
from s4s.study.definitions import Classical, Learned

ROOT = Path(__file__).parents[1]
ZERO = {"solver": "ddim", "levels": "edm"}
ALT = {"family": "s4s_alt", "base": "ddim-edm"}
PRESET_KEYS = {name for preset in PRESETS.values() for name in preset}
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def test_the_default_is_valid_and_its_cells_are_all_of_it():
    config = read_config(DEFAULT)
    cells = config.cells()
    assert len(cells) == len(set(cells)) == 1 + sum(len(config.nfe_of(token)) for token in config.solvers)
    assert cells[0].solver == "teacher"


def test_the_defaults_in_code_are_those_of_the_config_file():
    """Those of the lines that the preset governs too, which are comments."""
    assert read_config(DEFAULT).fit == FitSettings()
    text = (ROOT / "config/config.yaml").read_text()
    every = yaml.safe_load(re.sub(r"^  # (?=[a-z_]+: )", "  ", text, flags=re.MULTILINE))["fit"]
    assert {"lpips_weights": None, **every} == FitSettings().model_dump()
    assert not PRESET_KEYS & {*DEFAULT["fit"]}, "or a preset could not change them"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_alone_changes_the_default_config(preset):
    solvers = ["cached"] if preset == "exchange" else DEFAULT["solvers"]  # whole numbers, which no other optimiser searches
    config = edited(solvers=solvers, teacher={"train": 1400, "val": 1000}, fit={"preset": preset})
    assert read_config(config).fit == FitSettings(preset=preset)


def test_the_schema_file_is_the_one_that_the_model_generates():
    text = (ROOT / "workflow/schemas/config.schema.json").read_text()
    assert text == schema(), "run: python -m s4s.study.config > workflow/schemas/config.schema.json"
    assert '"additionalProperties": false' in text


def test_every_recipe_is_of_a_driver_and_a_family():
    assert {recipe.driver for recipe in recipes().values()} == set(DRIVERS)
    assert {recipe.weights for recipe in recipes().values()} == set(FAMILIES)


@pytest.mark.parametrize("kind", SOLVERS)
def test_a_solver_takes_the_options_of_its_entry(kind):
    """Its function has no defaults of its own, and every value that the entry allows passes the config."""
    entry, parameters = SOLVERS[kind], inspect.signature(make_function(kind)).parameters
    assert {*parameters} - {"levels", "path"} == {*entry.options.names(), *entry.files}
    assert all(parameters[name].default is inspect.Parameter.empty for name in entry.options.names())
    choices = entry.options.choices()
    assert [*choices] == entry.options.names()
    for values in itertools.product(*choices.values()):
        options = dict(zip(choices, values, strict=True))
        assert Classical(solver=kind, levels="edm", **options).solver_options() == options


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_schedule_takes_the_options_of_its_entry(kind):
    schedule, parameters = SCHEDULES[kind], inspect.signature(schedule_function(kind)).parameters
    assert {*parameters} - {"nfe", "span"} == {*schedule.options.names(), *schedule.files}
    assert all(parameters[name].default is inspect.Parameter.empty for name in schedule.options.names())
    needed = {"power": 1.5, "values": [[3.0, 1.0]]}
    options = {name: needed[name] for name in schedule.options.needed()}
    assert Classical(solver="ddim", levels=kind, **options).level_options() == options


def test_a_key_of_a_definition_means_one_thing():
    names = [
        {name for entry in registry.values() for name in entry.options.names()} for registry in (SOLVERS, SCHEDULES, FAMILIES)
    ]
    assert not names[0] & names[1] and not names[0] & {*Classical.model_fields} and not names[1] & {*Classical.model_fields}
    assert not names[2] & {*Learned.model_fields}


def test_every_option_is_explained_in_the_config_file():
    comments = (ROOT / "config/config.yaml").read_text().split("# What each solver name means")[1].split("definitions:")[0]
    for registry in (SOLVERS, SCHEDULES, FAMILIES):
        for name in {name for entry in registry.values() for name in entry.options.names()}:
            assert re.search(rf"\b{name}\b", comments), name
    for name in (*SOLVERS, *SCHEDULES, *recipes(), *DRIVERS):
        assert re.search(rf"\b{name}\b", comments), name


def test_every_defined_solver_has_cells():
    enough = {"train": 1400, "val": 1000}  # for the papers' recipes
    config = read_config({**DEFAULT, "solvers": list(DEFAULT["definitions"]), "nfe": [4, 7], "teacher": enough})
    assert {cell.solver for cell in config.cells()} == {"teacher", *DEFAULT["definitions"]}
    families = {config.definition(token).family for token in config.solvers}
    assert families == {"classical", "searched", *recipes()}


@pytest.mark.parametrize("token", DEFAULT["definitions"])
def test_a_definition_travels_as_one_text(token):
    """And a learned one also as what a tableau's meta says of its fit."""
    config = read_config({**DEFAULT, "teacher": {"train": 1400, "val": 1000}})
    definition = config.definition(token)
    if isinstance(definition, Classical):
        received = Classical.from_json(definition.to_json())
        assert received == definition.model_copy(update={"min_nfe": 1})
    else:
        settings = config.fit_settings(token)
        received = Learned.from_json(definition.settled(settings).to_json())
        assert FitSettings.model_validate(received.fit) == settings
        record = received.record(settings)
        assert record == definition.record(settings)
        again = Learned.from_record(record)
        assert again.record(FitSettings.model_validate(again.fit)) == record
    assert (received.min_nfe, getattr(received, "warm_start", None)) == (1, None)


def test_a_text_that_is_no_definition_is_refused():
    with pytest.raises(S4SError, match="definition: solver: must be one of ddim"):
        Classical.from_json('{"solver": "euler", "levels": "edm"}')
    with pytest.raises(S4SError, match=r"definition: .*solver: unknown key"):
        Learned.from_json('{"solver": "ddim", "family": "ld3", "base": "ddim-edm"}')


@pytest.mark.slow
def test_the_config_needs_no_torch():
    code = "import sys, s4s.cli, s4s.study.config, s4s.models.model_files; sys.exit('torch' in sys.modules)"
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
        ({"seed": [1]}, "config: seed: unknown key; check its spelling against the comments in config/config.yaml"),
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
        (
            {"nfe": [2], "solvers": ["joint"]},
            "definitions.joint: order 3 of its base ipndm3-time_quadratic is larger than nfe .2.",
        ),
        ({"solvers": ["gs_adam"]}, r"gs_adam: its fit needs train_pairs 1400, but teacher.train is 512; raise teacher"),
        ({"fit": {"val_pairs": 129}}, "its fit needs val_pairs 129, but teacher.val is 128"),
        ({"fit": {"batch": 513}}, "batch of 513, but there are 512 training pairs"),
        ({"fit": {"trajectory": 1}}, r"fit.trajectory needs teacher: \{trajectory: true\}"),
        (
            {"fit": {"trajectory": 1}, "teacher": {"trajectory": True, "solver": "heun"}, "solvers": ["s4s_alt"]},
            "nothing between its nodes, one of ddim",
        ),
        ({"fit": {"preset": ["adam"]}}, "fit.preset"),
        (
            {"definitions": {"s4s_alt": {**ALT, "order": 3, "base": "ipndm3-edm"}}},
            "use all earlier outputs in this prediction; set order: full",
        ),
        ({"definitions": {"s4s_alt": {**ALT, "order": 3, "base": "unipc3-edm"}}}, "last 4 outputs; set order: 4 or full"),
        (
            {"definitions": {"s4s_alt": {**ALT, "weights": "pc", "order": 2, "base": "unipc3-edm"}}},
            "last 4 outputs; set order: 3 or full",
        ),
        ({"definitions": {"s4s_alt": {**ALT, "weights": "single_step", "base": "unipc3-edm"}}}, "start at ddim or dpm2"),
        ({"definitions": {"s4s_alt": {**ALT, "weights": "single_step", "base": "dpm3-logsnr"}}}, "start at ddim or dpm2"),
        (
            {
                "definitions": {"s4s_alt": {**ALT, "weights": "single_step", "base": "ddim-edm"}},
                "nfe": [1, 3],
                "solvers": ["s4s_alt"],
            },
            "s4s_alt: order 2 is larger than nfe .1.",
        ),
        (
            {"definitions": {"s4s_alt": {**ALT, "consistency": True, "order": 1}}},
            "consistency leaves weights of order 1 nothing",
        ),
        (
            {"definitions": {"s4s_alt": {**ALT, "driver": "schedule", "first_node": True}}},
            "first_node is learned with the coeff",
        ),
        (
            {
                "definitions": {"s4s_alt": {**ALT, "base": "ddim-edm", "order": 1, "decoupled": False}},
                "nfe": [1, 3],
                "solvers": ["s4s_alt"],
            },
            "s4s_alt: at NFE 1 there are no levels to learn; .* or set min_nfe: 2",
        ),
        ({"samples": 2**32}, "samples: Input should be less than 4294967296"),
        ({"teacher": {"train": 2**32}}, "teacher.train: Input should be less than 4294967296"),
        ({"definitions": {"s4s_alt": {**ALT, "warm_start": "x/{model}.json"}}}, r"may hold \{nfe\} and no other braces"),
        (
            {"definitions": {"s4s_alt": {**ALT, "warm_start": "previous", "base": "ipndm3_afs-gits"}}},
            "warm_start makes its formula anew",
        ),
    ],
)
def test_bad_configs_name_the_key_and_what_is_allowed(changes, message):
    with pytest.raises(S4SError, match=message):
        read_config(edited(**changes))


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("token", [t for t, d in DEFAULT["definitions"].items() if d.get("levels") == "time_quadratic"])
def test_the_order_that_a_base_needs_is_what_the_numbers_say(mixture, token, prediction):
    """In this file's check, which runs before any work, and where the family is made."""
    definition, nfe = Classical(**DEFAULT["definitions"][token]), 6
    exact = definition.solver in EXPONENTIAL and definition.cached == 1
    if definition.solver == "dpm_v3" or (prediction == "noise" and not exact):
        return
    levels = s4s.levels("time_quadratic", nfe, mixture)
    base = s4s.solver(definition.solver, levels, path=mixture.path, **definition.solver_options())
    needed = definition.as_base().memory(prediction)
    make_family("lms", base, prediction=prediction, order=needed)
    if needed is not None and needed > 1:
        with pytest.raises(S4SError, match="cannot be initialised with"):
            make_family("lms", base, prediction=prediction, order=needed - 1)


def test_min_nfe_leaves_cells_out():
    config = read_config(edited(solvers=["ipndm4-edm"], nfe=[3, 5]))
    assert [cell.nfe for cell in config.cells() if cell.solver == "ipndm4-edm"] == [5]


def compared(**changes):
    main = {"models": ["digits", "mixture"], "nfe": [3, 5], "more_nfe": [12], "solvers": ["ddim-logsnr", "joint"], **changes}
    return read_config(edited(comparisons={"main": main}))


def test_a_comparison_has_cells_of_its_own_and_more_of_solvers_without_a_fit():
    config = compared()
    own = config.comparison("main")
    assert own.nfe_of("ddim-logsnr") == [3, 5, 12] and own.nfe_of("joint") == [3, 5]
    assert len(own.cells()) == 2 * (1 + 3 + 2) and own.teacher == config.teacher and own.comparisons == {}
    assert [cell.model for cell in config.cells()] == ["digits"] * len(config.cells())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nfe": [3, 64]}, r"comparisons\.main: .*nfe \[64\] must be smaller than the teacher's 64 steps"),
        ({"more_nfe": [5]}, r"comparisons\.main: .*nfe lists an entry twice"),
        ({"more_nfe": [70]}, r"comparisons\.main: .*nfe \[70\] must be smaller"),
        ({"solvers": ["nothing"]}, r"comparisons\.main: .*unknown solver 'nothing'; defined: "),
        (
            {"solvers": ["ddim-logsnr"], "questions": ["cost"]},
            r"main: questions: cost asks about fits, but no solver there is l",
        ),
    ],
)
def test_a_wrong_comparison_is_refused_when_it_is_asked_for(changes, message):
    config = compared(**changes)
    with pytest.raises(S4SError, match=message):
        config.comparison("main")


@pytest.mark.parametrize("changes", [{"model": []}, {"models": []}, {"nfe": "3"}])
def test_a_comparison_with_unknown_keys_or_types_is_refused_at_once(changes):
    with pytest.raises(S4SError, match=r"comparisons\.main\."):
        compared(**changes)


def test_the_default_comparisons_are_possible():
    config = read_config(DEFAULT)
    assert {"galaxies", "galaxies_fits", "main", "ablation", "cost", "generalisation", "tracking", "teacher_gap"} == {
        *config.comparisons
    }
    assert len(config.comparison("main").cells()) > 1000
    for name in config.comparisons:
        assert len(config.comparison(name).cells()) > 10
    groups = config.comparisons["ablation"].groups
    assert {token for tokens in groups.values() for token in tokens} == {*config.comparisons["ablation"].solvers}
