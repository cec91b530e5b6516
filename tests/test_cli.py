"""The command s4s: what it prints, what it writes, how it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import s4s
import s4s.learning.teacher
from s4s.cli import app, main
from s4s.cli.show import tables
from s4s.export import S4SScheduler
from s4s.files.rows import read_split
from s4s.learning.loop import Loop
from s4s.models.load import load_outline, load_perceptual
from s4s.models.model_files import SHIPPED, identity
from s4s.models.paths import VPDiscrete
from s4s.models.provenance import made_for
from s4s.models.seeds import sample_seeds
from s4s.reporting.figures import one_solver
from tests.builders import pipelines as builder
from tests.builders.chosen import often

from diffusers import DDIMScheduler, DiffusionPipeline, PNDMScheduler  # isort: skip

LEVELS = torch.tensor([80.0, 5.0, 0.6, 0.002], dtype=torch.float64)
TO = ("--model", "digits", "--out", "out")
DIFFUSERS = ("export", "diffusers", "ddim.json", "--out", "out")
COMFYUI = ("export", "comfyui", "ddim.json", "--out", "ComfyUI")
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
    assert {f"{number:.4f}" if abs(number) >= 1e-3 else f"{number:.3g}" for number in numbers.tolist() if number} <= words


def test_show_keeps_its_numbers_at_any_width(tmp_path, capsys):
    """In a narrow terminal weights go into further tables; a pipe has no width."""
    solver = s4s.solver("ipndm", s4s.levels("time_quadratic", 12, load_outline("digits")), order=4)
    solver.save(tmp_path / "nfe~12.json")
    wide, console = run("show", tmp_path / "nfe~12.json").output, Console(width=60)
    for table in tables(solver, False, 60):
        console.print(table)
    narrow = capsys.readouterr().out
    for output in (wide, narrow):
        words = re.findall(r"[\w.-]+", output)
        numbers = [number for table in (solver.A, solver.B) for number in table.flatten().tolist() if abs(number) > 1e-3]
        assert {f"{number:.4f}" for number in numbers} <= {*words} and "…" not in output
        assert {f"{level:.5g}" for level in solver.levels.tolist()} <= {*words}
    assert max(map(len, narrow.splitlines())) <= 60 < max(map(len, wide.splitlines()))
    assert narrow.count("weights of outputs") == 4 and wide.count("weights of outputs") == 1


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
    (tmp_path / "scores.csv").write_text(SCORES.replace(",0.03,", ",,").replace(",0.0011,", ",,"))  # one sampling seed
    assert run("export", "diffusers", tmp_path / "solver", *options).exit_code == 0
    assert "| 3 | 1.25 | 0.0512 |" in (tmp_path / "out/README.md").read_text()
    (tmp_path / "like/scheduler").mkdir(parents=True)
    PNDMScheduler(beta_schedule="linear").save_pretrained(tmp_path / "like/scheduler")
    refused = run("export", "diffusers", tmp_path / "solver", "--out", tmp_path / "no", "--like", tmp_path / "like")
    assert isinstance(refused.exception, s4s.S4SError) and "was made for a network with levels" in str(refused.exception)
    assert not (tmp_path / "no").exists()


CONFIG = {
    "models": ["digits"], "nfe": [3], "solvers": ["alt"], "seeds": [0],
    "teacher": {"steps": 12, "train": 32, "val": 24},
    "fit": {"iterations": 4, "batch": 8, "validate_every": 2},
    "per_model": {"digits": {"teacher": {"order": 2}}},
    "definitions": {
        "ipndm": {"solver": "ipndm", "order": 2, "levels": "time_quadratic"},
        "gits": {"solver": "ipndm", "order": 2, "levels": "gits"},
        "alt": {"family": "s4s_alt", "base": "ipndm"},
        "near": {"family": "joint", "base": "ipndm", "warm_start": "previous"},
        "searched": {"family": "joint", "base": "gits"},
        "large": {"family": "joint", "base": "ipndm", "min_nfe": 4},
    },
}  # fmt: skip


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def fitted(config, *arguments, model="digits"):
    return run("fit", model, "--config", config, "--threads", 1, *arguments)


def test_fit_has_the_teacher_that_the_workflow_has(config, digits, tmp_path):
    """`teacher_steps` of a solver and `ahead` of the teacher too, as the Study says."""
    fit = import_module("s4s.cli.fit")
    for definition, teacher, steps in (({}, {}, 12), ({"teacher_steps": 8}, {}, 8), ({}, {"ahead": 2}, 6)):
        changed = {**CONFIG, "teacher": {**CONFIG["teacher"], **teacher}}
        changed["definitions"] = {**CONFIG["definitions"], "few": {**CONFIG["definitions"]["alt"], **definition}}
        config.write_text(yaml.safe_dump(changed))
        study = fit._study("digits", "few", config, [4], {})
        (cell,) = study.fits()
        (job,) = fit._jobs(study, [cell], study.settings["digits"].fit_settings("few"), digits, tmp_path / "out")
        assert job.teacher.nfe == study.teacher_of(cell).nfe == steps


def test_fit_makes_pairs_and_learns_on_them(config, digits):
    out = config.parent / "out"
    result = fitted(config, "--solver", "alt", "--nfe", 4, "--nfe", 3, "--out", out)
    assert result.exit_code == 0, result.output
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 12, digits), order=2)  # the order is that of per_model
    made = [
        s4s.learning.teacher.make_pairs(digits, teacher, sample_seeds(split, n)) for split, n in (("train", 32), ("val", 24))
    ]
    settings = s4s.FitSettings(**CONFIG["fit"])
    base = s4s.solver("ipndm", s4s.levels("time_quadratic", 3, digits), order=2)
    options = {"driver": "alternate", "decoupled": True, "settings": settings, "perceptual_network": load_perceptual("digits")}
    expected = s4s.fit(digits, s4s.TeacherPairs(*made), "lms", base.levels, base=base, **options)
    tableau = s4s.Tableau.load(out / "nfe~3.json")
    assert tableau.same_as(expected.tableau, 1e-4) and not tableau.same_as(base, 1e-2)
    assert (tableau.meta["token"], tableau.meta["pairs"]) == ("alt", {"train": 32, "val": 24})
    assert tableau.meta["teacher"] == "unipc, order 2, on logsnr levels, 12 evaluations"
    words = (
        f"{expected.history[0]['val']:.4g} at initialisation, {min(e['val'] for e in expected.history):.4g} learned (perceptual"
    )
    shown = run("show", out / "nfe~3.json").output
    assert words in result.output and words in " ".join(shown.split())
    assert run("export", "diffusers", out, "--out", config.parent / "hub").exit_code == 0
    assert words in (config.parent / "hub/README.md").read_text()


def test_fit_goes_on_where_it_was(config, monkeypatch):
    """What is there is kept, with pairs that another solver shares, and a fit that was cut off goes on from its state."""
    out, pairs = config.parent / "out", ("--pairs", config.parent / "pairs")
    assert fitted(config, "--solver", "alt", "--nfe", 3, "--out", out, *pairs).exit_code == 0
    first = (out / "nfe~3.json").read_bytes()
    monkeypatch.setattr(s4s.learning.teacher, "write_pairs", lambda *_: pytest.fail("pairs are made again"))
    steps, step = [], Loop.step

    def cut_off(loop):
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(loop.iteration)
        step(loop)

    monkeypatch.setattr("s4s.learning.state.STATE_SECONDS", 0.0)
    monkeypatch.setattr(Loop, "step", cut_off)
    assert fitted(config, "--solver", "alt", "--nfe", 3, "--nfe", 4, "--out", out, *pairs).exit_code != 0
    assert not (out / "nfe~4.json").exists() and (out / "fits/nfe~4.state").exists()
    monkeypatch.setattr(Loop, "step", lambda loop: (steps.append(loop.iteration), step(loop)))
    result = fitted(config, "--solver", "alt", "--nfe", 3, "--nfe", 4, "--out", out, *pairs)
    assert result.exit_code == 0 and "nfe~3.json: is there already" in result.output
    assert steps == [0, 1, 2, 3] and (out / "nfe~3.json").read_bytes() == first
    assert not (out / "fits/nfe~4.state").exists()
    whole = fitted(config, "--solver", "alt", "--nfe", 4, "--out", config.parent / "whole", *pairs)
    assert whole.exit_code == 0
    assert s4s.Tableau.load(out / "nfe~4.json").digest() == s4s.Tableau.load(config.parent / "whole/nfe~4.json").digest()


def test_fit_near_another(config):
    """The one at the next smaller NFE, or one of a file; `s4s.fit` from there gives the same."""
    out, folder = config.parent / "out", config.parent
    common = ("--solver", "near", "--distance", "l2", "--pairs", folder / "pairs")
    assert fitted(config, *common, "--nfe", 3, "--nfe", 4, "--out", out).exit_code == 0
    alone = fitted(config, *common, "--nfe", 4, "--out", folder / "alone")
    assert alone.exit_code == 0
    near, far = (s4s.Tableau.load(folder / f"{name}/nfe~4.json") for name in ("out", "alone"))
    assert not near.same_as(far, 1e-3)
    definitions = {**CONFIG["definitions"], "near": {**CONFIG["definitions"]["near"], "warm_start": str(out / "nfe~3.json")}}
    config.write_text(yaml.safe_dump({**CONFIG, "definitions": definitions}))
    assert fitted(config, *common, "--nfe", 4, "--out", folder / "of_file").exit_code == 0
    assert s4s.Tableau.load(folder / "of_file/nfe~4.json").digest() == near.digest()


def fit_small(folder, about, values=CONFIG, *arguments):
    """A fit of a model whose description, and whose config, are written anew."""
    (folder / "mine.yaml").write_text(yaml.safe_dump(about))
    (folder / "config.yaml").write_text(yaml.safe_dump({**values, "per_model": {}}))
    common = ("--solver", "alt", "--nfe", 3, "--distance", "l2", "--pairs", folder / "pairs", "--out", folder / "out")
    return fitted(folder / "config.yaml", *common, *arguments, model=folder / "mine.yaml")


@pytest.fixture(scope="module")
def first_fit(tmp_path_factory):
    """A folder with a model, its fit and the pairs of it, a copy to put back, and the model's description."""
    folder, kept = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("kept") / "first"
    shutil.copytree(SHIPPED.parents[1] / "resources/digits", folder / "weights")
    about = yaml.safe_load((SHIPPED / "digits.yaml").read_text())
    about.update(name="mine", path=str(folder / "weights/denoiser.safetensors"), perceptual=None, block=32)
    del about["features"]
    assert fit_small(folder, about).exit_code == 0
    shutil.copytree(folder, kept)
    return folder, kept, about


