"""DEIS: exact integrals of the polynomial through past noise predictions, in a clock of choice."""

from __future__ import annotations

from torch import Tensor

from s4s.models.paths import Path, VPLinear
from s4s.schedules.lagrange import step_weights
from s4s.solvers.exponential import finite_lambda, noise_step_tableau, orders
from s4s.tableau import Tableau


def deis(levels: Tensor, order: int, clock: str, lower_order_final: bool, path: Path | None = None) -> Tableau:
    """DEIS: tAB (clock "time"), rhoAB (clock "sigma") and the log-rho form of diffusers (clock "lambda").

    Formula: y' = y + sum_j e_j w_j, w_j the integral over the step of Lagrange's polynomial l_j(u) ds in the clock u = t, s or
        -ln s, through the last `order` noise predictions
    Order: 1 to 4, the number of predictions used; the paper's tAB-r uses r + 1
    NFE per step: 1
    Source: Zhang & Chen 2023, arXiv 2204.13902
    Use: tAB at 10 to 20 evaluations on time-uniform or time-quadratic levels; the time is that of the VP path with linear beta
        unless `path` says otherwise
    """
    path = path or VPLinear()
    clocks = {"lambda": None, "sigma": lambda lam: (-lam).exp(), "time": lambda lam: path.t_of_s((-lam).exp())}
    lam, step_orders = finite_lambda(levels), orders(levels, order, lower_order_final)
    return noise_step_tableau(levels, step_weights(lam, step_orders, lambda at: -(-at).exp(), clocks[clock]))
