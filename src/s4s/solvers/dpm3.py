"""DPM-Solver-3 and DPM-Solver++(3S): three evaluations a step."""

from __future__ import annotations

from torch import Tensor

from s4s.solvers.single_step import single_step
from s4s.tableau import Tableau


def dpm3(levels: Tensor, prediction: str, variant: str, lower_order_final: bool) -> Tableau:
    """DPM-Solver-3, single-step; with data prediction DPM-Solver++(3S).

    Formula: the first two stages as in dpm2, the second with the exact coefficient of a linear e;
        y' = y + (s' - s) e + w (e_2 - e)/r_2 with w = -s' ((exp(h) - 1)/h - 1), e_2 at the second stage; variant "heun" uses
        both stages for the first and the second derivative of e
    Order: 3 where the second stage lies at two thirds of the step in lambda, as on the log-SNR schedule; else 2
    NFE per step: 3, at the levels between the ends of the step; the rest in a step of lower order
    Source: Lu et al. 2022, arXiv 2206.00927; variant "heun": "taylor" in the authors' code; data prediction: arXiv 2211.01095
    Use: for comparison with the multistep solvers, above 10 evaluations
    """
    return single_step(levels, 3, prediction, variant, lower_order_final)
