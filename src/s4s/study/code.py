"""Which code a result depends on: the files of the package whose definitions a program reaches, found from source. No torch.

A program reaches what it names: a function, class or constant at the top of a module, and what the body of that names in turn,
imports within functions included. A string that names a module or a function of the package ("s4s.solvers.ddim:ddim", as
registries have them) counts as such a name, and f"s4s.solvers.{...}" or f"s4s.solvers.{...}:function" as one of every module in
that folder.
Annotations of functions do not count. Nothing is imported. Files count by content and by their names in the package, so that
another clone of them gives the same digest.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
STRING = re.compile(r"(s4s(?:\.\w+)+)(?::(\w+))?")
ALL = "*"  # every definition of a module
ALWAYS = "(always)"  # what stands at its top beside them
Name = tuple[str, str]  # module, and a definition at its top or ALL
Scope = dict[str, Name]  # what names stand for that an import brought


@dataclass
class Source:
    """What stands in a module.

    Attributes:
        definitions: name -> the statements at the top that define it.
        always: further statements at the top.
        imported: names that imports at the top bring.
    """

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    always: list[ast.stmt] = field(default_factory=list)
    imported: Scope = field(default_factory=dict)


@cache
def file_of(module: str) -> Path | None:
    """The file of a module of the package, None if there is none of that name."""
    root, *parts = module.split(".")
    path = PACKAGE.joinpath(*parts)
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if root == "s4s" and file.is_file()), None)


@cache
def source_of(file: Path) -> Source:
    """Read a file."""
    source = Source()
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            source.imported |= _imported(statement)
            continue
        names = list(_defined(statement))
        for name in names:
            source.definitions.setdefault(name, []).append(statement)
        if not names and not _is_for_types(statement):
            source.always.append(statement)
    return source


def _is_for_types(statement: ast.AST) -> bool:
    return isinstance(statement, ast.If) and isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING"


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        yield statement.name
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    for target in targets:
        yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name)) if target is not None else ()


def _imported(statement: ast.Import | ast.ImportFrom) -> Scope:
    """What an import brings, as far as it is of the package."""
    if isinstance(statement, ast.Import):
        return {
            alias.asname or alias.name.split(".")[0]: (alias.name if alias.asname else "s4s", "")
            for alias in statement.names
            if alias.name.split(".")[0] == "s4s"
        }
    module = statement.module or ""
    if module.split(".")[0] != "s4s":
        return {}
    return {alias.asname or alias.name: _found(module, alias.name) for alias in statement.names}


def _found(module: str, name: str) -> Name:
    """What a name of a module is: a module inside it (with "" for none of its definitions), or a definition."""
    return (f"{module}.{name}", "") if file_of(f"{module}.{name}") is not None else (module, name)


def _uses(statement: ast.AST, names: Scope) -> Iterator[Name]:
    """What some code names, of what the package defines; `names`: those of its module and those that were imported."""
    left = [(statement, names)]
    while left:
        node, known = left.pop()
        if isinstance(node, ast.Import | ast.ImportFrom) or _is_for_types(node):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner = [found for found in ast.walk(node) if isinstance(found, ast.Import | ast.ImportFrom)]
            known = known | {name: target for found in inner for name, target in _imported(found).items()} if inner else known
        if isinstance(node, ast.Name) and node.id in known:
            yield known[node.id]
        elif isinstance(node, ast.Attribute) and (target := _attribute(node, known)) is not None:
            yield target
            continue
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            module, last = str(node.values[0].value).rstrip("."), node.values[-1]
            folder, wanted = file_of(module), str(last.value).lstrip(":") if isinstance(last, ast.Constant) else ALL
            if folder is not None and folder.name == "__init__.py":
                yield from ((f"{module}.{path.stem}", wanted) for path in folder.parent.glob("[!_]*.py"))
        elif isinstance(node, ast.Constant) and (text := STRING.fullmatch(str(node.value))) and file_of(text[1]) is not None:
            yield text[1], text[2] or ALL
        for name in node._fields:
            if name in ("ctx", "annotation", "returns") and not isinstance(node, ast.AnnAssign):
                continue
            value = getattr(node, name, None)
            left += [(child, known) for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST)]


def _attribute(node: ast.Attribute, known: Scope) -> Name | None:
    """What `module.name` is, where `module` was imported; what it is of a definition is part of that."""
    if isinstance(node.value, ast.Name):
        target = known.get(node.value.id)
    else:
        target = _attribute(node.value, known) if isinstance(node.value, ast.Attribute) else None
    if target is None or target[1]:
        return target
    return _found(target[0], node.attr)


@cache
def _reached(name: Name) -> frozenset[Name]:
    """What one definition names."""
    module, wanted = name
    file = file_of(module)
    if file is None or not wanted:
        return frozenset()
    return frozenset(_in_source(module, source_of(file), wanted))


def _in_source(module: str, source: Source, wanted: str) -> Iterator[Name]:
    known = source.imported | {own: (module, own) for own in source.definitions}
    if wanted != ALL and wanted not in source.definitions and wanted in source.imported:
        yield source.imported[wanted]  # a name that the module passes on
    lazy = ast.literal_eval(source.definitions["_PUBLIC"][0].value) if "_PUBLIC" in source.definitions else {}  # type: ignore[attr-defined]
    if wanted in lazy:
        yield lazy[wanted], wanted
    elif wanted == ALWAYS:
        for statement in [] if lazy else source.always:
            yield from _uses(statement, known)
    else:
        yield module, ALWAYS
        for own in source.definitions if wanted == ALL else [wanted]:
            for statement in source.definitions.get(own, []):
                yield from _uses(statement, known)


@cache
def closure(*programs: Path, without: frozenset[str] = frozenset()) -> list[Path]:
    """The files of the package that some programs reach, sorted; the programs are not among them.

    Args:
        without: modules that a registry names but these programs do not use.
    """
    found: set[Name] = set()
    left = {name for program in programs for wanted in (ALL, ALWAYS) for name in _in_source("", source_of(program), wanted)}
    while left:
        found |= left
        left = {further for name in left for further in _reached(name) if further[0] not in without} - found
    files = {file_of(module) for module, wanted in found if wanted}
    return sorted(file for file in files if file is not None)


@cache
def digest(*programs: Path, others: tuple[Path, ...] = (), without: frozenset[str] = frozenset()) -> str:
    """Of some programs, of what they reach, and of other files."""
    files = {f"s4s/{file.relative_to(PACKAGE).as_posix()}": file for file in closure(*programs, without=without)}
    files |= {file.name: file for file in (*programs, *others)}
    hashes = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}" for name, file in sorted(files.items())]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
