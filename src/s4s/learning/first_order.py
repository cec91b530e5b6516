"""Adam and RMSprop with the literature's settings: what Gauss-Newton is compared with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.learning.objective import Objective
from s4s.learning.parameters import Parameters
from s4s.learning.result import NotFinite, Step
from s4s.learning.settings import FitSettings

PATIENCE = 5  # validations without a better one after which decay "plateau" takes 0.8 times the step (LD3's code)


class FirstOrder:
    """Minibatch gradient steps on the parameters in float64, each part of them a tensor of its own."""

    def __init__(self, parameters: Parameters, settings: FitSettings):
        self.parameters, self.settings = parameters, settings
        nfe = len(parameters.levels) - 1
        self.leaves = {
            name: torch.zeros(part.stop - part.start, dtype=torch.float64, requires_grad=True)
            for name, part in parameters.parts.items()
        }
        rate = settings.learning_rate / nfe**settings.learning_rate_power
        plain = ("first", "delta") if settings.told_learning_rate else ()
        leaves = [leaf for name, leaf in self.leaves.items() if name not in plain]
        make: Any = torch.optim.Adam if settings.optimiser == "adam" else torch.optim.RMSprop
        options = {} if settings.optimiser == "adam" else {"momentum": 0.9}
        self.optimisers: list[tuple[torch.optim.Optimizer, float]] = [(make(leaves, lr=rate, **options), rate)]
        if settings.told_learning_rate:
            level_rate = settings.told_learning_rate / nfe
            self.optimisers.append((torch.optim.SGD([self.leaves[name] for name in plain], lr=level_rate), level_rate))
        self.iteration, self.failures, self.factor = 0, 0, 1.0
        self.mean: Tensor | None = None

    def step(self, objective: Objective, values: Tensor, free: frozenset[str], y: Tensor, rows: Tensor, by_noise: bool) -> Step:
        """One minibatch; see `Step`."""
        found = objective.gradients(self.parameters, values, y, rows, by_noise=by_noise, recompute=self.settings.recompute)
        slopes = found.by_values / len(rows)
        if not (torch.isfinite(found.distances).all() and torch.isfinite(slopes).all()):
            raise NotFinite(found.distances.mean().item())
        with torch.no_grad():
            for name, leaf in self.leaves.items():
                leaf.copy_(values[self.parameters.parts[name]])
                leaf.grad = slopes[self.parameters.parts[name]].clone() if name in free and len(leaf) else None
        torch.nn.utils.clip_grad_norm_(self.leaves.values(), self.settings.clip)
        for optimiser, rate in self.optimisers:
            optimiser.param_groups[0]["lr"] = rate * self._decay()
            optimiser.step()
        self.iteration += 1
        values = torch.cat([leaf.detach() for leaf in self.leaves.values()])
        try:
            self.parameters.tableau(values)
        except S4SError as error:
            raise NotFinite(str(error)) from error
        if self.settings.ema:
            decay = min(self.settings.ema, (1 + self.iteration) / (10 + self.iteration))
            self.mean = values if self.mean is None else decay * self.mean + (1 - decay) * values
        return Step(values, found.distances, found.by_noise)

    def _decay(self) -> float:
        if self.settings.decay != "cosine":
            return self.factor
        warm_up = min(1.0, 10 * (self.iteration + 1) / self.settings.iterations)
        return self.factor * warm_up * 0.5 * (1 + math.cos(math.pi * self.iteration / self.settings.iterations))

    def after_validation(self, better: bool) -> bool:
        """Whether to go back to the best values."""
        if self.settings.decay != "plateau":
            return False
        self.failures = 0 if better else self.failures + 1
        if self.failures < PATIENCE:
            return False
        self.failures, self.factor = 0, 0.8 * self.factor
        return True

    def recover(self) -> None:
        """After values that are not finite: half the steps from now on, without momentum."""
        self.factor *= 0.5
        self.mean = None
        for optimiser, _ in self.optimisers:
            optimiser.state.clear()

    def average(self, values: Tensor) -> Tensor:
        """What is validated: the moving average if there is one."""
        return values if self.mean is None else self.mean

    _KEPT = ("iteration", "failures", "factor", "mean")

    def state(self) -> dict[str, Any]:
        """All that changes."""
        return {
            **{name: getattr(self, name) for name in self._KEPT},
            "optimisers": [optimiser.state_dict() for optimiser, _ in self.optimisers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        for name in self._KEPT:
            setattr(self, name, state[name])
        for (optimiser, _), saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
