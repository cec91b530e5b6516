"""iPNDM: Adams-Bashforth weights on past noise predictions, whatever the spacing of the levels."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.tableau import Tableau

ADAMS_BASHFORTH = {
    1: [1.0],
    2: [3 / 2, -1 / 2],
    3: [23 / 12, -16 / 12, 5 / 12],
    4: [55 / 24, -59 / 24, 37 / 24, -9 / 24],
}


def ipndm(levels: Tensor, order: int = 4) -> Tableau:
    """iPNDM (Zhang & Chen 2023, arXiv 2204.13902, appendix; Liu et al. 2022, arXiv 2202.09778). Nominal order 1-4.

    y' = y + (s' - s) sum_k b_k e_{n-k} with e = (y - D)/s and the Adams-Bashforth weights b of the order that the
    history allows. The order is reached where levels are evenly spaced in s.
    """
    nfe = len(levels) - 1
    weights = torch.zeros(nfe, nfe, dtype=levels.dtype)
    for n in range(nfe):
        for k, weight in enumerate(ADAMS_BASHFORTH[min(order, n + 1)]):
            weights[n, n - k] = weight
    return noise_tableau(levels, -(levels[1:] - levels[:-1])[:, None] / levels[:-1] * weights)


def noise_tableau(levels: Tensor, B: Tensor, eval_levels: Tensor | None = None) -> Tableau:
    """The tableau of y_{n+1} = y_n + sum_j B[n,j] (D_j - y_j): weights on noise predictions, B [N, N]."""
    return Tableau(levels, torch.eye(len(B), dtype=B.dtype) - B, B, eval_levels)  # type: ignore[arg-type]
