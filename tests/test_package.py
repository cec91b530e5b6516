"""The package as others install it: the wheel in an empty folder, the core without the extras, what each extra is for."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import s4s
from s4s.errors import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PARTS = {"src/s4s": "s4s", "config": "s4s/files/shipped/config", "resources": "s4s/files/shipped/resources"}
TINY = "teacher: {steps: 6, train: 8, val: 4}\nfit: {iterations: 2, batch: 4, validate_every: 1}\n"


def python(*arguments, path, folder):
    """What a program prints in an empty folder that imports s4s from `path`."""
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the wheel of this checkout is installed in, and the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder / "site", wheel]
    subprocess.run(install, check=True)
    return folder / "site", wheel


def test_the_wheel_has_every_file_that_the_checkout_has(installed):
    there = set(zipfile.ZipFile(installed[1]).namelist())
    wanted = {
        f"{inside}/{path.relative_to(ROOT / part).as_posix()}"
        for part, inside in PARTS.items()
        for path in (ROOT / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.is_relative_to(ROOT / "resources/weights")
    }
    assert wanted == {name for name in there if ".dist-info/" not in name}
    assert {"s4s/py.typed", "s4s/reporting/report.html", "s4s/files/shipped/config/config.yaml"} <= wanted


def test_the_wheel_is_called_as_pip_calls_it(installed):
    assert installed[1].name == f"s4s_solvers-{s4s.__version__}-py3-none-any.whl"


COMMANDS = """
import sys
from importlib.resources import files
from pathlib import Path

import s4s
from s4s.cli import main
from s4s.models.published import datasets

assert Path(s4s.__file__).is_relative_to(sys.argv[1]), s4s.__file__
for command in Path("commands").read_text().splitlines():
    sys.argv = ["s4s", *command.split()]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, (command, ended.code)
for name in ("digits-cond", "mixture", "patches-latent", "tabular"):
    s4s.load_model(name)
assert datasets()
assert "{{" in files("s4s.reporting").joinpath("report.html").read_text()
"""


def test_the_wheel_works_in_an_empty_folder(installed, tmp_path):
    site = installed[0]
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "tiny.yaml").write_text(TINY)
    commands = [
        "fit digits --nfe 3 --config tiny.yaml --threads 1 --out solver",
        "sample digits solver/nfe~3.json --count 2 --threads 1 --out digits.png",
        "export comfyui solver/nfe~3.json --out .",
        "export diffusers solver/nfe~3.json --out exported",
    ]
    (tmp_path / "commands").write_text("\n".join(commands))
    (tmp_path / "program.py").write_text(COMMANDS)
    python("program.py", site, path=site, folder=tmp_path)
    assert "S4S Solver" in (tmp_path / "custom_nodes/s4s/__init__.py").read_text()
    assert (tmp_path / "models/s4s/digits/joint/nfe~3.json").is_file()
    assert json.loads((tmp_path / "exported/scheduler_config.json").read_text())["_class_name"] == "S4SScheduler"
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    assert "digits" in python(site / "bin/s4s", "show", "solver/nfe~3.json", path=site, folder=tmp_path)


CORE = """
import contextlib
import io
import sys
from pathlib import Path

blocked = set(sys.argv[1].split(","))


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocker())
import s4s
from s4s.cli import main
from s4s.export import sample_s4s, sigmas_of


def command(*arguments):
    sys.argv, said = ["s4s", *arguments], io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as ended:
            return said.getvalue().strip().splitlines()[-1] if ended.code else ""
    return ""


model = s4s.load_model("digits")
for kind in ("edm", "time_quadratic", "trailing", "logsnr"):
    tableau = s4s.solver("unipc", s4s.levels(kind, 4, model), order=3)
