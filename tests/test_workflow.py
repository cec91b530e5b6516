"""The workflow end to end on a tiny config: results, rerun, additions, edits, bad input. Warm jobs too."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from s4s import Tableau
from s4s.cli import app
from s4s.files.rows import read_attributes, read_split
from s4s.jobs.costs import read_usage
from s4s.jobs.fork_server import has_server, start_server
from s4s.reporting.tables import COLUMNS, MEASURES, comparison
from tests.builders import edm, features, latent_diffusion, pipelines

ROOT = Path(__file__).parents[1]


def snakemake(folder, *arguments, ok=True, directory=None):
    command = [sys.executable, "-m", "snakemake", "-s", str(folder / "Snakefile"), "--cores", "2"]
    command += ["--directory", str(directory or folder)]
    command += [*arguments, "--configfile", str(folder / "tiny.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode == 0) == ok, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A copy of the repository with the tiny config, after one full run."""
    folder = tmp_path_factory.mktemp("study")
    for name in ("rules", "workflow", "config", "profiles", "resources", "envs", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "Snakefile", folder)
    shutil.copy(ROOT / "tests/configs/tiny.yaml", folder)
    snakemake(folder, "--resources", "gpu=4")
    return folder


def planned(folder, *arguments):
    """Names of the rules that a dry run would run, with how often."""
    lines = snakemake(folder, "--dry-run", *arguments).splitlines()
    starts = [line.split()[1].rstrip(":") for line in lines if line.lstrip().startswith(("rule ", "localrule "))]
    return {name: starts.count(name) for name in starts if name != "all"}


def test_results_are_where_the_contract_says(study):
    results = study / "results"
    scores = pd.read_csv(results / "tables/scores.csv")
    assert list(scores.columns) == COLUMNS
    assert len(scores) == 1 + 4 * 2 and (scores.n_seeds == 2).all() and (scores.n_samples == 40).all()
    assert scores.loc[scores.family == "teacher", "global_error"].item() == 0
    students = scores[scores.family != "teacher"]
    assert (
        (students.global_error > 0).all() and students.fid_mean.notna().all() and (students.evaluations == students.nfe).all()
    )
    learned = scores[scores.family.str.startswith("s4s")]
    assert (learned.fit_evaluations > 0).all() and (learned.base == "ipndm2-time_quadratic").all()
    assert set(learned.schedule) == {"time_quadratic", "learned"}
    for row in students.itertuples():
        cell = f"digits/{row.solver}/nfe~{row.nfe}"
        tableau = Tableau.load(results / f"tableaux/{cell}.json")
        assert tableau.nfe == row.nfe and tableau.meta["token"] == row.solver
        assert (results / f"samples/{cell}.h5").exists() and (results / f"scores/{cell}.json").exists()
    for name in ("tables/fid.md", "tables/fid.tex", "tables/global_error.md", "report.html", "teacher/digits/pairs.h5"):
        assert (results / name).stat().st_size > 0
    usage = read_usage(results / "logs")
    assert len(usage) > 30 and (usage.run != "").all() and usage.run.nunique() == 1
    report = (results / "report.html").read_text()
    assert (
        all(f"<td>{job}</td>" in report for job in ("fit", "sample", "score", "teacher_shard", "all"))
        and "cache hits" in report
    )
    names = {path.name for path in (results / "figures").iterdir()}
    for figure in (
        "fid",
        "global_error",
        "teacher_convergence",
        "fit_curves",
        "levels_and_coefficients-digits",
        "coefficients-digits",
        "samples-digits",
    ):
        assert {f"{figure}.pdf", f"{figure}.png"} <= names


@pytest.mark.parametrize("count", [1, 3, 5])
def test_coefficients_are_drawn_for_any_number_of_solvers(study, count):
    """A panel a solver and one scale for all, also where the last row of panels is not full."""
    from s4s.reporting.figures import coefficients

    path = str(study / "results/tableaux/digits/s4s_alt/nfe~4.json")
    figure = coefficients({f"solver {i}": path for i in range(count)})
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [f"solver {i}" for i in range(count)] and len(figure.axes) == count + 1


