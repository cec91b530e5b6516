"""Tables of betas as diff-sampler and GAS have them: ln alpha is linear between entries, where paths here have ln s."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.models.paths import VPDiscrete


def log_alphas(path: VPDiscrete) -> Tensor:
    """ln alpha of all entries, [T]."""
    return -torch.log1p((2 * path.log_s).exp()) / 2


def log_alpha_at(table: Tensor, k: Tensor) -> Tensor:
    """ln alpha at entries k, real numbers; beyond the table its first or last piece goes on."""
    left = k.floor().long().clamp(0, len(table) - 2)
    return torch.lerp(table[left], table[left + 1], k - left)
