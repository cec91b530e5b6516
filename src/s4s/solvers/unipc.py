"""UniPC: a multistep predictor and a corrector that reuses the next evaluation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from s4s.solvers.exponential import exponential_tableau, orders, ratios
from s4s.tableau import Tableau


def unipc(levels: Tensor, order: int = 3, variant: str = "bh2", lower_order_final: bool = False) -> Tableau:
    """UniPC-p, data prediction, B(h) = bh1 or bh2 (Zhao et al. 2023, arXiv 2302.04867, algorithm 5). Order p + 1.

    The corrected state of node n differs from the predicted one by denoiser outputs only, y^c_n = y_n + delta_n, and
    both carry the ratio r_n on. So y_{n+1} = r_n y_n + (predictor of step n) + r_n delta_n: the corrector is part of
    the next row and costs no evaluation. The output itself is not corrected.
    """
    nfe = len(levels) - 1
    lam = -levels.log()
    r = ratios(levels)
    step_orders = orders(nfe, order, lower_order_final)
    B = []
    for n, p in enumerate(step_orders):
        row = _predictor(lam, n, p, variant)
        if n > 0:
            q = step_orders[n - 1]
            row = row + r[n] * (_corrector(lam, n - 1, q, variant) - _predictor(lam, n - 1, q, variant))
        B.append(row)
    return exponential_tableau(levels, torch.stack(B))


def _predictor(lam: Tensor, n: int, p: int, variant: str) -> Tensor:
    """Weights [N] of the outputs in UniP-p's step from node n, which sees nodes n, n-1, ..., n-p+1."""
    unit, h, offsets, R, b, scale = _conditions(lam, n, p, variant)
    row = -torch.expm1(-h) * unit[n]
    if p == 1:
        return row
    # for p = 2 the authors take 1/2, which is exact for B(h) up to the method's order
    rho = torch.full((1,), 0.5, dtype=lam.dtype) if p == 2 else torch.linalg.solve(R[:-1, :-1], b[:-1])
    for i in range(1, p):
        row = row - scale * rho[i - 1] / offsets[i - 1] * (unit[n - i] - unit[n])
    return row


def _corrector(lam: Tensor, n: int, p: int, variant: str) -> Tensor:
    """Weights [N] of the outputs in UniC-p's step from node n, which sees node n+1 as well."""
    unit, h, offsets, R, b, scale = _conditions(lam, n, p, variant)
    rho = torch.full((1,), 0.5, dtype=lam.dtype) if p == 1 else torch.linalg.solve(R, b)
    row = -torch.expm1(-h) * unit[n] - scale * rho[-1] * (unit[n + 1] - unit[n])
    for i in range(1, p):
        row = row - scale * rho[i - 1] / offsets[i - 1] * (unit[n - i] - unit[n])
    return row


def _conditions(lam: Tensor, n: int, p: int, variant: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
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