def test_the_best_value_is_bold_and_the_teacher_takes_no_part(study):
    scores = pd.read_csv(study / "results/tables/scores.csv")
    cells, teacher = comparison(scores, "global_error", lambda value: f"**{value}**")
    for nfe in (3, 4):
        best = scores[(scores.nfe == nfe)].sort_values("global_error").iloc[0]
        assert cells.loc[best.solver, nfe].startswith("**")
        bold = {value.strip("*").split(" ")[0] for value in cells[nfe] if value.startswith("**")}
        assert bold == {f"{best.global_error:.4f}"}
    assert "teacher" not in cells.index and "NFE 12" in teacher


def test_running_again_does_nothing(study):
    assert planned(study) == {}
    assert "Nothing to be done" in snakemake(study)


def test_the_command_learns_what_the_workflow_learns(study, tmp_path):
    options = ["--solver", "s4s_alt", "--nfe", "3", "--threads", "1", "--config", str(study / "tiny.yaml")]
    result = CliRunner().invoke(app, ["fit", "digits", *options, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.exception
    own, theirs = Tableau.load(tmp_path / "out/nfe~3.json"), Tableau.load(study / "results/tableaux/digits/s4s_alt/nfe~3.json")
    assert own.digest() == theirs.digest()
    assert {key: own.meta[key] for key in theirs.meta} == theirs.meta and {*own.meta} - {*theirs.meta} == {"identity"}


def test_a_new_nfe_computes_only_its_cells(study):
    new = planned(study, "--config", "nfe=[3,4,5]")
    assert new["sample"] == 4 and new["score"] == 4 and new["fit"] == 2 and new["tableau"] == 2
    assert "teacher_shard" not in new


def test_a_new_solver_computes_only_its_cells(study):
    new = planned(study, "--config", "solvers=[ddim-logsnr,ddim-edm,ipndm2-time_quadratic,s4s_lms_full-time_quadratic,s4s_alt]")
    assert (new["sample"], new["score"], new["tableau"]) == (2, 2, 2) and "fit" not in new


def test_a_further_comparison_is_a_target(study, tmp_path):
    """It shares the cells that are there, and leaves the tables of the first comparison alone."""
    before = (study / "results/tables/scores.csv").read_bytes()
    new = planned(study, "main")
    assert new["fit"] == 2 and new["sample"] == 2 * 2 + 2 * 4 + 2 and "main" in new
    snakemake(study, "main", "--resources", "gpu=4")
    folder = study / "results/study/main"
    scores, measures = pd.read_csv(folder / "scores.csv"), pd.read_csv(folder / "metrics.csv")
    assert len(scores) == 2 * (1 + 4 + 4 + 2) and {*scores.model} == {"digits", "mixture"}
    assert {*measures.metric} == {*MEASURES} and {*measures.seed} == {0, 1}
    saved = pd.read_csv(folder / "evaluations_saved.csv")
    assert {*saved.solver} == {"s4s_alt"} and {*saved.nfe} == {3, 4} and (saved.needed >= 3).all()
    for name in ("fid.md", "global_error.tex", "evaluations_saved.md", "ranks.pdf", "evaluations_saved.png", "fid.pdf"):
        assert (folder / name).stat().st_size > 0
    assert [*pd.read_csv(folder / "ranks.csv").columns] == ["solver", "average_rank", "p_next"]
    assert (study / "results/tables/scores.csv").read_bytes() == before and planned(study, "main") == {}


def test_questions_are_answered_for_every_model(study):
    snakemake(study, "asked", "--resources", "gpu=4")
    folder = study / "results/study/asked"
    for question in ("ablation", "cost", "generalisation", "teacher_gap", "tracking"):
        rows = pd.read_csv(folder / f"{question}.csv")
        assert {"digits", "mixture"} <= {*rows.model} and len((folder / f"{question}.md").read_text()) > 500
        assert (folder / f"{question}.pdf").stat().st_size > 0 and (folder / f"{question}.png").stat().st_size > 0
    ends = pd.read_csv(folder / "tracking.csv").groupby(["model", "solver", "nfe"]).error.last()
    own = pd.read_csv(folder / "scores.csv").set_index(["model", "solver", "nfe"]).global_error
    for cell, error in ends.items():  # of other starts, and against the flow, which the teacher of 12 steps is not quite
        if "ddim-logsnr" in cell:
            assert error == pytest.approx(own[cell], rel=0.25)
    assert {*pd.read_csv(folder / "cost.csv").dimension} == {4, 16, 64, 256, 1024}
    assert planned(study, "asked") == {}


def test_learned_solvers_may_be_compared_among_themselves(study):
    snakemake(study, "alone", "--config", "comparisons={alone: {models: [digits], nfe: [3, 4], solvers: [s4s_alt]}}")
    folder = study / "results/study/alone"
    assert len(pd.read_csv(folder / "scores.csv")) == 3 and "s4s_alt" in (folder / "report.html").read_text()
    assert pd.read_csv(folder / "evaluations_saved.csv").empty and not (folder / "evaluations_saved.png").exists()


def test_a_comparison_that_the_config_contradicts_is_an_error_only_where_it_is_asked_for(study):
    config = ["--config", "comparisons={main: {more_nfe: [30]}}"]
    assert planned(study, *config) == {}
    output = snakemake(study, "main", *config, ok=False)
    assert "comparisons.main" in output and "nfe [30] must be smaller than the teacher's 12 steps" in output
    assert "Traceback" not in output
    taken = snakemake(study, "--config", "comparisons={fit: {models: [digits], nfe: [3], solvers: [ddim-logsnr]}}", ok=False)
    assert "comparisons.fit: a target of that name is there already" in taken


def test_every_family_and_driver_runs_from_the_config(study):
    """The definitions of config/config.yaml that config/families.yaml compares, and a warm start from the next smaller NFE."""
    families = yaml.safe_load((ROOT / "config/families.yaml").read_text())["solvers"]
    own = "definitions={warm: {family: joint, base: ipndm2-time_quadratic, warm_start: previous}}"
    config = ["--config", f"solvers=[{','.join([*families, 'warm'])}]", "nfe=[3,4]", own]
    assert planned(study, "results/tableaux/digits/warm/nfe~4.json", *config)["fit"] == 2, "NFE 4 needs NFE 3"
    tableaux = [f"results/tableaux/digits/{token}/nfe~{nfe}.json" for token in [*families, "warm"] for nfe in (3, 4)]
    snakemake(study, *tableaux, *config)
    for path in tableaux:
        tableau = Tableau.load(study / path)
        assert tableau.meta["token"] in path and tableau.levels[0] == 80
    warm = json.loads((study / "results/fits/digits/warm/nfe~4.json").read_text())["history"]
    plain = json.loads((study / "results/fits/digits/joint/nfe~4.json").read_text())["history"]
    assert warm[0]["val"] < plain[0]["val"], "starts from the solver learned at NFE 3"


def test_searched_levels_and_statistics_are_computed_once_a_model(study):
    """GITS and DMN levels, DPM-Solver-v3, and the options of any solver, to their scores."""
    tokens = ["ipndm3-gits", "unipc3-gits", "unipc3-dmn", "dpm_v3-logsnr", "ipndm3_afs-gits", "heun-edm"]
    config = ["--config", f"solvers=[{','.join(tokens)}]", "nfe=[3,4]"]
    scores = [f"results/scores/digits/{token}/nfe~{nfe}.json" for token in tokens for nfe in (3, 4)]
    new = planned(study, *scores, *config)
    assert (new["teacher_trajectories"], new["gits_costs"], new["model_statistics"], new["score"]) == (1, 1, 1, 12)
    snakemake(study, *scores, *config)
    gits, afs, dmn = (
        Tableau.load(study / f"results/tableaux/digits/{token}/nfe~4.json")
        for token in ("ipndm3-gits", "ipndm3_afs-gits", "unipc3-dmn")
    )
    assert gits.meta["family"] == dmn.meta["family"] == "searched" and gits.meta["schedule"] == "gits"
    assert gits.nfe == afs.nfe == 4 and afs.kappa < 1 and gits.levels[0] == afs.levels[0] == 80
    assert len(set(gits.levels.tolist()) & set(dmn.levels.tolist())) == 2  # the ends
    unipc = Tableau.load(study / "results/tableaux/digits/unipc3-gits/nfe~4.json")
    assert unipc.levels.tolist() == gits.levels.tolist()
    assert planned(study, *scores, *config) == {}


MINE = """
import torch
from s4s.models.conditions import ClassLabels
from s4s.models.embedded.datasets import load_dataset
from s4s.models.paths import VPLinear
from s4s.models.predicting import PredictingDenoiser

def make(name, device, files, std):
    digits = load_dataset("digits")
    images = [digits.train[digits.train_labels == label].mean(0) for label in range(10)]
    means = torch.stack([*images, digits.train.mean(0)])
    path = VPLinear()

    def noise(x, t, class_labels):
        s = path.s_of_t(t)[:, None, None, None]
        y, mean = x / path.alpha_of_s(s), means[class_labels]
        return (y - mean) * s / (std**2 + s**2)

    return PredictingDenoiser(noise, path, "epsilon", name=name, shape=(1, 8, 8), s_min=0.02, s_max=80.0,
                              device=torch.device(device), conditioning=ClassLabels(10), guidance=1.2)
"""


def test_a_model_of_ones_own_with_classes_and_guidance(study):
    """A YAML file named by its path and a module beside it, to the tables; results lie under the name in the file."""
    (study / "my_module.py").write_text(MINE)
    features = yaml.safe_load((ROOT / "config/models/digits.yaml").read_text())["features"]
    features["path"] = str(ROOT / "config/models" / features["path"])
    description = {
        "name": "mine",
        "kind": "python",
        "function": "my_module:make",
        "options": {"std": 0.4},
        "features": features,
    }
    (study / "other.yaml").write_text(yaml.safe_dump(description))
    table = study / "results/scores/mine/s4s_alt/nfe~3.json"
    config = ["--config", "models=[other.yaml]", "nfe=[3]", "fit={distance: l2, iterations: 4, batch: 8, validate_every: 2}"]
    snakemake(study, "results/scores/mine/s4s_alt/nfe~3.json", "results/scores/mine/ddim-logsnr/nfe~3.json", *config)
    score = json.loads(table.read_text())
    assert (score["model"], score["nfe"], score["evaluations"]) == ("mine", 3, 6)
    kept = read_split(study / "results/samples/mine/s4s_alt/nfe~3.h5", "samples", "test~0")
    assert np.bincount(kept.condition).tolist() == [4] * 10
    fit = json.loads((study / "results/fits/mine/s4s_alt/nfe~3.json").read_text())["history"]
    assert min(entry["val"] for entry in fit) < fit[0]["val"]
    shutil.copy(study / "other.yaml", study / "again.yaml")
    assert "both have the name 'mine'" in snakemake(study, "--config", "models=[other.yaml,again.yaml]", ok=False)


def formats(folder):
    """YAML files of a small model in each format of weights."""
    pixels = ["edm-ddpmpp", "edm-adm"]
    models = {name: {"kind": "edm", "path": str(edm.write(name, folder / f"{name}.pkl"))} for name in pixels}
    for name in latent_diffusion.TINY:
        path = latent_diffusion.write(name, folder / f"{name}.ckpt")
        models[name] = latent_diffusion.description(name, path)
    for name in ("stable_diffusion", "stable_diffusion_3"):
        models[name] = pipelines.write(name, folder / name / "folder")
    models["stable_diffusion_3"]["study"] = {"teacher": {"ahead": 1}}
    (folder / "single").mkdir()
    models["single_file"] = pipelines.write_single_file(folder / "single/sd.ckpt")
    shown = features.write_small(folder / "features")
    for name, values in models.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**values, "name": name, "features": shown}))
    return list(models)