@pytest.fixture
def after_first_fit(first_fit):
    folder, kept, about = first_fit
    yield folder, dict(about)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)


@pytest.mark.parametrize("change", ["settings", "count", "base", "weights", "description", "throughput"])
def test_what_is_kept_depends_on_what_it_was_made_of(after_first_fit, change):
    """A finished solver, and pairs, are taken again where nothing that they depend on is another, and refused otherwise."""
    folder, about = after_first_fit

    def pairs_made():
        return len([*(folder / "pairs").iterdir()])

    assert pairs_made() == 2
    values, arguments, others = CONFIG, (), 0
    if change == "settings":
        values = {**CONFIG, "fit": {**CONFIG["fit"], "iterations": 2}}
    elif change == "count":
        arguments, others = ("--train", 24), 1
    elif change == "base":
        ipndm = {**CONFIG["definitions"]["ipndm"], "levels": "edm"}
        values = {**CONFIG, "definitions": {**CONFIG["definitions"], "ipndm": ipndm}}
    elif change == "weights":
        os.utime(folder / "weights/denoiser.safetensors", ns=(1, 1))
        others = 2
    elif change == "description":
        about["block"], others = 64, 2
    else:
        about["throughput"] = 10.0
    result = fit_small(folder, about, values, *arguments)
    if change == "throughput":
        assert result.exit_code == 0 and "is there already" in result.output
        return
    assert isinstance(result.exception, s4s.S4SError) and "give another --out" in str(result.exception)
    (folder / "out/nfe~3.json").unlink()
    assert fit_small(folder, about, values, *arguments).exit_code == 0 and pairs_made() == 2 + others


