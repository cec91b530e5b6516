"""The learned schedule of LD3: increments along the clock lambda = -ln s, by a softmax (Tong et al. 2024, arXiv 2405.15506)."""

from __future__ import annotations

import torch
from torch import Tensor


class Clock:
    """Maps parameters xi [N] to levels [N + 1] with the ends fixed; xi = 0 gives the starting levels bit for bit.

    The increments of lambda are a softmax of xi plus the logarithm of the starting ones, so that levels always decrease.
    """

    def __init__(self, levels: Tensor):
        self.start = levels.detach()
        lam = -self.start.log()
        self.span = lam[-1] - lam[0]
        self.log_increments = ((lam[1:] - lam[:-1]) / self.span).log()
        self.reference = self._positions(torch.zeros_like(self.log_increments))

    def _positions(self, xi: Tensor) -> Tensor:
        return torch.softmax(self.log_increments + xi, 0).cumsum(0)[:-1]

    def levels(self, xi: Tensor) -> Tensor:
        """Levels [N + 1], differentiable in xi."""
        inner = self.start[1:-1] * torch.exp(-self.span * (self._positions(xi) - self.reference))
        return torch.cat([self.start[:1], inner, self.start[-1:]])
