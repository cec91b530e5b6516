"""What a step of an optimiser gives back, and what a fit does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from s4s.tableau import Tableau


class Step(NamedTuple):
    """New values [P], distances of the minibatch before the step [B], their gradients by the initial noise if asked."""

    values: Tensor
    distances: Tensor
    by_noise: Tensor | None


class NotFinite(Exception):
    """A distance or a gradient is not finite."""


@dataclass(frozen=True)
class FitResult:
    """A fit's outcome.

    Attributes:
        tableau: the learned solver with the smallest validation loss.
        history: one dict a validation: iteration, free, train, val (mean distances), evaluations, recovered (how often so far).
        evaluations: denoiser evaluations, a forward pass counted 1 and a forward with its backward pass 3.
        seconds: wall time, with that of earlier interrupted runs.
    """

    tableau: Tableau
    history: list[dict[str, Any]]
    evaluations: int
    seconds: float
