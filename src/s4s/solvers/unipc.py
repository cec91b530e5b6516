"""UniPC: a multistep predictor and a corrector that reuses the next evaluation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from s4s.solvers.exponential import exponential_tableau, orders
from s4s.tableau import Tableau

_Step = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]  # what _conditions tells of a step


def unipc(
    levels: Tensor,
    order: int,
    prediction: str,
    variant: str,
    lower_order_final: bool,
    corrector: bool,
) -> Tableau:
    """UniPC-p; without its corrector UniP-p.

    Formula: y' = r y + (1 - r) D - B(h) sum_i rho_i (D_{n-i} - D)/r_i with the order conditions of the paper for rho;
        B(h) = -h (bh1) or exp(-h) - 1 (bh2). The corrector does the same with D at the new node too, and its result
        starts the next step: it differs from the predicted state by outputs only, so it is part of the next row
    Order: p + 1; without the corrector p
    NFE per step: 1, for the corrector uses the evaluation of the next step; the output itself is not corrected
    Source: Zhao et al. 2023, arXiv 2302.04867
    Use: the strongest general solver at 8 to 20 evaluations, and the teacher here; set lower_order_final at few evaluations
    """
    step_orders = orders(levels, order, lower_order_final)

    def weights(lam: Tensor) -> Tensor:
        steps = [_conditions(lam, n, p, variant) for n, p in enumerate(step_orders)]
        predicted = [_predictor(n, p, step) for n, (p, step) in enumerate(zip(step_orders, steps, strict=True))]
        rows = predicted[:1]
        for n in range(1, len(steps)):
            row = predicted[n]
            if corrector:
                correction = _corrector(n - 1, step_orders[n - 1], steps[n - 1]) - predicted[n - 1]
                row = row + torch.exp(lam[n] - lam[n + 1]) * correction
            rows.append(row)
        return torch.stack(rows)

    return exponential_tableau(levels, prediction, weights)


def _predictor(n: int, p: int, step: _Step) -> Tensor:
    """Weights [N] of the outputs in UniP-p's step from node n, which sees nodes n, n-1, ..., n-p+1."""
    unit, h, offsets, R, b, scale = step
    row = -torch.expm1(-h) * unit[n]
    if p == 1:
        return row
    # for p = 2 the authors take 1/2, which is exact for B(h) up to the method's order
    rho = torch.full((1,), 0.5, dtype=h.dtype) if p == 2 else torch.linalg.solve(R[:-1, :-1], b[:-1])
    for i in range(1, p):
        row = row - scale * rho[i - 1] / offsets[i - 1] * (unit[n - i] - unit[n])
    return row


def _corrector(n: int, p: int, step: _Step) -> Tensor:
    """Weights [N] of the outputs in UniC-p's step from node n, which sees node n+1 as well."""
    unit, h, offsets, R, b, scale = step
    rho = torch.full((1,), 0.5, dtype=h.dtype) if p == 1 else torch.linalg.solve(R, b)
    row = -torch.expm1(-h) * unit[n] - scale * rho[-1] * (unit[n + 1] - unit[n])
    for i in range(1, p):
        row = row - scale * rho[i - 1] / offsets[i - 1] * (unit[n - i] - unit[n])
    return row


def _conditions(lam: Tensor, n: int, p: int, variant: str) -> _Step:
    """Unit rows, step h, node offsets in steps (last: the new node, 1), the order conditions R rho = b, and B(h)."""
    h = lam[n + 1] - lam[n]
    scale = -h if variant == "bh1" else torch.expm1(-h)
    offsets = torch.stack([(lam[n - i] - lam[n]) / h for i in range(1, p)] + [torch.ones_like(h)])
    R = torch.stack([offsets**i for i in range(p)])
    phi = torch.expm1(-h) / -h - 1  # phi_{k+1} = phi_k / (-h) - 1/(k+1)!
    b = []
    for k in range(1, p + 1):
        b.append(phi * math.factorial(k) / scale)
        phi = phi / -h - 1 / math.factorial(k + 1)
    return torch.eye(len(lam) - 1, dtype=lam.dtype), h, offsets, R, torch.stack(b), scale
