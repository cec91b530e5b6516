"""The zoo: its entries, its tableaux for models and pipelines, its page and commands."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

import s4s
from s4s import S4SError
from s4s.cli import app
from s4s.export.collection import read_tableaux
from s4s.export.zoo import read_published, zoo_tableau, zoo_tableaux
from s4s.export.zoo.forms import FORMS, form_of, there
from s4s.export.zoo.page import counts, page
from s4s.models import published_solvers as zoo
from s4s.models.load import Outline, load_outline
from s4s.models.model_files import read_model_file
from s4s.models.paths import EDM, FlowMatching, VPDiscrete
from s4s.schedules.imported import FORMS as SCHEDULES
from s4s.tableau import Tableau

PATH = VPDiscrete.scaled_linear()
SD = Outline("sd", *PATH.ends, PATH, {**PATH.description(), "prediction": "epsilon"})
PIXELS = Outline("pixels", 0.002, 80.0, EDM(), {"path": "edm", "sigma_data": 0.5, "prediction": "edm"})
FLOW = Outline("flow", 0.002, 999.0, FlowMatching(), {"path": "flow", "prediction": "flow"})
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
ENTRIES = zoo.entries()
SHIPPED = [name for name, entry in ENTRIES.items() if entry.ships]


@pytest.fixture(scope="module")
def diffusers():
    """Imported here, for above every worker of the tests would spend its seconds."""
    import diffusers.schedulers

    return diffusers


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_the_page_is_made_from_the_entries():
    text = (Path(__file__).parents[1] / "docs/zoo.md").read_text()
    assert text == page(), "run: python -m s4s.export.zoo > docs/zoo.md"


def test_methods_without_a_licence_are_there_and_do_not_ship():
    own = {name.partition("-")[0] for name, entry in ENTRIES.items() if not entry.ships}
    assert {"dyweight", "epd", "epdpp", "ld3"} <= own
    assert {"ays-sd15", "ays-sdxl", "ays-svd", "gits-cifar10"} <= {*SHIPPED}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_s_models_figures_and_commands_exist(name):
    entry = ENTRIES[name]
    for model in entry.config:
        file = read_model_file(model)
        if file.kind == "edm":
            assert entry.path == {"path": "edm", "sigma_data": 0.5}
        else:  # the pipelines are Stable Diffusion's
            betas = (file.linear_start, file.linear_end) if file.kind == "latent_diffusion" else ()
            assert entry.path == VPDiscrete.scaled_linear(*betas).description()
    assert entry.fid is None or any(score.measure.startswith("FID") for score in entry.figures)
    for line in entry.commands:
        for text in re.findall(r"s4s convert [^;]*", line):
            words = shlex.split(text)
            command = typer.main.get_command(app).commands["convert"]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known
            assert words[words.index("--form") + 1] in (*FORMS, *SCHEDULES)
            assert words[words.index("--model") + 1] in (*entry.config, "MODEL.yaml")
            assert words[-1] == f"zoo/{name}"
    assert entry.ships or "s4s convert" in entry.commands[-1]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_numbers_are_solvers_with_their_source(name):
    entry = ENTRIES[name]
    for tableau in zoo_tableaux(name):
        assert tableau.nfe in entry.nfe and Tableau.from_json(tableau.as_json()).same_as(tableau)
        meta = {"token": f"zoo-{name}", "model": entry.model, "paper": entry.paper, "licence": entry.licence}
        assert meta.items() <= tableau.meta.items() and tableau.meta["parametrisation"] == entry.path


def test_align_your_steps_is_that_of_a_config():
    for name, table in (("ays-sd15", "sd"), ("ays-sdxl", "sdxl")):
        expected = s4s.solver("dpmpp", s4s.levels("ays", 10, SD, table=table), order=2)
        assert zoo_tableau(name, SD).same_as(expected, 1e-12)
        assert zoo_tableau(name, SD).levels[0] == SD.s_max


def test_gits_is_ipndm_on_the_list_of_its_readme():
    levels = torch.tensor([80, 10.9836, 3.8811, 1.584, 0.5666, 0.1698, 0.002], dtype=torch.float64)
    expected = s4s.solver("ipndm", levels, order=4)
    for name in ("zoo:gits-cifar10/6", "gits-cifar10"):
        assert zoo_tableau(name, PIXELS).same_as(expected, 0)
    assert zoo_tableau("gits-cifar10", load_outline("cifar10")).same_as(expected, 0)


@pytest.mark.slow
def test_a_pipeline_takes_a_solver_by_its_name(diffusers):
    scheduler = s4s.S4SScheduler.from_tableau("zoo:ays-sd15", diffusers.DPMSolverMultistepScheduler(**STABLE))
    assert scheduler.available_steps == [10]
    scheduler.set_timesteps(10)
    assert scheduler.timesteps[:3].round().tolist() == [999, 850, 736]
    assert [*read_tableaux(["zoo:gits-cifar10"])] == [6]


@pytest.mark.slow
def test_a_pipeline_on_another_path_refuses_it(diffusers):
    with pytest.raises(S4SError, match=r"made for a network with path vp_discrete .*Stable Diffusion 1.5.* has path flow"):
        s4s.S4SScheduler.from_tableau("zoo:ays-sd15", diffusers.FlowMatchEulerDiscreteScheduler())


def test_solvers_for_other_networks_are_refused():
    with pytest.raises(S4SError, match=r"path vp_discrete .*, but model pixels has path edm"):
        zoo_tableau("zoo:ays-sd15", PIXELS)
    with pytest.raises(S4SError, match=r"runs over noise levels 14.61.* to 0.029.* but model short covers 14.6"):
        zoo_tableau("zoo:ays-sd15", SD._replace(name="short", s_min=0.1))
    with pytest.raises(S4SError, match="zoo_tableau's model"):
        zoo_tableau("zoo:ays-sd15", "sd15")


@pytest.mark.parametrize("name", ["zoo:nothing", "zoo:", "zoo:ays-sd15x/10", "zoo:../secrets"])
def test_an_unknown_name_is_told_the_known_ones(name):
    with pytest.raises(S4SError, match=r"in the zoo; write zoo:NAME or zoo:NAME/NFE; NAME is one of ays-sd15, .*") as error:
        read_tableaux(name)
    assert len(str(error.value).splitlines()) == 1


def test_what_does_not_ship_says_where_it_is():
    for make in (lambda name: read_tableaux(name), lambda name: zoo_tableau(name, PIXELS)):
        with pytest.raises(S4SError, match=r"licence: none stated.* https://github.com/West.*s4s zoo show dyw") as error:
            make("zoo:dyweight-cifar10")
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(S4SError, match="has no solver '11'; its numbers of evaluations are 10"):
        read_tableaux("zoo:ays-sd15/11")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A zoo of its own with one entry, whose tableaux are files."""
    monkeypatch.setattr(zoo, "ZOO", tmp_path)
    about = {"model": "a flow", "method": "M", "nfe": [2, 3], "path": {"path": "flow"}, "licence": "MIT", "files": "a.py",
             "paper": "arXiv 2505.21114", "repository": "https://github.com/a/b"}  # fmt: skip
    for count in (2, 3):
        levels = torch.linspace(500.0, 0.0, count + 1, dtype=torch.float64)
        s4s.solver("ddim", levels).with_meta(fitted_for="SiT").save(tmp_path / f"mine/nfe~{count}.json")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(about))
    return tmp_path


