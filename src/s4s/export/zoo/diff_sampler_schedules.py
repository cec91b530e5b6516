"""The schedules of DyWeight's and EPD's samplers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.export.zoo.diff_sampler_networks import Latents, Network
from s4s.export.zoo.single_precision import SinglePrecision


def schedule(kind: str, rho: float, count: int, network: Network) -> Tensor:
    """Their levels from the first to the last, [count], float64; all but discrete ones in the rounding of float32, as they do.

    With time_uniform it is more than rounding: the last level comes out as 0.0020132, not as 0.002.

    Raises:
        S4SError: if there is no such schedule.
    """
    lowest, highest = network.sigma_min, network.sigma_max
    if kind == "discrete" and isinstance(network, Latents):
        first, last = ((network.time(sigma) + 1) / len(network.log_alpha) for sigma in (highest, lowest))
        shares = [n / (count - 1) for n in range(count)]
        times = [(first + share * (last ** (1 / rho) - first)) ** rho for share in shares]
        return torch.tensor([network.sigma(t) for t in times], dtype=torch.float64)
    if kind not in _SCHEDULES:
        raise S4SError(f"its schedule {kind} is none that its network has: {', '.join(_SCHEDULES)}, discrete")
    with SinglePrecision():
        levels = _SCHEDULES[kind](rho, torch.arange(count, dtype=torch.float32) / (count - 1), lowest, highest)
    return levels.double()


def _polynomial(rho: float, shares: Tensor, lowest: float, highest: float) -> Tensor:
    start = highest ** (1 / rho)
    return torch.pow(start + shares * (lowest ** (1 / rho) - start), rho)


def _logsnr(rho: float, shares: Tensor, lowest: float, highest: float) -> Tensor:
    first, last = (torch.tensor(sigma).log().item() for sigma in (highest, lowest))
    return torch.linspace(first, last, len(shares)).exp()


def _time_uniform(rho: float, shares: Tensor, lowest: float, highest: float) -> Tensor:
    """beta(t) of a path through the highest level at t = 1 and the lowest at 0.001."""
    low, high = ((torch.tensor(sigma) ** 2 + 1).log() for sigma in (lowest, highest))
    slope = 2 * (low / 1e-3 - high) / (1e-3 - 1)
    t = torch.pow(1 + shares * (1e-3 ** (1 / rho) - 1), rho)
    return (torch.pow(math.e, slope / 2 * t**2 + (high - slope / 2) * t) - 1).sqrt()


_SCHEDULES = {"polynomial": _polynomial, "logsnr": _logsnr, "time_uniform": _time_uniform}


def exponential_shift(times: Tensor, mu: float) -> Tensor:
    """Times of flow matching moved towards 1, as FLUX's are: e^mu/(e^mu + 1/t - 1) (Esser et al. 2024, arXiv 2403.03206)."""
    return math.exp(mu) / (math.exp(mu) + (1 / times - 1))


def flux_shift(resolution: int) -> float:
    """FLUX.1-dev's mu: 0.5 for 256 and 1.15 for 4096 patches of 16 x 16 pixels, linear in their number."""
    return 0.5 + ((resolution // 16) ** 2 - 256) * (1.15 - 0.5) / (4096 - 256)
