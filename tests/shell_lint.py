"""Refuses what lets a value run as code: in rules all but quoted values in plain commands, in programs any use of a shell.

    python tests/shell_lint.py [FILE ...]

By default the Snakefile, rules/, src/, workflow/, benchmarks/ and envs/. A rule's command is a `shell:` whose own text no shell
reads as more than words: one call of s4s.jobs.fork_server, values as {name:q}, and files for what it says. There is no
`script:`, `notebook:` or `wrapper:`, for which Snakemake gives the interpreter's path to a shell, and no `run:`, for which it
starts itself through one.
"""

import ast
import re
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from snakemake.parser import parse

ROOT = Path(__file__).parents[1]
CHECKED = ("Snakefile", "rules/*.smk", *(f"{folder}/**/*.py" for folder in ("src", "workflow", "benchmarks", "envs")))
PLAIN = re.compile(r"python -m s4s\.jobs\.fork_server [\w ./~-]+(2> |2>&1 \| tee )[\w./~-]+")
VALUE = re.compile(r"[a-z]\w*(\.\w+|\[\w+\])*")
OTHERS = ("script", "notebook", "wrapper", "cwl", "template_engine")
SHELLS = {"os": ("system", "popen"), "subprocess": ("getoutput", "getstatusoutput"), "asyncio": ("create_subprocess_shell",)}


def of_command(text: ast.expr) -> Iterator[str]:
    """What is wrong with the text of a `shell:`."""
    if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
        yield "put together from parts; write one text, with values as {params.name:q}"
        return
    plain = ""
    for own, name, form, conversion in string.Formatter().parse(text.value):
        plain += own + ("value" if name is not None else "")
        if name is not None and (form != "q" or conversion or not VALUE.fullmatch(name)):
            yield f"given an unquoted value, {name!r}; write {{name:q}}"
    if not PLAIN.fullmatch(plain):
        yield f"more than a call of s4s.jobs.fork_server with plain words, `2>` or `2>&1 | tee`: {plain}"


def of_program(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines of Python that start a shell, and what is wrong with them."""
    functions = {f"{module}.{name}" for module, names in SHELLS.items() for name in names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in functions:
            yield node.lineno, f"{ast.unparse(node)} starts a shell; give subprocess a list"
        if isinstance(node, ast.ImportFrom) and any(alias.name in SHELLS.get(node.module or "", ()) for alias in node.names):
            yield node.lineno, f"{node.module}.{node.names[0].name} starts a shell; give subprocess a list"
        if isinstance(node, ast.keyword) and node.arg == "shell" and ast.unparse(node.value) != "False":
            yield node.value.lineno, "shell= starts a shell; give subprocess a list"


def of_rules(tree: ast.AST) -> Iterator[str]:
    """What is wrong with rules that Snakemake's own parser has read."""
    by_rules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            decorators = {ast.unparse(each.func if isinstance(each, ast.Call) else each) for each in node.decorator_list}
            if "workflow.run" in decorators:
                by_rules |= {*ast.walk(node)} if "workflow.shellcmd" in decorators else set()
                ways = {f"workflow.{way}" for way in ("shellcmd", "norun", *OTHERS)}
                if not ways & decorators:
                    yield "`run:`; write a program in workflow/scripts and call it by `shell:`"
    for node in ast.walk(tree):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if called == "workflow.shellcmd":
            yield from (f"`shell:` is {problem}" for problem in of_command(node.args[0]))
        elif called.startswith("workflow.") and called.removeprefix("workflow.") in OTHERS:
            yield f"`{called.removeprefix('workflow.')}:`; write `shell:`"
        elif called == "shell" and node not in by_rules:
            yield "shell() outside a rule's `shell:`"


def compiled(path: Path) -> ast.AST:
    """A Snakefile as the Python that Snakemake makes of it."""
    source = SimpleNamespace(get_path_or_uri=lambda secret_free: str(path))
    opened = SimpleNamespace(sourcecache=SimpleNamespace(open=lambda _: path.open()))
    return ast.parse(parse(source, opened, {})[0])


def problems(path: Path) -> list[str]:
    """What is wrong with a Snakefile or a program, a line each."""
    if path.suffix == ".py":
        return [f"{path}:{line}: {problem}" for line, problem in of_program(ast.parse(path.read_text()))]
    tree = compiled(path)
    return [f"{path}: {problem}" for problem in (*of_rules(tree), *(said for _, said in of_program(tree)))]


if __name__ == "__main__":
    files = [Path(name) for name in sys.argv[1:]] or [path for pattern in CHECKED for path in sorted(ROOT.glob(pattern))]
    found = [problem for path in files for problem in problems(path)]
    print("\n".join(found) or f"no value reaches a shell unquoted in {len(files)} files")
    sys.exit(bool(found))
