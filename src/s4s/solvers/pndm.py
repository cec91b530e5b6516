"""PLMS, the form of PNDM that Stable Diffusion uses."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.solvers.exponential import noise_step_tableau
from s4s.solvers.ipndm import ADAMS_BASHFORTH
from s4s.tableau import Tableau


def pndm(levels: Tensor) -> Tableau:
    """PNDM without its Runge-Kutta start (PLMS), as Stable Diffusion uses it.

    Formula: the first step is Heun's, y' = y + (s' - s) (e + e_1)/2; then y' = y + (s' - s) sum_k b_k e_{n-k} with
        Adams-Bashforth weights of rising order up to 4; e_1 does not enter the history
    Order: 2; its later steps are of order 4 where levels are evenly spaced in s
    NFE per step: 1, but 2 in the first, which goes over two levels
    Source: Liu et al. 2022, arXiv 2202.09778; the start is that of the latent diffusion code
    Use: for comparison with Stable Diffusion's first default; its N steps are N + 1 evaluations, on explicit levels that are
        its own and any one between the first two
    """
    nfe = len(levels) - 1
    doubled = nfe > 1 and bool(levels[2] > 0)
    first = [0, 0] if doubled else [0]  # evaluations of the first step start at node 0
    conditioning = torch.cat([levels[:1], levels[2:3], levels[2:-1]]) if doubled else levels[:-1]
    E = torch.zeros(nfe, nfe, dtype=levels.dtype)
    E[0, 0] = levels[len(first)] - levels[0]
    if doubled:
        E[1, :2] = (levels[2] - levels[0]) / 2
    for n in range(len(first), nfe):
        history = [*range(n, len(first) - 1, -1), 0][:4]
        for j, weight in zip(history, ADAMS_BASHFORTH[len(history)], strict=True):
            E[n, j] = (levels[n + 1] - levels[n]) * weight
    return noise_step_tableau(levels, E, conditioning, [*first, *range(len(first), nfe)])
