"""Explicit Runge-Kutta steps from their Butcher tableaux."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.solvers.exponential import denoised_at_zero, finite_lambda, noise_tableau, stages, step_starts
from s4s.tableau import Tableau

# Rows of a step's stages, then of its result: weights of the slopes of the stages before. Kutta's rule of order 4 reads
#   k_2 at h/2 with k_1/2;  k_3 at h/2 with k_2/2;  k_4 at h with k_3;  y' = y + h (k_1 + 2 k_2 + 2 k_3 + k_4)/6
# and the position of a stage in the step is the sum of its row.
Butcher = list[list[float]]
EULER: Butcher = [[], [1]]
HEUN: Butcher = [[], [1], [1 / 2, 1 / 2]]
MIDPOINT: Butcher = [[], [1 / 2], [0, 1]]
KUTTA_3: Butcher = [[], [1 / 2], [-1, 2], [1 / 6, 4 / 6, 1 / 6]]
KUTTA_4: Butcher = [[], [1 / 2], [0, 1 / 2], [0, 0, 1], [1 / 6, 2 / 6, 2 / 6, 1 / 6]]
BY_ORDER = {1: EULER, 2: MIDPOINT, 3: KUTTA_3, 4: KUTTA_4}


def runge_kutta(levels: Tensor, order: int) -> Tableau:
    """Explicit Runge-Kutta in lambda: the midpoint rule (order 2) and Kutta's rules (orders 3 and 4).

    Formula: y' = y + h sum_i b_i f_i with f = dy/dlambda = D - y at the stages of the rule
    Order: 1 to 4
    NFE per step: the order; a step goes over as many levels, its stages lie where the rule wants them in lambda
    Source: Kutta 1901; as a baseline Lu et al. 2022, arXiv 2206.00927
    Use: for reference: what exponential integrators gain by solving the linear part exactly
    """
    return runge_kutta_tableau(levels, BY_ORDER[order], "lambda")


def runge_kutta_tableau(levels: Tensor, rule: Butcher, clock: str) -> Tableau:
    """Steps of the rule in s (slope e) or in lambda (slope D - y); the last takes what is left, with a rule of lower order."""
    at = levels if clock == "sigma" else finite_lambda(levels)
    sizes = stages(levels, len(rule) - 1)
    eval_levels, B = [], []
    for g, size in zip(sorted(set(step_starts(sizes))), sizes, strict=True):
        rows = rule if size == len(rule) - 1 else BY_ORDER[size]
        start, end = at[g], at[g + size]
        for i in range(size):
            position = start + sum(rows[i]) * (end - start)
            eval_levels.append(position if clock == "sigma" else levels[g] * torch.exp(start - position))
        for row in rows[1:]:
            weights = torch.zeros(len(levels) - 1, dtype=levels.dtype)
            for i, weight in enumerate(row):  # in s the slope is e = -(D - y)/s, in lambda D - y
                slope = -1 / eval_levels[g + i] if clock == "sigma" else 1.0
                weights[g + i] = (end - start) * weight * slope
            B.append(weights)
    return noise_tableau(levels, denoised_at_zero(levels, torch.stack(B)), torch.stack(eval_levels), step_starts(sizes))