FAMILIES = yaml.safe_load((SHIPPED.parent / "families.yaml").read_text())["solvers"]
DEFAULT = yaml.safe_load((SHIPPED.parent / "config.yaml").read_text())
OFTEN = ("joint", "s4s_alt", "bns", "gs")  # the others are part of .ci/run


@pytest.fixture(scope="module")
def pairs_of_digits(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


@pytest.mark.parametrize("token", often((token for token in FAMILIES if "family" in DEFAULT["definitions"][token]), *OFTEN))
def test_every_family_and_driver_of_the_config_is_fitted(tmp_path, pairs_of_digits, token):
    """The definitions of config/config.yaml that config/families.yaml compares."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "per_model": {}, "definitions": DEFAULT["definitions"]}))
    common = ("--solver", token, "--nfe", 3, "--nfe", 4, "--pairs", pairs_of_digits, "--out", tmp_path / "out")
    result = fitted(tmp_path / "config.yaml", *common)
    assert result.exit_code == 0, result.exception
    for nfe in (3, 4):
        tableau = s4s.Tableau.load(tmp_path / f"out/nfe~{nfe}.json")
        assert tableau.meta["token"] == token and tableau.levels[0] == 80


def test_an_edit_of_a_folder_or_a_module_is_seen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_module.py").write_text("a = 1\n")
    (tmp_path / "folder/unet").mkdir(parents=True)
    (tmp_path / "folder/unet/weights.safetensors").write_bytes(b"one")
    abouts = {
        "python": {"name": "a", "kind": "python", "function": "edited_module:make"},
        "folder": {"name": "b", "kind": "diffusers", "path": str(tmp_path / "folder")},
    }
    for name, about in abouts.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(about))
    before = [identity(tmp_path / f"{name}.yaml") for name in abouts]
    assert before == [identity(tmp_path / f"{name}.yaml") for name in abouts]
    (tmp_path / "edited_module.py").write_text("a = 2\n")
    (tmp_path / "folder/unet/weights.safetensors").write_bytes(b"other")
    assert not {*before} & {identity(tmp_path / f"{name}.yaml") for name in abouts}


def test_options_go_before_the_config(config):
    """Pairs that a solver's preset needs, a distance that its definition has, steps that the model's own file sets."""
    definitions = {
        **CONFIG["definitions"],
        "alt": {**CONFIG["definitions"]["alt"], "fit": {"distance": "l1", "train_pairs": 40}},
    }
    about = yaml.safe_load((SHIPPED / "digits.yaml").read_text())
    about.update(
        path=str((SHIPPED / about["path"]).resolve()), study={"teacher": {"steps": 7}}, features=None, perceptual=None, block=32
    )
    (config.parent / "model.yaml").write_text(yaml.safe_dump(about))
    teacher = {**CONFIG["teacher"], "steps": 5}
    config.write_text(yaml.safe_dump({**CONFIG, "teacher": teacher, "definitions": definitions}))
    common = ("--solver", "alt", "--nfe", 6, "--out", config.parent / "out", "--distance", "l2")
    result = fitted(config, *common, "--train", 40, model=config.parent / "model.yaml")
    assert result.exit_code == 0, result.exception
    meta = s4s.Tableau.load(config.parent / "out/nfe~6.json").meta
    assert meta["validation"]["distance"] == "l2" and meta["pairs"] == {"train": 40, "val": 24}
    assert meta["teacher"].endswith(" 7 evaluations")


MODULE = """
import torch
from s4s.models.embedded.mixture import MixtureDenoiser

def make(name, device, files, scale):
    means = torch.tensor([[-1.0, 0.3], [0.8, -0.5]], dtype=torch.float64) * scale
    denoiser = MixtureDenoiser(means, torch.tensor([0.5, 0.5], dtype=torch.float64), std=0.3, s_min=0.05, s_max=20.0)
    denoiser.name = name
    return denoiser
"""


NETWORK = """
import torch

class UNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, x, t):
        return torch.tanh(x) * t.reshape(-1, 1, 1, 1) * self.scale
