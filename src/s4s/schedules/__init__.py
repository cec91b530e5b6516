"""Noise levels s_0 > ... > s_N of a schedule. A new one is one function NAME and one line in GRIDS.

This file imports no torch before levels are made, since the config is checked against GRIDS.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from s4s.errors import S4SError
from s4s.schedules.registry import call_checked

if TYPE_CHECKING:
    from torch import Tensor

    from s4s.models.denoiser import Denoiser
    from s4s.models.paths import Path


class Grid(NamedTuple):
    """Where a schedule's function is (schedules/MODULE.py), the names of its options, and whether it is searched for."""

    module: str
    options: tuple[str, ...] = ()
    searched: bool = False


GRIDS: dict[str, Grid] = {
    "edm": Grid("fixed", ("rho",)),
    "logsnr": Grid("fixed"),
    "time_uniform": Grid("fixed"),
    "time_quadratic": Grid("fixed"),
    "time_power": Grid("fixed", ("power",)),
    "cosine": Grid("fixed"),
    "leading": Grid("discrete"),
    "trailing": Grid("discrete"),
    "linspace": Grid("discrete"),
    "ays": Grid("ays", ("table",)),
    "explicit": Grid("fixed", ("values",)),
    "gits": Grid("gits", ("costs", "gamma"), searched=True),
    "dmn": Grid("dmn", ("exponent", "initial"), searched=True),
}


class Span(NamedTuple):
    """What a schedule needs to know of a model: its range of noise levels and its Gaussian path."""

    s_max: float
    s_min: float
    path: Path


def grid_function(kind: str) -> Callable[..., Tensor]:
    """The function of a registered schedule: (nfe, Span, options) to levels."""
    function: Callable[..., Tensor] = getattr(import_module(f"s4s.schedules.{GRIDS[kind].module}"), kind)
    return function


def levels(kind: str, nfe: int, denoiser: Denoiser, to_zero: bool = False, **options: Any) -> Tensor:
    """The noise levels of a schedule over the model's range, float64 [nfe + 1], strictly decreasing.

    Args:
        kind: a name in GRIDS.
        nfe: number of steps, at least 1.
        to_zero: nfe - 1 steps over the model's range, then a final one to the level 0.
        options: those of the schedule (`edm` takes rho).
    Raises:
        S4SError: if the kind, the number or an option is not allowed, or the levels do not decrease within the model's range.
    """
    import torch

    from s4s.tableau import check_levels

    if kind not in GRIDS:
        raise S4SError(f"unknown schedule {kind!r}; known: {', '.join(sorted(GRIDS))}")
    if isinstance(nfe, bool) or not isinstance(nfe, int) or nfe < 1 + to_zero:
        raise S4SError(f"nfe must be a whole number of at least {1 + to_zero}, got {nfe!r}")
    span = Span(denoiser.s_max, denoiser.s_min, denoiser.path)
    result = call_checked(grid_function(kind), f"schedule {kind!r}", nfe - to_zero, span, **options)
    result = torch.as_tensor(result, dtype=torch.float64)
    for end, value in ((0, span.s_max), (-1, span.s_min)):  # exactly, whatever the arithmetic rounds to
        if abs(result[end] / value - 1) < 1e-5:
            result[end] = value
    if to_zero:
        result = torch.cat([result, torch.zeros(1, dtype=torch.float64)])
    try:
        check_levels(result)
    except S4SError as error:
        raise S4SError(f"schedule {kind!r} at nfe {nfe}: {error}") from error
    if result[0] > span.s_max:
        raise S4SError(f"schedule {kind!r} starts at {result[0]:.6g}, above the model's highest level, {span.s_max:.6g}")
    lowest = result[result > 0][-1]
    if lowest < span.s_min:
        raise S4SError(f"schedule {kind!r} ends at {lowest:.6g}, below the model's lowest level, {span.s_min:.6g}")
    return result
