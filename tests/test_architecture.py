"""The house: what stands at the top of the package, and that imports run one way (docs/development.md)."""

import ast
from collections import defaultdict

import pytest

from s4s.study.code import PACKAGE, file_of

ORDER: list[tuple[str, ...]] = [
    ("errors",), ("files",), ("jobs",), ("tableau",), ("models",), ("sampling", "schedules"), ("solvers",), ("metrics",),
    ("learning",), ("study",), ("reporting", "export"), ("cli",),
]  # fmt: skip
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def room_of(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree):
    """The modules that a file imports, within functions too, but for type checks alone; registries name theirs in strings."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("s4s."):
            yield node.value.partition(":")[0]
        yield from imported(node)


def arrows():
    """(room, other room) -> the modules between which an import runs, those within functions included."""
    found = defaultdict(list)
    for file in sorted(PACKAGE.rglob("*.py")):
        for name in imported(ast.parse(file.read_text())):
            target = file_of(name)
            if target is not None and room_of(target) != room_of(file) and "__init__" not in (room_of(file), room_of(target)):
                found[room_of(file), room_of(target)].append(f"{file.relative_to(PACKAGE)} imports {name}")
    return found


def test_every_file_at_the_top_is_a_room_of_the_house():
    entries = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))} - {"__init__"}
    assert entries == RANK.keys()
    assert len(entries) + 2 <= 16  # with __init__.py and py.typed


def test_imports_run_one_way():
    upward = [line for (room, other), lines in arrows().items() if RANK[other] >= RANK[room] for line in lines]
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("__init__.py")), ids=lambda file: room_of(file) + "/" + file.parent.name)
def test_a_room_says_what_it_holds(file):
    assert ast.get_docstring(ast.parse(file.read_text()))