"""


def test_the_docs_example_of_a_model_of_ones_own_is_fitted(config, tmp_path, monkeypatch):
    page = (SHIPPED.parents[1] / "docs/models.md").read_text().split("## `kind: python`")[1]
    about, module = (block.split("```")[0] for block in re.split(r"```(?:yaml|python)\n", page)[1:3])
    (tmp_path / "mine.yaml").write_text(about)
    (tmp_path / "my_model.py").write_text(module)
    (tmp_path / "my_network.py").write_text(NETWORK)
    torch.save({"scale": torch.tensor(1e-3)}, tmp_path / "network.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    done = run("fit", "mine.yaml", "--nfe", 3, "--train", 8, "--val", 4, "--threads", 1, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    learned = s4s.Tableau.load(tmp_path / "out/nfe~3.json")
    assert learned.meta["model"] == "mine" and learned.meta["parametrisation"]["prediction"] == "epsilon"


def test_a_model_of_ones_own_is_fitted_and_sampled(config, tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text(MODULE)
    features = yaml.safe_load((SHIPPED / "digits.yaml").read_text())["features"]
    features["path"] = str((SHIPPED / features["path"]).resolve())
    about = {"name": "mine", "kind": "python", "function": "own_module:make", "options": {"scale": 1.5}, "features": features}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(about))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    common = ("--solver", "alt", "--nfe", 3, "--out", tmp_path / "out")
    refused = fitted(config, *common, model="mine.yaml")
    assert isinstance(refused.exception, s4s.S4SError) and "distance" in str(refused.exception)
    assert not (tmp_path / "out").exists()  # before the teacher works
    assert fitted(config, *common, "--distance", "l2", model="mine.yaml").exit_code == 0
    arguments = ("mine.yaml", tmp_path / "out/nfe~3.json", "--threads", 1, "--count", 7)
    assert run("sample", *arguments, "--out", "points.npy").exit_code == 0
    assert np.load("points.npy").shape == (7, 2)
    picture = run("sample", *arguments, "--out", "points.png")
    assert "is no image; give --out a name in .npy or .h5" in str(picture.exception) and not (tmp_path / "points.png").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_from_a_pipeline_s_folder_to_its_scheduler(tmp_path):
    """What fit learns and export writes gives in the pipeline itself what `s4s.sample` gives."""
    about = builder.write("stable_diffusion", tmp_path / "folder")
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(about))
    few = {"teacher": {"steps": 6, "train": 4, "val": 4}, "fit": {"iterations": 2, "batch": 4, "validate_every": 1}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "per_model": {}, **few}))
    common = ("--solver", "near", "--nfe", 3, "--distance", "l2", "--out", tmp_path / "out")
    result = fitted(tmp_path / "config.yaml", *common, model=tmp_path / "model.yaml")
    assert result.exit_code == 0, result.exception
    exported = run("export", "diffusers", tmp_path / "out", "--like", about["path"], "--out", tmp_path / "hub")
    assert exported.exit_code == 0, exported.exception
    model, tableau = s4s.load_model(tmp_path / "model.yaml"), s4s.Tableau.load(tmp_path / "out/nfe~3.json")
    noise = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    expected = s4s.sample(model, noise * tableau.levels[0].float(), tableau, model.conditions(sample_seeds("test", 2)))
    pipe = DiffusionPipeline.from_pretrained(about["path"])
    pipe.scheduler = S4SScheduler.from_pretrained(tmp_path / "hub")
    given = {"latents": noise, "guidance_scale": 7.5, "num_inference_steps": 3, "output_type": "latent"}
    found = pipe(builder.CAPTIONS[:2], **given).images
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    page = (tmp_path / "hub/README.md").read_text()
    assert "num_inference_steps=3, guidance_scale=7.5)" in page and "with guidance 7.5 and belongs to no other" in page
    assert re.search(r"guidance +7\.5\n", run("show", tmp_path / "out/nfe~3.json").output)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**about, "call": {"guidance_scale": 2.0}}))
    sampled = run("sample", tmp_path / "other.yaml", tmp_path / "out/nfe~3.json", "--out", tmp_path / "x.npy", "--count", 2)
    assert "fitted with guidance 7.5, but the model has 2" in sampled.output


def test_sample_writes_what_sample_gives(tmp_path, digits):
    tableau = s4s.solver("dpmpp", s4s.levels("edm", 4, digits), order=2).with_meta(**made_for(digits))
    tableau.save(tmp_path / "nfe~4.json")
    seeds = sample_seeds("test", 5, 3)
    expected = s4s.sample(digits, s4s.initial_noise(digits, seeds), tableau, batch_size=digits.block, fill=True).numpy()
    for name in ("images.npy", "images.h5", "images.png"):
        arguments = ("digits", tmp_path / "nfe~4.json", "--out", tmp_path / name, "--count", 5, "--seed", 3, "--threads", 1)
        result = run("sample", *arguments)
        assert result.exit_code == 0, result.exception
    assert (np.load(tmp_path / "images.npy") == expected).all()
    split = read_split(tmp_path / "images.h5", "samples", "test~3")
    assert (split.y_0 == expected).all() and (split.seeds == seeds).all()
    picture = np.asarray(Image.open(tmp_path / "images.png")).astype(float)
    tile = picture[66 : 66 + 64 : 8, 66 : 66 + 64 : 8]  # the second of the second row: three columns, enlarged, a gap of 2
    assert picture.shape == (2 * 66, 3 * 66, 3) and (picture[66:, 2 * 66 :] == 255).all()
    assert np.abs(tile[..., 0] - (expected[4, 0] * 127.5 + 128).clip(0, 255)).max() < 1


def test_a_sample_starts_at_the_solver_s_first_level(tmp_path, digits, capsys):
    """Which may lie below the model's highest; and the model of another name is named."""
    tableau = s4s.solver("ddim", torch.tensor([10.0, 1.0, 0.1, 0.002])).with_meta(model="other")
    tableau.save(tmp_path / "low.json")
    seeds = sample_seeds("test", 3)
    expected = s4s.sample(digits, s4s.initial_noise(digits, seeds) / 8, tableau, batch_size=digits.block, fill=True).numpy()
    for name in ("low.npy", "low.h5"):
        arguments = ("digits", tmp_path / "low.json", "--out", tmp_path / name, "--count", 3, "--threads", 1)
        assert "was made for model other, not for digits" in run("sample", *arguments).output
    assert np.allclose(np.load(tmp_path / "low.npy"), expected, atol=1e-6)
    assert np.allclose(read_split(tmp_path / "low.h5", "samples", "test~0").y_0, expected, atol=1e-6)


