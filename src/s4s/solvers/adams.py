"""Explicit Adams methods in lambda."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.schedules.lagrange import step_weights
from s4s.solvers.exponential import denoised_at_zero, finite_lambda, noise_tableau, orders
from s4s.tableau import Tableau


def adams(levels: Tensor, order: int) -> Tableau:
    """Explicit Adams (Adams-Bashforth) in lambda, with the weights of the actual spacing.

    Formula: y' = y + sum_j w_j (D_j - y_j), w_j the integral over the step of Lagrange's polynomial l_j(lambda) dlambda
    Order: 1 to 4
    NFE per step: 1
    Source: Bashforth & Adams 1883
    Use: for reference: the same polynomials as in exponential integrators, without the exact linear part
    """
    W = step_weights(finite_lambda(levels), orders(levels, order), torch.ones_like)
    return noise_tableau(levels, denoised_at_zero(levels, W))
