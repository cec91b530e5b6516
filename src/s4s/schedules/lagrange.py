"""Weights of a linear multistep step: integrals of Lagrange's polynomials through the last outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

POINTS = 64  # of the Gauss-Legendre rule: exact to rounding for steps of up to ten in lambda

Function = Callable[[Tensor], Tensor]


def step_weights(lam: Tensor, orders: Sequence[int], kernel: Function, clock: Function | None = None) -> Tensor:
    """W[n,j] = integral over step n of kernel(lambda) l_j(clock(lambda)) dlambda, [len(orders), len(orders)].

    l_j is Lagrange's polynomial through the nodes n, n-1, ..., n-orders[n]+1 in the variable clock(lambda), lambda itself
    by default. Differentiable in `lam`.
    """
    clock = clock or (lambda value: value)
    n, width = len(orders), max(orders)
    points, point_weights = (torch.as_tensor(value) for value in np.polynomial.legendre.leggauss(POINTS))
    h = lam[1 : n + 1] - lam[:n]
    at = lam[:n, None] + h[:, None] * (points + 1) / 2  # [n, points]
    mass = kernel(at) * point_weights / 2 * h[:, None]
    back = torch.arange(width)
    nodes = (torch.arange(n)[:, None] - back).clamp(min=0)  # [n, width], newest first
    used = back < torch.tensor(orders)[:, None]
    u, node_u = clock(at), clock(lam[:n])[nodes]
    columns = []
    for k in range(width):
        basis = torch.ones_like(u)
        for m in range(width):
            if m != k:
                both = used[:, m] & used[:, k]
                span = torch.where(both, node_u[:, k] - node_u[:, m], 1.0)
                basis = basis * torch.where(both[:, None], (u - node_u[:, m : m + 1]) / span[:, None], 1.0)
        columns.append((mass * basis).sum(1))
    values = torch.stack(columns, 1) * used
    rows = torch.arange(n)[:, None].expand(-1, width)
    return torch.zeros(n, n, dtype=lam.dtype).index_put((rows, nodes), values, accumulate=True)