def test_a_solver_of_another_network_is_not_run(tmp_path):
    path = VPDiscrete.scaled_linear()
    tableau = s4s.solver("ddim", path.s_of_t(torch.tensor([999.0, 500.0, 0.0], dtype=torch.float64)))
    about = {**path.description(), "prediction": "epsilon"}
    tableau.with_meta(model="sd", parametrisation=about).save(tmp_path / "nfe~2.json")
    s4s.solver("ddim", torch.tensor([500.0, 1.0, 0.002])).save(tmp_path / "high.json")
    for name, message in (
        ("nfe~2", r"\(model sd\), but model digits has path edm"),
        ("high", "500 to .* but model digits covers 80"),
    ):
        refused = run("sample", "digits", tmp_path / f"{name}.json", "--out", tmp_path / "x.npy", "--threads", 1)
        assert isinstance(refused.exception, s4s.S4SError) and re.search(message, str(refused.exception))
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_show_draws(files, suffix):
    assert run("show", files / "unipc.json", "--plot", files / f"plot.{suffix}").exit_code == 0
    assert (files / f"plot.{suffix}").read_bytes()[:5] in (b"\x89PNG\r", b"%PDF-", b"<?xml")


def test_the_plot_shows_the_numbers(files):
    tableau = s4s.Tableau.load(files / "unipc.json")
    left, right = one_solver(tableau).axes[:2]
    assert left.lines[0].get_ydata().tolist() == tableau.levels.tolist()
    a, b = tableau.reduced()
    shown = [float(text.get_text()) for text in right.texts]
    ratio = float(a[3] * tableau.levels[0] / tableau.levels[3])
    assert np.allclose(shown[-4:], [ratio, *b[3].tolist()], atol=0.006)


