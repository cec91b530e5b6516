"""Runs of the workflow, and the finished studies that tests start from.

A finished study is made once a test run, in a folder that all workers share; a test that needs one to change gets a copy whose
result files are hard links. That is safe, for the workflow writes results by atomic replacement: a new file takes the name, and
the old one, with its other names, stays as it was. What is written in place (logs, benchmarks, Snakemake's own records) is
copied, and so is the checkout. A test that damages a file does so with `overwrite`, which replaces it too.

Runs of the code that is tested are forked from a server that they share, and so are their jobs, for it takes seconds to import
what they need. Processes of their own, with servers of their own, as outside tests, are runs of edited code, those that tests
kill, those on a cluster, and those with `forked=False`, for tests of what happens at the start or end of a process.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

from s4s.jobs.fork_server import start_server

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/configs/tiny.yaml"
CHECKOUT = ("Snakefile", "rules", "workflow", "config", "profiles", "resources", "envs", "src")
HELD: list[subprocess.Popen | None] = []  # the server's standard input, until this process ends
IN_PLACE = ("logs", "benchmarks", ".metadata")  # of results


def command(directory: Path, *arguments: str, checkout: Path = ROOT, config: Path = TINY) -> list[str]:
    """One run of Snakemake in a folder."""
    made = [sys.executable, "-m", "snakemake", "-s", str(checkout / "Snakefile"), "--directory", str(directory)]
    return [*made, "--cores", "2", *arguments, "--configfile", str(config)]


def environment(checkout: Path) -> dict[str, str]:
    """That of a run by a checkout's own package, whichever is installed."""
    path = [str(checkout / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path).rstrip(os.pathsep)}


def snakemake(
    directory: Path,
    *arguments: str,
    checkout: Path = ROOT,
    config: Path = TINY,
    ok: bool | None = True,
    forked: bool = True,
    **env: str,
) -> str:
    """What a run printed, which ended as expected; `ok` None for either way."""
    made = command(directory, *arguments, checkout=checkout, config=config)
    env = {**environment(checkout), **env}
    if forked and sources(checkout) == sources(ROOT):
        made[1:3] = ["-m", "s4s.jobs.fork_server", str(Path(find_spec("snakemake").origin).with_name("__main__.py"))]
        env["S4S_WARM"] = shared_server()
    done = subprocess.run(made, capture_output=True, text=True, env=env)
    assert ok is None or (done.returncode == 0) == ok, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def sources(checkout: Path) -> dict[str, bytes]:
    """What a checkout's package says."""
    return {str(path.relative_to(checkout)): path.read_bytes() for path in (checkout / "src").rglob("*.py")}


@cache
def shared_server() -> str:
    """The address of a server for all runs that this process starts; it ends with this process."""
    modules = ["snakemake.cli", "s4s.learning.fit", "s4s.metrics.score", "s4s.reporting.figures", "s4s.reporting.report"]
    modules += ["fontTools.subset", "sklearn.model_selection"]
    with mock.patch.dict(os.environ):
        HELD.append(start_server(*modules))
        return os.environ.get("S4S_WARM", "")


def jobs(output: str) -> dict[str, int]:
    """How often each rule ran, or would run, by what Snakemake printed."""
    names = [line.split()[1].rstrip(":") for line in output.splitlines() if re.match(r"\s*(local)?rule ", line)]
    return {name: names.count(name) for name in names if name != "all"}


def copy_checkout(folder: Path) -> None:
    """What the workflow needs of this repository, for tests that edit it, and the tiny config."""
    for name in CHECKOUT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, folder)
    shutil.copy(TINY, folder)


def linked(study: Path, folder: Path) -> Path:
    """A copy of a folder in which a study ran; its results are links (see above)."""
    shutil.copytree(
        study, folder, symlinks=True, ignore=lambda at, _: ["results"] if Path(at) == study else [], dirs_exist_ok=True
    )
    link_results(study, folder)
    return folder


def without(study: Path, folder: Path, *names: str) -> Path:
    """A copy of a folder in which a study ran, without some of its results."""
    linked(study, folder)
    for name in names:
        shutil.rmtree(folder / "results" / name)
    return folder


def link_results(study: Path, folder: Path) -> None:
    """The results of a study in another folder."""
    results = study / "results"

    def link_or_copy(source: str, target: str) -> None:
        if Path(source).relative_to(results).parts[0] in IN_PLACE:
            shutil.copy2(source, target)
        else:
            os.link(source, target)

    if results.exists():
        shutil.copytree(results, folder / "results", symlinks=True, copy_function=link_or_copy)


def overwrite(path: Path, content: str | bytes) -> None:
    """Replace a file that may be a link by one of other content and the same times, as if it had been damaged."""
    times, data = path.stat(), content.encode() if isinstance(content, str) else content
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def contents(study: Path) -> dict[str, list]:
    """Checksum and time of each file that copies of a study are linked to."""
    files = [path for path in sorted((study / "results").rglob("*")) if path.is_file()]
    files = [path for path in files if path.relative_to(study / "results").parts[0] not in IN_PLACE]
    return {
        str(path.relative_to(study)): [hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns] for path in files
    }


class Shared:
    """Folders that are made once a test run, by whichever worker needs one first.

    Args:
        root: where they are, the same for all workers.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def __call__(self, name: str, make: Callable[[Path], None]) -> Path:
        folder, done = self.root / name, self.root / f"{name}.json"
        with (self.root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                make(folder)
                done.write_text(json.dumps(contents(folder)))
        return folder

    def check(self) -> None:
        """Raises AssertionError if a test changed a folder that others are linked to."""
        for done in self.root.glob("*.json"):
            before, after = json.loads(done.read_text()), contents(done.with_suffix(""))
            changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
            assert not changed, f"a test changed the shared study {done.stem}; it must work on a copy: {changed}"


def tiny(folder: Path) -> None:
    """The tiny config from the teacher to the report, in a copy of the repository."""
    copy_checkout(folder)
    snakemake(folder, "--resources", "gpu=4", checkout=folder, config=folder / "tiny.yaml")


def compare(study: Path, folder: Path) -> None:
    """The tiny config's further comparison, beside what is there."""
    linked(study, folder)
    snakemake(folder, "main", "--resources", "gpu=4", checkout=folder, config=folder / "tiny.yaml")
