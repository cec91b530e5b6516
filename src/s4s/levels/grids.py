"""Fixed grids of noise levels, by name. Each maps (nfe, s_max, s_min, options) to [nfe + 1] levels in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from s4s.models.paths import VPLinear


def _steps(nfe: int) -> Tensor:
    return torch.linspace(0, 1, nfe + 1, dtype=torch.float64)


def edm(nfe: int, s_max: float, s_min: float, rho: float = 7.0) -> Tensor:
    """EDM's grid, uniform in s^(1/rho) (Karras et al. 2022, eq. 5)."""
    return (s_max ** (1 / rho) + _steps(nfe) * (s_min ** (1 / rho) - s_max ** (1 / rho))) ** rho


def logsnr(nfe: int, s_max: float, s_min: float) -> Tensor:
    """Uniform in lambda = -ln s (Lu et al. 2022, arXiv 2206.00927)."""
    return torch.exp(math.log(s_max) + _steps(nfe) * (math.log(s_min) - math.log(s_max)))


def time_power(nfe: int, s_max: float, s_min: float, power: float) -> Tensor:
    """Uniform in t^(1/power), t the time of the VP path with linear beta."""
    path = VPLinear()
    t_max, t_min = path.t_of_s(s_max) ** (1 / power), path.t_of_s(s_min) ** (1 / power)
    return path.s_of_t((t_max + _steps(nfe) * (t_min - t_max)) ** power)


def time_uniform(nfe: int, s_max: float, s_min: float) -> Tensor:
    """Uniform in the time of the VP path with linear beta (Song et al. 2021, arXiv 2011.13456)."""
    return time_power(nfe, s_max, s_min, 1)


def time_quadratic(nfe: int, s_max: float, s_min: float) -> Tensor:
    """Uniform in the square root of the VP path's time (Song et al. 2021, arXiv 2010.02502, appendix D.2)."""
    return time_power(nfe, s_max, s_min, 2)
