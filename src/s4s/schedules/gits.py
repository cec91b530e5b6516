"""GITS: levels by dynamic programming over the steps of teacher trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import FiniteFloat, model_validator
from torch import Tensor

from s4s.errors import S4SError
from s4s.files.json_file import Items, JsonFile
from s4s.schedules import Span


class Costs(JsonFile):
    """Computed once a model: levels of trajectories [T + 1] and the cost of a step from one to another [T + 1, T + 1]."""

    what = "these costs of steps"
    format: Literal["s4s-gits-costs/1"] = "s4s-gits-costs/1"
    levels: Items[FiniteFloat]
    cost: Items[Items[FiniteFloat]]

    @model_validator(mode="after")
    def _square(self) -> Costs:
        size = len(self.levels)
        if len(self.cost) != size or any(len(row) != size for row in self.cost):
            raise ValueError(f"cost must have {size} rows of as many numbers, one for each level")
        return self


def step_costs(levels: Sequence[float], states: np.ndarray, outputs: np.ndarray) -> Costs:
    """Mean over trajectories of the distance between an Euler step and the trajectory, for each pair of levels.

    Args:
        levels: of the trajectories, [T + 1], decreasing.
        states: [n, T + 1, *shape]; outputs: denoiser outputs at all but the last, [n, T, *shape].
    Raises:
        S4SError: if the trajectories are not finite.
    """
    n, steps = outputs.shape[:2]
    y, D = states.reshape(n, steps + 1, -1), outputs.reshape(n, steps, -1)
    cost = np.zeros((steps + 1, steps + 1))
    for i in range(steps):
        slope = (y[:, i] - D[:, i]) / levels[i]
        for j in range(i + 1, steps + 1):
            landed = y[:, i] + (levels[j] - levels[i]) * slope
            cost[i, j] = np.linalg.norm(landed - y[:, j], axis=1).mean(dtype=np.float64)
    if not np.isfinite(cost).all():
        raise S4SError("the trajectories hold numbers that are not finite; take another teacher or other search levels")
    return Costs(levels=list(levels), cost=cost.tolist())


def gits(nfe: int, span: Span, costs: Costs | str, gamma: float) -> Tensor:
    """GITS: the path with the least cost c_1 + gamma c_2 + gamma^2 c_3 + ..., c_k the error of the k-th Euler step.

    The costs come from teacher trajectories (`costs` is their file, which a rule of the workflow makes).

    Source: Chen et al. 2024, arXiv 2405.11326
    Use: with iPNDM at 4 to 10 evaluations; gamma = 1.15 is the authors'
    """
    costs = costs if isinstance(costs, Costs) else Costs.load(costs)
    table = np.asarray(costs.cost)
    size = len(table)
    if nfe > size - 1:
        raise S4SError(f"schedule 'gits': nfe {nfe} needs trajectories with at least {nfe} steps; there are {size - 1}")
    later = np.where(np.triu(np.ones((size, size), dtype=bool), 1), table, np.inf)  # a step goes to a later level
    best, choice = later[:, -1], []  # cost from each level to the last in one step
    for _ in range(nfe - 1):
        totals = later + gamma * best
        choice.append(totals.argmin(1))
        best = totals.min(1)
    path = [0]
    for chosen in reversed(choice):
        path.append(int(chosen[path[-1]]))
    return torch.tensor([costs.levels[i] for i in [*path, size - 1]], dtype=torch.float64)
