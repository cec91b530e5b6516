"""No name or path runs as code or breaks a run: the lint of what reaches a shell, folders and files of all names."""

import json
import re
import subprocess
import sys
import sysconfig
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
import yaml

from s4s import S4SError
from s4s.files.path_names import as_argument, check_places, check_submitted
from s4s.models.model_files import fetch_name
from tests import shell_lint
from tests.builders import studies
from tests.builders.studies import ROOT

RULE = """
rule one:
    input:
        "a",
    output:
        "b",
    log:
        "c",
    {directive}:
        {text}
"""
PLAIN = '"python -m s4s.jobs.fork_server one {wildcards.name:q} --in {input[0]:q} --out results/{output:q} 2> {log:q}"'
CALL = "python -m s4s.jobs.fork_server one {input:q}"


def found(path, text):
    path.write_text(text)
    return shell_lint.problems(path)


def test_the_rules_of_this_repository_pass():
    """`make lint` checks the programs too."""
    files = [ROOT / "Snakefile", *ROOT.glob("rules/*.smk")]
    assert len(files) > 10 and [problem for path in files for problem in shell_lint.problems(path)] == []


@pytest.mark.parametrize("text", [PLAIN, f'"{CALL} --threads {{threads:q}} 2>&1 "\n        "| tee {{log:q}}"'])
def test_quoted_values_in_a_plain_command_pass(tmp_path, text):
    assert found(tmp_path / "Snakefile", RULE.format(directive="shell", text=text)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'"{CALL} {{wildcards.model}} 2> {{log:q}}"', "unquoted value, 'wildcards.model'"),
        (f'"{CALL} {{params.seeds}} 2> {{log:q}}"', "unquoted value, 'params.seeds'"),
        (f'"{CALL} {{threads}} 2> {{log:q}}"', "unquoted value, 'threads'"),
        (f'"{CALL} 2> {{log}}"', "unquoted value, 'log'"),
        (f'"{CALL} {{params.code:u}} 2> {{log:q}}"', "unquoted value, 'params.code'"),
        (f'"{CALL} {{params.code!r}} 2> {{log:q}}"', "unquoted value, 'params.code'"),
        (f'"{CALL} {{params.code!r:q}} 2> {{log:q}}"', "unquoted value, 'params.code'"),
        (f"\"{CALL} '{{params.code:q}}' 2> {{log:q}}\"", "more than a call"),
        (f"'{CALL} \"{{params.code:q}}\" 2> {{log:q}}'", "more than a call"),
        (f'"{CALL} 2> {{log:q}}; touch {{output:q}}"', "more than a call"),
        (f'"{CALL} $(date) 2> {{log:q}}"', "more than a call"),
        (f'"{CALL} `date` 2> {{log:q}}"', "more than a call"),
        (f'"{CALL} 2>&1 | sh {{log:q}}"', "more than a call"),
        (f'"{CALL}"', "more than a call"),
        ('"python -c {params.code:q} 2> {log:q}"', "more than a call"),
        ('"{params.program:q} {input:q} 2> {log:q}"', "more than a call"),
        ('"eval {params.code:q} 2> {log:q}"', "more than a call"),
        (f'f"{CALL} {{NAME}} 2> {{log:q}}"', "put together from parts"),
        (f'"{CALL} " + NAME', "put together from parts"),
        ("COMMAND", "put together from parts"),
        (f'"{CALL} %s" % NAME', "put together from parts"),
    ],
)
def test_a_command_that_could_run_a_value_is_refused(tmp_path, text, message):
    problems = found(tmp_path / "Snakefile", RULE.format(directive="shell", text=text))
    assert problems and any(message in problem for problem in problems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RULE.format(directive="script", text='"one.py"'), "`script:`"),
        (RULE.format(directive="notebook", text='"one.ipynb"'), "`notebook:`"),
        (RULE.format(directive="wrapper", text='"v1/one"'), "`wrapper:`"),
        (RULE.format(directive="run", text='shell("cat {input:q}")'), "`run:`"),
        (RULE.format(directive="run", text="print(1)"), "`run:`"),
        ('onstart:\n    shell("cat {input:q}")\n', "shell() outside"),
        ('def f():\n    shell("date")\n', "shell() outside"),
        ('import os\nos.system("date")\n', "os.system"),
    ],
)
def test_other_ways_to_a_shell_are_refused_in_rules(tmp_path, text, message):
    assert any(message in problem for problem in found(tmp_path / "Snakefile", text))


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess\nsubprocess.run(command, shell=True)",
        "import subprocess\nsubprocess.Popen(command, shell=flag)",
        "import os\nos.system(command)",
        "import os\nos.popen(command)",
        "from os import system",
        "import subprocess\nrun = subprocess.getoutput",
        "import asyncio\nasyncio.create_subprocess_shell(command)",
    ],
)
def test_a_program_that_starts_a_shell_is_refused(tmp_path, text):
    assert found(tmp_path / "a.py", text)
    assert found(tmp_path / "b.py", "import subprocess\nsubprocess.run(command, shell=False)") == []


