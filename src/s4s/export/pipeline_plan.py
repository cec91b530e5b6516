"""What a fit on a live pipeline takes: pairs, steps of the teacher and of the fit, and their price, before it begins."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from s4s.errors import S4SError, shown
from s4s.export.pipeline_solvers import TRIED
from s4s.files.json_file import JsonFile
from s4s.learning.settings import FitSettings
from s4s.models.pipelines.live import LivePipeline
from s4s.sampling import initial_noise
from s4s.study.plan import fit_evaluations

UNITS = {"s": 1, "sec": 1, "seconds?": 1, "m": 60, "mins?": 60, "minutes?": 60, "h": 3600, "hours?": 3600}
DISTILLED_ROWS, DISTILLED_STEPS = 4, (1, 4, 8)  # of the question whether a teacher of many steps teaches anything
TAKEN = 0.8  # of the counted evaluations of a fit: some parameters move the solver as others do, and fits stop early


@dataclass(frozen=True)
class Plan:
    """Sizes of a fit.

    Attributes:
        train, val, test: pairs to learn from, to validate on, and to check the result with.
        teacher: steps of the teacher.
        iterations, batch: steps of Gauss-Newton, and pairs for each.
    """

    train: int
    val: int
    test: int
    teacher: int
    iterations: int
    batch: int

    def settings(self, distance: str = "l2") -> FitSettings:
        """Of the fit."""
        every = max(2, self.iterations // 6)
        return FitSettings.model_validate({
            "iterations": self.iterations, "batch": self.batch, "distance": distance, "validate_every": every, "patience": 5,
        })  # fmt: skip

    def evaluations(self, nfe: Sequence[int]) -> int:
        """About how many evaluations all of it takes, for these numbers of evaluations of the solvers."""
        fits = sum(TAKEN * fit_evaluations(self.settings(), n, self.val) for n in nfe)
        tried = len(TRIED) * self.searched
        return int(self.shared + fits + sum(n * (tried + 3 * self.test) for n in nfe))

    @property
    def shared(self) -> int:
        """Evaluations of what all fits share: pairs, and the question whether a teacher of many steps teaches anything."""
        return (self.train + self.val + self.test) * self.teacher + DISTILLED_ROWS * (sum(DISTILLED_STEPS) + 1)

    @property
    def searched(self) -> int:
        """Validation pairs that the classical solvers are compared on."""
        return min(4, self.val)


# from the least that is of use (docs/pipelines.md) on
PLANS = (
    Plan(8, 4, 4, 10, 10, 1),
    Plan(12, 8, 4, 12, 12, 1),
    Plan(16, 8, 8, 16, 12, 2),
    Plan(24, 12, 8, 20, 16, 3),
    Plan(48, 16, 8, 24, 24, 4),
    Plan(96, 32, 16, 32, 32, 6),
    Plan(192, 64, 16, 48, 32, 8),
)
DEFAULT = PLANS[3]


@dataclass(frozen=True)
class Price:
    """What a fit costs here.

    Attributes:
        evaluations: of the denoiser; passes: of its network, with all halves of guidance.
        seconds: of all, from a few timed evaluations.
        memory: GiB that were needed at most so far: of the GPU, or of the process.
    """

    evaluations: int
    passes: int
    seconds: float
    memory: float
    of_gpu: bool

    def in_words(self) -> str:
        """One line."""
        where = "of GPU memory" if self.of_gpu else "of memory"
        return (
            f"{self.evaluations:,} evaluations, {self.passes:,} passes through the network: about {duration(self.seconds)}; "
            f"{self.memory:.1f} GiB {where}"
        )


def duration(seconds: float) -> str:
    """In words: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def seconds_of(budget: str | float) -> float:
    """A budget of time in seconds: "10min", "90 s", "1.5h", or a number of seconds.

    Raises:
        S4SError: if it is something else.
    """
    if isinstance(budget, int | float) and not isinstance(budget, bool) and budget > 0:
        return float(budget)
    for unit, seconds in UNITS.items():
        found = re.fullmatch(rf"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*{unit}\s*", str(budget))
        if found and float(found[1]) > 0:
            return float(found[1]) * seconds
    raise S4SError(f"budget {shown(budget)}: must be a time such as 10min, 90s or 1.5h, or a number of seconds")


def timed(denoiser: LivePipeline) -> float:
    """Seconds of one evaluation of one state, from two calls on as many rows as a call has.

    Where they do not fit into the GPU's memory, the denoiser's `rows` are halved until they do.
    """
    while True:
        try:
            return _timed(denoiser)
        except torch.OutOfMemoryError:
            denoiser.close()
            torch.cuda.empty_cache()
            if denoiser.rows == 1:
                raise
            denoiser.rows //= 2


@torch.no_grad()
def _timed(denoiser: LivePipeline) -> float:
    y = initial_noise(denoiser, range(denoiser.rows))
    condition = torch.arange(denoiser.rows) % denoiser.call.count
    denoiser(y, denoiser.s_max, condition)
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        denoiser(y, denoiser.s_max, condition).sum().item()  # waits for a GPU
        seconds.append(time.perf_counter() - begun)
    return min(seconds) / denoiser.rows


def price(denoiser: LivePipeline, plan: Plan, nfe: Sequence[int], seconds: float) -> Price:
    """Of a plan, where an evaluation takes `seconds`."""
    count, of_gpu = plan.evaluations(nfe), denoiser.device.type == "cuda"
    used = torch.cuda.max_memory_allocated(denoiser.device) if of_gpu else _resident()
    return Price(count, count * denoiser.passes, count * seconds, used / 2**30, of_gpu)


def _resident() -> int:
    """Bytes that this process has had in memory at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class StoredPlan(JsonFile):
    """The plan of a fit in a folder: one that goes on has the plan that it began with, however long an evaluation takes now."""

    what = "the plan of this fit"
    always_signed = True
    pairs: int | None
    budget: str | float | None
    plan: Plan


def planned(folder: Path | None, nfe: Sequence[int], pairs: int | None, budget: str | float | None, each: float) -> Plan:
    """The plan that is kept in a folder for the same pairs and budget; else `chosen`, which is kept there."""
    path = None if folder is None else folder / "plan.json"
    if path is not None and path.exists():
        stored = StoredPlan.load(path)
        if (stored.pairs, stored.budget) == (pairs, budget):
            return stored.plan
    plan = chosen(nfe, pairs, budget, each)
    if path is not None:
        StoredPlan(pairs=pairs, budget=budget, plan=plan).save(path)
    return plan


def chosen(nfe: Sequence[int], pairs: int | None, budget: str | float | None, each: float) -> Plan:
    """The plan for a number of training pairs or a budget of time; the default without.

    Args:
        each: seconds of one evaluation.
    Raises:
        S4SError: if the budget is less than the smallest plan takes.
    """
    plan = DEFAULT
    if budget is not None:
        limit = seconds_of(budget)
        possible = [plan for plan in PLANS if plan.evaluations(nfe) * each <= limit]
        if not possible:
            count = PLANS[0].evaluations(nfe)
            raise S4SError(
                f"budget {budget}: the smallest fit takes about {duration(count * each)} here ({count:,} evaluations of "
                f"{each:.3g} s); give more, fewer numbers of evaluations, or a smaller size"
            )
        plan = possible[-1]
    if pairs is not None:
        if isinstance(pairs, bool) or not isinstance(pairs, int) or pairs < 2:
            raise S4SError(f"pairs must be a whole number of at least 2, got {shown(pairs)}")
        plan = replace(plan, train=pairs, val=max(2, pairs // 3), batch=min(plan.batch, pairs))
    return plan
