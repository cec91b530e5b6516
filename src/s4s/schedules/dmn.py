"""DMN: levels that minimise a bound on the error of a third-order exponential solver. It needs no network."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.optimize import LinearConstraint, minimize
from torch import Tensor

from s4s.schedules import Span
from s4s.schedules.fixed import logsnr, time_uniform
from s4s.schedules.lagrange import step_weights

MOST_ITERATIONS = 300  # the bound is not smooth: from 8 evaluations on the optimiser ends here
ALONE = 2  # steps after the first whose weights are bounded each by itself, for stability (authors' code)


def dmn(nfe: int, span: Span, exponent: int, initial: str) -> Tensor:
    """DMN: minimises a bound on the error of the result, taking the error of an output D as sigma^exponent/alpha.

    The bound adds up |weight of D_j in the result| (error of D_j); the first three steps and the last, of which the second and
    third by their Euclidean norm, are counted each by itself. The weights are those of the exponential solver with Lagrange's
    polynomials in lambda through up to three outputs, with lower orders at both ends; the authors call it DM-NonUniform.

    Source: Xue et al. 2024, arXiv 2402.17376
    Use: with UniPC and DPM-Solver++. The authors' code has exponent 2; they advise initial time_uniform for latent models and
        exponent 1 for pixel models, though 2 does better on the embedded model
    """
    lam = -(logsnr if initial == "logsnr" else time_uniform)(nfe, span).log()
    if nfe == 1:
        return torch.exp(-lam)

    def objective(inner: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.tensor(inner, requires_grad=True)
        value = bound(torch.cat([lam[:1], free, lam[-1:]]), exponent)
        (gradient,) = torch.autograd.grad(value, free)
        return value.item(), gradient.numpy()

    steps = np.eye(nfe, nfe - 1) - np.eye(nfe, nfe - 1, -1)  # the increments of lambda, less the fixed ends
    fixed = np.zeros(nfe)
    fixed[0], fixed[-1] = -lam[0], lam[-1]
    least = 1e-3 * (lam[-1] - lam[0]).item() / nfe
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "delta_grad == 0.0", UserWarning)  # the optimiser's word for "nothing left to gain"
        found = minimize(
            objective, lam[1:-1].numpy(), jac=True, method="trust-constr",
            constraints=[LinearConstraint(steps, least - fixed, np.inf, keep_feasible=True)],
            options={"maxiter": MOST_ITERATIONS},
        )  # fmt: skip
    inner = torch.as_tensor(found.x) if found.fun < objective(lam[1:-1].numpy())[0] else lam[1:-1]
    return torch.exp(-torch.cat([lam[:1], inner, lam[-1:]]))


def bound(lam: Tensor, exponent: int) -> Tensor:
    """The bound on the error of y_N/s_N for nodes at lambda [N + 1], N > 1; a scalar, differentiable."""
    nfe = len(lam) - 1
    orders = [min(3, n + 1, nfe - n) for n in range(nfe)]
    J = step_weights(lam, orders, torch.exp)  # y_N/s_N = y_0/s_0 + sum_n sum_j J[n,j] D_j
    s = torch.exp(-lam[:-1])
    error = s if exponent == 1 else s**2 * (1 + s**2).rsqrt()
    weighted = J * error
    ends = weighted[[0, -1]].abs().sum()  # the steps of order 1 at both ends are bounded by themselves, too
    norms = (weighted[1:-1][:ALONE] ** 2).sum(1).clamp_min(1e-300).sqrt().sum()
    return ends + norms + weighted[1:-1][ALONE:].sum(0).abs().sum()
