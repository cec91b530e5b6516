"""Noise levels s_0 > ... > s_N of a schedule. A new one is one function NAME and one line in SCHEDULES.

This file imports no torch before levels are made, since the config is checked against SCHEDULES.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from s4s.errors import S4SError, must_be, shown
from s4s.files.named_function import function_of
from s4s.schedules.registry import Options, call_checked, checked, is_own

if TYPE_CHECKING:
    from torch import Tensor

    from s4s.models.denoiser import Denoiser
    from s4s.models.paths import Path


class ScheduleOptions(Options):
    """Options of a schedule."""

    def offers(self, steps: int) -> bool:
        """Whether there are levels for a number of steps."""
        return True

    def ends_at_zero(self) -> bool:
        """Whether levels may end at 0 of themselves."""
        return False

    def wrong(self) -> str | None:
        """What is wrong with the levels of any model, before they are made."""
        return None


class EDM(ScheduleOptions):
    rho: float = Field(7.0, gt=0, description="exponent of the schedule")


class TimePower(ScheduleOptions):
    power: float = Field(gt=0, description="exponent of the time")


class AYS(ScheduleOptions):
    table: Literal["sd", "sdxl", "svd"] = Field("sd", description="which of the authors' levels")


class Explicit(ScheduleOptions):
    values: list[list[float]] = Field(description="lists of levels, one for each NFE")

    def offers(self, steps: int) -> bool:
        return any(len(row) == steps + 1 for row in self.values)

    def ends_at_zero(self) -> bool:
        return any(row[-1] == 0 for row in self.values)

    def wrong(self) -> str | None:
        for row in self.values:
            if len(row) < 2 or not all(later < earlier for earlier, later in itertools.pairwise(row)) or not row[-1] >= 0:
                return f"values: levels must decrease strictly, be at least 2 and none below 0, got {row}"
        return None


class GITS(ScheduleOptions):
    gamma: float = Field(1.15, gt=0, description="weight of later steps")


class DMN(ScheduleOptions):
    exponent: Literal[1, 2] = Field(2, description="of the error of an output")
    initial: Literal["logsnr", "time_uniform"] = Field("logsnr", description="levels that the search starts from")


class Schedule(NamedTuple):
    """A schedule.

    Attributes:
        function: (nfe, Span, options) to levels, as "module:function".
        options: their names, types and defaults.
        files: options that are files which the workflow computes.
        searched: it is optimised for a model, without gradients.
        continuous: it has any number of levels over the whole range of any model.
        from_the_top: it starts at the model's highest level.
    """

    function: str
    options: type[ScheduleOptions] = ScheduleOptions
    files: tuple[str, ...] = ()
    searched: bool = False
    continuous: bool = True
    from_the_top: bool = True

    @property
    def fixed(self) -> bool:
        """Whether it is there without a search and without numbers from the config."""
        return not self.searched and not self.options.needed()


SCHEDULES: dict[str, Schedule] = {
    "edm": Schedule("s4s.schedules.fixed:edm", EDM),
    "logsnr": Schedule("s4s.schedules.fixed:logsnr"),
    "time_uniform": Schedule("s4s.schedules.fixed:time_uniform"),
    "time_quadratic": Schedule("s4s.schedules.fixed:time_quadratic"),
    "time_power": Schedule("s4s.schedules.fixed:time_power", TimePower),
    "cosine": Schedule("s4s.schedules.fixed:cosine"),
    "leading": Schedule("s4s.schedules.discrete:leading", continuous=False, from_the_top=False),
    "trailing": Schedule("s4s.schedules.discrete:trailing", continuous=False),
    "linspace": Schedule("s4s.schedules.discrete:linspace", continuous=False),
    "ays": Schedule("s4s.schedules.ays:ays", AYS, continuous=False),
    "explicit": Schedule("s4s.schedules.fixed:explicit", Explicit, continuous=False),
    "gits": Schedule("s4s.schedules.gits:gits", GITS, files=("costs",), searched=True),
    "dmn": Schedule("s4s.schedules.dmn:dmn", DMN, searched=True),
}


def schedule_of(kind: str) -> Schedule:
    """The entry of a schedule, or what is supposed of a user's own, "module:function".

    Raises:
        S4SError: if there is none.
    """
    if is_own(kind):
        return Schedule(kind, continuous=False)
    if not isinstance(kind, str) or kind not in SCHEDULES:
        raise S4SError(f"unknown schedule {shown(kind)}; known: {', '.join(sorted(SCHEDULES))}")
    return SCHEDULES[kind]


class Span(NamedTuple):
    """What a schedule needs to know of a model: its range of noise levels and its Gaussian path."""

    s_max: float
    s_min: float
    path: Path


def schedule_function(kind: str) -> Callable[..., Tensor]:
    """The function of a schedule: (nfe, Span, options) to levels."""
    return function_of(schedule_of(kind).function)


def levels(kind: str, nfe: int, denoiser: Denoiser, to_zero: bool = False, **options: Any) -> Tensor:
    """The noise levels of a schedule over the model's range, float64 [nfe + 1], strictly decreasing.

    Args:
        kind: a name in SCHEDULES, or "module:function" of one's own.
        nfe: number of steps, at least 1.
        to_zero: nfe - 1 steps over the model's range, then a final one to the level 0.
        options: those of the schedule (`edm` takes rho).
    Raises:
        S4SError: if the kind, the number or an option is not allowed, or the levels do not decrease from the model's full
            noise on within its range.
    """
    import torch

    from s4s.models.denoiser_check import check_range
    from s4s.models.provenance import is_full_noise
    from s4s.tableau import check_levels

    check_range(denoiser)
    schedule, what = schedule_of(kind), f"schedule {kind!r}"
    if isinstance(nfe, bool) or not isinstance(nfe, int) or nfe < 1 + to_zero:
        raise S4SError(f"nfe must be a whole number of at least {1 + to_zero}, got {shown(nfe)}")
    known = all(hasattr(denoiser, name) for name in Span._fields)
    must_be(what, denoiser, known, "made for a model, such as load_model gives, with s_max, s_min and a path")
    span = Span(denoiser.s_max, denoiser.s_min, denoiser.path)
    if not is_own(kind):
        files = {name: options.pop(name) for name in schedule.files if name in options}
        options = {**dict(checked(schedule.options, what, options)), **files}
    result = torch.as_tensor(call_checked(schedule_function(kind), what, nfe - to_zero, span, **options), dtype=torch.float64)
    if result.shape != (nfe - to_zero + 1,):
        raise S4SError(f"{what} at nfe {nfe}: needs {nfe - to_zero + 1} levels, but made {list(result.shape)}")
    for end, value in ((0, span.s_max), (-1, span.s_min)):  # exactly, whatever the arithmetic rounds to
        if abs(result[end] / value - 1) < 1e-5:
            result[end] = value
    if to_zero:
        result = torch.cat([result, torch.zeros(1, dtype=torch.float64)])
    try:
        check_levels(result)
    except S4SError as error:
        raise S4SError(f"{what} at nfe {nfe}: {error}") from error
    if result[0] > span.s_max:
        raise S4SError(f"{what} starts at {result[0]:.6g}, above the model's highest level, {span.s_max:.6g}")
    if schedule.from_the_top and not is_full_noise(float(result[0]), span.s_max):
        raise S4SError(
            f"{what} starts at {result[0]:.6g}, but full noise is level {span.s_max:.6g} of this model; are these levels of "
            "another model, or times? levels are sigma/alpha"
        )
    lowest = result[result > 0][-1]
    if lowest < span.s_min:
        raise S4SError(f"{what} ends at {lowest:.6g}, below the model's lowest level, {span.s_min:.6g}")
    return result