EVIL = "a $(touch PWNED); b"
GOOD = ["a b", "it's", "ünï", "50% x", "#1", "a;b", "a?b*[c]", "-dash", "~", "a,b=c@d", "&", "(x)"]


@pytest.mark.parametrize("name", GOOD)
def test_a_checkout_may_lie_in_a_folder_of_this_name(name):
    check_places(f"/home/{name}", f"/home/{name}/.venv/bin/python", [f"/a $(x); b/{name}.yaml"])


@pytest.mark.parametrize(
    "name", ["$HOME", "$(touch x)", "`x`", 'a"b', "back\\slash", "a:b", "{x}", "a{", "line\nbreak", "\udcff"]
)
def test_a_checkout_or_a_python_elsewhere_is_refused_in_one_line(name):
    for places in [(f"/home/{name}", "/python"), ("/home", f"/{name}/python")]:
        with pytest.raises(S4SError, match=r"cannot be in its path: .*; rename or move it") as error:
            check_places(*places, [])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a b", "it's", "$(x)", "`x`", "a;b", "a&b", "(x)", "*"])
def test_where_jobs_are_submitted_any_such_path_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_submitted("/home/ünï", "/home/ünï/python", ["/scratch/a-b/m_1.yaml"])
    for changed in range(3):
        checkout, python, file = (
            f"{place}{name}" if i == changed else place for i, place in enumerate(["/home", "/python", "/x.yaml"])
        )
        with pytest.raises(S4SError, match="batch systems and conda read paths without quotes"):
            check_submitted(checkout, python, [file])
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(S4SError, match="the working directory"):
        check_submitted("/home", "/python", [])


@pytest.mark.suite
@pytest.mark.parametrize("arguments", [["--workflow-profile", str(ROOT / "profiles/pbs")], ["--sdm", "conda"]])
def test_nothing_is_submitted_from_such_a_folder(tmp_path, arguments):
    (tmp_path / EVIL).mkdir()
    said = studies.snakemake(tmp_path / EVIL, "results/search/digits/costs.json", *arguments, ok=False)
    assert "the working directory" in said and "batch systems and conda read paths without quotes" in said
    assert "Traceback" not in said and not [*tmp_path.rglob("PWNED")] and not [*tmp_path.rglob("results/*/*")]


@pytest.mark.parametrize("name", ["{model}.yaml", "a{b,[0-9]+}.pkl", "line\nbreak.pt"])
def test_a_file_that_snakemake_would_read_as_a_pattern_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(S4SError, match="Snakemake takes braces for wildcards"):
        as_argument(tmp_path / name)
    with pytest.raises(S4SError, match="Snakemake takes braces for wildcards"):
        check_places("/home", "/python", [tmp_path / name])


def test_a_file_is_never_read_as_an_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert as_argument("--out=x.yaml") == str(tmp_path / "--out=x.yaml")
    assert as_argument(tmp_path / "-m/x.yaml") == str(tmp_path / "-m/x.yaml")
    assert as_argument(tmp_path / "a -b.yaml") == "a -b.yaml"


def test_names_of_fetches_are_plain_and_tell_files_apart():
    paths = ["w$(touch PWNED).pkl", "a b.pkl", "a_b.pkl", "x/model.pkl", "y/model.pkl", "it's {x}.pkl", "ü" * 200, "a\nb"]
    names = [fetch_name(path) for path in paths]
    assert len({*names}) == len(paths) and all(name.isascii() and len(name) < 100 for name in names)
    assert not any(set(name) & set("$() {}'\n/;") for name in names)


def model_file(path: Path, **changes) -> Path:
    """digits, described elsewhere."""
    described = yaml.safe_load((ROOT / "config/models/digits.yaml").read_text()) | changes
    for part in (described, described["features"], described["perceptual"]):
        if not Path(part["path"]).is_absolute():
            part["path"] = str((ROOT / "config/models" / part["path"]).resolve())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(described))
    return path


