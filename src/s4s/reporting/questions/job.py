"""What a question about one model is answered from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from s4s.metrics.global_error import global_error
from s4s.models.denoiser import Denoiser
from s4s.sampling import initial_noise, sample
from s4s.solvers import solver
from s4s.tableau import Tableau

STEPS = 32  # of the solver that carries states where there is no flow in closed form


class Key(NamedTuple):
    """A cell, as `--cells model/solver/nfe=FILE` names it."""

    model: str
    solver: str
    nfe: int


@dataclass(frozen=True)
class Job:
    """A model, with the files of its cells, and those of the other models' where a question needs them.

    Attributes:
        model: the model's YAML file.
        denoiser: the model itself.
        cells: file of each cell, tableaux or samples.
        fits: file of the convergence curve of each fit, where a question needs them.
        pairs: shards of the teacher's pairs of the test noise, where a question needs them.
        reference: moments of the real data, if they were computed before.
    """

    model: str
    denoiser: Denoiser
    cells: dict[Key, str]
    fits: dict[Key, str]
    pairs: list[str]
    reference: str | None = None

    @cached_property
    def own(self) -> dict[Key, str]:
        """The cells of this model but for the teacher's."""
        return {key: path for key, path in self.cells.items() if key.model == self.denoiser.name and key.solver != "teacher"}

    @cached_property
    def teacher(self) -> str:
        """The file of this model's teacher."""
        return next(path for key, path in self.cells.items() if key.model == self.denoiser.name and key.solver == "teacher")

    def tableaux(self) -> dict[Key, Tableau]:
        """The solvers of this model."""
        return {key: Tableau.load(path) for key, path in self.own.items()}

    def noise(self, seeds: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Initial noise and conditions of some seeds."""
        return initial_noise(self.denoiser, seeds), self.denoiser.conditions(seeds)


def rms(difference: Tensor) -> float:
    """Mean over samples of the root-mean-square of a difference [n, *shape] over a state's components."""
    return global_error(difference.cpu().numpy(), np.zeros(()))


def carried(denoiser: Denoiser, y: Tensor, s: float, end: float, condition: Tensor | None) -> Tensor:
    """Where the ODE brings states at level s to at level `end`: in closed form where it is known, else by many steps."""
    if s <= end:
        return y
    flow = getattr(denoiser, "flow", None)
    if flow is not None:
        exact: Tensor = flow(y, s, end)
        return exact
    levels = torch.tensor(np.geomspace(s, end, STEPS + 1), dtype=torch.float64)
    return sample(denoiser, y, solver("unipc", levels, order=3), condition, denoiser.block).to(y.dtype)
