"""The commands that README, docs and docstrings give exist, take the options named, and, of tests, select some."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from s4s.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = [path for folder in ("tests", "benchmarks", "workflow", "envs") for path in sorted((ROOT / folder).rglob("*.py"))]


def code_of(path):
    """What a page, or a program's docstring, sets as code: a command each, perhaps with a comment."""
    text = path.read_text()
    if path.suffix == ".py":
        text = (re.match(r'\s*"""(.*?)"""', text, re.S) or ["", ""])[1]
    for match in re.finditer(r"```\w*\n(.*?)```|`([^`]+)`|^ {2,}(\S[^\n]*)$", text, re.M | re.S):
        block, span, line = match.groups()
        yield from block.splitlines() if block else [" ".join((span or line).split())]


def command_of(code):
    """A line of code without its comment, the variables before it, and who runs it."""
    return re.sub(r"^(\w+=\S+ )*(python )?(-m )?", "", code.partition(" #")[0].strip())


LINES = [(path.relative_to(ROOT), command_of(code)) for path in [*PAGES, *PROGRAMS] for code in code_of(path)]


def commands(program):
    """Commands of a program as words, by where they stand."""
    return {f"{path}: {line}": shlex.split(line) for path, line in LINES if re.match(program, line)}


def options(words):
    return [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]


PYTEST = commands("pytest ")
PYTHON = commands(r"\w+/\w+\.py")
MAKE = commands("make ")
S4S = commands("s4s ")


def test_commands_are_found():
    assert min(len(PYTEST), len(PYTHON), len(MAKE), len(S4S)) > 3, (PYTEST, PYTHON, MAKE, S4S)


@pytest.mark.parametrize("where", PYTHON)
def test_a_program_exists_and_names_its_options(where):
    program, *words = PYTHON[where]
    text = (ROOT / program).read_text()
    assert [option for option in options(words) if f'"{option}"' not in text] == []


@pytest.mark.parametrize("where", MAKE)
def test_a_target_exists(where):
    text = (ROOT / "Makefile").read_text()
    targets, variables = re.findall(r"^([\w-]+):", text, re.M), re.findall(r"^(\w+) \?=", text, re.M)
    for word in MAKE[where][1:]:
        name, is_variable, _ = word.partition("=")
        assert name in (variables if is_variable else targets)


@pytest.mark.parametrize("where", S4S)
def test_a_command_has_its_options(where):
    command, words = typer.main.get_command(app), S4S[where][1:]
    while getattr(command, "commands", None) and words and words[0] != "COMMAND":
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    assert {*options(words)} <= known


SELECTS = """
import sys, pytest
for line in sys.stdin.read().splitlines():
    print("selects", pytest.main(["--collect-only", "-q", *line.split("\\t")]) == 0)
"""


@pytest.mark.suite
def test_pytest_selects_tests():
    """All in one process, which imports the tests once."""
    lines = "\n".join("\t".join(words[1:]) for words in PYTEST.values())
    done = subprocess.run([sys.executable, "-c", SELECTS], input=lines, cwd=ROOT, capture_output=True, text=True, check=True)
    said = re.findall(r"^selects (\w+)$", done.stdout, re.M)
    assert len(said) == len(PYTEST)
    assert [where for where, found in zip(PYTEST, said, strict=True) if found != "True"] == [], done.stdout[-2000:]
