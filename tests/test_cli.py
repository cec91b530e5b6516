"""The command s4s: what it prints, what it writes, how it refuses."""

import re
import subprocess
import sys

import pytest
import torch
import yaml
from typer.testing import CliRunner

import s4s
from s4s.cli import app
from s4s.export import S4SScheduler
from s4s.models.load import load_outline
from s4s.models.paths import VPDiscrete

from diffusers import PNDMScheduler  # isort: skip

LEVELS = torch.tensor([80.0, 5.0, 0.6, 0.002], dtype=torch.float64)
AYS = "[999, 850, 736, 645, 545, 455, 343, 233, 124, 24]"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def files(tmp_path):
    """DDIM, the same written otherwise, and another solver."""
    ddim = s4s.solver("ddim", LEVELS)
    a, b = ddim.reduced()
    A = torch.zeros(3, 3, dtype=torch.float64)
    A[:, 0] = a[1:]
    made = {"ddim": ddim, "bare": s4s.Tableau(LEVELS, A, b[1:]), "unipc": s4s.solver("unipc", LEVELS, order=2)}
    for name, tableau in made.items():
        tableau.with_meta(token=name, model="digits").save(tmp_path / f"{name}.json")
    return tmp_path


@pytest.mark.parametrize("options", [(), ("--reduced",)])
def test_show_prints_levels_and_weights(files, options):
    result = run("show", files / "ddim.json", *options)
    assert result.exit_code == 0, result.output
    words = set(re.findall(r"[\w.-]+", result.output))
    tableau = s4s.Tableau.load(files / "ddim.json")
    numbers = tableau.reduced().b[3] if options else tableau.B[2]
    assert {"80", "0.002", "digits", "ddim", tableau.digest(), "y_3", "D_2"} <= words
    assert {f"{number:.4f}" for number in numbers.tolist() if number} <= words


def test_compare_knows_the_same_solver_written_otherwise(files):
    same = run("compare", files / "ddim.json", files / "bare.json")
    other = run("compare", files / "ddim.json", files / "unipc.json")
    assert (same.exit_code, other.exit_code) == (0, 1)
    assert "the same solver" in same.output and "two different solvers" in other.output
    expected = s4s.Tableau.load(files / "ddim.json").reduced().b - s4s.Tableau.load(files / "unipc.json").reduced().b
    assert f"{expected.abs().max():.3g}" in other.output


def test_convert_makes_solvers_of_published_times(tmp_path):
    (tmp_path / "ays.txt").write_text(AYS)
    result = run("convert", tmp_path / "ays.txt", "--model", "lsun_bedrooms", "--order", 2, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    tableau = s4s.Tableau.load(tmp_path / "out/nfe~10.json")
    outline = load_outline("lsun_bedrooms")
    times = torch.tensor([*map(float, AYS[1:-1].split(",")), 0.0], dtype=torch.float64)
    expected = s4s.solver("dpmpp", outline.path.s_of_t(times), order=2, start=outline.s_max)
    assert tableau.same_as(expected, 1e-6) and tableau.meta["parametrisation"]["path"] == "vp_discrete"


SCORES = (
    "model,solver,family,base,schedule,nfe,evaluations,n_samples,n_seeds,fid_mean,fid_std,features,global_error,"
    "global_error_std,fit_evaluations,fit_seconds\n"
    "sd,learned,joint,x,y,3,3,256,3,1.25,0.03,digits-classifier,0.0512,0.0011,100,1.5\n"
    "sd,other,joint,x,y,3,3,256,3,9.99,0.03,digits-classifier,0.9,0.0011,100,1.5\n"
)


def test_export_writes_a_scheduler_and_its_card(tmp_path):
    path = VPDiscrete.scaled_linear()
    levels = path.s_of_t(torch.tensor([999.0, 600.0, 200.0, 0.0], dtype=torch.float64))
    about = {**path.description(), "prediction": "epsilon"}
    tableau = s4s.solver("ddim", levels).with_meta(
        model="sd", token="learned", parametrisation=about, teacher="unipc, 64 evaluations", pairs={"train": 512, "val": 128}
    )
    tableau.save(tmp_path / "solver/nfe~3.json")
    (tmp_path / "scores.csv").write_text(SCORES)
    options = ("--out", tmp_path / "out", "--scores", tmp_path / "scores.csv", "--licence", "cc0-1.0")
    result = run("export", "diffusers", tmp_path / "solver", *options)
    assert result.exit_code == 0, result.output
    scheduler = S4SScheduler.from_pretrained(tmp_path / "out")
    assert scheduler.tableaux[3].digest() == tableau.digest() and scheduler.config.beta_start == 0.00085
    page = (tmp_path / "out/README.md").read_text()
    assert yaml.safe_load(page.split("---")[1])["license"] == "cc0-1.0"
    for words in (
        "unipc, 64 evaluations",
        "512 and 128",
        "1.25 ± 0.03",
        "0.0512 ± 0.0011",
        tableau.digest(),
        "digits-classifier",
    ):
        assert words in page
    assert "9.99" not in page
    (tmp_path / "like/scheduler").mkdir(parents=True)
    PNDMScheduler(beta_schedule="linear").save_pretrained(tmp_path / "like/scheduler")
    refused = run("export", "diffusers", tmp_path / "solver", "--out", tmp_path / "no", "--like", tmp_path / "like")
    assert isinstance(refused.exception, s4s.S4SError) and "was made for a network with levels" in str(refused.exception)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "absent.json"), "absent.json: cannot read this tableau"),
        (("compare", "ddim.json", "short.json"), "has 3 evaluations and .*short.json has 2"),
        (("convert", "two.txt", "--model", "digits", "--out", "out"), "several lists with 3 evaluations; --pick one of"),
        (("convert", "two.txt", "--model", "digits", "--out", "out", "--pick", "none"), "no list named 'none'"),
    ],
)
def test_wrong_input_is_one_line(files, arguments, message):
    s4s.solver("ddim", LEVELS[:3]).save(files / "short.json")
    (files / "two.txt").write_text("# one\n80 5 0.6 0.002\n# two\n80 6 0.7 0.002\n")
    command = [sys.executable, "-m", "s4s.cli", *arguments]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True)
    assert done.returncode == 2 and re.search(message, done.stderr), done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (files / "out").exists()


@pytest.mark.parametrize("command", ["show", "compare", "convert", "export diffusers"])
def test_help_teaches(command):
    assert "Example" in run(*command.split(), "--help").output