EMBEDDED = ["digits-cond", "patches-latent", "tabular", "mixture"]


def test_every_embedded_model_from_teacher_to_report(study, tmp_path):
    """Classes with guidance, latents, no images, no network: all tables and figures, and the learned solver is ahead."""
    config = [f"models=[{','.join(EMBEDDED)}]", "nfe=[4]", "solvers=[ipndm2-time_quadratic,s4s_alt]"]
    config += ["fit={iterations: 12, batch: 16}"]
    snakemake(study, "--resources", "gpu=4", "--config", *config, directory=tmp_path)
    scores = pd.read_csv(tmp_path / "results/tables/scores.csv").set_index(["model", "solver"])
    measures = pd.read_csv(tmp_path / "results/tables/metrics.csv")
    assert len(measures) == len(scores) * 2 * len(MEASURES) and measures.value.notna().all()
    means = measures[measures.metric == "fid"].groupby(["model", "solver"]).value.mean()
    assert (means - scores.fid_mean).abs().max() < 1e-9
    for model in EMBEDDED:
        assert scores.loc[(model, "s4s_alt"), "global_error"] < scores.loc[(model, "ipndm2-time_quadratic"), "global_error"]
        assert (tmp_path / f"results/figures/samples-{model}.png").stat().st_size > 5000
        evaluations = 4 * (2 if model == "digits-cond" else 1)
        assert scores.loc[(model, "s4s_alt"), "evaluations"] == evaluations
    assert (tmp_path / "results/report.html").stat().st_size > 100_000