y_0 = s4s.sample(model, s4s.initial_noise(model, [0, 1]), tableau)
tableau.with_meta(model="digits", token="unipc3").save("nfe~4.json")
assert s4s.Tableau.load("nfe~4.json").same_as(tableau)
x_0 = sample_s4s(lambda x, sigma: model(x, sigma), s4s.initial_noise(model, [0, 1]), sigmas_of(tableau), tableau=tableau)
assert (model.decode(x_0) - model.decode(y_0)).abs().max() < 1e-5
for works in ("show nfe~4.json", "compare nfe~4.json nfe~4.json", "sample digits nfe~4.json --count 1 --out x.npy",
              "sample digits nfe~4.json --count 1 --out x.png", "export comfyui nfe~4.json --out ."):
    assert not command(*works.split()), works
for name in ("s4s.fit", "s4s.TeacherPairs", "s4s.export.S4SScheduler"):
    try:
        eval(name)
    except s4s.S4SError as error:
        print(error)
for needs in ("fit digits --nfe 3 --out solver", "sample digits nfe~4.json --out x.h5", "show nfe~4.json --plot x.pdf",
              "export diffusers nfe~4.json --out x"):
    print(command(*needs.split()))
try:
    s4s.load_model("sd15")
except s4s.S4SError as error:
    print(error)
"""


def test_the_core_does_without_the_extras_and_names_the_one_that_something_needs(tmp_path):
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "program.py").write_text(CORE)
    lines = python("program.py", ",".join(EXTRAS), path=ROOT / "src", folder=tmp_path).splitlines()
    found = [
        re.search(r"(.*) needs the package (\w+): pip install 's4s-solvers\[(\w+)\]' \(in", line).groups() for line in lines
    ]
    assert found == [
        ("s4s.fit", "h5py", "fit"),
        ("s4s.TeacherPairs", "h5py", "fit"),
        ("s4s.export.S4SScheduler", "diffusers", "pretrained"),
        ("error: this command", "h5py", "fit"),
        ("error: an .h5 file", "h5py", "fit"),
        ("error: a plot", "matplotlib", "workflow"),
        ("error: this command", "diffusers", "pretrained"),
        ("a model of kind pipeline", "diffusers", "pretrained"),
    ]


def requirements(extra):
    """The distributions that an extra names itself, or the core, "": lower case, with -."""
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines} - {"s4s-solvers"}


def test_whatever_the_package_imports_is_in_the_core_or_in_an_extra():
    known = packages_distributions()
    theirs = {"comfy", "comfy_api", "folder_paths"}  # ComfyUI, which the node runs in
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"s4s"} - theirs:
                found = {name.lower().replace("_", "-") for name in known[module]}
                assert found & requirements(EXTRAS.get(module, "")), f"{file}: {module}"


@pytest.mark.parametrize("module", EXTRAS)
def test_an_extra_has_what_errors_say_of_it(module):
    names = {name.lower().replace("_", "-") for name in packages_distributions()[module]}
    assert names & requirements(EXTRAS[module])


USERS = """
import torchvision
from torchvision.transforms import functional

import s4s


def make(name, device, files):
    model = s4s.load_model("mixture", device)
    model.name = name
    return model
"""


def test_a_users_own_module_may_import_torchvision(tmp_path):
    """First of all that do, in a new process, beside whatever torch is there."""
    (tmp_path / "mine.py").write_text(USERS)
    (tmp_path / "mine.yaml").write_text("name: mine\nkind: python\nfunction: mine:make\n")
    program = "import s4s, sys; assert 'torch' not in sys.modules; print(s4s.load_model('mine.yaml').name)"
    assert python("-c", program, path=ROOT / "src", folder=tmp_path) == "mine\n"


def test_the_conda_environment_is_what_pyproject_and_constraints_say():
    made = python(ROOT / "envs/generate.py", path=ROOT / "src", folder=ROOT)
    assert made == (ROOT / "envs/s4s.yaml").read_text(), "run: python envs/generate.py > envs/s4s.yaml"
    assert {"h5py", "xxhash", "snakemake", "clean-fid", "torch"} <= set(re.findall(r"- ([\w-]+)==", made))


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_every_direct_dependency_is_pinned(extra):
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    assert requirements(extra) <= pinned
