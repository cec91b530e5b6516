"""The workflow end to end on a tiny config: results, rerun, additions, edits, bad input."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from snakemake.utils import update_config
from typer.testing import CliRunner

from s4s import S4SError, Tableau
from s4s.cli import app
from s4s.files.rows import read_attributes, read_split
from s4s.jobs.costs import read_usage
from s4s.models.load import load_model
from s4s.models.pipelines.prompts import prompt_numbers
from s4s.models.seeds import sample_seeds
from s4s.reporting.report import write_report
from s4s.reporting.tables import COLUMNS, MEASURES, comparison
from s4s.study.study import MAIN, Study
from tests.builders import formats, studies
from tests.builders.chosen import often
from tests.builders.studies import ROOT, jobs, overwrite

SCORES = "results/tables/scores.csv"


def snakemake(study, *arguments, directory=None, **options):
    """A run with a study's own checkout and config, in it or elsewhere."""
    return studies.snakemake(directory or study, *arguments, checkout=study, config=study / "tiny.yaml", **options)


def planned(study, *arguments):
    """Names of the rules that a dry run would run, with how often."""
    return jobs(snakemake(study, "--dry-run", *arguments))


def tiny_study(**changes):
    """The study of the tiny config as Snakemake puts it together."""
    whole = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for own in (yaml.safe_load(studies.TINY.read_text()), changes):
        update_config(whole, own)
    return Study.read(whole)


def test_results_are_where_the_contract_says(tiny):
    results = tiny / "results"
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
def test_coefficients_are_drawn_for_any_number_of_solvers(tiny, count):
    """A panel a solver and one scale for all, also where the last row of panels is not full."""
    from s4s.reporting.figures import coefficients

    path = str(tiny / "results/tableaux/digits/s4s_alt/nfe~4.json")
    figure = coefficients({f"solver {i}": path for i in range(count)})
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [f"solver {i}" for i in range(count)] and len(figure.axes) == count + 1


def test_the_best_value_is_bold_and_the_teacher_takes_no_part(tiny):
    scores = pd.read_csv(tiny / "results/tables/scores.csv")
    cells, teacher = comparison(scores, "global_error", lambda value: f"**{value}**")
    for nfe in (3, 4):
        best = scores[(scores.nfe == nfe)].sort_values("global_error").iloc[0]
        assert cells.loc[best.solver, nfe].startswith("**")
        bold = {value.strip("*").split(" ")[0] for value in cells[nfe] if value.startswith("**")}
        assert bold == {f"{best.global_error:.4f}"}
    assert "teacher" not in cells.index and "NFE 12" in teacher


def test_running_again_does_nothing(study):
    output = snakemake(study)
    assert "Nothing to be done" in output and jobs(output) == {}