def test_every_format_of_weights_from_teacher_to_scores(study, tmp_path):
    """All in one run: teacher, fit, samples and scores, and text embeddings where there are prompts."""
    names = formats(tmp_path)
    config = ["models=[" + ",".join(f"{name}.yaml" for name in names) + "]", "nfe=[3]", "seeds=[0]", "samples=24"]
    config += ["fit={distance: l2, iterations: 2, batch: 4, validate_every: 2}", "teacher={steps: 6, train: 4, val: 4}"]
    config += ["search={steps: 6, trajectories: 4}", "solvers=[ddim-logsnr,s4s_alt]"]
    snakemake(
        study,
        "results/tables/scores.csv",
        "results/tables/fid.md",
        "--resources",
        "gpu=4",
        "--config",
        *config,
        directory=tmp_path,
    )
    scores = pd.read_csv(tmp_path / "results/tables/scores.csv")
    students = scores[scores.family != "teacher"].set_index(["model", "solver"])
    assert len(students) == 2 * len(names) and students.fid_mean.gt(0).all() and students.global_error.gt(0).all()
    of_text = {"stable_diffusion", "stable_diffusion_3", "single_file"}
    for name in names:
        assert (students.loc[name].evaluations == (6 if name in {"conditional", *of_text} else 3)).all()
        fit = json.loads((tmp_path / f"results/fits/{name}/s4s_alt/nfe~3.json").read_text())["history"]
        assert min(entry["val"] for entry in fit) <= fit[0]["val"]
    assert students.loc["edm-adm"].features.iloc[0] == "small, 8-bit images, reference real.npz, 4 classes equally often"
    embedded = {path.parent.name for path in (tmp_path / "results/teacher").glob("*/embeddings.h5")}
    assert embedded == of_text
    ahead = {path: read_attributes(path)["levels"] for path in (tmp_path / "results/teacher").glob("*/steps~*/*.h5")}
    own = {f"stable_diffusion_3/steps~4/{split}-0.h5" for split in ("train", "val")}
    assert {"/".join(path.parts[-3:]) for path in ahead} == own and {len(levels) for levels in ahead.values()} == {5}


