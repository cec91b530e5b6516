"""An exact denoiser: data from an isotropic Gaussian mixture."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.models.denoiser import Denoiser, as_column


class MixtureDenoiser(Denoiser):
    """D(y; s) = E[x | x + s n = y] for x drawn from sum_k w_k N(mean_k, std^2 I).

    Args:
        means: [K, d]; weights: [K], > 0; std: scalar, in data units.
    """

    def __init__(self, means: Tensor, weights: Tensor, std: float, s_min: float = 0.002, s_max: float = 80.0):
        self.name = "mixture"
        self.means, self.weights, self.std = means, weights / weights.sum(), std
        self.shape = (means.shape[1],)
        self.s_min, self.s_max = s_min, s_max
        self.device, self.dtype = means.device, means.dtype

    def __call__(self, y: Tensor, s: Tensor | float, condition: Tensor | None = None) -> Tensor:
        s = as_column(s, y)
        variance = self.std**2 + s**2
        distance = ((y[:, None, :] - self.means) ** 2).sum(-1)
        weight = torch.softmax(self.weights.log() - distance / (2 * variance), dim=1)
        return (self.std**2 * y + s**2 * weight @ self.means) / variance
