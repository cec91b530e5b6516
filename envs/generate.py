"""Prints the environment of `snakemake --sdm conda`:  python envs/generate.py > envs/s4s.yaml

It has what the extra `workflow` of pyproject.toml names, at the versions of constraints.txt. A test fails on drift.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = """\
# Made by envs/generate.py from pyproject.toml and constraints.txt.
# For `snakemake --sdm conda`; the package itself is found through PYTHONPATH (rules/common.smk).
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def environment() -> str:
    """The file's text."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pinned = {_normal(name): version for name, version in pins.items()}
    names = dict.fromkeys([*map(_name, project["dependencies"]), *_needed("workflow", project)])
    return HEAD + "".join(f"      - {name}=={pinned[_normal(name)]}\n" for name in names)


def _needed(extra: str, project: dict) -> Iterator[str]:
    """The distributions that an extra brings, those of the project's extras that it names included."""
    for requirement in project["optional-dependencies"][extra]:
        if _name(requirement) == project["name"]:
            for other in requirement[requirement.index("[") + 1 : requirement.index("]")].split(","):
                yield from _needed(other.strip(), project)
        else:
            yield _name(requirement)


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return found[0]


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


if __name__ == "__main__":
    print(environment(), end="")
