"""iPNDM with the weights that belong to the actual spacing of the levels."""

from __future__ import annotations

from torch import Tensor

from s4s.solvers.deis import deis
from s4s.tableau import Tableau


def ipndm_v(levels: Tensor, order: int) -> Tableau:
    """Variable-step iPNDM, which is Adams-Bashforth in s; the same as DEIS with clock "sigma" and as k-diffusion's LMS.

    Formula: y' = y + sum_j e_j w_j, w_j the integral over the step of Lagrange's polynomial l_j(s) ds
    Order: 1 to 4, on any levels
    NFE per step: 1
    Source: Zhang & Chen 2023, arXiv 2204.13902 (rhoAB-DEIS)
    Use: beside iPNDM, which does better at the fewest evaluations although its order is lower
    """
    return deis(levels, order, "sigma", False)