class OneFile(BaseHTTPRequestHandler):
    """Has one file."""

    def do_GET(self):
        if self.path != "/there":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_a_models_paths_and_addresses_run_nothing(tmp_path):
    """One file comes, the others fail, in words, after a shell has read the command; a long one would be written to a file."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), OneFile)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    here, folder = f"http://127.0.0.1:{server.server_port}", tmp_path / EVIL
    names = [f"w{EVIL}.pkl", "it's.pkl", "`touch PWNED`.pkl", "& touch PWNED &.pkl", "-x.pkl", "a/same.pkl", "b/same.pkl"]
    files = {name: {"path": f"resources/weights/{name}", "url": f"{here}/x'$(touch${{IFS}}PWNED)"} for name in names}
    files["there"] = {"path": f"resources/weights/{EVIL}/there.pkl", "url": f"{here}/there"}
    files["long"] = {"path": "resources/weights/long.pkl", "url": f"{here}/there", "member": "m" * 70_000}
    folder.mkdir()
    network = {"path": str(studies.ROOT / "resources/digits/classifier.safetensors")}
    model = {"name": "mine", "kind": "python", "function": "mine:make", "features": network, "perceptual": network}
    (folder / f"{EVIL}.yaml").write_text(yaml.safe_dump({**model, "files": files}))
    arguments = ["results/tableaux/mine/ddim-logsnr/nfe~3.json", "--keep-going"]
    said = studies.snakemake(folder, *arguments, "--config", f"models={json.dumps([str(folder / f'{EVIL}.yaml')])}", ok=False)
    server.shutdown()
    assert {*re.findall(r"error: (.*): cannot fetch http", said)} == {Path(name).name for name in names}
    assert f"{here}/there: no zip with a member mmm" in said
    assert (folder / files["there"]["path"]).read_text() == "here"
    assert "Traceback" not in said and not [*tmp_path.rglob("PWNED")]


@pytest.mark.suite
def test_the_whole_run_passes_in_folders_of_such_names(tmp_path):
    """A checkout with its own interpreter, a working directory and model files, each in a folder that a shell would read."""
    checkout, study = tmp_path / "My Projects" / "it's ünï", tmp_path / EVIL / "results of `touch PWNED`"
    checkout.mkdir(parents=True)
    study.mkdir(parents=True)
    studies.copy_checkout(checkout)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", checkout / ".venv"], check=True)
    python = checkout / ".venv/bin/python"
    here = sysconfig.get_paths(vars={"base": str(checkout / ".venv")}, scheme="venv")["purelib"]
    packages = sysconfig.get_paths()["purelib"]
    (Path(here) / "others.pth").write_text(f"import site; site.addsitedir({packages!r})\n")
    model = model_file(study / EVIL / f"it's {EVIL}.yaml", name="mine")
    own = yaml.safe_load(studies.TINY.read_text()) | {"models": [str(model)], "comparisons": {}}
    (study / "it's $HOME.yaml").write_text(yaml.safe_dump(own))
    command = [python, "-m", "snakemake", "-s", checkout / "Snakefile", "--directory", study, "--cores", "2"]
    command += ["--resources", "gpu=4", "--configfile", study / "it's $HOME.yaml"]
    done = subprocess.run(command, cwd=checkout, env=studies.environment(checkout), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    scores = pd.read_csv(study / "results/tables/scores.csv")
    assert {*scores.model} == {"mine"} and scores.fid_mean.notna().all()
    assert (study / "results/report.html").stat().st_size > 0
    assert not [*tmp_path.rglob("PWNED")] and not (ROOT / "PWNED").exists()
    assert (
        "Nothing to be done"
        in subprocess.run(command, cwd=checkout, env=studies.environment(checkout), capture_output=True, text=True).stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["$(touch PWNED)", "{x}"])
def test_a_checkout_that_cannot_work_says_so(tmp_path, name):
    (tmp_path / name).mkdir()
    studies.copy_checkout(tmp_path / name)
    said = studies.snakemake(
        tmp_path / name, "--dry-run", checkout=tmp_path / name, config=tmp_path / name / "tiny.yaml", ok=False
    )
    assert "cannot be in its path" in said and "Traceback" not in said and not [*tmp_path.rglob("PWNED")]
