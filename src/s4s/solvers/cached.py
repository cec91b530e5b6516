"""A step cache: a solver with more steps than evaluations, whose other steps reuse what the network gave last.

With the choice of the evaluated steps fixed this is a tableau. What is reused is linear in states and outputs: a step without
an evaluation has D' = a y' + b y + c D, from its own state y' and the last evaluation's state y and output D. The states of
these steps are then eliminated. With r = s'/s, and for the last two x = y/(1 + s), rectified flow's state, and its v = e - D:

* data: D' = D. noise: e' = e, that is D' = y' - r (y - D).
* flow: v' = v, that is D' = (y' - r (y - (1 + s) D))/(1 + s').
* easycache: v' = v + x' - x, for EasyCache keeps what its network adds to its input, v - x, and adds it to the new input
  (Zhou et al. 2025, arXiv 2507.02860; H-EmbodVis/EasyCache, commit 5127804, easycache_forward; with guidance each of the two
  outputs is kept so, which is the same for the guided one). Its own choice of steps depends on the sample, and is no tableau.

The first three reuse an output: with Euler's steps (DDIM) they are one longer step and change nothing. TeaCache (arXiv
2411.19108) keeps what the transformer's blocks add to hidden states, and evaluates its last layer anew: not linear, no tableau.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from operator import index

import torch
from torch import Tensor

from s4s.errors import S4SError, shown
from s4s.tableau import Tableau

_Rule = Callable[[Tensor, Tensor], tuple["Tensor | float", "Tensor | float", "Tensor | float"]]
# (s', s) to the weights a, b and c of y', y and D
RULES: dict[str, _Rule] = {
    "data": lambda new, s: (0.0, 0.0, 1.0),
    "noise": lambda new, s: (1.0, -new / s, new / s),
    "flow": lambda new, s: (1 / (1 + new), -new / s / (1 + new), new / s * (1 + s) / (1 + new)),
    "easycache": lambda new, s: (
        (1 + new) ** -2,
        (new / (1 + s) - new / s) / (1 + new),
        new / s * (1 + s) / (1 + new),
    ),
}


def evaluated_steps(cached: int | Sequence[int], steps: int) -> list[int]:
    """Which of the steps are evaluated: every so many-th, or those of a list.

    Raises:
        S4SError: if it is neither a number above 0 nor whole numbers that rise from 0 and are below the number of steps.
    """
    if isinstance(cached, int) and cached > 0:
        return [*range(0, steps, cached)]
    try:
        found = [index(step) for step in cached]  # type: ignore[union-attr]
    except TypeError:
        found = []
    if not found or found[0] != 0 or found[-1] >= steps or any(a >= b for a, b in pairwise(found)):
        raise S4SError(
            "cached must be how many steps there are for an evaluation, or a list of those evaluated, which rises from 0 and "
            f"is below their number {steps}, got {shown(cached)}"
        )
    return found


def with_cache(tableau: Tableau, cached: int | Sequence[int], reuse: str) -> Tableau:
    """The solver with only some of its outputs evaluated, a tableau of as many evaluations.

    Args:
        tableau: the solver with all its M evaluations, which are called steps here.
        cached: which steps are evaluated (`evaluated_steps`); all of them give the solver itself.
        reuse: what the others reuse: data, noise, flow or easycache.
    Raises:
        S4SError: if `cached` or `reuse` is none of these.
    """
    kept = evaluated_steps(cached, tableau.nfe)
    if reuse not in RULES:
        raise S4SError(f"reuse must be one of {', '.join(RULES)}, got {shown(reuse)}")
    N, s = len(kept), tableau.eval_levels
    unit = torch.eye(2 * N, dtype=torch.float64)  # all is written in terms of the kept states, then the kept outputs
    states, outputs, rows = list[Tensor](), list[Tensor](), list[Tensor]()
    for step in range(tableau.nfe + 1):
        if step:
            row = tableau.A[step - 1, :step] @ torch.stack(states) + tableau.B[step - 1, :step] @ torch.stack(outputs)
        if step in (*kept[1:], tableau.nfe):
            rows.append(row)
        k = len(rows)
        if step in kept:
            states.append(unit[k])
            outputs.append(unit[N + k])
        elif step < tableau.nfe:
            on_new, on_old, on_output = RULES[reuse](s[step], s[kept[k]])
            old = unit[k] * tableau.kappa if k == 0 else unit[k]
            states.append(row)
            outputs.append(on_new * row + on_old * old + on_output * unit[N + k])
    levels = tableau.levels[[*kept, tableau.nfe]]
    table = torch.stack(rows)
    return replace(tableau, levels=levels, A=table[:, :N], B=table[:, N:], eval_levels=s[kept])