def test_the_command_learns_what_the_workflow_learns(tiny, tmp_path):
    options = ["--solver", "s4s_alt", "--nfe", "3", "--threads", "1", "--config", str(tiny / "tiny.yaml")]
    result = CliRunner().invoke(app, ["fit", "digits", *options, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.exception
    own, theirs = Tableau.load(tmp_path / "out/nfe~3.json"), Tableau.load(tiny / "results/tableaux/digits/s4s_alt/nfe~3.json")
    assert own.digest() == theirs.digest()
    assert {key: own.meta[key] for key in theirs.meta} == theirs.meta and {*own.meta} - {*theirs.meta} == {"identity"}


def test_a_new_nfe_computes_only_its_cells(tiny):
    new = planned(tiny, "--config", "nfe=[3,4,5]")
    assert new["sample"] == 4 and new["score"] == 4 and new["fit"] == 2 and new["tableau"] == 2
    assert "teacher_shard" not in new


@pytest.mark.suite
def test_a_further_comparison_is_a_target(tiny, compared):
    """It shares the cells that are there, and leaves the tables of the first comparison alone."""
    before = (tiny / SCORES).read_bytes()
    new = planned(tiny, "main")
    assert new["fit"] == 2 and new["sample"] == 2 * 2 + 2 * 4 + 2 and "main" in new
    folder = compared / "results/study/main"
    scores, measures = pd.read_csv(folder / "scores.csv"), pd.read_csv(folder / "metrics.csv")
    assert len(scores) == 2 * (1 + 4 + 4 + 2) and {*scores.model} == {"digits", "mixture"}
    assert {*measures.metric} == {*MEASURES} and {*measures.seed} == {0, 1}
    saved = pd.read_csv(folder / "evaluations_saved.csv")
    assert {*saved.solver} == {"s4s_alt"} and {*saved.nfe} == {3, 4} and (saved.needed >= 3).all()
    for name in ("fid.md", "global_error.tex", "evaluations_saved.md", "ranks.pdf", "evaluations_saved.png", "fid.pdf"):
        assert (folder / name).stat().st_size > 0
    assert [*pd.read_csv(folder / "ranks.csv").columns] == ["solver", "average_rank", "p_next"]
    assert (compared / SCORES).read_bytes() == before and planned(compared, "main") == {}


@pytest.mark.suite
def test_questions_are_answered_for_every_model(compared, tmp_path):
    study = studies.linked(compared, tmp_path / "study")
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


@pytest.mark.parametrize("figures", often([False, True], False))
def test_a_papers_tables_and_figures_are_made(study, figures):
    tables = [f"fid-digits.{ending}" for ending in ("md", "tex")] + ["fit_time.md", "published-cifar10.tex", "paper.tex"]
    targets = ["paper_figures"] if figures else [f"results/paper/{name}" for name in tables]
    snakemake(study, *targets)
    text = {name: (study / "results/paper" / name).read_text() for name in tables}
    assert all(("\n| :--" in text[name]) == name.endswith(".md") for name in tables)
    assert all("\\toprule" in text[name] for name in ("fid-digits.tex", "published-cifar10.tex"))
    assert "fid-digits.tex" in text["paper.tex"] and "S4S-Alt" in text["fid-digits.md"]
    assert all("Nothing is published of this model" in text[f"fid-digits.{ending}"] for ending in ("md", "tex"))
    if figures:
        drawn = {path.stem for path in (study / "results/paper").glob("*.pdf")}
        assert drawn == {*re.findall(r"includegraphics.*?{(.*?)\.pdf}", text["paper.tex"])} != set()
    assert planned(study, *targets) == {}


def test_learned_solvers_may_be_compared_among_themselves(study):
    snakemake(study, "alone", "--config", "comparisons={alone: {models: [digits], nfe: [3, 4], solvers: [s4s_alt]}}")
    folder = study / "results/study/alone"
    assert len(pd.read_csv(folder / "scores.csv")) == 3 and "s4s_alt" in (folder / "report.html").read_text()
    assert pd.read_csv(folder / "evaluations_saved.csv").empty and not (folder / "evaluations_saved.png").exists()


def test_a_comparison_that_the_config_contradicts_is_one_clear_error_where_it_is_asked_for(tiny):
    output = snakemake(tiny, "main", "--config", "comparisons={main: {more_nfe: [30]}}", ok=False)
    assert "comparisons.main" in output and "nfe [30] must be smaller than the teacher's 12 steps" in output
    assert "Traceback" not in output
    taken = snakemake(tiny, "--config", "comparisons={fit: {models: [digits], nfe: [3], solvers: [ddim-logsnr]}}", ok=False)
    assert "comparisons.fit: a target of that name is there already" in taken


def test_a_fit_starts_near_the_solver_learned_at_the_next_smaller_nfe(study):
    own = "definitions={warm: {family: joint, base: ipndm2-time_quadratic, warm_start: previous}}"
    config = ["--config", "solvers=[joint,warm]", "nfe=[3,4]", own]
    targets = [f"results/tableaux/digits/{token}/nfe~4.json" for token in ("joint", "warm")]
    assert jobs(snakemake(study, *targets, *config))["fit"] == 3, "NFE 4 of warm needs NFE 3"
    warm, plain = (
        json.loads((study / f"results/fits/digits/{token}/nfe~4.json").read_text())["history"] for token in ("warm", "joint")
    )
    assert warm[0]["val"] < plain[0]["val"], "starts from the solver learned at NFE 3"


def test_searched_levels_and_statistics_are_computed_once_a_model(study):
    """GITS and DMN levels, DPM-Solver-v3, and the options of any solver, to their scores."""
    tokens = ["ipndm3-gits", "unipc3-gits", "unipc3-dmn", "dpm_v3-logsnr", "ipndm3_afs-gits", "heun-edm"]
    config = ["--config", f"solvers=[{','.join(tokens)}]", "nfe=[3,4]"]
    scored = ("dpm_v3-logsnr", "ipndm3_afs-gits", "heun-edm")
    targets = [f"results/scores/digits/{token}/nfe~4.json" for token in scored]
    targets += [f"results/tableaux/digits/{token}/nfe~4.json" for token in tokens if token not in scored]
    ran = jobs(snakemake(study, *targets, *config))
    assert (ran["teacher_trajectories"], ran["gits_costs"], ran["model_statistics"], ran["score"]) == (1, 1, 1, 3)
    gits, afs, dmn = (
        Tableau.load(study / f"results/tableaux/digits/{token}/nfe~4.json")
        for token in ("ipndm3-gits", "ipndm3_afs-gits", "unipc3-dmn")
    )
    assert gits.meta["family"] == dmn.meta["family"] == "searched" and gits.meta["schedule"] == "gits"
    assert gits.nfe == afs.nfe == 4 and afs.kappa < 1 and gits.levels[0] == afs.levels[0] == 80
    assert len(set(gits.levels.tolist()) & set(dmn.levels.tolist())) == 2  # the ends
    unipc = Tableau.load(study / "results/tableaux/digits/unipc3-gits/nfe~4.json")
    assert unipc.levels.tolist() == gits.levels.tolist()
    assert planned(study, *targets, *config) == {}


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
    again = shutil.copy(study / "other.yaml", study / "again.yaml")
    with pytest.raises(S4SError, match="both have the name 'mine'"):
        tiny_study(models=[str(study / "other.yaml"), str(again)])


OWN = """
from s4s.solvers.exponential import data_tableau, ratios


def damped(levels, factor):
    return data_tableau(levels, factor * (1 - ratios(levels)).diag())
"""


def test_a_solver_of_ones_own_goes_through_and_an_edit_of_it_reruns_what_it_makes(study):
    """By module:function in the config, as a solver and as the base of a fit, which calls it on other levels."""
    (study / "my_solver.py").write_text(OWN)
    own = yaml.safe_load((study / "tiny.yaml").read_text())
    damped = {"solver": "my_solver:damped", "options": {"factor": 0.9}, "levels": "edm"}
    own["definitions"] |= {"damped": damped, "learned": {"family": "ld3", "base": "damped"}}
    (study / "tiny.yaml").write_text(yaml.safe_dump({**own, "nfe": [3], "solvers": ["ddim-logsnr", "damped", "learned"]}))
    snakemake(study, SCORES)
    rows = pd.read_csv(study / SCORES).set_index("solver")
    assert {"teacher", "ddim-logsnr", "damped", "learned"} == {*rows.index} and rows.base["learned"] == "damped"
    assert rows.global_error["learned"] < rows.global_error["damped"] != rows.global_error["ddim-logsnr"]
    assert planned(study, SCORES) == {}
    (study / "my_solver.py").write_text(OWN.replace("factor *", "1.0 * factor *"))
    assert planned(study, SCORES) == {"tableau": 1, "fit": 1, "sample": 2, "score": 2, "scores_csv": 1}


EMBEDDED = ["digits-cond", "patches-latent", "tabular", "mixture"]


@pytest.mark.suite
def test_every_embedded_model_from_teacher_to_report(study, tmp_path):
    """Classes with guidance, latents, no images, no network: tables, samples and report, and the learned solver is ahead."""
    compared = {"models": EMBEDDED, "nfe": [4], "solvers": ["ipndm2-time_quadratic", "s4s_alt"]}
    config = [f"{name}=[{','.join(map(str, values))}]" for name, values in compared.items()]
    config += ["fit={iterations: 12, batch: 16}", "seeds=[0]"]
    figures = [f"results/figures/samples-{model}.png" for model in EMBEDDED]
    out = tmp_path / "out"
    out.mkdir()
    snakemake(study, SCORES, *figures, "--resources", "gpu=4", "--config", *config, directory=out)
    scores = pd.read_csv(out / SCORES).set_index(["model", "solver"])
    measures = pd.read_csv(out / "results/tables/metrics.csv")
    assert len(measures) == len(scores) * len(MEASURES) and measures.value.notna().all()
    means = measures[measures.metric == "fid"].groupby(["model", "solver"]).value.mean()
    assert (means - scores.fid_mean).abs().max() < 1e-9
    for model, figure in zip(EMBEDDED, figures, strict=True):
        assert scores.loc[(model, "s4s_alt"), "global_error"] < scores.loc[(model, "ipndm2-time_quadratic"), "global_error"]
        assert (out / figure).stat().st_size > 5000
        evaluations = 4 * (2 if model == "digits-cond" else 1)
        assert scores.loc[(model, "s4s_alt"), "evaluations"] == evaluations
    shown = [str(out / figure) for figure in figures]
    write_report(tiny_study(**compared), MAIN, out / SCORES, shown, out / "report.html", out / "results/logs")
    assert (out / "report.html").stat().st_size > 100_000


@pytest.mark.suite
def test_formats_of_weights_from_teacher_to_scores(study, tmp_path):
    """Pixels with classes, and a pipeline with a teacher of its own for each fit; tests/test_formats.py has all formats.

    Tests have prompts that no fit has seen.
    """
    names = ["edm-adm", "stable_diffusion_3"]
    models = [str(formats.write(name, tmp_path)) for name in names]
    config = [f"models=[{','.join(models)}]", "nfe=[3]", "seeds=[0]", "samples=24"]
    config += ["fit={distance: l2, iterations: 2, batch: 4, validate_every: 2}", "teacher={steps: 6, train: 4, val: 4}"]
    config += ["search={steps: 6, trajectories: 4}", "solvers=[s4s_alt]"]
    snakemake(study, SCORES, "results/tables/fid.md", "--resources", "gpu=4", "--config", *config, directory=tmp_path)
    scores = pd.read_csv(tmp_path / SCORES)
    students = scores[scores.family != "teacher"].set_index(["model", "solver"])
    assert len(students) == len(names) and students.fid_mean.gt(0).all() and students.global_error.gt(0).all()
    for name in names:
        assert (students.loc[name].evaluations == (6 if name in formats.OF_TEXT else 3)).all()
        fit = json.loads((tmp_path / f"results/fits/{name}/s4s_alt/nfe~3.json").read_text())["history"]
        assert min(entry["val"] for entry in fit) <= fit[0]["val"]
    assert students.loc["edm-adm"].features.iloc[0] == "small, 8-bit images, reference real.npz, 4 classes equally often"
    samples = tmp_path / "results/samples/stable_diffusion_3/s4s_alt/nfe~3.h5"
    tested = {int(n) for n in read_split(samples, "samples", "test~0").condition}
    assert tested == set(range(24)) and not tested & {*prompt_numbers(sample_seeds("train", 4), 40).tolist()}
    ahead = {path: read_attributes(path)["levels"] for path in (tmp_path / "results/teacher").glob("*/steps~*/*.h5")}
    own = {f"stable_diffusion_3/steps~4/{split}-0.h5" for split in ("train", "val")}
    assert {"/".join(path.parts[-3:]) for path in ahead} == own and {len(levels) for levels in ahead.values()} == {5}


def test_an_edited_figure_script_redraws_only_figures(study):
    script = study / "workflow/scripts/figure.py"
    script.touch()
    assert planned(study) == {}
    script.write_text(script.read_text() + "# an edit\n")
    assert set(planned(study)) == {"figure", "html_report"}


def test_another_clone_reruns_nothing_and_a_deleted_file_is_made_again(tiny, tmp_path):
    """The results alone, without Snakemake's folder, in a checkout at another depth."""
    clone = tmp_path / "deeper/down/clone"
    clone.mkdir(parents=True)
    studies.copy_checkout(clone)
    studies.link_results(tiny, clone)
    assert planned(clone) == {}
    (clone / "results/tableaux/digits/ddim-logsnr/nfe~4.json").unlink()
    assert planned(clone)["tableau"] == 1


def test_an_edited_module_reruns_what_uses_it(study):
    module = study / "src/s4s/metrics/fid.py"
    module.write_text(module.read_text() + "# an edit\n")
    new = planned(study)
    assert new["score"] == 9 and "sample" not in new and "fit" not in new


def test_bad_config_stops_before_any_work(tiny):
    before = sorted((tiny / "results").rglob("*"))
    output = snakemake(tiny, "--config", "samples=20", ok=False)
    assert "config: samples: FID needs more samples than features: 20 samples, 32 features" in output
    assert "Traceback" not in output
    assert sorted((tiny / "results").rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nfe": [0]}, "greater than or equal to 1"),
        ({"nfe": [12]}, "smaller than the teacher's 12 steps"),
        ({"samples": 32}, "samples: FID needs more samples than features: 32 samples, 32 features"),
        ({"solvers": ["dimm"]}, "unknown solver 'dimm'; defined: "),
        ({"models": ["cifar"]}, "unknown model 'cifar'; known: "),
        ({"sovlers": ["ddim-edm"]}, "sovlers: unknown key"),
    ],
)
def test_bad_config_is_named(changes, message):
    with pytest.raises(S4SError, match=message):
        tiny_study(**changes)


def test_damaged_files_are_named_and_can_be_made_again(study):
    """Samples that are cut off, and a tableau edited into nonsense, in one run that keeps going."""
    path, score = study / "results/samples/digits/ddim-logsnr/nfe~3.h5", "results/scores/digits/ddim-logsnr/nfe~3.json"
    content, before = path.read_bytes(), read_split(path, "samples", "test~1")
    overwrite(path, content[: len(content) // 2])
    tableau = study / "results/tableaux/digits/ddim-logsnr/nfe~4.json"
    original = tableau.read_text()
    tableau.unlink()  # it is a link
    tableau.write_text(original.replace('"nfe": 4', '"nfe": 5'))
    table = (study / SCORES).read_bytes()
    output = snakemake(study, SCORES, "--forcerun", score, "--keep-going", ok=False)
    assert "nfe~3.h5: not a readable HDF5 file, perhaps cut off" in output and "delete it and rerun" in output
    assert "nfe~4.json: nfe is 5, so levels must have 6 numbers" in output
    assert (study / SCORES).read_bytes() == table
    path.unlink()
    tableau.write_text(original)
    snakemake(study, SCORES, "--forcerun", score)
    again = read_split(path, "samples", "test~1")
    assert (again.y_0 == before.y_0).all() and (again.seeds == before.seeds).all()
    assert pd.read_csv(study / SCORES).fid_mean.notna().all()


def test_wrong_weights_are_named(study):
    path = study / "config/models/digits.yaml"
    text = path.read_text().splitlines()
    line = next(i for i, value in enumerate(text) if value.startswith("sha256: "))
    text[line] = f"sha256: '{'0' * 64}'"
    path.write_text("\n".join(text))
    with pytest.raises(S4SError, match="wrong sha256"):
        load_model(path)
