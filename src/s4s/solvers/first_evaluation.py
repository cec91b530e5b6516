"""Two ways to start that any solver can take: without the first evaluation, and from a level above the first."""

from __future__ import annotations

from dataclasses import replace

import torch

from s4s.errors import S4SError
from s4s.tableau import Tableau


def without_first_evaluation(tableau: Tableau) -> Tableau:
    """The analytic first step: e = y/sqrt(1 + s^2) stands for the first evaluation, so N + 1 nodes cost N evaluations.

    At the highest levels the data hardly matter: y/sqrt(1 + s^2), the state x of a variance-preserving path, is close to the
    noise (Dockhorn et al. 2022, arXiv 2210.05475; as in the toolbox of arXiv 2312.00094). The first output is then a multiple
    of y_0, and so is node 1: y_1 = kappa y_0. What is left is a tableau with the first evaluation at (kappa y_0, s_1).
    """
    if tableau.nfe < 2:
        raise S4SError("an analytic first step needs at least 2 levels below the first")
    if tableau.kappa != 1:
        raise S4SError("an analytic first step needs a tableau that starts at y_0 itself")
    s = tableau.eval_levels[0]
    output = 1 - s * (1 + s**2).rsqrt()  # D_0 = y_0 - s e_0 as a multiple of y_0
    on_start = tableau.A[:, 0] + tableau.B[:, 0] * output
    kappa = on_start[0]
    if not bool(kappa > 0):
        raise S4SError("an analytic first step is impossible here: the solver's first stage turns the state around")
    A, B = tableau.A[1:, 1:].clone(), tableau.B[1:, 1:]
    A[:, 0] = A[:, 0] * kappa + on_start[1:]
    levels = torch.cat([tableau.levels[:1], tableau.levels[2:]])
    return replace(tableau, levels=levels, A=A, B=B, eval_levels=tableau.eval_levels[1:], kappa=kappa.item())


def scaled_start(tableau: Tableau, start: float) -> Tableau:
    """The same solver for noise of level `start`, at or above its first level: y_0 is scaled down first.

    Stable Diffusion's leading times start below the highest level and take the full noise for that of their first level.
    """
    first = tableau.levels[0].item()
    if not start >= first:
        raise S4SError(f"start must be at or above the first level, {first:.6g}, got {start:.6g}")
    factor = first / start
    A = torch.cat([tableau.A[:, :1] * factor, tableau.A[:, 1:]], 1)
    levels = torch.cat([torch.tensor([start], dtype=torch.float64), tableau.levels[1:]])
    return replace(tableau, levels=levels, A=A, kappa=tableau.kappa * factor)
