"""Bespoke non-stationary solvers: the reduced form itself."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.learning.families.family import Family, band, check_base
from s4s.tableau import Tableau


class BNS(Family):
    """BNS (arXiv 2403.01329): every node straight from the initial noise and the outputs, all weights free.

    y_{n+1} = a_{n+1} y_0 + sum_{j<=n} b_{n+1,j} D_j

    theta holds the changes of a over s_{n+1}/s_0, then those of b. Any linear solver can be written so; the levels enter
    as conditioning levels only.

    Args:
        base: any solver that ends above level 0.
    """

    def __init__(self, base: Tableau):
        check_base(base, "bns")
        reduced = base.reduced()
        self.a, self.b = reduced.a[1:], reduced.b[1:]
        self.base_levels = base.levels
        self.at = band(base.nfe, base.nfe).nonzero(as_tuple=True)
        self.size = base.nfe + len(self.at[0])

    def tableau(self, levels: Tensor, theta: Tensor) -> Tableau:
        """The solver with these weights, whose conditioning levels are `levels`."""
        n = len(self.a)
        a = self.a + self.base_levels[1:] / self.base_levels[0] * theta[:n]
        A = torch.cat([a[:, None], torch.zeros(n, n - 1, dtype=torch.float64)], 1)
        return Tableau(levels, A, self.b + torch.zeros_like(self.b).index_put(self.at, theta[n:]))
