"""DPM-Solver++ in its multistep form, orders 1 (DDIM), 2 (2M) and 3 (3M)."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.solvers.exponential import exponential_tableau, orders
from s4s.tableau import Tableau


def dpmpp(levels: Tensor, order: int = 3, lower_order_final: bool = False) -> Tableau:
    """DPM-Solver++(2M), (3M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2 and appendix B).

    D is expanded around the current node in lambda = -ln s by divided differences D', D'', and with h the step and
    r = exp(-h):  y' = r y + (1 - r) D + c_1 D' + c_2 D''.  The second order takes c_1 = (1 - r)/2, the third
    c_1 = 1 - (1 - r)/h and c_2 = 1/2 - (h - 1 + r)/h^2. D'' is half the second derivative times h^2, as the authors and
    diffusers have it; twice that would make the step exact for quadratic D, so 3M converges with order 2 (measured in
    tests/test_solvers.py). It is kept as published, for that is the baseline that everybody reports.
    """
    lam = -levels.log()
    B = []
    for n, p in enumerate(orders(len(levels) - 1, order, lower_order_final)):
        h = lam[n + 1] - lam[n]
        one_minus_r = -torch.expm1(-h)
        row = torch.zeros(len(levels) - 1, dtype=levels.dtype)
        row[n] = one_minus_r
        if p >= 2:
            unit = torch.eye(len(levels) - 1, dtype=levels.dtype)
            slope = (unit[n] - unit[n - 1]) * h / (lam[n] - lam[n - 1])
        if p == 2:
            row = row + one_minus_r / 2 * slope
        if p == 3:
            earlier_slope = (unit[n - 1] - unit[n - 2]) * h / (lam[n - 1] - lam[n - 2])
            bend = (slope - earlier_slope) * h / (lam[n] - lam[n - 2])
            first = slope + (lam[n] - lam[n - 1]) / h * bend
            row = row + (1 - one_minus_r / h) * first + (0.5 - (h - one_minus_r) / h**2) * bend
        B.append(row)
    return exponential_tableau(levels, torch.stack(B))
