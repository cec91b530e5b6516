"""The discrete times of DDPM and Stable Diffusion, as real numbers: 0 is the lowest level, T - 1 the highest.

A model with a table of betas has T entries; for another path the same T times lie evenly between the ends of its range.
"""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.schedules import Span


def _levels_at(times: Tensor, span: Span) -> Tensor:
    start, end = span.path.t_of_s(torch.tensor([span.s_max, span.s_min], dtype=torch.float64))
    return span.path.s_of_t(end + times / (span.path.times - 1) * (start - end))


def leading(nfe: int, span: Span) -> Tensor:
    """The leading times 1 + (nfe - 1 - n) T/nfe and then 0; they start below the highest level unless nfe is T/2.

    Source: Lin et al. 2024, arXiv 2305.08891, table 2, with the offset 1 of Stable Diffusion
    Use: to reproduce Stable Diffusion's first default; sampling takes the full noise for that of the first level
    """
    steps = torch.arange(nfe, dtype=torch.float64)
    times = 1 + (nfe - 1 - steps) * span.path.times / nfe
    return _levels_at(torch.cat([times, torch.zeros(1, dtype=torch.float64)]), span)


def trailing(nfe: int, span: Span) -> Tensor:
    """The trailing times T - 1 - n T/nfe and then 0.

    Source: Lin et al. 2024, arXiv 2305.08891, table 2
    Use: for latent models at few evaluations
    """
    steps = torch.arange(nfe, dtype=torch.float64)
    times = (span.path.times - 1) - steps * span.path.times / nfe
    return _levels_at(torch.cat([times, torch.zeros(1, dtype=torch.float64)]), span)


def linspace(nfe: int, span: Span) -> Tensor:
    """Times evenly from T - 1 to 0, both ends included.

    Source: Lin et al. 2024, arXiv 2305.08891, table 2
    Use: the same as time_uniform, under the name that diffusers gives it
    """
    return _levels_at(torch.linspace(span.path.times - 1, 0, nfe + 1, dtype=torch.float64), span)
