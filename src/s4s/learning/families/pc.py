"""S4S's predictor-corrector family."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.learning.families.lms import LMS
from s4s.solvers.exponential import ratios
from s4s.tableau import Tableau


class PC(LMS):
    """S4S-PC (arXiv 2502.17423), in UniPC's convention: an LMS predictor of order K and a corrector that costs no evaluation.

    predictor:  y^_{n+1} = r_n y_n + (1 - r_n) sum_{k<K} b_{k,n} D_{n-k},                D_n = D(y^_n; s_n)
    corrector:  y_{n+1}  = r_n y_n + (1 - r_n) sum_{0<=k<=K} c_{k,n} D_{n+1-k}

    and the like with noise prediction. The corrected state starts the next step; the last step has no corrector. The
    corrected state differs from the predicted one by outputs only, so row n + 1 of the tableau is the predictor's plus
    what the corrector adds: a tableau of order K + 1. theta holds the changes of all b, then of all c.

    What PC of order K can represent is thus what LMS of order K + 1 can; they differ in their parameters, and so in what an
    optimiser makes of them.

    Args:
        base: the base solver, such as UniPC-K; all but `order` as in LMS.
        order: K; None for the largest, N - 1.
    """

    name = "pc"
    _less = " less 1"

    def __init__(self, base: Tableau, prediction: str, order: int | None, consistency: bool):
        super().__init__(base, prediction, max(1, base.nfe - 1) if order is None else order, consistency)
        rows, columns = self._positions(self.order + 1)
        kept = rows > 0  # row n of the tableau holds the corrector of step n - 1
        self.predictor_size, self.corrector_at = self.size, (rows[kept], columns[kept])
        self.size += int(kept.sum())

    def _reach(self) -> int:
        return self.order + 1

    def _change(self, levels: Tensor, theta: Tensor, scale: Tensor) -> Tensor:
        predictor = self._table(theta[: self.predictor_size], self.at)
        corrector = self._table(theta[self.predictor_size :], self.corrector_at)
        earlier = torch.cat([torch.zeros_like(predictor[:1]), predictor[:-1]])
        if self.prediction == "data":  # the correction of node n is carried on by r_n
            before = torch.cat([torch.zeros(1, dtype=torch.float64), 1 - ratios(levels)[:-1]])
            carried = (ratios(levels) * before)[:, None]
        else:
            steps = torch.cat([torch.zeros(1, dtype=torch.float64), levels[1:-1] - levels[:-2]])
            carried = -steps[:, None] / levels[:-1]
        return scale * predictor + carried * (corrector - earlier)