def test_tableaux_may_ship_as_files(folder):
    assert [*read_tableaux("zoo:mine")] == [2, 3]
    tableau = zoo_tableau("mine/3", FLOW)
    assert tableau.levels[0] == 999 and tableau.meta["fitted_for"] == "SiT"
    with pytest.raises(S4SError, match="choose one of zoo:mine/2, zoo:mine/3"):
        zoo_tableau("mine", FLOW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": "none stated"}, "numbers may ship under MIT, Apache-2.0"),
        ({"licence": "GPL-3.0"}, "numbers may ship under MIT, Apache-2.0"),
        ({"commands": ["s4s convert"]}, "needs either numbers .* or the commands"),
        ({"nfe": [0]}, "nfe"),
        ({"nfe": []}, "nfe"),
        ({"paper": "2505.21114"}, "paper"),
        ({"commit": "abc"}, "commit"),
        ({"author": "x"}, "author: unknown key"),
        ({"numbers": {"solver": "ddim", "levels": {3: [3.0, 2.0, 0.0]}}}, "3 steps have 4 levels, not 3"),
        ({"numbers": {"solver": "ddim"}}, "needs levels, or a table"),
        ({"numbers": {"solver": "ddim", "levels": {1: [float("nan"), 0.0]}}}, "levels"),
    ],
)
def test_an_entry_that_says_something_else_is_one_clear_error(folder, change, message):
    about = yaml.safe_load((folder / "mine.yaml").read_text())
    (folder / "mine.yaml").write_text(yaml.safe_dump({**about, **change}))
    with pytest.raises(S4SError, match=rf"mine.yaml: .*{message}"):
        zoo.entries()


