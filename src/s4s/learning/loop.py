"""The loop of a fit: minibatches, the relaxed noise, validation, recovery; everything that changes is in `state()`."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from s4s.errors import S4SError
from s4s.learning.drivers import DRIVERS, free_at
from s4s.learning.exchange import Exchange
from s4s.learning.first_order import FirstOrder
from s4s.learning.gauss_newton import GaussNewton
from s4s.learning.objective import Objective
from s4s.learning.parameters import Parameters
from s4s.learning.relaxed import RelaxedNoise
from s4s.learning.result import NotFinite
from s4s.learning.settings import FitSettings

RECOVERIES = 8  # of values that are not finite, before a fit gives up


class Loop:
    """Steps of an optimiser on the training pairs; the best values on the validation pairs are the result."""

    def __init__(
        self, parameters: Parameters, train: Objective, val: Objective, driver: str, settings: FitSettings, radius: float
    ):
        self.parameters, self.train, self.val, self.driver, self.settings = parameters, train, val, driver, settings
        nfe = len(parameters.levels) - 1
        self.relaxed = RelaxedNoise(train.y_T, parameters.levels[0].item(), radius, 12 / nfe) if radius else None
        self.optimiser: GaussNewton | FirstOrder | Exchange
        if settings.optimiser == "gauss_newton":
            self.optimiser = GaussNewton(parameters, settings, DRIVERS[driver])
        elif settings.optimiser == "exchange":
            self.optimiser = Exchange(parameters)
        else:
            self.optimiser = FirstOrder(parameters, settings)
        self.values = self.best = parameters.zeros()
        self.iteration = self.stale = self.recovered = 0
        self.best_val = math.inf
        self.history: list[dict[str, Any]] = []
        self.train_losses: list[float] = []
        self._validate()

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations so far."""
        return self.train.counter.evaluations

    def finished(self) -> bool:
        """Whether all steps are made, or too many validations found nothing better."""
        return self.iteration >= self.settings.iterations or self.stale >= self.settings.patience

    def step(self) -> None:
        """One minibatch; the relaxed noise of its pairs; now and then a validation."""
        free = free_at(self.driver, self.iteration, self.settings.phase)
        rows = self._rows()
        y = (self.relaxed.y if self.relaxed else self.train.y_T)[rows]
        try:
            found = self.optimiser.step(self.train, self.values, free, y, rows, by_noise=self.relaxed is not None)
        except NotFinite as problem:
            self._recover(str(problem))
        else:
            self.train_losses.append(found.distances.mean().item())
            if self.relaxed and found.by_noise is not None:
                self._relax(rows, found.distances, found.by_noise.cpu())
            self.values = found.values
        self.iteration += 1
        if self.iteration % self.settings.validate_every == 0 or self.iteration == self.settings.iterations:
            self._validate()

    def _relax(self, rows: Tensor, distances: Tensor, gradient: Tensor) -> None:
        """Move the initial noise where that makes the distances smaller, all at the values before the step."""
        assert self.relaxed is not None
        tableau = self.parameters.tableau(self.values).detach()
        candidates = self.relaxed.propose(rows, gradient)
        moved = self.train.distances(tableau, candidates, rows)
        self.relaxed.keep(rows, candidates, moved < distances)

    def _recover(self, problem: str) -> None:
        self.recovered += 1
        if self.recovered > RECOVERIES:
            raise S4SError(
                f"fit: a loss or a gradient was not finite {self.recovered} times, last at step {self.iteration}: {problem}; "
                "the steps are too large: lower learning_rate, or raise damping, or take another base"
            )
        tqdm.write(
            f"step {self.iteration}: not finite ({problem}); back to the best values, with smaller steps", file=sys.stderr
        )
        self.values = self.best
        self.optimiser.recover()

    def _rows(self) -> Tensor:
        """The pairs of this iteration: each epoch is a permutation that depends on the seed and the epoch alone."""
        n, batch = len(self.train), min(self.settings.batch, len(self.train))
        epoch, position = divmod(self.iteration, n // batch)
        order = np.random.Generator(np.random.Philox(key=[self.settings.seed, epoch])).permutation(n)
        return torch.as_tensor(order[position * batch : (position + 1) * batch])

    def _validate(self) -> None:
        """Validation is always from the initial noise itself."""
        values = self.optimiser.average(self.values)
        val = math.nan
        try:
            tableau = self.parameters.tableau(values).detach()
        except S4SError:  # these values stand for no solver
            pass
        else:
            val = self.val.distances(tableau, self.val.y_T, torch.arange(len(self.val))).mean().item()
        if not math.isfinite(val) and self.iteration == 0:
            raise S4SError("fit: the base solver gives samples that are not finite; take another base or other levels")
        better = val < self.best_val
        if better:
            self.best_val, self.best, self.stale = val, values, 0
        else:
            self.stale += 1
        free = sorted(name for name in free_at(self.driver, max(0, self.iteration - 1), self.settings.phase)
                      if self.parameters.parts[name].start < self.parameters.parts[name].stop)  # fmt: skip
        train = float(np.mean(self.train_losses)) if self.train_losses else None
        self.history.append({
            "iteration": self.iteration, "free": free, "train": train, "val": val if math.isfinite(val) else None,
            "evaluations": self.evaluations, "recovered": self.recovered,
        })  # fmt: skip
        self.train_losses = []
        if self.iteration and self.optimiser.after_validation(better):
            self.values = self.best

    _KEPT = ("iteration", "stale", "recovered", "best_val", "best", "values", "history", "train_losses")

    def state(self) -> dict[str, Any]:
        """All that changes."""
        return {
            **{name: getattr(self, name) for name in self._KEPT},
            "evaluations": self.evaluations,
            "optimiser": self.optimiser.state(),
            "relaxed": self.relaxed.y if self.relaxed else None,
        }

    def same_initial_loss(self, state: dict[str, Any]) -> bool:
        """Whether a state began with the validation loss that this fit does: other code or weights give another."""
        return math.isclose(state["history"][0]["val"], self.history[0]["val"], rel_tol=1e-3)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        for name in self._KEPT:
            setattr(self, name, state[name])
        self.train.counter.evaluations = state["evaluations"]
        self.optimiser.restore(state["optimiser"])
        if self.relaxed:
            self.relaxed.y = state["relaxed"]