def test_an_edited_figure_script_redraws_only_figures(study):
    script = study / "workflow/scripts/figure.py"
    script.touch()
    assert planned(study) == {}
    original = script.read_text()
    script.write_text(original + "# an edit\n")
    try:
        assert set(planned(study)) == {"code_fingerprint", "figure", "html_report"}
    finally:
        script.write_text(original)


def test_an_edited_module_reruns_what_uses_it(study):
    module = study / "src/s4s/metrics/fid.py"
    original = module.read_text()
    module.write_text(original + "# an edit\n")
    try:
        new = planned(study)
    finally:
        module.write_text(original)
    assert new["score"] == 9 and "sample" not in new and "fit" not in new


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nfe=[0]"], "greater than or equal to 1"),
        (["--config", "nfe=[12]"], "smaller than the teacher's 12 steps"),
        (["--config", "solvers=[dimm]"], "unknown solver 'dimm'; defined: "),
        (["--config", "models=[cifar]"], "unknown model 'cifar'; known: "),
        (["--config", "sovlers=[ddim-edm]"], "sovlers: unknown key"),
    ],
)
def test_bad_config_stops_before_any_work(study, arguments, message):
    before = sorted((study / "results").rglob("*"))
    assert message in snakemake(study, *arguments, ok=False)
    assert sorted((study / "results").rglob("*")) == before


