"""What stands in the place of a pipeline's scheduler while its network is asked: it makes no steps of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from diffusers import SchedulerMixin
from diffusers.configuration_utils import ConfigMixin, FrozenDict
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor

from s4s.errors import S4SError


class Asked(Protocol):
    """What asks: it has the time that comes next, and turns an output into the state that is asked about next."""

    def times(self) -> Iterator[Tensor]:
        """The time of each question, as long as there are any."""

    def answer(self, output: Tensor, sample: Tensor) -> Tensor:
        """Take the guided output for `sample`; wait for the next question and return its state."""


class _Times(Tensor):
    """The times of a run, [steps]: numbers to look at; whoever goes through them gets those that are asked for."""

    current: Callable[[], Asked]

    def __iter__(self) -> Iterator[Tensor]:
        for _, time in zip(range(len(self)), type(self).current().times(), strict=False):
            yield time


def times_of(asked: Callable[[], Asked], steps: int, last: float) -> Tensor:
    """Such times. `asked` gives what asks; a function, since tensors of this kind are cut and moved by pipelines."""
    kind = type("Times", (_Times,), {"current": staticmethod(asked)})
    return torch.linspace(last, 1, steps).as_subclass(kind)


def check_asked(eta: float, clipped: bool | None, unsupported: Mapping[str, Any]) -> None:
    """Raise S4SError if a pipeline asks a scheduler's step for what a solver of fixed coefficients has not."""
    asked = {"eta": eta, "use_clipped_model_output": clipped, **unsupported}
    if names := ", ".join(name for name, value in asked.items() if value or name in unsupported):
        raise S4SError(f"this pipeline asks its scheduler's step for {names}, which a solver of fixed coefficients has not")


def whole_sample(sample: Tensor) -> Tensor:
    """The sample, if it is none of the noise levels that some pipelines scale as one."""
    if sample.ndim == 0:
        raise S4SError("this pipeline counts with noise levels itself (it scales one as a sample), which is not supported")
    return sample


class ProbeScheduler(SchedulerMixin, ConfigMixin):
    """The pipeline's network, whatever its guidance, seen from the only place that every pipeline hands its output to.

    Args:
        asked: what asks.
        config: of the scheduler in whose place it stands, as S4SScheduler would have it.
    """

    order = 1
    init_noise_sigma = 1.0
    begin_index = step_index = None

    def __init__(self, asked: Asked, config: Mapping[str, Any]):
        self._internal_dict: Any = FrozenDict(config)
        self.asked, self.last = asked, float(config.get("num_train_timesteps", 1000)) - 1
        self.timesteps = self.sigmas = torch.zeros(0)
        self.num_inference_steps: int | None = None

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
    ) -> None:
        """As many times as the pipeline wishes, which will be those that are asked for."""
        counts = [num_inference_steps, *(len(values) for values in (timesteps, sigmas) if values is not None)]
        steps = next(count for count in counts if count is not None)
        asked = self.asked
        self.timesteps = times_of(lambda: asked, steps, self.last).to(device)
        self.sigmas, self.num_inference_steps = torch.linspace(1, 0, steps + 1), steps

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Of no meaning here."""

    def index_for_timestep(self, timestep: Any, schedule_timesteps: Any = None) -> int:
        """The first step, always."""
        return 0

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The sample, which is what is asked about."""
        return whole_sample(sample)

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
        **unsupported: Any,
    ) -> SchedulerOutput | tuple[Tensor]:
        """Hand the output over, and go on with the state of the next question."""
        check_asked(eta, use_clipped_model_output, unsupported)
        state = self.asked.answer(model_output, sample)
        return SchedulerOutput(prev_sample=state) if return_dict else (state,)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        """Noise alone: a run begins at the highest level."""
        return noise.to(original_samples)

    def scale_noise(self, sample: Tensor, timestep: Any, noise: Tensor) -> Tensor:
        """The same as pipelines of flow matching call it."""
        return self.add_noise(sample, noise, timestep)

    def __len__(self) -> int:
        return int(self.last) + 1
