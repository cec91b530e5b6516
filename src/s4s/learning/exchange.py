"""The search of a family whose parameters are whole numbers: one of them at a time, all values that change the solver."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.learning.objective import Objective
from s4s.learning.parameters import Parameters
from s4s.learning.result import NotFinite, Step
from s4s.tableau import Tableau


class Exchange:
    """Coordinate descent without derivatives: each step takes the best value of the next parameter on a minibatch.

    Its values are tried upwards and downwards from the present one, as far as they stand for a solver.
    """

    def __init__(self, parameters: Parameters):
        self.parameters, self.next = parameters, 0

    def step(self, objective: Objective, values: Tensor, free: frozenset[str], y: Tensor, rows: Tensor, by_noise: bool) -> Step:
        """One minibatch; see `Step`."""
        indices = self.parameters.free(free).tolist()
        k = indices[self.next % len(indices)]
        self.next += 1
        before = objective.distances(self.parameters.tableau(values), y, rows)
        if not torch.isfinite(before).all():
            raise NotFinite(before.mean().item())
        best, least = values, before.mean().item()
        for direction in (1.0, -1.0):
            moved = values.clone()
            while True:
                moved[k] += direction
                tableau = self._tableau(moved)
                if tableau is None:
                    break
                mean = objective.distances(tableau, y, rows).mean().item()
                if mean < least:
                    best, least = moved.clone(), mean
        return Step(best, before, None)

    def _tableau(self, values: Tensor) -> Tableau | None:
        """The solver, or None where the values stand for none."""
        try:
            return self.parameters.tableau(values)
        except S4SError:
            return None

    def after_validation(self, better: bool) -> bool:
        """Whether to go back to the best values: never."""
        return False

    def recover(self) -> None:
        """After values that are not finite: nothing, the best ones are where it goes on."""

    def average(self, values: Tensor) -> Tensor:
        """What is validated: the values themselves."""
        return values

    def state(self) -> dict[str, Any]:
        """All that changes."""
        return {"next": self.next}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.next = state["next"]
