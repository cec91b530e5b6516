"""Gaussian paths x_t = alpha_t x_0 + sigma_t n: the map between a path's own time t and the noise level s = sigma/alpha."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class VPLinear:
    """The variance-preserving path with beta(t) = beta_min + t (beta_max - beta_min), t in [0, 1].

    s(t)^2 = exp(beta_min t + (beta_max - beta_min) t^2 / 2) - 1 (Song et al. 2021, arXiv 2011.13456, appendix C).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def s_of_t(self, t: Tensor) -> Tensor:
        """Noise level at time t > 0."""
        return torch.expm1(self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2).sqrt()

    def t_of_s(self, s: float) -> float:
        """Time at which the noise level is s; the root of a quadratic, in a form without cancellation."""
        c = math.log1p(s**2)
        return 2 * c / (self.beta_min + math.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * c))
