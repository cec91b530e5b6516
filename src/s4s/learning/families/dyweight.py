"""DyWeight: free weights on past directions, whose sum says where in time a step has arrived."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.learning.families.family import Family, band, check_inside, check_order, noise_form
from s4s.solvers.exponential import noise_tableau, unit_weights
from s4s.tableau import Tableau


class DyWeight(Family):
    """DyWeight (arXiv 2603.11607 and its code): unconstrained weights w, implicit time calibration.

    y_{n+1} = y_n + (s_{n+1} - t_n) sum_{k<K} w_{n,n-k} d_{n-k},   d_j = (y_j - D(y_j; t_j))/t_j
    t_{n+1} = t_n + (s_{n+1} - t_n) sum_k w_{n,n-k},               t_0 = s_0

    The schedule s is fixed; t is where the weights say that the state is, and the conditioning level. The learned factor on
    it (the authors' s_i) is the option `decoupled` of a fit. theta holds w - w_base, row by row.

    Args:
        base: an exponential solver; the authors take iPNDM-3.
        order: K, None for all; the authors take 3.
    """

    def __init__(self, base: Tableau, order: int | None):
        check_order(order, base)
        self.nfe = base.nfe
        self.base_B = noise_form(base, "dyweight")
        allowed = band(base.nfe, order or base.nfe)
        check_inside(self.base_B, allowed, base, "dyweight", "take order {} or full")
        self.at = allowed.nonzero(as_tuple=True)
        self.size = len(self.at[0])
        self.base_scale = unit_weights(base.levels, "noise")

    def tableau(self, levels: Tensor, theta: Tensor) -> Tableau:
        """The solver with these weights; raises S4SError if they lead to a time that is not positive."""
        change = torch.zeros(self.nfe, self.nfe, dtype=torch.float64).index_put(self.at, theta)
        excess = change.sum(1)  # of the sum of a row over 1
        times = [levels[0]]
        for n in range(self.nfe - 1):
            times.append(levels[n + 1] + excess[n] * (levels[n + 1] - times[n]))
        t = torch.stack(times)
        scale = -(levels[1:] - t)[:, None] / t
        return noise_tableau(levels, self.base_B * (scale / self.base_scale) + scale * change, eval_levels=t)
