"""Progress of a whole study with the time left, on the terminal and in a file, from the workflow engine's log records."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection
from pathlib import Path

from tqdm import tqdm

EVERY = 15.0  # seconds between lines


def plan(rules: Collection[str]) -> str:
    """What a dry run says, by the names of its rules; the workflow puts its own function here."""
    return ""


def name_of(record: logging.LogRecord) -> str:
    """The event that a record of the workflow engine is about."""
    return str(getattr(record, "event", ""))


class RunProgress:
    """Hears every record of the engine's logger; their events are job_info, job_started, job_finished and run_info, which the
    interface of logger plugins defines.

    The time left is the sum over the jobs that are left, each as long as those of its rule so far, over the
    number of jobs at a time so far.
    """

    def __init__(self, path: str | Path):
        self.path, self.started, self.shown = Path(path), time.monotonic(), time.monotonic()
        self.rules: dict[int, str] = {}  # job -> rule
        self.begun: dict[int, float] = {}  # running job -> when
        self.total: Counter[str] = Counter()  # rule -> jobs of this run
        self.done: Counter[str] = Counter()
        self.busy: defaultdict[str, float] = defaultdict(float)  # rule -> seconds of its finished jobs

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a record; now and then print a line."""
        now, event = time.monotonic(), name_of(record)
        if event == "run_info":
            self.total = Counter({rule: n for rule, n in getattr(record, "stats", {}).items() if rule != "total"})
        elif event == "job_info":
            self.rules[getattr(record, "jobid", -1)] = getattr(record, "rule_name", "")
            self.begun[getattr(record, "jobid", -1)] = now
        elif event == "job_finished":
            self._finished(getattr(record, "job_id", -1), now)
        if now - self.shown > EVERY and self.done.total():
            self.shown = now
            self.show(now)

    def _finished(self, job: int, now: float) -> None:
        if job in self.begun:
            rule = self.rules.get(job, "")
            self.busy[rule] += now - self.begun.pop(job)
            self.done[rule] += 1

    def left(self, now: float) -> float:
        """Seconds until the end, by the rule above."""
        busy, done = math.fsum(self.busy.values()), self.done.total()
        mean = busy / max(1, done)
        work = sum(
            (self.busy[rule] / self.done[rule] if self.done[rule] else mean) * (total - self.done[rule])
            for rule, total in self.total.items()
        )
        going = sum(now - begun for begun in self.begun.values())
        at_a_time = max(1.0, (busy + going) / max(1e-9, now - self.started))
        return max(0.0, work - going) / at_a_time

    def show(self, now: float) -> None:
        """One line, with what runs longest if that is long."""
        done = self.done.total()
        total = max(self.total.total(), done + len(self.begun))
        gone, left = (tqdm.format_interval(seconds) for seconds in (now - self.started, self.left(now)))
        line = f"study: {done} of {total} jobs done, {len(self.begun)} running, {gone} gone, about {left} left"
        print(line, file=sys.stderr, flush=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        except OSError:  # a full disk stops jobs, which say so; not this
            pass
