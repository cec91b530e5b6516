"""The forms that solvers share, and how a solver divides its evaluations into steps.

A step starts at node g and makes node n + 1. In data prediction it keeps the fraction r = s_{n+1}/s_g of the state, in noise
prediction it keeps the state. With lambda = -ln s the two are one formula: y/s in lambda with outputs D is solved exactly as
y in -lambda with outputs e, so a solver gives its weights once, as a function of lambda.

A level 0 at the end is a final denoising step: y_N = D_{N-1}, whatever the solver (the limit of DDIM's step).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from s4s.tableau import Tableau


def ratios(levels: Tensor) -> Tensor:
    """r_n = s_{n+1}/s_n, [N]."""
    return levels[1:] / levels[:-1]


def unit_weights(levels: Tensor, prediction: str) -> Tensor:
    """What an output that a step weighs by 1 has in B: 1 - s_{n+1}/s_n (data), or (s_n - s_{n+1})/s_j (noise); [N, N]."""
    if prediction == "data":
        return (1 - ratios(levels))[:, None].expand(-1, len(levels) - 1)
    return -(levels[1:] - levels[:-1])[:, None] / levels[:-1]


def data_tableau(levels: Tensor, B: Tensor, skip_weights: Tensor | None = None, starts: Sequence[int] | None = None) -> Tableau:
    """The tableau of y_{n+1} = (s_{n+1}/s_g) y_g + sum_j B[n,j] D_j with g = starts[n], by default n; B [N, N].

    With `skip_weights` [N] each row also has skip_weights[n] (s_{n+1}/s_0) y_0.
    """
    kept = ratios(levels) if starts is None else levels[1:] / levels[list(starts)]
    A = _unit_rows(B, starts) * kept[:, None]
    if skip_weights is not None:
        on_initial = _unit_rows(B, [0] * len(B))
        A = A + (levels[1:] / levels[0] * skip_weights)[:, None] * on_initial
    return Tableau(levels, A, B)


def noise_tableau(levels: Tensor, B: Tensor, eval_levels: Tensor | None = None, starts: Sequence[int] | None = None) -> Tableau:
    """The tableau of y_{n+1} = y_g + sum_j B[n,j] (D_j - y_j) with g = starts[n], by default n; B [N, N]."""
    return Tableau(levels, _unit_rows(B, starts) - B, B, levels[:-1] if eval_levels is None else eval_levels)


def noise_step_tableau(
    levels: Tensor, E: Tensor, eval_levels: Tensor | None = None, starts: Sequence[int] | None = None
) -> Tableau:
    """The tableau of y_{n+1} = y_g + sum_j E[n,j] e_j, e_j = (y_j - D_j)/eval_levels[j]; E [N, N]."""
    conditioning = levels[:-1] if eval_levels is None else eval_levels
    return noise_tableau(levels, denoised_at_zero(levels, -E / conditioning), eval_levels, starts)


def _unit_rows(B: Tensor, starts: Sequence[int] | None) -> Tensor:
    identity = torch.eye(len(B), dtype=B.dtype)
    return identity if starts is None else identity[list(starts)]


def exponential_tableau(
    levels: Tensor, prediction: str, weights: Callable[[Tensor], Tensor], starts: Sequence[int] | None = None
) -> Tableau:
    """The tableau of a solver that gives the weights of its outputs as a function of lambda.

    data:   y_{n+1} = (s_{n+1}/s_g) y_g + sum_j weights(lambda)[n,j] D_j
    noise:  y_{n+1} = y_g + s_{n+1} sum_j weights(-lambda)[n,j] e_j,    e_j = (y_j - D_j)/s_j
    """
    lam = finite_lambda(levels)
    if prediction == "data":
        return data_tableau(levels, denoised_at_zero(levels, weights(lam)), starts=starts)
    return noise_tableau(levels, denoised_at_zero(levels, -levels[1:, None] / levels[:-1] * weights(-lam)), starts=starts)


def finite_lambda(levels: Tensor) -> Tensor:
    """-ln s, [N + 1], and some finite number where s = 0: the row that it would lead to is replaced by `denoised_at_zero`."""
    if levels[-1] > 0:
        return -levels.log()
    lam = -levels[:-1].log()
    return torch.cat([lam, lam[-1:] + 1])


def denoised_at_zero(levels: Tensor, B: Tensor) -> Tensor:
    """B with the row of the last step replaced by y_N = D_{N-1} if the last level is 0."""
    if levels[-1] > 0:
        return B
    return torch.cat([B[:-1], torch.eye(len(B), dtype=B.dtype)[-1:]])


def orders(levels: Tensor, order: int, lower_order_final: bool = False) -> list[int]:
    """Order of each multistep step: as many outputs as there are so far, fewer towards the end if `lower_order_final`."""
    nfe = len(levels) - 1
    result = [min(order, n + 1, nfe - n if lower_order_final else order) for n in range(nfe)]
    return [*result[:-1], 1] if levels[-1] == 0 else result


def stages(levels: Tensor, order: int, lower_order_final: bool = False) -> list[int]:
    """Evaluations of each step of a single-step solver, `order` a step and the rest in the last.

    With `lower_order_final` the last step has fewer than `order` (Lu et al. 2022, arXiv 2206.00927, "DPM-Solver-fast");
    before a level 0 it has one.
    """
    nfe = len(levels) - 1
    if nfe > 1 and (levels[-1] == 0 or (lower_order_final and nfe % order == 0 and order > 1)):
        return [*stages(levels[:-1], order), 1]
    return [order] * (nfe // order) + [nfe % order] * (nfe % order > 0)


def step_starts(sizes: Sequence[int]) -> list[int]:
    """For each evaluation the node that its step starts at."""
    return [sum(sizes[:i]) for i, size in enumerate(sizes) for _ in range(size)]


def phi(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Integrals over a step h of 1, u/h and u^2/(2 h^2) against exp(u - h): weights of D and of its scaled derivatives."""
    one = -torch.expm1(-h)
    return one, 1 - one / h, 0.5 - (h - one) / h**2
