"""What the jobs of a study cost, read from the last lines of their logs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from s4s.errors import DamagedFile, S4SWarning
from s4s.files.json_file import parse_signed
from s4s.jobs.script import USAGE

COLUMNS = [
    "log", "job", "run", "ended", "versions", "device", "seconds", "processor_seconds", "peak_memory_mb", "gpus", "gpu_peak_mb",
    "evaluations",
]  # fmt: skip
TAIL = 1 << 12  # the usage line is shorter


def read_usage(folder: str | Path) -> pd.DataFrame:
    """One row for each log below a folder that ends with a usage line; other logs, as of jobs that run, are left out.

    `log` is its path in the folder. What earlier versions did not write is missing: ended (UTC), versions, device.
    """
    return pd.DataFrame([*_usage(folder)], columns=COLUMNS).fillna({"gpus": 0, "gpu_peak_mb": 0, "evaluations": 0})


def _usage(folder: str | Path) -> Iterator[dict[str, Any]]:
    for path in sorted(Path(folder).rglob("*.log")):
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            last = file.read().decode(errors="replace").rstrip().rpartition("\n")[2]
        if last.startswith(USAGE):
            try:
                usage = parse_signed(last.removeprefix(USAGE), path, "its last line, what the job cost,")
            except DamagedFile as error:
                warnings.warn(f"{error}; this job is left out of the costs", S4SWarning, stacklevel=2)
                continue
            yield {"log": path.relative_to(folder).as_posix(), **usage}


def by_job(usage: pd.DataFrame, run: str) -> pd.DataFrame:
    """A row for each kind of job: how many, how many of them this run made and how many it found done, and their cost."""
    rows = usage.assign(here=usage.run == run, gpu_seconds=usage.gpus * usage.seconds).groupby("job", sort=True)
    table = rows.agg(
        jobs=("job", "size"), here=("here", "sum"), evaluations=("evaluations", "sum"), seconds=("seconds", "sum"),
        processor=("processor_seconds", "sum"), gpu_seconds=("gpu_seconds", "sum"),
        memory=("peak_memory_mb", "max"), gpu_memory=("gpu_peak_mb", "max"),
    )  # fmt: skip
    table.insert(2, "reused", table.jobs - table.here)
    return table
