"""DDIM, which is the Euler method in s and the first-order exponential integrator at once."""

from __future__ import annotations

from torch import Tensor

from s4s.solvers.exponential import exponential_tableau, ratios
from s4s.tableau import Tableau


def ddim(levels: Tensor) -> Tableau:
    """DDIM (Song et al. 2021, arXiv 2010.02502), also called Euler: y' = r y + (1 - r) D with r = s'/s. Order 1."""
    return exponential_tableau(levels, (1 - ratios(levels)).diag())
