"""iPNDM: Adams-Bashforth weights on past noise predictions, whatever the spacing of the levels."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.solvers.exponential import noise_step_tableau, orders
from s4s.tableau import Tableau

ADAMS_BASHFORTH = {
    1: [1.0],
    2: [3 / 2, -1 / 2],
    3: [23 / 12, -16 / 12, 5 / 12],
    4: [55 / 24, -59 / 24, 37 / 24, -9 / 24],
}


def ipndm(levels: Tensor, order: int) -> Tableau:
    """iPNDM: Adams-Bashforth with the weights of evenly spaced nodes.

    Formula: y' = y + (s' - s) sum_k b_k e_{n-k} with b = 3/2, -1/2 (order 2), 23/12, -16/12, 5/12 (order 3),
        55/24, -59/24, 37/24, -9/24 (order 4); the first steps have lower order
    Order: 1 to 4 where levels are evenly spaced in s; at most 2 elsewhere
    NFE per step: 1
    Source: Zhang & Chen 2023, arXiv 2204.13902, appendix; Liu et al. 2022, arXiv 2202.09778
    Use: among the best at 5 to 10 evaluations on the EDM, time-quadratic and GITS levels
    """
    E = torch.zeros(len(levels) - 1, len(levels) - 1, dtype=levels.dtype)
    for n, p in enumerate(orders(levels, order)):
        for k, weight in enumerate(ADAMS_BASHFORTH[p]):
            E[n, n - k] = weight
    return noise_step_tableau(levels, (levels[1:] - levels[:-1])[:, None] * E)
