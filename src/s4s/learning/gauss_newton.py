"""Gauss-Newton with a memory: least squares on few pairs a step, remembering what earlier pairs said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.learning.objective import Objective
from s4s.learning.parameters import Parameters
from s4s.learning.result import NotFinite, Step
from s4s.learning.settings import FitSettings

ATTEMPTS = 8  # at a step, each with more damping
WORSE = 1.02  # a step may worsen its own few pairs by this much, for the remembered ones count too
LEAST_DAMPING = 1e-7
SHRINK = 0.5  # what a step leaves of an increment of lambda at least: it cannot see that an increment near 0 stays there
HALVINGS = 20


class GaussNewton:
    """Recursive Levenberg-Marquardt, an extended Kalman filter with fading memory (Bertsekas 1996, SIAM J. Optim. 6(3)).

    Each step linearises the residuals of a fresh minibatch, adds them to what is remembered of earlier ones and takes

        argmin_p  sum_k fade^(age of k) ||W_k (r_k + J_k (p - p_k))||^2 + damping ||p - p_now||^2_diag

    which needs the sums H = sum fade J'WWJ and c = H p - J'WWr only. W makes the squares those of the distance
    (iterative reweighting). The memory grows with the steps up to the setting, since early linearisations are poor. A step is
    kept if its own pairs are not worse after it; else it is tried again with more damping. Parameters that move the solver as
    others do together are left where they are. With an alternating driver H and c are of all
    parameters that any phase frees, so that a phase uses what the others learned.

    Args:
        phases: the parts of the parameters that are free in each of the driver's phases.
    """

    def __init__(self, parameters: Parameters, settings: FitSettings, phases: Sequence[frozenset[str]]):
        self.parameters, self.settings = parameters, settings
        self.damping = settings.damping
        chosen = {phase: parameters.independent(parameters.free(phase)) for phase in phases}
        self.index = torch.cat(list(chosen.values())).unique()  # all that H and c are of, sorted
        self.phases = {phase: torch.searchsorted(self.index, own) for phase, own in chosen.items()}
        self._forget()

    def _forget(self) -> None:
        self.age, K = 0, len(self.index)
        self.H, self.c = torch.zeros(K, K, dtype=torch.float64), torch.zeros(K, dtype=torch.float64)

    def step(self, objective: Objective, values: Tensor, free: frozenset[str], y: Tensor, rows: Tensor, by_noise: bool) -> Step:
        """One minibatch; see `Step`."""
        phase, p = self.phases[free], values[self.index]
        lin = self.parameters.linearise(values, self.index)
        found = objective.normal_equations(lin, y, rows, self.settings.derivatives)
        before = found.distances.mean().item()
        if not (torch.isfinite(found.distances).all() and torch.isfinite(found.matrix).all()):
            raise NotFinite(before)
        slopes = None
        if by_noise:
            recompute = self.settings.recompute
            slopes = objective.gradients(self.parameters, values, y, rows, by_noise=True, recompute=recompute).by_noise
        fade = min(1 - 1 / self.settings.memory, self.age / (self.age + 2))
        H = fade * self.H + found.matrix
        c = fade * self.c + found.matrix @ p - found.gradient
        gradient, mine = (H @ p - c)[phase], H[phase][:, phase]
        diagonal = mine.diagonal()
        diagonal = diagonal.clamp_min(1e-8 * diagonal.max().item() or 1.0)  # 1 where nothing moves anything
        growth = 4.0
        for _ in range(ATTEMPTS):
            change = torch.zeros_like(p)
            change[phase] = -torch.linalg.solve(mine + torch.diag(self.damping * diagonal), gradient)
            change = self.parameters.bounded(values, values.new_zeros(len(values)).index_add(0, self.index, change))[self.index]
            change = self._within_reach(lin.tableau.levels, values, change)
            after = self._try(objective, values, change, y, rows)
            if after is not None and after[1] <= before * (WORSE if self.age > 1 else 1):
                predicted = -(found.gradient @ change + 0.5 * change @ found.matrix @ change).item() / len(rows)
                if predicted <= 0 or before - after[1] > 0.5 * predicted:
                    self.damping = max(LEAST_DAMPING, self.damping / 5)
                values = after[0]
                break
            self.damping, growth = self.damping * growth, 2 * growth
        self.H, self.c, self.age = H, c, self.age + 1
        return Step(values, found.distances, slopes)

    def _within_reach(self, levels: Tensor, values: Tensor, change: Tensor) -> Tensor:
        """A change, halved until it leaves at least SHRINK of every increment of lambda that the levels have now."""
        now = levels.log().diff()
        for _ in range(HALVINGS):
            try:
                moved = self.parameters.tableau(values.index_add(0, self.index, change)).levels
                if (moved.log().diff() / now).min() >= SHRINK:
                    break
            except S4SError:  # no solver at all
                pass
            change = change / 2
        return change

    def _try(
        self, objective: Objective, values: Tensor, change: Tensor, y: Tensor, rows: Tensor
    ) -> tuple[Tensor, float] | None:
        """Values after a change and their mean distance, or None where they stand for no solver."""
        moved = values.index_add(0, self.index, change)
        try:
            tableau = self.parameters.tableau(moved)
        except S4SError:
            return None
        mean = objective.distances(tableau.detach(), y, rows).mean().item()
        return (moved, mean) if mean == mean else None

    def after_validation(self, better: bool) -> bool:
        """Whether to go back to the best values: never."""
        return False

    def recover(self) -> None:
        """After values that are not finite: forget, and begin with careful steps."""
        self.damping = max(1.0, 10 * self.damping)
        self._forget()

    def average(self, values: Tensor) -> Tensor:
        """What is validated: the values themselves."""
        return values

    def state(self) -> dict[str, Any]:
        """All that changes."""
        return {"damping": self.damping, "age": self.age, "H": self.H, "c": self.c}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.damping, self.age, self.H, self.c = state["damping"], state["age"], state["H"], state["c"]