def test_export_puts_the_node_and_files_into_comfyui(files):
    out = files / "ComfyUI"
    refused = run("export", "comfyui", files / "ddim.json", "--out", out)
    assert "has no folder custom_nodes" in str(refused.exception) and not out.exists()
    (out / "custom_nodes").mkdir(parents=True)
    (out / "models").mkdir()
    assert run("export", "comfyui", files / "ddim.json", "--out", out).exit_code == 0
    assert (
        s4s.Tableau.load(out / "models/s4s/digits/ddim/nfe~3.json").digest() == s4s.Tableau.load(files / "ddim.json").digest()
    )
    assert "S4S Solver" in (out / "models/s4s/digits/ddim/README.md").read_text()
    shipped = Path(s4s.__file__).parent / "export/comfyui/__init__.py"
    assert (out / "custom_nodes/s4s/__init__.py").read_text() == shipped.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "absent.json"), "absent.json: cannot read this tableau"),
        (("compare", "ddim.json", "short.json"), "has 3 evaluations and .*short.json has 2"),
        (("convert", "two.txt", "--model", "digits", "--out", "out"), "several lists with 3 evaluations; --pick one of"),
        (("convert", "two.txt", "--model", "digits", "--out", "out", "--pick", "none"), "no list named 'none'"),
        (("show", "ddim.json", "--plot", "out"), "--plot out: must end in .pdf, .png or .svg"),
        (("sample", "digits", "ddim.json", "--out", "out"), "--out out: must end in .png, .npy or .h5"),
        (("show", "ddim.json", "--plot", "folder.png"), "--plot folder.png: is a folder, but must be a file"),
        (("compare", "ddim.json", "ddim.json", "--tolerance", "nan"), "--tolerance nan: must be a number of at least 0"),
        (("convert", "two.txt", "--model", "latin.yaml", "--out", "out"), "latin.yaml: cannot be read"),
        (("export", "diffusers", "ddim.json", "--out", "two.txt"), "two.txt is a file, but must be a folder"),
        ((*DIFFUSERS, "--like", "folder.png"), "folder.png/scheduler_config.json: names no class; was it written by"),
        (("export", "diffusers", "ddim.json", "--like", "betas", "--out", "out"), "the noise schedule is not supported"),
        (
            ("export", "comfyui", "ddim.json", "--scores", "two.txt", "--out", "ComfyUI"),
            "two.txt: not a .*columns model, .* missing$",
        ),
        (("sample", "misspelt.yaml", "ddim.json", "--out", "out.npy"), "mine: own_module:make cannot be called with .*scales"),
        (("sample", "broken.yaml", "ddim.json", "--out", "out.npy"), "'broken_module:make' cannot be imported"),
        (("sample", "digitz", "ddim.json", "--out", "out.npy"), "'digitz'"),
        (
            ("sample", "digits", "ddim.json", "--out", "ddim.json/x.npy", "--threads", "1"),
            "--out ddim.json/x.npy|--out ddim.json: .* is a file, but must be a folder",
        ),
        (("fit", "digits", "--nfe", "3", "--out", "out", "--solver", "ddim-edm"), "not among the learned solvers .*s4s_alt"),
        (("fit", "digits", "--nfe", "99", "--out", "out"), r"nfe \[99\] must be smaller than the teacher's 64 steps"),
        (("fit", "digits", "--nfe", "3", "--out", "out", "--config", "no.yaml"), "no.yaml: no such file"),
        (("fit", "digits", "--nfe", "3", "--out", "out", "--config", "two.txt"), "two.txt: cannot be read: expected"),
        (("fit", "digits", "--nfe", "3", "--out", "out", "--config", "list.yaml"), "list.yaml: must hold keys and values"),
        (("fit", "digits", "--nfe", "3", "--out", "out", "--distance", "l3"), "distance: Input should be"),
        (("fit", "tabular", "--nfe", "3", "--out", "out", "--distance", "lpips"), r"lpips needs images .*, not \[1, 30\]"),
        (
            ("show", "extra.json"),
            "extra.json: .* levles: unknown key; check its spelling against docs/tableau.schema.json; make",
        ),
        (("show", "overflow.json"), "overflow.json: its numbers, or the weights .* are beyond what a state can hold"),
        (("show", "two.txt"), r"two.txt: cannot read this tableau: .*Invalid JSON: .{1,60}; make the file again"),
        (("show", "empty.json"), r"empty.json: cannot read .* format: Field required \(and 7 other problems\); make"),
        (
            ("convert", "far.txt", *TO),
            "far.txt: list 1, read as noise levels, for it starts at 160, runs over .* 160 to 0.6, but model digits .*80",
        ),
        (
            ("convert", "low.txt", *TO),
            "over noise levels 80 to 1e-06, but model digits covers 80 to",
        ),
        (
            ("convert", "rise.txt", *TO),
            "rise.txt: list 1: rises from 0.002 to 80; .* turn it round",
        ),
        (
            ("convert", "both.pt", "--solver", "heun", *TO),
            r"both.pt: LD3 has no sampler heun for its two lists, .*; take unipc \(its uni_pc\), dpmpp",
        ),
        (("export", "comfyui", "nan.json", "--out", "nodes"), "nan.json: .*meta.* must hold plain JSON values, all numbers"),
        (
            ("convert", "unnamed.txt", *TO),
            "several lists with 3 evaluations; keep one of them, or write a name on the line before each and --pick one",
        ),
        (("convert", "unnamed.txt", "--pick", "a", *TO), "no list named 'a'; there are only lists without a name"),
        (("convert", "two.txt", *TO), "several lists with 3 evaluations; --pick one of one, two"),
        (
            ("convert", "times.txt", *TO),
            "times.txt: list 1: cannot tell whether these whole numbers from 999 are noise levels or",
        ),
        (
            ("convert", "two.txt", "--form", "ld3", *TO),
            "two.txt: not a file of torch, as LD3's are",
        ),
        (
            (*DIFFUSERS, "--like", "sigma_data"),
            "sigma_data must be a positive number, got 'x'",
        ),
        (
            (*DIFFUSERS, "--like", "negative"),
            "num_train_timesteps must be a positive number",
        ),
        ((*DIFFUSERS, "--like", "deep"), "deep/scheduler_config.json: not JSON"),
        (
            (*COMFYUI, "--scores", "cut.csv"),
            "cut.csv: not a table .*a row is cut off",
        ),
        (
            (*COMFYUI, "--scores", "no.csv"),
            "no.csv: no such file; the workflow writes",
        ),
    ],
)
def test_wrong_input_is_one_line(files, arguments, message, monkeypatch, capsys):
    s4s.solver("ddim", LEVELS[:3]).save(files / "short.json")
    torch.save({"best_t_steps": torch.tensor([80.0, 5.0, 0.5, 0.002, 80.0, 5.1, 0.51, 0.002])}, files / "both.pt")
    of_nan = {**s4s.solver("ddim", LEVELS).as_json(), "meta": {"model": "m", "token": "t", "loss": float("nan")}}
    (files / "nan.json").write_text(json.dumps(of_nan))
    (files / "two.txt").write_text("# one\n80 5 0.6 0.002\n# two\n80 6 0.7 0.002\n")
    (files / "unnamed.txt").write_text("80 5 0.6 0.002\n80 6 0.7 0.002\n")
    (files / "times.txt").write_text("999 850 400 20\n")
    (files / "list.yaml").write_text("- digits\n")
    (files / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    for name, levels in (("far", "160 5 2 0.6"), ("low", "80 5 1 0.000001"), ("rise", "0.002 1 2 80")):
        (files / f"{name}.txt").write_text(levels)
    large = s4s.Tableau(LEVELS, 1e30 * torch.eye(3), torch.eye(3))
    (files / "overflow.json").write_text(json.dumps(large.as_json()))
    (files / "extra.json").write_text(json.dumps({**s4s.Tableau.load(files / "ddim.json").as_json(), "levles": [1]}))
    (files / "empty.json").write_text("{}")
    (files / "cut.csv").write_text(SCORES.splitlines()[0] + "\ndigits,ddim,joint,x,y,3,3,256\n")
    for folder in ("betas", "folder.png", "ComfyUI/custom_nodes", "ComfyUI/models", "sigma_data", "negative", "deep"):
        (files / folder).mkdir(parents=True)
    for folder, config in (
        ("sigma_data", '{"_class_name": "EDMEulerScheduler", "sigma_data": "x"}'),
        ("negative", '{"_class_name": "DDIMScheduler", "num_train_timesteps": -5}'),
        ("deep", "[" * 100_000),
    ):
        (files / folder / "scheduler_config.json").write_text(config)
    (files / "folder.png/scheduler_config.json").write_text("[1]")
    (files / "betas/scheduler_config.json").write_text(
        '{"_class_name": "DDIMScheduler", "beta_schedule": 7, "beta_start": "a"}'
    )
    (files / "own_module.py").write_text(MODULE)
    (files / "broken_module.py").write_text("def make(:\n")
    about = {"name": "mine", "kind": "python", "function": "own_module:make", "options": {"scales": 1.5}}
    (files / "misspelt.yaml").write_text(yaml.safe_dump(about))
    (files / "broken.yaml").write_text(yaml.safe_dump({**about, "function": "broken_module:make"}))
    monkeypatch.syspath_prepend(files)
    before = sorted(files.rglob("*"))
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["s4s", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    written = capsys.readouterr().err
    assert ended.value.code == 2 and re.search(message, written), written
    assert len(written.splitlines()) == 1
    assert sorted(path for path in files.rglob("*") if "__pycache__" not in str(path)) == before


def test_the_command_ends_with_its_exit_code(files):
    command = [sys.executable, "-m", "s4s.cli", "compare", "ddim.json", "absent.json"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: absent.json: cannot read this tableau")


@pytest.mark.parametrize(
    ("solver", "nfe", "message"),
    [
        ("searched", 3, "needs searches that only the workflow makes"),
        ("large", 3, "defines large for other numbers of evaluations only"),
        ("alt", 4, "nfe~4.json is there, of another solver, or of other settings"),
    ],
)
def test_fit_refuses_before_any_work(config, solver, nfe, message):
    out = config.parent / "out"
    s4s.solver("ddim", torch.tensor([80.0, 5.0, 2.0, 0.6, 0.002])).save(out / "nfe~4.json")
    before = (out / "nfe~4.json").read_bytes()
    refused = fitted(config, "--solver", solver, "--nfe", 5, "--nfe", nfe, "--out", out)
    assert isinstance(refused.exception, s4s.S4SError) and message in str(refused.exception)
    assert [*out.iterdir()] == [out / "nfe~4.json"] and (out / "nfe~4.json").read_bytes() == before


@pytest.mark.parametrize("change", [
    {"definitions": ["a"]}, {"per_model": 3}, {"per_model": {"digits": 3}}, {"per_model": {"digits": {"fit": 3}}},
    {"per_model": {"digits": {"teacher": 3}}}, {"teacher": 5}, {"fit": None},
])  # fmt: skip
def test_values_of_a_wrong_type_are_named(config, change):
    config.write_text(yaml.safe_dump({**CONFIG, **change}))
    refused = fitted(config, "--solver", "alt", "--nfe", 3, "--out", config.parent / "out")
    assert isinstance(refused.exception, s4s.S4SError) and next(iter(change)) in str(refused.exception).replace(
        "settings of model digits", "per_model"
    )
    assert not (config.parent / "out").exists()


@pytest.mark.parametrize("meta", [
    {"validation": 0.1, "pairs": "512", "evaluations": "many", "parametrisation": "edm", "token": "[/a]", "model": "$\\frac$"},
    {"validation": {}, "pairs": {"train": 3}, "parametrisation": {"path": "edm"}, "token": "[bold]", "model": 3},
    {"parametrisation": {"path": ["vp"], "levels": ["x"]}, "token": "t", "model": "[m]"},
    {"parametrisation": {"prediction": ["x", 1], "levels": [1, 2.5]}, "token": "t", "model": "[m]"},
])  # fmt: skip
def test_what_others_write_into_the_meta_does_no_harm(tmp_path, meta):
    s4s.solver("ddim", LEVELS).with_meta(**meta).save(tmp_path / "nfe~3.json")
    shown = run("show", tmp_path / "nfe~3.json", "--plot", tmp_path / "plot.PNG")
    assert shown.exit_code == 0 and meta["token"] in shown.output
    own = DDIMScheduler(beta_schedule="linear", num_train_timesteps=1000, beta_end=0.9)
    own.save_pretrained(tmp_path / "like")
    (tmp_path / "comfyui/custom_nodes").mkdir(parents=True)
    (tmp_path / "comfyui/models").mkdir()
    like = ("--like", tmp_path / "like")
    for target, options in (("diffusers", ()), ("diffusers", like), ("comfyui", ())):
        done = run("export", target, tmp_path / "nfe~3.json", *options, "--out", tmp_path / target)
        assert done.exit_code == 0 or isinstance(done.exception, s4s.S4SError), done.exception
    assert "must name its model and itself" in str(done.exception) and not [*(tmp_path / "comfyui/models").iterdir()]


def test_nothing_that_is_there_is_lost(files):
    """Another solver's file is not overwritten; a folder in ComfyUI keeps the others and a card of all."""
    (files / "ays.txt").write_text("[80, 5, 0.6, 0.002]")
    s4s.solver("unipc", LEVELS, order=2).save(files / "out/nfe~3.json")
    before = (files / "out/nfe~3.json").read_bytes()
    refused = run("convert", files / "ays.txt", "--model", "digits", "--solver", "ddim", "--out", files / "out")
    assert "is there and another solver" in str(refused.exception) and (files / "out/nfe~3.json").read_bytes() == before
    convert = ("convert", files / "ays.txt", "--solver", "ddim", "--out", files / "twice", "--model")
    assert [run(*convert, "mixture").exit_code for _ in range(2)] == [0, 0]
    assert "is there and another solver" in str(run(*convert, "tabular").exception)  # the same numbers, for another model
    s4s.solver("ddim", LEVELS[1:]).with_meta(token="ddim", model="digits").save(files / "short.json")
    (files / "comfyui/custom_nodes").mkdir(parents=True)
    (files / "comfyui/models").mkdir()
    for name in ("ddim", "short"):
        assert run("export", "comfyui", files / f"{name}.json", "--out", files / "comfyui").exit_code == 0
    folder = files / "comfyui/models/s4s/digits/ddim"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "nfe~2.json", "nfe~3.json"]
    assert "in 2 and 3 steps" in (folder / "README.md").read_text()


def test_an_interruption_says_that_the_command_goes_on(files, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(s4s.Tableau, "load", interrupt)
    monkeypatch.setattr(sys, "argv", ["s4s", "show", str(files / "ddim.json")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130 and "interrupted; nothing finished is lost" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "sample", "show", "compare", "convert", "export diffusers", "export comfyui"])
def test_help_teaches(command):
    assert "Example" in run(*command.split(), "--help").output
