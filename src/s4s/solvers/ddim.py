"""DDIM, which is the Euler method in s and the first-order exponential integrator at once."""

from __future__ import annotations

from torch import Tensor

from s4s.solvers.exponential import data_tableau, ratios
from s4s.tableau import Tableau


def ddim(levels: Tensor) -> Tableau:
    """DDIM, also called Euler or DPM-Solver-1.

    Formula: y' = r y + (1 - r) D, r = s'/s; the same as y' = y + (s' - s) e
    Order: 1
    NFE per step: 1
    Source: Song et al. 2021, arXiv 2010.02502, eq. 12 with eta = 0
    Use: as the floor of every comparison
    """
    return data_tableau(levels, (1 - ratios(levels)).diag())
