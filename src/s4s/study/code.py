"""Which code a result depends on: the package files that a program imports, found from its source. No torch, nothing imported.

A string that names a module of the package ("s4s.solvers.ddim", "s4s.solvers.ddim:ddim", as registries have them) counts as an
import, and an `import_module(f"s4s.solvers.{...}")` as one of every module in that folder; what only type checks need
does not. Files are named relative to the package and hashed by content, so that another clone or a copy of the same files
gives the same digest.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NAME = re.compile(r"(s4s(?:\.\w+)+)(?::\w+)?")


def _file(module: str) -> Path | None:
    """The file of a module of the package, None if there is none of that name."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return None


def _module(file: Path) -> str:
    """The name of the module in a file; a program outside the package has none."""
    if not file.is_relative_to(PACKAGE):
        return ""
    return ".".join(["s4s", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


@cache
def _public(package: str) -> dict[str, str]:
    """The names of a package that are loaded on first use, and the modules that have them."""
    file = _file(package)
    if file is None or file.name != "__init__.py":
        return {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_PUBLIC":
            return dict(ast.literal_eval(node.value))
    return {}


def _names(tree: ast.AST) -> Iterator[str]:
    """Modules that some code names, and names that may be modules."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from _names(other)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield _public(node.module).get(alias.name, node.module)
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            folder = str(node.values[0].value).rstrip(".")
            if NAME.fullmatch(folder) and (file := _file(folder)) is not None and file.name == "__init__.py":
                yield from (f"{folder}.{path.stem}" for path in file.parent.glob("*.py") if not path.stem.startswith("__"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := NAME.fullmatch(node.value)):
            yield found[1]
        yield from _names(node)


@cache
def imports(file: Path) -> frozenset[Path]:
    """The package files that one file of Python imports itself."""
    names = {name for name in _names(ast.parse(file.read_text())) if name.split(".")[0] == "s4s"}
    if _public(_module(file)):  # these names count where they are asked for
        return frozenset()
    parents = {".".join(name.split(".")[:i]) for name in names for i in range(1, len(name.split(".")))}
    return frozenset(found for name in names | parents if (found := _file(name)) is not None)


def closure(*programs: Path) -> list[Path]:
    """The package files that some programs import, directly or not, sorted; the programs are not among them."""
    found: set[Path] = set()
    left = {file for program in programs for file in imports(program)}
    while left:
        found |= left
        left = {further for file in left for further in imports(file)} - found
    return sorted(found)


def digest(*programs: Path, others: tuple[Path, ...] = ()) -> str:
    """Of some programs, all that they import, and other files; the names that count are those within package and folder."""
    files = {f"s4s/{file.relative_to(PACKAGE).as_posix()}": file for file in closure(*programs)}
    files |= {file.name: file for file in (*programs, *others)}
    hashes = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}" for name, file in sorted(files.items())]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
