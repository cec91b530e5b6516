"""S4S's linear multistep family: free weights on past predictions, in data or noise prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.solvers.exponential import data_tableau, noise_tableau, ratios
from s4s.tableau import Tableau


class LMS:
    """S4S-LMS (arXiv 2502.17423): order K, weights b free, started at a classical solver.

    data:   y_{n+1} = r_n y_n + (1 - r_n) sum_{k<K} b_{k,n} D_{n-k},           r_n = s_{n+1}/s_n
    noise:  y_{n+1} = y_n + (s_{n+1} - s_n) sum_{k<K} b_{k,n} e_{n-k},         e_j = (y_j - D_j)/s_j

    Either way B[n,j] = scale[n,j] b[n,j], with scale a function of the levels. The parameters are theta = b - b_start
    [N, N], of which the band j > n - K counts. theta = 0 on the starting levels gives the starting solver bit for bit.

    Args:
        base: the classical solver to start from; any that is exact on D = 0 and on constants.
        prediction: "data" or "noise".
        order: K, or None for as many as there are.
    Raises:
        S4SError: if this family cannot represent `base`.
    """

    def __init__(self, base: Tableau, prediction: str = "data", order: int | None = None):
        if prediction not in ("data", "noise"):
            raise S4SError(f"prediction must be 'data' or 'noise', got {prediction!r}")
        if order is not None and not 1 <= order <= base.nfe:
            raise S4SError(f"order {order} of the learned solver must lie between 1 and its NFE, {base.nfe}")
        if base.kappa != 1 or base.levels[-1] == 0 or not torch.equal(base.eval_levels, base.levels[:-1]):
            raise S4SError(
                f"a learned solver cannot start at {base.meta.get('solver', 'this solver')}, which ends at level 0, scales its "
                "start or tells the network other levels than those of its schedule"
            )
        self.prediction = prediction
        self.order = order or base.nfe
        self.mask = torch.ones(base.nfe, base.nfe, dtype=torch.float64).tril().triu(1 - self.order)
        self.start_scale = self._scale(base.levels)
        self.start_B = self._start(base)
        outside = self.start_B[self.mask == 0].abs().max().item() if base.nfe > 1 else 0.0
        if outside > 1e-12:
            needed = max(n - j + 1 for n, j in self.start_B.abs().gt(1e-12).nonzero().tolist())
            raise S4SError(
                f"a learned solver of order {self.order} with {prediction} prediction cannot start at "
                f"{base.meta.get('solver', 'this solver')}, which uses the last {needed} outputs; take order {needed} or full"
            )

    def _scale(self, levels: Tensor) -> Tensor:
        if self.prediction == "data":
            return (1 - ratios(levels))[:, None].expand(-1, len(levels) - 1)
        return -(levels[1:] - levels[:-1])[:, None] / levels[:-1]

    def _build(self, levels: Tensor, B: Tensor, eval_levels: Tensor | None = None) -> Tableau:
        make = data_tableau if self.prediction == "data" else noise_tableau
        return make(levels, B, eval_levels)

    def _start(self, base: Tableau) -> Tensor:
        """B of the tableau in this family's form whose reduced form is that of `base`."""
        if torch.equal(self._build(base.levels, base.B).A, base.A):
            return base.B
        a, b = base.reduced()
        if not torch.allclose(a, base.levels / base.levels[0]) or not torch.allclose(a + b.sum(1), torch.ones_like(a)):
            raise S4SError("a learned solver can only start at one that is exact for D = 0 and for a constant state")
        if self.prediction == "data":
            return b[1:] - ratios(base.levels)[:, None] * b[:-1]
        unit = torch.eye(base.nfe, dtype=torch.float64)
        return torch.linalg.solve_triangular(unit - b[:-1], b[1:] - b[:-1], upper=False, left=False)

    def tableau(self, levels: Tensor, theta: Tensor, eval_levels: Tensor | None = None) -> Tableau:
        """The solver with weights b_start + theta on `levels`; differentiable in all arguments."""
        scale = self._scale(levels)
        B = self.start_B * (scale / self.start_scale) + scale * (theta * self.mask)
        return self._build(levels, B, eval_levels)
