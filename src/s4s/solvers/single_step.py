"""The single-step exponential solvers of order 2 and 3, which dpm2 and dpm3 name."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.solvers.exponential import exponential_tableau, phi, stages, step_starts
from s4s.tableau import Tableau


def single_step(levels: Tensor, order: int, prediction: str, variant: str, lower_order_final: bool) -> Tableau:
    """Steps of `order` evaluations over `order` levels each; the stages of a step are at the levels between its ends."""
    starts = step_starts(stages(levels, order, lower_order_final))

    def weights(lam: Tensor) -> Tensor:
        unit = torch.eye(len(starts), dtype=lam.dtype)
        rows = []
        for n, g in enumerate(starts):
            h = lam[n + 1] - lam[g]
            one, two, three = phi(h)
            row = one * unit[g]
            if n == g + 1:
                slope = (unit[g + 1] - unit[g]) * h / (lam[g + 1] - lam[g])
                last = n + 1 == len(starts) or starts[n + 1] == n + 1  # a stage inside a step of order 3 is always exact
                row = row + (one / 2 if last and variant == "midpoint" else two) * slope
            if n == g + 2:
                near, far = ((unit[g + i] - unit[g]) * h / (lam[g + i] - lam[g]) for i in (1, 2))
                if variant == "midpoint":
                    row = row + two * far
                else:
                    r1, r2 = ((lam[g + i] - lam[g]) / h for i in (1, 2))
                    row = row + two * (r2 * near - r1 * far) / (r2 - r1) + three * 2 * (far - near) / (r2 - r1)
            rows.append(row)
        return torch.stack(rows)

    return exponential_tableau(levels, prediction, weights, starts)
