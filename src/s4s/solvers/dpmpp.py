"""DPM-Solver++ in its multistep form, orders 1 (DDIM), 2 (2M) and 3 (3M)."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.solvers.exponential import exponential_tableau, orders, phi
from s4s.tableau import Tableau


def dpmpp(levels: Tensor, order: int, prediction: str, variant: str, lower_order_final: bool) -> Tableau:
    """DPM-Solver++(2M) and (3M); with noise prediction the multistep DPM-Solver.

    Formula: y' = r y + c_0 D + c_1 D' + c_2 D'', r = s'/s = exp(-h), with divided differences D' and D'' around the node and
        c_0 = 1 - r; order 2 takes c_1 = c_0/2 (variant "heun": 1 - c_0/h), order 3 c_1 = 1 - c_0/h and
        c_2 = 1/2 - (h - c_0)/h^2
    Order: 1 or 2. 3M is of order 2, for its D'' is half of what would make the step exact for quadratic D; it is kept as
        published, for that is the baseline that everybody reports
    NFE per step: 1
    Source: Lu et al. 2022, arXiv 2211.01095, algorithm 2 and appendix B; noise prediction: arXiv 2206.00927
    Use: the usual choice with guidance; set lower_order_final below 15 evaluations
    """
    step_orders = orders(levels, order, lower_order_final)

    def weights(lam: Tensor) -> Tensor:
        unit = torch.eye(len(step_orders), dtype=lam.dtype)
        rows = []
        for n, p in enumerate(step_orders):
            h = lam[n + 1] - lam[n]
            one, two, three = phi(h)
            row = one * unit[n]
            if p >= 2:
                slope = (unit[n] - unit[n - 1]) * h / (lam[n] - lam[n - 1])
            if p == 2:
                row = row + (one / 2 if variant == "midpoint" else two) * slope
            if p == 3:
                earlier_slope = (unit[n - 1] - unit[n - 2]) * h / (lam[n - 1] - lam[n - 2])
                bend = (slope - earlier_slope) * h / (lam[n] - lam[n - 2])
                row = row + two * (slope + (lam[n] - lam[n - 1]) / h * bend) + three * bend
            rows.append(row)
        return torch.stack(rows)

    return exponential_tableau(levels, prediction, weights)
