"""Noise levels s_0 > ... > s_N of a schedule. A new fixed grid is one function in grids.py and one line here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from s4s.arguments import call_checked
from s4s.errors import S4SError
from s4s.levels import grids
from s4s.models.denoiser import Denoiser

GRIDS: dict[str, Callable[..., Tensor]] = {
    "edm": grids.edm,
    "logsnr": grids.logsnr,
    "time_uniform": grids.time_uniform,
    "time_quadratic": grids.time_quadratic,
}


def levels(kind: str, nfe: int, denoiser: Denoiser, **options: Any) -> Tensor:
    """The noise levels of a schedule over the model's range, float64 [nfe + 1], strictly decreasing.

    Args:
        kind: a name in GRIDS.
        nfe: number of steps, at least 1.
        options: those of the grid (`edm` takes rho).
    Raises:
        S4SError: if the kind, the number or an option is not allowed.
    """
    if kind not in GRIDS:
        raise S4SError(f"unknown schedule {kind!r}; known: {', '.join(sorted(GRIDS))}")
    if isinstance(nfe, bool) or not isinstance(nfe, int) or nfe < 1:
        raise S4SError(f"nfe must be a whole number of at least 1, got {nfe!r}")
    result = call_checked(GRIDS[kind], f"schedule {kind!r}", nfe, denoiser.s_max, denoiser.s_min, **options)
    result[0], result[-1] = denoiser.s_max, denoiser.s_min  # exactly, whatever the grid's arithmetic rounds to
    return torch.as_tensor(result, dtype=torch.float64)


class _CallableModule(ModuleType):
    """Python binds the name `s4s.levels` to this package once it is imported, so the package is the public function too."""

    def __call__(self, kind: str, nfe: int, denoiser: Denoiser, **options: Any) -> Tensor:
        return levels(kind, nfe, denoiser, **options)


sys.modules[__name__].__class__ = _CallableModule
