"""S4S's single-step family: nothing is used from earlier steps."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.learning.families.family import Family, check_base, check_inside, check_order, name_of
from s4s.schedules.increments import moved
from s4s.solvers.exponential import data_tableau, noise_tableau, stages, step_starts
from s4s.tableau import Tableau


class SingleStep(Family):
    """S4S-SS (arXiv 2502.17423): steps of K evaluations with free stage weights and free stage levels.

    With g the node where the step of node n + 1 starts:
    data:   y_{n+1} = (s_{n+1}/s_g) y_g + (1 - s_{n+1}/s_g) sum_{g<=j<=n} b_{n,j} D_j
    noise:  y_{n+1} = y_g + (s_{n+1} - s_g) sum_{g<=j<=n} b_{n,j} e_j

    theta holds the changes of b, then for each step the logarithms of how the increments of lambda between its stages
    change, against the last. NFE is the sum of the steps' orders; the last step has what is left.

    Args:
        base: a solver with the same steps: dpm2, dpm3, or ddim.
        prediction: "data" or "noise". order: K.
        consistency: keep the sum of the weights of each row, which is 1 for every classical solver.
    Raises:
        S4SError: if `base` uses outputs of earlier steps.
    """

    def __init__(self, base: Tableau, prediction: str, order: int, consistency: bool):
        check_order(order, base)
        check_base(base, "single_step")
        self.prediction, self.consistency, self.nfe = prediction, consistency, base.nfe
        self.sizes = stages(base.levels, order)
        self.starts = step_starts(self.sizes)
        node = torch.arange(base.nfe)
        mask = (node <= node[:, None]) & (node >= torch.tensor(self.starts)[:, None])
        self.base_B = self._base_form(base)
        check_inside(
            self.base_B, mask, base, "single_step", f"take a base with steps of {order} evaluations (dpm2, dpm3) or ddim"
        )
        self.base_scale = self._scale(base.levels)
        free = mask & (node < node[:, None]) if consistency else mask
        self.at = free.nonzero(as_tuple=True)
        self.size = len(self.at[0]) + sum(size - 1 for size in self.sizes)

    def _base_form(self, base: Tableau) -> Tensor:
        make = data_tableau if self.prediction == "data" else noise_tableau
        if torch.equal(make(base.levels, base.B, starts=self.starts).A, base.A):
            return base.B
        a, b = base.reduced()
        exact_on_constants = torch.allclose(a + b.sum(1), torch.ones_like(a))
        if not torch.allclose(a, base.levels / base.levels[0]) or (self.prediction == "noise" and not exact_on_constants):
            raise S4SError(f"family 'single_step' can only be initialised with an exponential solver; {name_of(base)} is not")
        if self.prediction == "data":
            return b[1:] - (base.levels[1:] / base.levels[self.starts])[:, None] * b[self.starts]
        unit = torch.eye(base.nfe, dtype=torch.float64)
        B: Tensor = torch.linalg.solve_triangular(unit - b[:-1], b[1:] - b[self.starts], upper=False, left=False)
        return B

    def _scale(self, levels: Tensor) -> Tensor:
        first = levels[self.starts]
        if self.prediction == "data":
            return (1 - levels[1:] / first)[:, None].expand(-1, self.nfe)
        return -(levels[1:] - first)[:, None] / levels[:-1]

    def _stage_levels(self, levels: Tensor, theta: Tensor) -> Tensor:
        parts, used, first = [levels[:1]], 0, 0
        for size in self.sizes:
            xi = torch.cat([theta[used : used + size - 1], torch.zeros(1, dtype=torch.float64)])
            parts.append(moved(levels[first : first + size + 1], xi)[1:])
            used, first = used + size - 1, first + size
        return torch.cat(parts)

    def tableau(self, levels: Tensor, theta: Tensor) -> Tableau:
        """The solver with these weights and stage levels; `levels` within a step are its stages' at theta = 0."""
        n_weights = len(self.at[0])
        levels = self._stage_levels(levels, theta[n_weights:])
        change = torch.zeros(self.nfe, self.nfe, dtype=torch.float64).index_put(self.at, theta[:n_weights])
        if self.consistency:
            change = change - torch.diag(change.sum(1))
        scale = self._scale(levels)
        B = self.base_B * (scale / self.base_scale) + scale * change
        return (data_tableau if self.prediction == "data" else noise_tableau)(levels, B, starts=self.starts)
