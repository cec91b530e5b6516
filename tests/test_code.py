"""Which code a result depends on: an edit reruns exactly what uses the file, another clone of it nothing."""

import shutil
from functools import cache
from pathlib import Path

import pytest

from s4s.models.adapters import ADAPTERS
from s4s.study import code

PROGRAMS = Path(__file__).parents[1] / "workflow/scripts"
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.py"))
OF_MODELS = {"fit", "model_statistics", "question", "sample", "score", "tableau", "teacher_convergence", "teacher_shard"}
OF_MODELS |= {"teacher_trajectories", "figure", "reference_moments"}
OF_STUDY = {"report", "scores_csv"}  # they know the registry, whose entries name their functions
OF_SOLVERS = {"fit", "question", "tableau", "teacher_convergence", "teacher_trajectories"}

# a file or more of every room -> the programs whose results depend on it
USERS = {
    "errors": {*NAMES},
    "files/rows": {"figure", "fit", "gits_costs", "join_shards", "model_statistics", "question", "reference_moments", "sample"}
    | {"score", "teacher_shard", "teacher_trajectories"},
    "files/resumable_rows": {"question", "sample", "score", "teacher_shard"},
    "jobs/script": {*NAMES},
    "jobs/costs": {"report"},
    "models/load": OF_MODELS,
    "models/download": {"fetch"},
    "models/edm/pickle_reader": OF_MODELS,
    "models/embedded/training": {"train_embedded"},
    "sampling": {"fit", "question", "reference_moments", "sample", "score", "teacher_convergence", "teacher_shard"}
    | {"teacher_trajectories"},
    "schedules/gits": {*OF_SOLVERS, "gits_costs", *OF_STUDY},
    "schedules/imported": {"tableau"},
    "models/published_solvers": {"tableau", *OF_STUDY},
    "solvers/unipc": {*OF_SOLVERS, *OF_STUDY},
    "metrics/fid": {"question", "reference_moments", "score", "train_embedded"},
    "learning/gauss_newton": {"fit", "question"},
    "learning/draw": {"sample"},
    "study/targets": OF_STUDY,
    "reporting/tables": {"analysis", "answer", "comparison_table", "figure", "paper_table", "report", "scores_csv"},
    "reporting/paper_figures": {"figure"},
    "reporting/questions/tracking": {"answer", "question", "report"},
    "export/scheduler": set(),
    "cli/fit": set(),
}


def users(file):
    return {name for name in NAMES if code.PACKAGE / f"{file}.py" in code.closure(PROGRAMS / f"{name}.py")}


@pytest.mark.parametrize("file", USERS)
def test_an_edit_reruns_exactly_what_uses_the_file(file):
    assert (code.PACKAGE / f"{file}.py").is_file() and users(file) == USERS[file]


def test_every_room_is_among_them():
    rooms = {path.name for path in code.PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert {file.partition("/")[0] for file in USERS} >= rooms


def test_adapters_of_other_kinds_do_not_count():
    of_embedded = code.closure(PROGRAMS / "sample.py", without=frozenset(ADAPTERS.values()) - {ADAPTERS["embedded"]})
    assert code.PACKAGE / "models/embedded/unet.py" in of_embedded and not any(
        "edm/pickle" in str(file) for file in of_embedded
    )


def look_at(monkeypatch, package):
    """Read the package in another folder, from now on."""
    monkeypatch.setattr(code, "PACKAGE", package)
    for function in (code.file_of, code.source_of, code.closure, code.digest, code._reached):
        monkeypatch.setattr(code, function.__name__, cache(function.__wrapped__))


@pytest.mark.slow
def test_another_clone_has_the_same_digests_and_an_edit_of_one_file_others(tmp_path, monkeypatch):
    before = {name: code.digest(PROGRAMS / f"{name}.py") for name in NAMES}
    shutil.copytree(code.PACKAGE, tmp_path / "src/s4s", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROGRAMS, tmp_path / "scripts")

    def changed():
        look_at(monkeypatch, tmp_path / "src/s4s")
        return {name for name in NAMES if code.digest(tmp_path / f"scripts/{name}.py") != before[name]}

    assert changed() == set()
    for file in ("learning/draw", "metrics/fid", "schedules/gits"):
        path = tmp_path / f"src/s4s/{file}.py"
        text = path.read_text()
        path.write_text(f"{text}# an edit\n")
        assert changed() == USERS[file]
        path.write_text(text)
    script = tmp_path / "scripts/figure.py"
    script.write_text(f"{script.read_text()}# an edit\n")
    assert changed() == {"figure"}


def test_what_a_program_names_is_followed(tmp_path, monkeypatch):
    """Imports within functions, modules by their name, names that a module passes on, registries; not annotations."""
    folder = tmp_path / "s4s/files"
    folder.mkdir(parents=True)
    texts = {
        "one": "def f():\n    from s4s.files.two import g\n    g()\ndef other():\n    from s4s.files.three import h\n    h()\n",
        "two": "def g(): pass\n",
        "three": "def h(): pass\n",
        "four": "from s4s.files.two import g\n",
    }
    for path in (tmp_path / "s4s/__init__.py", folder / "__init__.py"):
        path.write_text("")
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)

    def reached(text):
        look_at(monkeypatch, tmp_path / "s4s")
        (tmp_path / "program.py").write_text(text)
        return {path.stem for path in code.closure(tmp_path / "program.py")}

    assert reached("from s4s.files.one import f\nf()") == {"one", "two"}
    assert reached("from s4s.files import one\none.other()") == {"one", "three"}
    assert reached("from s4s.files.one import f\n") == set(), "an import alone is no use"
    assert reached("from s4s.files.four import g\ng()") == {"two", "four"}
    assert reached("A = {'x': 's4s.files.two:g'}\n") == {"two"} and reached("a = 's4s.files.one:f'") == {"one", "two"}
    assert reached("def f(x): return f's4s.files.{x}:f'") >= {"one", "two"}
    assert reached("from s4s.files.two import g\ndef f(a: g) -> g: pass\n") == set()
    assert reached("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from s4s.files.two import g\n") == set()
