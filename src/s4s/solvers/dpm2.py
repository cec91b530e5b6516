"""DPM-Solver-2 and DPM-Solver++(2S): two evaluations a step."""

from __future__ import annotations

from torch import Tensor

from s4s.solvers.single_step import single_step
from s4s.tableau import Tableau


def dpm2(levels: Tensor, prediction: str, variant: str, lower_order_final: bool) -> Tableau:
    """DPM-Solver-2, single-step; with data prediction DPM-Solver++(2S).

    Formula: y_m = y + (s_m - s) e, y' = y + (s' - s) (e + (e_m - e)/(2 r_m)), r_m = (lambda_m - lambda)/(lambda' - lambda);
        with data prediction the same with y/s, D and 1/s in place of y, e and s. Variant "heun" has the exact coefficient
        of a linear e instead of 1/2
    Order: 2
    NFE per step: 2, the second at the level between the ends of the step; the rest in a step of order 1
    Source: Lu et al. 2022, arXiv 2206.00927; data prediction: arXiv 2211.01095, algorithm 1
    Use: for comparison; multistep solvers do better with the same number of evaluations
    """
    return single_step(levels, 2, prediction, variant, lower_order_final)
