"""The fit: parameters of a learned solver that bring it close to the teacher's end points, from any noise."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.families import FAMILIES
from s4s.fitting.distances import Distance, LayeredNetwork, make_distance
from s4s.fitting.drivers import DRIVERS, free_at
from s4s.fitting.relaxed import RelaxedNoise
from s4s.fitting.settings import FitSettings
from s4s.fitting.state import identity, load_state, save_state
from s4s.levels.clock import Clock
from s4s.models.denoiser import Denoiser
from s4s.progress import progress
from s4s.sampling import run, sample
from s4s.solvers import solver
from s4s.tableau import Tableau
from s4s.teacher import TeacherPairs

STATE_SECONDS = 20.0


@dataclass(frozen=True)
class FitResult:
    """A fit's outcome.

    Attributes:
        tableau: the learned solver with the smallest validation error.
        history: one dict a validation: iteration, free, train, val (mean distances), evaluations.
        evaluations: denoiser evaluations, a forward pass counted 1 and a forward with its backward pass 3.
        seconds: wall time, with that of earlier interrupted runs.
    """

    tableau: Tableau
    history: list[dict[str, Any]]
    evaluations: int
    seconds: float


class _Parameters:
    """theta [N, N], xi [N] and delta [N], all zero at the start, and the tableau that they stand for."""

    def __init__(self, family: Any, levels: Tensor, decoupled: bool):
        n = len(levels) - 1
        self.family, self.clock = family, Clock(levels)
        shapes = {"theta": (n, n), "xi": (n,)} | ({"delta": (n,)} if decoupled else {})
        self.values = {name: torch.zeros(shape, dtype=torch.float64, requires_grad=True) for name, shape in shapes.items()}

    def tableau(self, values: dict[str, Tensor]) -> Tableau:
        levels = self.clock.levels(values["xi"])
        eval_levels = levels[:-1] * values["delta"].exp() if "delta" in values else None
        return self.family.tableau(levels, values["theta"], eval_levels)


def fit(
    denoiser: Denoiser,
    pairs: TeacherPairs,
    family: str,
    levels: Tensor,
    *,
    base: str | Tableau = "dpmpp",
    family_options: dict[str, Any] | None = None,
    driver: str = "coefficients",
    decoupled: bool = False,
    settings: FitSettings | None = None,
    perceptual_network: LayeredNetwork | None = None,
    batch_size: int | None = None,
    state_path: str | Path | None = None,
    show_progress: bool = False,
) -> FitResult:
    """Learn a solver: min over parameters of E min_{||y' - y_T|| <= r s_T} d(student(y'), teacher(y_T)).

    Args:
        pairs: training and validation pairs of the teacher, made with this denoiser.
        family: a name in FAMILIES; family_options: its options (`lms`: prediction, order).
        levels: the schedule to start from, [N + 1], float64.
        base: the classical solver to start from, a kind or a tableau on `levels`.
        driver: what is free: "coefficients" (S4S), "schedule" (LD3), "alternate" (S4S-Alt), "joint".
        decoupled: also learn the level that the network is told at each node (with every driver but the first).
        settings: see FitSettings.
        perceptual_network: what the distance "perceptual" compares images with (s4s.models.load.load_perceptual).
        batch_size: rows at a time in validation.
        state_path: where to keep a state from which an interrupted fit goes on; removed at the end.
    Returns:
        The solver whose validation error was smallest, iteration 0 included: never worse than `base` there.
    Raises:
        S4SError: if the settings contradict each other, or a loss is not finite.
    """
    settings = settings or FitSettings()
    base = solver(base, levels) if isinstance(base, str) else base
    if family not in FAMILIES:
        raise S4SError(f"unknown family {family!r}; known: {', '.join(sorted(FAMILIES))}")
    if driver not in DRIVERS:
        raise S4SError(f"unknown driver {driver!r}; known: {', '.join(DRIVERS)}")
    if not torch.equal(torch.as_tensor(levels, dtype=torch.float64), base.levels):
        raise S4SError("fit: the base tableau is on other levels than the ones given")
    parameters = _Parameters(FAMILIES[family](base, **(family_options or {})), base.levels, decoupled)
    distance = make_distance(settings.distance, perceptual_network)
    loop = _Loop(denoiser, pairs, parameters, driver, settings, distance, batch_size)
    state_path = Path(state_path) if state_path else None
    name = identity(
        model=denoiser.name, family=family, options=family_options, base=base.digest(), driver=driver,
        decoupled=decoupled, settings=settings.model_dump(), pairs=float(np.abs(pairs.train.y_0).sum(dtype=np.float64)),
    )  # fmt: skip
    saved = load_state(state_path, name)
    if saved is not None:
        loop.restore(saved)
    started = last_saved = time.perf_counter()
    earlier_seconds = saved["seconds"] if saved else 0.0

    def seconds() -> float:
        return earlier_seconds + time.perf_counter() - started

    label = f"fit {denoiser.name} nfe {base.nfe}"
    with progress(total=settings.iterations, initial=loop.iteration, desc=label, unit="step", disable=not show_progress) as bar:
        while not loop.finished():
            loop.step()
            bar.update()
            bar.set_postfix(val=f"{loop.best_val:.5f}", refresh=False)
            if state_path and time.perf_counter() - last_saved > STATE_SECONDS:
                save_state(state_path, {"identity": name, "seconds": seconds(), **loop.state()})
                last_saved = time.perf_counter()
    if state_path:
        state_path.unlink(missing_ok=True)
    return FitResult(parameters.tableau(loop.best).detach(), loop.history, loop.evaluations, seconds())


class _Loop:
    """Minibatch Adam with gradient clipping and a cosine; everything that changes is in `state()`."""

    def __init__(self, denoiser: Denoiser, pairs: TeacherPairs, parameters: _Parameters, driver: str,
                 settings: FitSettings, distance: Distance, batch_size: int | None):  # fmt: skip
        def to(array: np.ndarray | None) -> Tensor:
            return torch.as_tensor(array, dtype=denoiser.dtype, device=denoiser.device)

        self.denoiser, self.parameters, self.driver, self.settings = denoiser, parameters, driver, settings
        self.batch_size = batch_size
        self.distance = lambda x, y: distance(denoiser.decode(x), denoiser.decode(y))
        self.y_T, self.y_0 = to(pairs.train.y_T), to(pairs.train.y_0)
        self.val_y_T, self.val_y_0 = to(pairs.val.y_T), to(pairs.val.y_0)
        self.nfe = len(parameters.clock.start) - 1
        size = math.prod(denoiser.shape)
        radius = 0.001 * size / self.nfe**2 if settings.radius == "ld3" else float(settings.radius)
        if not radius >= 0:
            raise S4SError(f"fit: radius must be at least 0, got {settings.radius}")
        start = parameters.clock.start[0].item()
        self.relaxed = RelaxedNoise(self.y_T, start, radius, 12 / self.nfe) if radius else None
        self.iteration = self.evaluations = self.stale = 0
        self.best_val = math.inf
        self.best: dict[str, Tensor] = {}
        self.optimiser = torch.optim.Adam(list(parameters.values.values()), lr=settings.learning_rate)
        self.history: list[dict[str, Any]] = []
        self.train_losses: list[float] = []
        self._validate()

    def finished(self) -> bool:
        return self.iteration >= self.settings.iterations or self.stale >= self.settings.patience

    def step(self) -> None:
        """One minibatch: gradients of the parameters and of the starting points, Adam, the relaxed step."""
        free = free_at(self.driver, self.iteration, self.settings.phase)
        rows = self._rows()
        y = (self.relaxed.y if self.relaxed else self.y_T)[rows].requires_grad_(self.relaxed is not None)
        values = self.parameters.values
        tableau = self.parameters.tableau({name: v if name in free else v.detach() for name, v in values.items()})
        distances = self.distance(run(self.denoiser, y, tableau), self.y_0[rows])
        loss = distances.mean()
        if not bool(torch.isfinite(loss)):
            raise S4SError(f"fit: the loss is {loss.item()} at iteration {self.iteration}; lower the learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.evaluations += 3 * len(rows) * self.nfe
        self.train_losses.append(loss.item())
        if self.relaxed:
            assert y.grad is not None
            candidates = self.relaxed.propose(rows, y.grad * len(rows))
            with torch.no_grad():
                moved = self.distance(run(self.denoiser, candidates, tableau.detach()), self.y_0[rows])
            self.evaluations += len(rows) * self.nfe
            self.relaxed.keep(rows, candidates, moved < distances.detach())
        torch.nn.utils.clip_grad_norm_(values.values(), 1.0)
        self.optimiser.param_groups[0]["lr"] = self._rate()
        self.optimiser.step()
        self.iteration += 1
        if self.iteration % self.settings.validate_every == 0 or self.iteration == self.settings.iterations:
            self._validate()

    def _rate(self) -> float:
        """Adam's step size: the setting over NFE squared, linear warm-up over the first tenth, then a cosine to zero."""
        warm_up = min(1.0, 10 * (self.iteration + 1) / self.settings.iterations)
        cosine = 0.5 * (1 + math.cos(math.pi * self.iteration / self.settings.iterations))
        return self.settings.learning_rate / self.nfe**2 * warm_up * cosine

    def _rows(self) -> Tensor:
        """The pairs of this iteration: each epoch is a permutation that depends on the seed and the epoch alone."""
        n, batch = len(self.y_T), min(self.settings.batch, len(self.y_T))
        epoch, position = divmod(self.iteration, n // batch)
        order = np.random.Generator(np.random.Philox(key=[self.settings.seed, epoch])).permutation(n)
        return torch.as_tensor(order[position * batch : (position + 1) * batch], device=self.y_T.device)

    def _validate(self) -> None:
        """Validation always starts from the noise itself."""
        values = {name: v.detach().clone() for name, v in self.parameters.values.items()}
        tableau = self.parameters.tableau(values)
        y = sample(self.denoiser, self.val_y_T, tableau, batch_size=self.batch_size)
        val = self.distance(y, self.val_y_0).mean().item()
        self.evaluations += len(y) * self.nfe
        if val < self.best_val:
            self.best_val, self.best, self.stale = val, values, 0
        else:
            self.stale += 1
        free = sorted(free_at(self.driver, max(0, self.iteration - 1), self.settings.phase) & values.keys())
        train = float(np.mean(self.train_losses)) if self.train_losses else None
        self.history.append(
            {"iteration": self.iteration, "free": free, "train": train, "val": val, "evaluations": self.evaluations}
        )
        self.train_losses = []

    _KEPT = ("iteration", "evaluations", "stale", "best_val", "best", "history", "train_losses")

    def state(self) -> dict[str, Any]:
        values = {name: v.detach() for name, v in self.parameters.values.items()}
        return {
            **{name: getattr(self, name) for name in self._KEPT},
            "values": values, "optimiser": self.optimiser.state_dict(), "relaxed": self.relaxed.y if self.relaxed else None,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        for name in self._KEPT:
            setattr(self, name, state[name])
        with torch.no_grad():
            for name, value in self.parameters.values.items():
                value.copy_(state["values"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.relaxed:
            self.relaxed.y = state["relaxed"]
