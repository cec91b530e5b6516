"""DPM-Solver-v3: the linear part of the equation and the scaling of the rest are taken from statistics of the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor

from s4s.files.json_file import Items, JsonFile
from s4s.solvers.exponential import denoised_at_zero, finite_lambda, orders
from s4s.tableau import Tableau

PIECES, POINTS = 16, 16  # of the Gauss-Legendre rule on a step


class Statistics(JsonFile):
    """l(lambda) and s(lambda) of a model, at increasing values of lambda = -ln s; linear between them, constant beyond."""

    what = "these statistics"
    format: Literal["s4s-statistics/1"] = "s4s-statistics/1"
    lam: Items[FiniteFloat] = Field(min_length=2)
    l: Items[FiniteFloat]  # noqa: E741
    s: Items[FiniteFloat]

    @model_validator(mode="after")
    def _consistent(self) -> Statistics:
        if not len(self.lam) == len(self.l) == len(self.s):
            raise ValueError("lam, l and s must have the same length")
        if any(b <= a for a, b in zip(self.lam, self.lam[1:], strict=False)):
            raise ValueError("lam must increase")
        return self


def dpm_v3(
    levels: Tensor,
    statistics: Statistics | str,
    order: int,
    lower_order_final: bool,
    corrector: bool,
    p_pseudo: bool,
    c_pseudo: bool,
) -> Tableau:
    """DPM-Solver-v3 with scalar statistics l and s of the model.

    Formula: with f = (1 - l) y - D and primitives L, S of l, s in lambda, y' = exp(L - L') (y - sum_k E_k g^(k)),
        g = f exp(S_n - S), E_k the integral over the step of exp(L + S - L_n - S_n) (lambda - lambda_n)^k/k!, and derivatives
        g^(k) from past f; the corrector does the same with f at the new node. l = 1, s = 0 is data prediction,
        l = 0, s = -1 noise prediction
    Order: 1 to 3; at most 2 with the authors' pseudo-order derivatives (p_pseudo, c_pseudo), which they prefer in large steps;
        with c_pseudo the corrector uses one output more
    NFE per step: 1
    Source: Zheng et al. 2023, arXiv 2310.13268. The authors have one l, s and bias for each pixel; a tableau holds
        numbers, so l and s are means over pixels and there is no bias
    Use: at 5 to 12 evaluations; `snakemake` computes the statistics of a model once, from teacher trajectories
    """
    table = statistics if isinstance(statistics, Statistics) else Statistics.load(statistics)
    lam = finite_lambda(levels)
    nfe = len(lam) - 1
    L, S = _primitive(table.lam, table.l), _primitive(table.lam, table.s)
    keep = torch.exp(L(lam[:-1]) - L(lam[1:]))
    scaling = S(lam)
    E = _moments(lam, L, S, order + 1)
    step_orders = orders(levels, order, lower_order_final)

    def result(n: int, history: list[int], pseudo: bool) -> Tensor:
        """Weights [N] of f in the step from node n to n + 1, with derivatives from f at n and at `history`."""
        nodes = [n, *history]
        g = torch.zeros(len(nodes), nfe, dtype=lam.dtype)
        for i, node in enumerate(nodes):
            g[i, node] = torch.exp(scaling[n] - scaling[node])
        derivatives = torch.stack([g[0], *_derivatives(lam[nodes], g, pseudo)])
        return -keep[n] * E[n, : len(nodes)] @ derivatives

    predicted = [result(n, [n - i for i in range(1, p)], p_pseudo) for n, p in enumerate(step_orders)]
    rows = predicted[:1]
    for n in range(1, nfe):
        row, q = predicted[n], step_orders[n - 1] + c_pseudo
        if corrector and q > 1:  # the new node comes first, then those before n - 1
            corrected = result(n - 1, [n, *range(n - 2, n - q, -1)], c_pseudo)
            row = row + keep[n] * (corrected - predicted[n - 1])
        rows.append(row)
    W = torch.stack(rows)
    linear = torch.as_tensor(np.interp(lam[:-1].detach(), table.lam, table.l))
    A = torch.diag(keep) + W * (1 - linear)
    if levels[-1] == 0:
        A = torch.cat([A[:-1], torch.zeros(1, nfe, dtype=A.dtype)])
    return Tableau(levels, A, denoised_at_zero(levels, -W))


def _primitive(x: list[float], values: list[float]) -> Callable[[Tensor], Tensor]:
    """The integral from x[0] of the piecewise linear function through (x, values), constant outside."""
    knots, heights = np.asarray(x), np.asarray(values)
    areas = np.concatenate([[0], np.cumsum(np.diff(knots) * (heights[1:] + heights[:-1]) / 2)])

    def integral(at: Tensor) -> Tensor:
        point = at.detach().numpy()
        inside = np.clip(point, knots[0], knots[-1])
        left = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(knots) - 2)
        area = areas[left] + (inside - knots[left]) * (heights[left] + np.interp(inside, knots, heights)) / 2
        outside = np.minimum(point - knots[0], 0) * heights[0] + np.maximum(point - knots[-1], 0) * heights[-1]
        return torch.as_tensor(area + outside)

    return integral


def _moments(lam: Tensor, L: Callable[[Tensor], Tensor], S: Callable[[Tensor], Tensor], count: int) -> Tensor:
    """E_k of each step for k < count, [N, count]. The integrand is smooth between knots only, so steps are cut in pieces."""
    points, weights = (torch.as_tensor(value) for value in np.polynomial.legendre.leggauss(POINTS))
    u = ((torch.arange(PIECES)[:, None] + (points + 1) / 2) / PIECES).flatten()  # of all pieces, in (0, 1)
    start, h = lam[:-1, None], (lam[1:] - lam[:-1])[:, None]
    at = start + h * u
    mass = h * weights.repeat(PIECES) / (2 * PIECES) * torch.exp(L(at) + S(at) - L(start) - S(start))
    return torch.stack([(mass * (at - start) ** k).sum(1) / math.factorial(k) for k in range(count)], 1)


def _derivatives(at: Tensor, g: Tensor, pseudo: bool) -> list[Tensor]:
    """Estimates of the derivatives 1 ... k at at[0] from g [k + 1, ...] at the points `at` [k + 1].

    Without `pseudo` those of the interpolating polynomial; with it k! times the k-th divided difference, which is what the
    authors call pseudo-order.
    """
    k = len(at) - 1
    if k == 0:
        return []
    if not pseudo:
        powers = torch.stack([(at[1:] - at[0]) ** i for i in range(1, k + 1)], 1)
        slopes = torch.linalg.solve(powers, g[1:] - g[0])
        return [slopes[i] * math.factorial(i + 1) for i in range(k)]
    table, result = [*g], []
    for i in range(1, k + 1):
        table = [(table[j] - table[j + 1]) / (at[j] - at[i + j]) for j in range(len(table) - 1)]
        result.append(table[0] * math.factorial(i))
    return result
