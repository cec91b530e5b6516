"""A classical solver at other conditioning levels than those of its nodes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from s4s.solvers import solver_of
from s4s.tableau import Tableau


def conditioned(tableau: Tableau, conditioning: Tensor, scale: Tensor | None = None) -> Tableau:
    """The solver with its denoiser evaluated at `conditioning`, as LD3's samplers do (Tong et al. 2024, arXiv 2405.15506).

    A solver that weighs outputs keeps its weights. One that weighs directions weighs those of the conditioning levels,
    e_j = (y_j - D_j)/conditioning[j], which is what a network that predicts noise gives there.

    Args:
        tableau: as `s4s.solver` makes it, without another start; its meta says its kind and options.
        conditioning: the conditioning levels, [N], > 0; may carry a gradient, as the tableau may.
        scale: what the denoiser's input y_j is multiplied by, [N]; by default 1. LD3 hands its network x_j = alpha(s_j) y_j,
            which at the conditioning level is the state alpha(s_j)/alpha(conditioning[j]) y_j.
    """
    entry, levels = solver_of(tableau.meta["solver"]), tableau.levels
    A, B = tableau.A, tableau.B
    input_scale = torch.ones_like(conditioning) if scale is None else scale
    # nodes are the denoiser's inputs, but for y_0, which tableaux scale by kappa
    node_scale = torch.cat([torch.ones(1, dtype=torch.float64), input_scale[1:]])
    if entry.weighs_directions(tableau.meta["options"]):
        kept = (A + B).round()  # y_{n+1} = y_g + sum_j B[n,j] (D_j - y_j)
        B = B * (tableau.eval_levels / conditioning)
        A = kept / node_scale - B * (input_scale / node_scale)
    else:
        A = A / node_scale
    if levels[-1] == 0:  # y_N = D_{N-1}
        A, B = torch.cat([A[:-1], tableau.A[-1:]]), torch.cat([B[:-1], tableau.B[-1:]])
    if scale is None:
        return replace(tableau, A=A, B=B, eval_levels=conditioning)
    made = torch.cat([input_scale[1:], torch.ones(1, dtype=torch.float64)])[:, None]
    return replace(tableau, A=made * A, B=made * B, eval_levels=conditioning, kappa=tableau.kappa * scale[0])