def test_the_commands_show_what_is_known():
    listed = run("zoo", "list")
    assert listed.exit_code == 0 and all(name in listed.output for name in ENTRIES)
    shown = run("zoo", "show", "dyweight-cifar10")
    assert shown.exit_code == 0 and "FID 3.02 (NFE 5)" in shown.output and "FID, second-hand 8.16 (NFE 3)" in shown.output
    assert "git clone https://github.com/Westlake-AGI-Lab/DyWeight" in shown.output and "s4s convert" in shown.output
    assert 'from_tableau("zoo:ays-sd15", pipe.scheduler)' in run("zoo", "show", "zoo:ays-sd15").output
    with pytest.raises(S4SError, match="NAME is one of ays-sd15"):
        CliRunner().invoke(app, ["zoo", "show", "x"], catch_exceptions=False)


def test_a_form_whose_module_is_not_there_breaks_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMS, "absent", "s4s.export.zoo.absent")
    assert "absent" not in there() and {"optimal_steps", "gits"} <= {*there()}
    (tmp_path / "list.txt").write_text("80 5 0.5 0.002")
    assert form_of(tmp_path / "list.txt") is None and form_of(tmp_path / "none") is None and form_of(tmp_path) is None
    with pytest.raises(S4SError, match="this version of s4s does not read the form absent"):
        read_published(tmp_path / "list.txt", PIXELS, "absent")


def test_convert_reads_published_forms_and_says_the_guidance(tmp_path):
    path = tmp_path / "nodes_optimalsteps.py"
    path.write_text('# OptimalSteps\nNOISE_LEVELS = {"FLUX": [0.99, 0.9, 0.5, 0.001]}\n')
    (tmp_path / "flow.py").write_text(MODEL)
    (tmp_path / "flow.yaml").write_text("{name: flow, kind: python, function: 'flow:make'}\n")
    to = ("--model", tmp_path / "flow.yaml", "--out", tmp_path / "out", "--guidance", 3.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        result = run("convert", path, *to)
        assert result.exit_code == 0, result.output
        wrong = run("convert", path, *to, "--option", "clip=true")
    tableau = Tableau.load(tmp_path / "out/nfe~3.json")
    assert tableau.meta["guidance"] == 3.5 and tableau.meta["form"] == "optimal_steps" and tableau.meta["model"] == "flow"
    assert tableau.meta["token"] == "optimal_steps-nodes_optimalsteps" and "ComfyUI" in tableau.meta["repository"]
    assert "have no option clip; allowed: pick, guidance" in str(wrong.exception)


MODEL = """
import s4s, torch
from s4s.models.paths import FlowMatching

class Flow(s4s.Denoiser):
    name, shape, s_min, s_max, path = "flow", (2,), 0.002, 999.0, FlowMatching()
    parametrisation = {"path": "flow", "prediction": "flow"}
    device = torch.device("cpu")

    def __call__(self, y, s, condition=None):
        return 0.5 * y

def make(name, device, files):
    return Flow()
"""


def test_guidance_is_said_of_schedules_too(tmp_path):
    (tmp_path / "gits.txt").write_text("[80, 10.9836, 3.8811, 1.584, 0.5666, 0.1698, 0.002]")
    to = ("--model", "cifar10", "--out", tmp_path / "out", "--solver", "ipndm", "--guidance", 2)
    assert run("convert", tmp_path / "gits.txt", *to).exit_code == 0
    made = Tableau.load(tmp_path / "out/nfe~6.json")
    assert made.same_as(zoo_tableau("gits-cifar10", PIXELS), 0) and made.meta["guidance"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--form", "ld4"), "--form ld4: unknown; known: ld3, levels, times, dyweight"),
        (("--option", "clip"), "--option clip: must be NAME=VALUE"),
        (("--option", "clip=true"), "--option clip=true: schedules have no further options"),
    ],
)
def test_wrong_options_of_convert_are_told(tmp_path, arguments, message):
    (tmp_path / "gits.txt").write_text("[80, 5, 0.002]")
    result = run("convert", tmp_path / "gits.txt", "--model", "cifar10", "--out", tmp_path / "out", *arguments)
    assert message in str(result.exception) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("numbers", "words"), [([3, 4, 5, 6], "3 to 6"), ([3, 5, 7], "3, 5, 7"), ([10], "10"), ([4, 5], "4, 5")]
)
def test_numbers_of_evaluations_in_words(numbers, words):
    assert counts(numbers) == words
