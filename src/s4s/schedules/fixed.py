"""Schedules that are even in some variable, and a user's own numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.models.paths import VPCosine
from s4s.schedules import Span


def _steps(nfe: int) -> Tensor:
    return torch.linspace(0, 1, nfe + 1, dtype=torch.float64)


def _ends(span: Span) -> Tensor:
    return torch.tensor([span.s_max, span.s_min], dtype=torch.float64)


def _even(ends: Tensor, nfe: int) -> Tensor:
    start, end = ends
    between: Tensor = start + _steps(nfe) * (end - start)
    return between


def edm(nfe: int, span: Span, rho: float) -> Tensor:
    """Even in s^(1/rho), EDM's schedule, also called polynomial or Karras.

    Source: Karras et al. 2022, arXiv 2206.00364, eq. 5
    Use: for pixel models; rho = 7 is the authors'
    """
    return _even(_ends(span) ** (1 / rho), nfe) ** rho


def logsnr(nfe: int, span: Span) -> Tensor:
    """Even in lambda = -ln s.

    Source: Lu et al. 2022, arXiv 2206.00927
    Use: for DPM-Solver and UniPC with 10 evaluations and more on small images
    """
    start, end = _ends(span).log()
    return torch.exp(start + _steps(nfe) * (end - start))


def time_power(nfe: int, span: Span, power: float) -> Tensor:
    """Even in t^(1/power), t the time of the model's path.

    Source: Song et al. 2021, arXiv 2010.02502, appendix D.2 (power 1 and 2)
    Use: between time_uniform (1) and a schedule that is denser towards the end (above 2)
    """
    times = span.path.t_of_s(_ends(span))
    if power != 1 and bool((times < 0).any()):
        raise S4SError(f"powers of time need times above 0, but this model's levels lie at times {times.tolist()}")
    return span.path.s_of_t(_even(times ** (1 / power), nfe) ** power)


def time_uniform(nfe: int, span: Span) -> Tensor:
    """Even in the time of the model's path.

    Source: Song et al. 2021, arXiv 2010.02502, appendix D.2; Lu et al. 2022, arXiv 2211.01095
    Use: for latent models and large images
    """
    return time_power(nfe, span, 1)


def time_quadratic(nfe: int, span: Span) -> Tensor:
    """Even in the square root of the time of the model's path.

    Source: Song et al. 2021, arXiv 2010.02502, appendix D.2
    Use: the best fixed schedule for small images at few evaluations
    """
    return time_power(nfe, span, 2)


def cosine(nfe: int, span: Span) -> Tensor:
    """Even in the time of the cosine path, whatever the model's own.

    Source: Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17
    Use: for models trained on the cosine path
    """
    return time_power(nfe, span._replace(path=VPCosine()), 1)


def explicit(nfe: int, span: Span, values: Sequence[Sequence[float]]) -> Tensor:
    """Lists of levels written in the config, one for each number of evaluations.

    Source: the user's own, or a paper's
    Use: to compare levels that are known as numbers; sigma/alpha, from the model's full noise on
    """
    for row in values:
        if len(row) == nfe + 1:
            return torch.tensor([float(value) for value in row], dtype=torch.float64)
    lengths = ", ".join(str(len(row) - 1) for row in values) or "none"
    raise S4SError(f"schedule 'explicit': no list with {nfe + 1} levels for nfe {nfe}; there are lists for nfe {lengths}")
