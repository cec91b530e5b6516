"""The learned schedule of LD3: increments along the clock lambda = -ln s, by a softmax (Tong et al. 2024, arXiv 2405.15506)."""

from __future__ import annotations

import torch
from torch import Tensor


def moved(levels: Tensor, xi: Tensor) -> Tensor:
    """Levels [N + 1] with the same ends, whose increments of lambda are those of `levels` times exp(xi) [N], to scale.

    Levels always decrease, and xi = 0 gives them back bit for bit; differentiable in both.
    """
    lam = -levels.log()
    span = lam[-1] - lam[0]
    log_increments = ((lam[1:] - lam[:-1]) / span).log()

    def positions(logits: Tensor) -> Tensor:
        return torch.softmax(logits, 0).cumsum(0)[:-1]

    shift = positions(log_increments + xi) - positions(log_increments)
    return torch.cat([levels[:1], levels[1:-1] * torch.exp(-span * shift), levels[-1:]])
