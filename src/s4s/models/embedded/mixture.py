"""Exact denoisers: data from Gaussian mixtures."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.models.denoiser import Denoiser, as_column

HALVINGS = 80  # of an interval of at most some thousand data units, down to rounding


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


class IndependentMixture(Denoiser):
    """The denoiser of data whose components are independent, each from a Gaussian mixture in one dimension.

    The ODE then falls apart into one for each component, and in one dimension its flow is known: it keeps the share of the data
    that lies below a point. So `flow` gives final samples without any solver.

    Args:
        weights, means, deviations: [d, K] of d components, float64; weights of a row sum to 1.
        dtype: of states; tables stay in float64.
    """

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        deviations: Tensor,
        name: str = "mixture",
        s_min: float = 0.002,
        s_max: float = 80.0,
        dtype: torch.dtype = torch.float32,
    ):
        self.name, self.s_min, self.s_max = name, s_min, s_max
        self.weights, self.means, self.deviations = weights, means, deviations
        self.shape, self.device, self.dtype = (len(means),), means.device, dtype

    def __call__(self, y: Tensor, s: Tensor | float, condition: Tensor | None = None) -> Tensor:
        y64, level = y.double()[:, :, None], as_column(s, y.double())[:, :, None]
        variance = self.deviations**2 + level**2
        likelihood = self.weights.log() - variance.log() / 2 - (y64 - self.means) ** 2 / (2 * variance)
        centres = (self.deviations**2 * y64 + level**2 * self.means) / variance
        return (torch.softmax(likelihood, dim=2) * centres).sum(2).to(y.dtype)

    def of_dimension(self, dimension: int) -> IndependentMixture:
        """The denoiser of the first `dimension` components, which begin anew after the last."""
        which = torch.arange(dimension) % len(self.weights)
        weights, means, deviations = (table[which] for table in (self.weights, self.means, self.deviations))
        name = f"{self.name}-d{dimension}"
        return IndependentMixture(weights, means, deviations, name, self.s_min, self.s_max, self.dtype)

    def flow(self, y: Tensor, s_from: float, s_to: float) -> Tensor:
        """Where the ODE brings states y [B, d] at level s_from to at level s_to, float64 [B, d], exact up to rounding."""
        y = y.double()
        below, above = self._shares(y, s_from)
        reach = 10 * (self.deviations.max() + s_to) + self.means.abs().max()
        low, high = torch.full_like(y, -float(reach)), torch.full_like(y, float(reach))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            left, right = self._shares(middle, s_to)
            short = torch.where(below < above, left < below, right > above)  # the smaller of the two shares is the exact one
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return (low + high) / 2

    def _shares(self, y: Tensor, s: float) -> tuple[Tensor, Tensor]:
        """Shares of the noisy data below and above y in each component, [B, d] each."""
        standard = (y[:, :, None] - self.means) / (self.deviations**2 + s**2).sqrt()
        below, above = ((self.weights * torch.special.ndtr(sign * standard)).sum(2) for sign in (1, -1))
        return below, above

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean [d] and covariance [d, d] of the data, float64."""
        mean = (self.weights * self.means).sum(1)
        second = (self.weights * (self.deviations**2 + self.means**2)).sum(1)
        return mean, torch.diag(second - mean**2)

    def draw(self, count: int, seed: int = 0) -> Tensor:
        """Data [count, d], float64."""
        generator = torch.Generator().manual_seed(seed)
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(which.shape, generator=generator, dtype=torch.float64)
        return (self.means.gather(1, which) + self.deviations.gather(1, which) * noise).T
