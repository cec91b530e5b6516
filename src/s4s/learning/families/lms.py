"""S4S's linear multistep family: free weights on past predictions, in data or noise prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.learning.families.family import Family, band, check_inside, check_order, data_form, noise_form
from s4s.solvers.exponential import data_tableau, noise_tableau, unit_weights
from s4s.tableau import Tableau


class LMS(Family):
    """S4S-LMS (arXiv 2502.17423): order K, weights b free, initialised with a classical solver.

    data:   y_{n+1} = r_n y_n + (1 - r_n) sum_{k<K} b_{k,n} D_{n-k},           r_n = s_{n+1}/s_n
    noise:  y_{n+1} = y_n + (s_{n+1} - s_n) sum_{k<K} b_{k,n} e_{n-k},         e_j = (y_j - D_j)/s_j

    Either way B[n,j] = scale[n,j] b[n,j], with scale a function of the levels. theta holds b - b_base, row by row.
    theta = 0 on the base solver's levels gives that solver bit for bit if it is written in this form. A solver that is
    not exact on D = 0 (one with an analytic first step) adds to each row of the data form a skip weight of the initial
    noise y_0; with `start_weights` these are learned too, and the family is as general as BNS.

    Args:
        base: the base solver; for noise prediction one that is exact on D = 0 and on constants.
        prediction: "data" or "noise".
        order: K, or None for as many as there are.
        consistency: keep the sum of the weights of each row, which is 1 for every classical solver.
        start_weights: data prediction only: learn the skip weight of the initial noise of each row as well; theta ends with
            these N numbers.
    Raises:
        S4SError: if this family cannot represent `base`.
    """

    name = "lms"

    def __init__(
        self,
        base: Tableau,
        prediction: str,
        order: int | None,
        consistency: bool,
        start_weights: bool = False,
    ):
        check_order(order, base)
        self.prediction, self.nfe = prediction, base.nfe
        self.order, self.consistency = order or base.nfe, consistency
        self.base_scale = unit_weights(base.levels, prediction)
        if prediction == "data":
            self.base_B, self.skip_weights = data_form(base, self.name)
        else:
            self.base_B = noise_form(base, self.name)
        reach = self._reach()
        check_inside(self.base_B, band(self.nfe, reach), base, self.name, f"take order {{}}{self._less} or full")
        self.at = self._positions(self.order)
        self.n_skip = base.nfe if start_weights else 0
        self.size = len(self.at[0]) + self.n_skip

    _less = ""  # how an error speaks of the order that would do

    def _reach(self) -> int:
        """Number of outputs that a row can weigh."""
        return self.order

    def _positions(self, width: int) -> tuple[Tensor, ...]:
        """Rows and columns of the free weights; with consistency the newest weight of a row follows from the others."""
        allowed = band(self.nfe, width)
        return (allowed.tril(-1) if self.consistency else allowed).nonzero(as_tuple=True)

    def _table(self, values: Tensor, at: tuple[Tensor, ...]) -> Tensor:
        """Changes of the weights b as a table [N, N]."""
        table = torch.zeros(self.nfe, self.nfe, dtype=torch.float64).index_put(at, values)
        return table - torch.diag(table.sum(1)) if self.consistency else table

    def _change(self, levels: Tensor, theta: Tensor, scale: Tensor) -> Tensor:
        """What theta adds to B."""
        return scale * self._table(theta, self.at)

    def tableau(self, levels: Tensor, theta: Tensor) -> Tableau:
        """The solver with weights b_base + theta on `levels`; differentiable in both."""
        scale = unit_weights(levels, self.prediction)
        weights, skip_changes = theta[: self.size - self.n_skip], theta[self.size - self.n_skip :]
        B = self.base_B * (scale / self.base_scale) + self._change(levels, weights, scale)
        if self.prediction == "noise":
            return noise_tableau(levels, B)
        return data_tableau(levels, B, self.skip_weights + skip_changes if self.n_skip else self.skip_weights)
