"""The Generalized Solver: corrections to a classical solver that follows the levels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from s4s.learning.families.family import Family, band
from s4s.learning.families.ld3 import LD3
from s4s.models.paths import Path
from s4s.solvers.exponential import ratios
from s4s.tableau import Tableau


class GS(LD3):
    """GS (arXiv 2510.17699): the base's coefficients on the current levels, plus free corrections on all earlier y and D.

    y_{n+1} = sum_{j<=n} (A[n,j] + (s_{n+1}/s_j) alpha_{n,j}) y_j + (B[n,j] + (1 - s_{n+1}/s_n) beta_{n,j}) D_j

    theta holds alpha, then beta, row by row. The authors initialise with DPM-Solver++(3M) and let some corrections act on
    differences of outputs; the span is the same.

    Args:
        base, path: as in LD3.
    """

    conditioned = Family.conditioned  # what theta adds weighs outputs, so all weights stay

    def __init__(self, base: Tableau, path: Path | None = None):
        super().__init__(base, path)
        self.at = band(base.nfe, base.nfe).nonzero(as_tuple=True)
        self.size = 2 * len(self.at[0])

    def tableau(self, levels: Tensor, theta: Tensor) -> Tableau:
        """The classical solver on `levels` with the corrections theta."""
        classical = self._classical(levels)
        alpha, beta = (torch.zeros_like(classical.A).index_put(self.at, half) for half in theta.chunk(2))
        A = classical.A + levels[1:, None] / levels[:-1] * alpha
        return replace(classical, A=A, B=classical.B + (1 - ratios(levels))[:, None] * beta)
