"""Gaussian paths x_t = alpha_t x_0 + sigma_t n, and the map between a model's own (x, t) and (y, s) = (x/alpha, sigma/alpha).

Times and levels are tensors of any shape; all maps are differentiable and keep float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from s4s.errors import S4SError

PURE_NOISE = 1e12  # noise level that stands for the time at which there is no signal, where it is infinite


class Path(ABC):
    """A path is known by its noise level s(t), its inverse, and alpha as a function of s.

    Attributes:
        kind: its name in the files of solvers that were made for it.
        times: number of discrete times 0 ... times - 1 that the leading, trailing and linspace schedules count in.
        clean: the time of clean data.
        sigma_data: the scale of data for which states x have unit variance, where alpha^2 (sigma_data^2 + s^2) = 1.
    """

    kind: ClassVar[str]
    times: int = 1000
    clean: float = 0.0
    sigma_data: float = 1.0

    @abstractmethod
    def s_of_t(self, t: Tensor) -> Tensor:
        """Noise level s = sigma/alpha at time t."""

    @abstractmethod
    def t_of_s(self, s: Tensor) -> Tensor:
        """Time at which the noise level is s >= 0."""

    def alpha_of_s(self, s: Tensor) -> Tensor:
        """alpha at noise level s; on a variance-preserving path alpha^2 + sigma^2 = 1."""
        return (1 + s**2).rsqrt()

    def description(self) -> dict[str, Any]:
        """Plain values that distinguish a path from another."""
        return {"path": self.kind}

    def to_ys(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(y, s) of a state x [B, ...] at time t, a scalar or [B]."""
        s = self.s_of_t(t)
        return x / _column(self.alpha_of_s(s), x), s

    def from_ys(self, y: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """(x, t) of a state y [B, ...] at level s, a scalar or [B]."""
        return y * _column(self.alpha_of_s(s), y), self.t_of_s(s)


def _column(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (like.ndim - 1)).to(like) if value.ndim else value.to(like)


class VPLinear(Path):
    """The variance-preserving path with beta(t) = beta_min + t (beta_max - beta_min), t in [0, 1].

    s(t)^2 = exp(beta_min t + (beta_max - beta_min) t^2 / 2) - 1 (Song et al. 2021, arXiv 2011.13456, appendix C).
    """

    kind = "vp_linear"

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        self.beta_min, self.beta_max = beta_min, beta_max

    def description(self) -> dict[str, Any]:
        return {"path": self.kind, "beta_min": self.beta_min, "beta_max": self.beta_max}

    def s_of_t(self, t: Tensor) -> Tensor:
        return torch.expm1(self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2).sqrt()

    def t_of_s(self, s: Tensor) -> Tensor:
        c = torch.log1p(s**2)  # the root of a quadratic, in a form without cancellation
        return 2 * c / (self.beta_min + (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * c).sqrt())


class VPDiscrete(Path):
    """The variance-preserving path of a discrete table, t in [0, T - 1], with ln s interpolated linearly between entries.

    Between and beyond the entries times are real numbers; at them the levels are those of the table (DDPM, Stable Diffusion).

    Args:
        betas: [T], each in (0, 1); or
        alphas_cumprod: the cumulative products of 1 - beta, [T], decreasing within (0, 1).
    Raises:
        S4SError: if not exactly one table is given or it is no such table.
    """

    kind = "vp_discrete"

    def __init__(self, betas: Sequence[float] | Tensor | None = None, alphas_cumprod: Sequence[float] | Tensor | None = None):
        if (betas is None) == (alphas_cumprod is None):
            raise S4SError("a discrete path needs either betas or alphas_cumprod")
        if betas is not None:
            table = torch.cumprod(1 - torch.as_tensor(betas, dtype=torch.float64), 0)
        else:
            table = torch.as_tensor(alphas_cumprod, dtype=torch.float64)
        inside = bool(((table > 0) & (table < 1)).all())
        if table.ndim != 1 or len(table) < 2 or not inside or not bool((table[1:] < table[:-1]).all()):
            raise S4SError("a discrete path needs a list of at least 2 numbers with alphas_cumprod decreasing within (0, 1)")
        self.times = len(table)
        self.log_s = (torch.log1p(-table) - table.log()) / 2
        self._copies: dict[torch.device, Tensor] = {}

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, times: int = 1000) -> VPDiscrete:
        """Stable Diffusion's table: square roots of betas evenly spaced (Rombach et al. 2022, arXiv 2112.10752)."""
        return cls(torch.linspace(beta_start**0.5, beta_end**0.5, times, dtype=torch.float64) ** 2)

    def description(self) -> dict[str, Any]:
        """The number of times, and the levels at the first, a middle and the last."""
        levels = self.log_s[[0, self.times // 2, -1]].exp().tolist()
        return {"path": self.kind, "times": self.times, "levels": [float(f"{level:.6g}") for level in levels]}

    @property
    def ends(self) -> tuple[float, float]:
        """The levels of the first and the last time."""
        first, last = self.s_of_t(torch.tensor([0.0, self.times - 1.0], dtype=torch.float64)).tolist()
        return first, last

    def s_of_t(self, t: Tensor) -> Tensor:
        left = t.detach().floor().long().clamp(0, self.times - 2)
        log_s = self._log_s_on(t.device)
        return torch.exp(torch.lerp(log_s.take(left), log_s.take(left + 1), t.double() - left))

    def t_of_s(self, s: Tensor) -> Tensor:
        value, log_s = s.double().log(), self._log_s_on(s.device)
        left = (torch.searchsorted(log_s, value.detach().contiguous(), right=True) - 1).clamp(0, self.times - 2)
        below, above = log_s.take(left), log_s.take(left + 1)  # a single index in brackets would be waited for
        return left + (value - below) / (above - below)

    def _log_s_on(self, device: torch.device) -> Tensor:
        """The table there; it is copied once, for a copy is waited for."""
        if device == self.log_s.device:
            return self.log_s
        if device not in self._copies:
            self._copies[device] = self.log_s.to(device)
        return self._copies[device]


class VPCosine(Path):
    """The cosine path, alpha(t) = cos(a(t))/cos(a(0)) with an angle a linear in t, t in [0, 1).

    a(t) = pi/2 (t + offset)/(1 + offset) (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17).
    """

    kind = "vp_cosine"

    def __init__(self, offset: float = 0.008):
        self.offset = offset
        self.first = math.pi / 2 * offset / (1 + offset)

    def description(self) -> dict[str, Any]:
        return {"path": self.kind, "offset": self.offset}

    def s_of_t(self, t: Tensor) -> Tensor:
        turn = math.pi / 2 * t / (1 + self.offset)  # cos^2 a(0) - cos^2 a(t), in a form without cancellation
        return (torch.sin(turn) * torch.sin(turn + 2 * self.first)).sqrt() / torch.cos(turn + self.first)

    def t_of_s(self, s: Tensor) -> Tensor:
        angle = torch.atan((s**2 + math.sin(self.first) ** 2).sqrt() / math.cos(self.first))
        return (angle - self.first) * 2 / math.pi * (1 + self.offset)


class VE(Path):
    """The variance-exploding path, alpha = 1 and s = sigma = t (EDM: Karras et al. 2022, arXiv 2206.00364)."""

    kind = "ve"

    def s_of_t(self, t: Tensor) -> Tensor:
        return t

    def t_of_s(self, s: Tensor) -> Tensor:
        return s

    def alpha_of_s(self, s: Tensor) -> Tensor:
        return torch.ones_like(s)


class FlowMatching(Path):
    """Rectified flow, x_t = (1 - t) x_0 + t n, t in [0, 1): s = t/(1 - t) (Liu et al. 2022, arXiv 2209.03003)."""

    kind = "flow"

    def s_of_t(self, t: Tensor) -> Tensor:
        return t / (1 - t)

    def t_of_s(self, s: Tensor) -> Tensor:
        return s / (1 + s)

    def alpha_of_s(self, s: Tensor) -> Tensor:
        return 1 / (1 + s)


class InvertedFlow(FlowMatching):
    """Rectified flow with the time of data, x_t = t x_0 + (1 - t) n, t in (0, 1]: s = (1 - t)/t (Mochi)."""

    kind = "flow_inverted"
    clean = 1.0

    def s_of_t(self, t: Tensor) -> Tensor:
        return (1 - t) / t

    def t_of_s(self, s: Tensor) -> Tensor:
        return 1 / (1 + s)


class EDM(Path):
    """What EDM's preconditioning feeds to a network, alpha = 1/sqrt(s^2 + sigma_data^2), t = ln(s)/4 (Karras et al. 2022).

    With sigma_data 1 it is a variance-preserving path told by ln(s)/4 (Stable Video Diffusion).
    """

    kind = "edm"
    clean = -math.inf

    def __init__(self, sigma_data: float = 0.5):
        self.sigma_data = sigma_data

    def description(self) -> dict[str, Any]:
        return {"path": self.kind, "sigma_data": self.sigma_data}

    def s_of_t(self, t: Tensor) -> Tensor:
        return torch.exp(4 * t)

    def t_of_s(self, s: Tensor) -> Tensor:
        return s.log() / 4

    def alpha_of_s(self, s: Tensor) -> Tensor:
        return (s**2 + self.sigma_data**2).rsqrt()


PATHS: tuple[type[Path], ...] = (VPLinear, VPDiscrete, VPCosine, VE, FlowMatching, InvertedFlow, EDM)