def test_a_truncated_samples_file_is_named_and_can_be_made_again(study):
    path = study / "results/samples/digits/ddim-logsnr/nfe~3.h5"
    content, before = path.read_bytes(), read_split(path, "samples", "test~1")
    times = path.stat()
    path.write_bytes(content[: len(content) // 2])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    table = (study / "results/tables/scores.csv").read_bytes()
    output = snakemake(study, "--forcerun", "score", "--until", "score", "--keep-going", ok=False)
    assert "nfe~3.h5: not a readable HDF5 file, perhaps cut off" in output and "delete it and rerun" in output
    assert (study / "results/tables/scores.csv").read_bytes() == table
    path.unlink()
    snakemake(study, "--forcerun", "score")
    again = read_split(path, "samples", "test~1")
    assert (again.y_0 == before.y_0).all() and (again.seeds == before.seeds).all()
    assert pd.read_csv(study / "results/tables/scores.csv").fid_mean.notna().all()


def test_a_tableau_edited_into_nonsense_is_named(study):
    path = study / "results/tableaux/digits/ddim-logsnr/nfe~4.json"
    original = path.read_text()
    path.write_text(original.replace('"nfe": 4', '"nfe": 5'))
    output = snakemake(study, "results/samples/digits/ddim-logsnr/nfe~4.h5", ok=False)
    path.write_text(original)
    assert "nfe~4.json: nfe is 5, so levels must have 6 numbers" in output


def test_wrong_weights_are_named(study):
    path = study / "config/models/digits.yaml"
    original = path.read_text()
    text = original.splitlines()
    line = next(i for i, value in enumerate(text) if value.startswith("sha256: "))
    text[line] = f"sha256: '{'0' * 64}'"
    path.write_text("\n".join(text))
    target = "results/samples/digits/ddim-logsnr/nfe~4.h5"
    output = snakemake(study, target, "--forcerun", target, ok=False)
    path.write_text(original)
    assert "wrong sha256" in output


@pytest.fixture
def warm(monkeypatch):
    monkeypatch.setenv("S4S_WARM", "")
    server = start_server("torch")
    yield server
    server.stdin.close()
    server.wait(60)


def test_a_warm_server_whose_caller_ended_early_says_nothing(tmp_path):
    program = "from s4s.jobs.fork_server import start_server; import os; "
    program += "server = start_server(); os.write(1, b'%d' % server.pid); os._exit(0)"
    done = subprocess.run(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
    assert done.stderr == "" and gone(int(done.stdout), 60)


def ask(*arguments, **options):
    return subprocess.Popen([sys.executable, "-m", "s4s.jobs.fork_server", *map(str, arguments)], text=True, **options)


def test_warm_jobs_are_like_cold_ones(warm, tmp_path):
    """Output, folder, environment, arguments and exit code come through, from several callers at once."""
    script = tmp_path / "job.py"
    script.write_text(
        "import os, sys\nprint(os.getcwd(), sys.argv[1:], os.environ['MINE'], 'torch' in sys.modules)\n"
        "print('to stderr', file=sys.stderr)\nsys.exit(int(sys.argv[1]))\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": tmp_path}
    jobs = [ask(script, code, env={**os.environ, "MINE": f"m{code}"}, **pipes) for code in range(8)]
    for code, job in enumerate(jobs):
        out, err = job.communicate(timeout=60)
        assert out.split("\n")[0] == f"{tmp_path} ['{code}'] m{code} True" and err == "to stderr\n" and job.returncode == code


def test_a_job_dies_with_its_caller_and_all_with_the_server(warm, tmp_path):
    script = tmp_path / "sleep.py"
    script.write_text(
        "import os, pathlib, sys, time\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    callers = [ask(script, tmp_path / f"pid{i}") for i in range(2)]
    pids = [wait_for_pid(tmp_path / f"pid{i}") for i in range(2)]
    callers[0].send_signal(signal.SIGKILL)
    callers[0].wait()
    assert gone(pids[0]) and not gone(pids[1], 0.3)
    warm.stdin.close()
    warm.wait(10)
    assert gone(pids[1]) and callers[1].wait(10) == 1


def test_jobs_die_with_a_killed_server_with_their_shell_and_with_the_run(warm, tmp_path, monkeypatch):
    """Warm and cold jobs; what a job started itself dies too."""
    script = tmp_path / "sleep.py"
    script.write_text(
        "import os, pathlib, subprocess, sys, time\nchild = subprocess.Popen(['sleep', '600'])\n"
        "pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()} {child.pid}')\ntime.sleep(600)\n"
    )

    def start(name, **options):
        caller = ask(script, tmp_path / name, stderr=subprocess.DEVNULL, **options)
        wait_for_pid(tmp_path / name)
        return caller, [int(pid) for pid in (tmp_path / name).read_text().split()]

    caller, pids = start("caller")
    caller.kill()
    assert all(gone(pid) for pid in pids)
    shell = subprocess.Popen(["bash", "-c", f"{sys.executable} -m s4s.jobs.fork_server {script} {tmp_path}/shell; true"])
    pid = wait_for_pid(tmp_path / "shell")
    shell.kill()
    assert gone(pid)
    run = subprocess.Popen(["sleep", "600"])
    monkeypatch.setenv("S4S_RUN", f"{socket.gethostname()}:{run.pid}")
    cold, (_, child) = start("cold", env={**os.environ, "S4S_WARM": ""})
    _, (pid, _) = start("warm")
    run.kill()
    run.wait()
    assert cold.wait(10) == -signal.SIGKILL and gone(pid)
    os.kill(child, signal.SIGKILL)
    monkeypatch.delenv("S4S_RUN")
    caller, (pid, _) = start("server")
    warm.kill()
    assert gone(pid) and caller.wait(10) == 1


def test_a_server_of_another_batch_job_is_not_asked(warm, tmp_path, monkeypatch):
    assert has_server()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert not has_server()
    (tmp_path / "job.py").write_text("import sys\nsys.exit('torch' in sys.modules)\n")
    assert ask(tmp_path / "job.py").wait(60) == 0


def wait_for_pid(path):
    for _ in range(600):
        if path.exists() and path.read_text():
            return int(path.read_text().split()[0])
        time.sleep(0.1)
    raise AssertionError("the job did not start")


def gone(pid, patience=10.0):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_without_a_server_a_job_runs_by_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("S4S_WARM", ":nobody")
    (tmp_path / "job.py").write_text("import sys\nsys.exit(7)\n")
    assert ask(tmp_path / "job.py").wait(60) == 7
