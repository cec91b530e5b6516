"""The house: what stands at the top of the package, and that imports run one way (docs/development.md)."""

import ast

import pytest

from benchmarks.house import RANK, arrows, in_circles, rooms, upward
from s4s.study.code import PACKAGE


def test_every_file_at_the_top_is_a_room_of_the_house():
    assert rooms(PACKAGE) == RANK.keys()
    assert len(rooms(PACKAGE)) + 2 <= 16  # with __init__.py and py.typed


def test_imports_run_one_way():
    found = arrows(PACKAGE)
    assert len(found) > 40 and not upward(found), "\n".join(upward(found))
    assert in_circles(found) == 0


def test_an_import_against_the_order_is_found(tmp_path):
    """Also within a function, of a module by its package, and in a registry's string; not what type checks alone need."""
    for room in RANK:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("")
    for name, text in {
        "a": "def f():\n    from s4s.cli import x\n",
        "b": "import s4s.export.scheduler\n",
        "c": "A = {'x': 's4s.study.make:learned'}\n",
        "d": "from s4s import learning\n",
    }.items():
        (tmp_path / f"files/{name}.py").write_text(text)
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from s4s.cli import x\n"
    (tmp_path / "files/e.py").write_text(text)
    (tmp_path / "cli/f.py").write_text("from s4s.files import a\n")
    found = arrows(tmp_path)
    assert {line.split()[0] for line in upward(found)} == {"files/a.py", "files/b.py", "files/c.py", "files/d.py"}
    assert in_circles(found) == 2


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("__init__.py")), ids=lambda file: str(file.parent.relative_to(PACKAGE)))
def test_a_room_says_what_it_holds(file):
    assert ast.get_docstring(ast.parse(file.read_text()))
