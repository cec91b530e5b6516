"""The paper's comparison: its files, its plan, and what a plan says of the work."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from s4s.errors import S4SError
from s4s.study.config import OWN
from s4s.study.plan import evaluations, fit_evaluations, summary
from s4s.study.study import MAIN, Study
from tests.builders import studies

ROOT = Path(__file__).parents[1]
PAPER = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def paper(**changes) -> Study:
    """The study of the config as Snakemake puts it together."""
    definitions = {**DEFAULT["definitions"], **PAPER["definitions"]}
    return Study.read({**DEFAULT, **PAPER, "definitions": definitions, **changes})


def test_every_model_runs_every_solver_at_every_nfe():
    study = paper()
    for name, own in study.compared[MAIN].items():
        cells = {(cell.solver, cell.nfe) for cell in study.cells() if cell.model == name and cell.solver != "teacher"}
        assert cells == {(solver, nfe) for solver in PAPER["solvers"] for nfe in range(3, 11)}, name
        assert own.models == [name]


def test_settings_of_a_model_come_before_the_configs_and_per_model_before_them():
    own = paper(per_model={"cifar10": {"samples": 4096, "teacher": {"steps": 40}}}).settings
    assert (own["cifar10"].samples, own["cifar10"].teacher.steps, own["cifar10"].teacher.levels) == (4096, 40, "logsnr")
    assert (own["ffhq"].samples, own["ffhq"].teacher.steps) == (50000, 20)
    assert own["lsun_bedrooms"].fit.distance == "l1" and own["sd14"].samples == 30000
    assert own["cifar10"].teacher.train == DEFAULT["teacher"]["train"]


@pytest.mark.parametrize(
    ("per_model", "message"),
    [
        ({"other": {}}, "per_model: 'other' is none of the models cifar10"),
        ({"cifar10": {"seeds": [1]}}, f"'seeds' is not among {', '.join(OWN)}"),
        ({"cifar10": {"samples": 1}}, "settings of model cifar10: samples"),
        ({"cifar10": {"teacher": {"steps": 8}}}, "must be smaller than the teacher's 8 steps"),
        ({"cifar10": {"nfe": [1], "teacher": {"ahead": 1}}}, "teacher.ahead: 2 steps are too few for order 3"),
        ({"cifar10": {"fit": {"iteration": 8}}}, "settings of model cifar10: iteration: unknown key"),
    ],
)
def test_wrong_settings_of_a_model_are_refused(per_model, message):
    with pytest.raises(S4SError, match=message):
        paper(per_model=per_model)


def test_a_plan_counts_evaluations():
    definitions = {"ddim-edm": {"solver": "ddim", "levels": "edm"}, "ldx": {"family": "ld3", "base": "ddim-edm"}}
    two = {"models": ["cifar10", "imagenet256"], "solvers": ["ddim-edm", "ldx"]}
    study = paper(**two, definitions=definitions)
    parts = evaluations(study, "cifar10")
    assert parts["samples"] == 2 * sum(range(3, 11)) * 3 * 50000 and parts["search"] == 0
    assert parts["teacher"] == 20 * (512 + 128 + 150000 + 5 * 128)
    ahead = paper(**two, definitions=definitions, per_model={"cifar10": {"teacher": {"ahead": 2}}})
    further = evaluations(ahead, "cifar10")["teacher"] - parts["teacher"]
    assert further == sum(range(5, 13)) * (512 + 128), "the fits' own teachers"
    definitions["ldx"] |= {"teacher_steps": 30}
    own = evaluations(paper(**two, definitions=definitions), "cifar10")["teacher"] - parts["teacher"]
    assert own == 30 * (512 + 128), "one further teacher for all fits"
    text = summary(study)
    hours = (sum(parts.values()) / 472 + 2 * sum(evaluations(study, "imagenet256").values()) / 96) / 3600
    assert f"about {hours:,.0f} at" in text and text.count("\n") == 4
    unknown = {name: model.model_copy(update={"throughput": None}) for name, model in study.models.items()}
    assert "unknown" in summary(replace(study, models=unknown))


@pytest.mark.slow
def test_the_estimate_of_a_fit_is_of_the_right_size(digits, digits_pairs):
    """An upper estimate, for a fit may stop early, within a factor of 4 of what one takes."""
    import s4s

    settings = s4s.FitSettings(distance="l2", iterations=8, validate_every=4)
    levels = s4s.levels("time_quadratic", 4, digits)
    taken = s4s.fit(digits, digits_pairs, "lms", levels, base="ipndm", settings=settings).evaluations
    assert 0.5 * taken < fit_evaluations(settings, 4, len(digits_pairs.val.seeds)) < 4 * taken


def dry_run(folder, *arguments, config=ROOT / "config/config.yaml", **options):
    return studies.snakemake(folder, "--dry-run", *arguments, config=config, **options)


@pytest.mark.suite
def test_the_papers_plan_is_built_without_any_weights(tmp_path):
    output = dry_run(tmp_path, "--quiet", "rules", config=ROOT / "config/paper.yaml")
    assert "GPU-hours in all: about" in output and all(model in output for model in PAPER["models"])
    jobs = int(re.findall(r"^total +(\d+)", output, re.M)[-1])
    assert jobs < 6000, "at 3 ms a job (benchmarks/planning_time.py) half a minute is 10,000"


@pytest.mark.slow
def test_absent_files_are_fetched_and_those_without_a_url_named(tmp_path):
    description = {"name": "mine", "kind": "edm", "path": "mine/a.pkl", "url": "https://example.org/a.pkl"}
    shown = {"kind": "torchscript", "name": "x", "path": "f.pt", "statistics": {"path": "s.npz"}}
    (tmp_path / "mine.yaml").write_text(json.dumps({**description, "features": shown}))
    (tmp_path / "f.pt").touch()
    arguments = ("results/tables/scores.csv", "--config", "models=[mine.yaml]", "solvers=[ddim-logsnr]")
    assert "s.npz: no such file; put it there" in dry_run(tmp_path, *arguments, "downloads=mine", ok=False)
    (tmp_path / "s.npz").touch()
    said = dry_run(tmp_path, *arguments, ok=False)
    assert f"not fetched, for downloads go below {ROOT}/resources/weights or {tmp_path}/resources/weights alone" in said
    assert "Traceback" not in said
    assert "rule fetch_a.pkl-" in dry_run(tmp_path, *arguments, "downloads=mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.pkl").touch()
    assert "fetch_a.pkl" not in dry_run(tmp_path, *arguments)
