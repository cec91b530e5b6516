"""What every model looks like to the rest of the package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s4s.models.paths import Path, VPLinear


class Denoiser(ABC):
    """A pre-trained diffusion model in the coordinates y = x/alpha, s = sigma/alpha (the EDM noise level).

    Before it is first used it is checked (s4s/models/denoiser_check.py).

    Attributes:
        name: the name that results are filed under.
        shape: shape of one state, without the batch.
        s_min, s_max: the range of noise levels that the model is sampled over, s_min > 0.
        device, dtype: where its states live, and their type.
        path: the Gaussian path whose time the time schedules count in; the VP path with linear beta unless it has its own.
        parametrisation: what the network takes and gives, as plain values: its `path`, which need not be the one above, and its
            `prediction`; empty where it is not known. Solvers made for the model carry it along.
        guidance: scale of classifier-free guidance; 1 for none.
        passes: states through the network for each evaluation: 2 with classifier-free guidance.
        block: rows in one call of the network when samples are drawn for files; the last bits of a row depend on it.
        difference_step: of derivatives by differences of outputs, against the noise level; larger where rounding is coarse.
        one_level: rows of different noise levels are computed one after the other, so that a fit takes few.
    """

    name: str
    shape: tuple[int, ...]
    s_min: float
    s_max: float
    device: torch.device
    dtype: torch.dtype = torch.float32
    path: Path = VPLinear()
    parametrisation: dict[str, Any] = {}  # noqa: RUF012  # replaced, never changed
    guidance: float = 1.0
    passes: int = 1
    block: int = 64
    difference_step: float = 3e-3  # rounding and curvature of the digits model both stay below 0.5 %
    one_level: bool = False

    @abstractmethod
    def __call__(self, y: Tensor, s: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """The denoised state D(y; s) = E[y_clean | y].

        Args:
            y: noisy states, [B, *shape].
            s: noise level, a scalar or [B].
            condition: what the model is conditioned on, [B, ...], or None; `conditions` makes some.
        Returns:
            [B, *shape], a tensor of its own in y's type and on its device; row i depends on row i of y, s and condition alone,
            and is the same again for the same. Differentiable in y and in s, for fits that use gradients.
        """

    def conditions(self, seeds: Sequence[int] | np.ndarray) -> Tensor | None:
        """Conditions [n, ...] of the samples with these seeds, row i of seeds[i] alone; None for an unconditional model."""
        return None

    def decode(self, y_0: Tensor) -> Tensor:
        """Clean states [B, *shape] to images in [-1, 1] or to the data's own units."""
        return y_0


def as_column(s: Tensor | float, y: Tensor) -> Tensor:
    """A scalar or [B] noise level as a tensor that broadcasts against y [B, ...]: [1 or B, 1, ..., 1]."""
    s = torch.as_tensor(s, dtype=y.dtype, device=y.device)
    return s.reshape(-1, *[1] * (y.ndim - 1))
