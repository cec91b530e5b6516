"""How the states of a run move with the solver's parameters: derivatives in forward mode, by what the structure allows.

A parameter of row n moves nothing before node n + 1, and all parameters share one run of the solver itself. So the derivatives
of all states by K parameters cost, beside that run, one directional derivative of the denoiser for each node and each
parameter that moves the node or its conditioning level.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from s4s.errors import S4SError
from s4s.learning.parameters import Linearised
from s4s.models.denoiser import Denoiser

FORWARD_MODE = threading.Lock()  # torch's forward mode is one for the whole process
FORWARD_COST = 4  # evaluations that a derivative in torch's forward mode counts; benchmarks/fit_cost.py measures it


class Counter:
    """Denoiser evaluations spent: a forward pass counts 1, a forward with its backward pass 3."""

    def __init__(self) -> None:
        self.evaluations = 0


def run_with_tangents(
    denoiser: Denoiser,
    y: Tensor,
    lin: Linearised,
    counter: Counter,
    rows: int,
    mode: str = "differences",
    condition: Tensor | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Run a solver and differentiate all of its nodes by its parameters.

    Args:
        y: initial noise [B, *shape].
        lin: the solver and its derivatives by K parameters.
        rows: states at a time through the network.
        mode: "differences" of outputs (one forward pass each; for any network in float32), or "forward", torch's forward mode
            (exact; for networks whose operations have such derivatives).
        condition: passed to the denoiser, [B, ...].
    Returns:
        states y_0 ... y_N [B, *shape] each, and their derivatives [K, B, *shape] each.
    """
    t, K = lin.tableau, len(lin.A)
    column = [K, *[1] * y.ndim]
    states, tangents = [y], [y.new_zeros(K, *y.shape)]
    outputs: list[Tensor] = []
    output_tangents: list[Tensor] = []
    moving = torch.zeros(K, dtype=torch.bool)  # parameters that move the node at hand
    node_moving, output_moving = [moving], []
    for n in range(t.nfe):
        level, at, tangent = float(t.eval_levels[n]), states[n], tangents[n]
        if n == 0:
            at, tangent = at * float(t.kappa), tangent + lin.kappa.to(y).view(column) * at
            moving = lin.kappa != 0
        level_changes = lin.eval_levels[:, n]
        moving = moving | (level_changes != 0)
        output = denoiser(at, level, condition)
        counter.evaluations += len(y)
        slopes = y.new_zeros(K, *y.shape)
        chosen = moving.nonzero().flatten()
        if len(chosen):
            size = max(1, rows // len(y))
            parts = [
                _directional(
                    denoiser, at, level, output, tangent[part.to(y.device)], level_changes[part].to(y), counter, mode, condition
                )
                for part in chosen.split(size)
            ]
            slopes[chosen.to(y.device)] = torch.cat(parts)
        outputs.append(output)
        output_tangents.append(slopes)
        output_moving.append(moving)
        state, state_tangent = torch.zeros_like(y), y.new_zeros(K, *y.shape)
        moving = ((lin.A[:, n] != 0) | (lin.B[:, n] != 0)).any(1)
        for j in range(n + 1):
            for weight, weight_slopes, value, value_tangent, moves in (
                (float(t.A[n, j]), lin.A[:, n, j], states[j], tangents[j], node_moving[j]),
                (float(t.B[n, j]), lin.B[:, n, j], outputs[j], output_tangents[j], output_moving[j]),
            ):
                state.add_(value, alpha=weight)
                state_tangent.add_(value_tangent, alpha=weight)
                if weight_slopes.any():
                    state_tangent.addcmul_(weight_slopes.to(y).view(column), value)
                moving = moving | (moves & (weight != 0))
        states.append(state)
        tangents.append(state_tangent)
        node_moving.append(moving)
    return states, tangents


def _directional(
    denoiser: Denoiser,
    y: Tensor,
    s: float,
    output: Tensor,
    tangents: Tensor,
    level_changes: Tensor,
    counter: Counter,
    mode: str,
    condition: Tensor | None,
) -> Tensor:
    """Derivatives of D(y; s) along each (tangent [B, *shape], change of the conditioning level): [K, B, *shape]."""
    K, B = len(tangents), len(y)
    levels = y.new_full((K, B), s)
    conditions = None if condition is None else condition.repeat(K, *[1] * (condition.ndim - 1))
    if mode == "forward":
        counter.evaluations += FORWARD_COST * K * B
        with FORWARD_MODE, forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            dual_y = forward_ad.make_dual(y.expand(K, *y.shape).flatten(0, 1).contiguous(), tangents.flatten(0, 1))
            dual_s = forward_ad.make_dual(levels.flatten(), level_changes[:, None].expand(K, B).flatten())
            try:
                tangent = forward_ad.unpack_dual(denoiser(dual_y, dual_s, conditions)).tangent
            except (RuntimeError, NotImplementedError) as error:
                raise S4SError(
                    f"fit: torch's forward mode does not work on {denoiser.name} ({error}); set derivatives: differences"
                ) from error
        return torch.zeros_like(tangents) if tangent is None else tangent.view_as(tangents)
    counter.evaluations += K * B
    size = tangents.flatten(2).square().mean(2).sqrt() + level_changes.abs()[:, None]
    if denoiser.one_level:  # what moves the level moves it alike for all samples
        size = torch.where(level_changes[:, None] == 0, size, size.mean(1, keepdim=True))
    step = denoiser.difference_step * s / size.clamp_min(1e-30)  # of each sample, so that it does not depend on the others
    column = step.view(K, B, *[1] * (y.ndim - 1))
    shifted = denoiser((y + column * tangents).flatten(0, 1), (levels + step * level_changes[:, None]).flatten(), conditions)
    return (shifted.view_as(tangents) - output) / column
