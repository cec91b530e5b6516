"""Heun's method in s, EDM's sampler."""

from __future__ import annotations

from torch import Tensor

from s4s.solvers.runge_kutta import HEUN, runge_kutta_tableau
from s4s.tableau import Tableau


def heun(levels: Tensor) -> Tableau:
    """Heun's method (the explicit trapezoidal rule) in s, EDM's deterministic sampler; DPM-Solver-2 with r_m = 1.

    Formula: y_1 = y + (s' - s) e, y' = y + (s' - s) (e + e_1)/2
    Order: 2
    NFE per step: 2, both ends of the step, which goes over two levels; with an odd number the last step is Euler's
    Source: Karras et al. 2022, arXiv 2206.00364, algorithm 1
    Use: as EDM's baseline; needs 20 evaluations and more
    """
    return runge_kutta_tableau(levels, HEUN, "sigma")
