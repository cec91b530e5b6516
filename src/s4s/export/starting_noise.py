"""How a diffusers pipeline gets from unit noise to the first input of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from s4s.errors import S4SError

UNIT = 0.01  # a start within this of unit noise is taken for it, as by diffusers' own schedulers


class StartingNoise:
    """Either the pipeline multiplies its noise by what it is told, or the network's first input is scaled on its way."""

    def __init__(self) -> None:
        self.told: float | None = None  # what the pipeline was last given as init_noise_sigma
        self.hook: RemovableHandle | None = None

    @property
    def attached(self) -> bool:
        """Whether the network's first input is scaled on its way."""
        return self.hook is not None and self.hook.id in (self.hook.hooks_dict_ref() or {})

    def tell(self, start: float) -> float:
        """init_noise_sigma of a run that starts from `start` times unit noise."""
        if self.attached:
            return 1.0
        self.told = start
        return start

    def first_input(self, x: Tensor, start: float) -> Tensor:
        """What the network was fed first, from the sample that the pipeline had.

        Raises:
            S4SError: if the pipeline did not start from `start` times unit noise.
        """
        if self.attached:
            return x * start
        found = self.told or 1.0
        if abs(found / start - 1) > (UNIT if self.told is None else 1e-6):
            raise S4SError(
                f"this solver starts from {start:.4g} times unit noise, but the pipeline started from {found:.4g} times; "
                "call pipe.scheduler.attach(pipe.transformer), or pipe.unet, once, or set_timesteps before taking "
                "init_noise_sigma"
            )
        return x

    def attach(self, network: nn.Module, start: Callable[[], float | None]) -> RemovableHandle:
        """Scale the network's inputs by `start()`, which is None for all but the first of a run."""
        if self.hook is not None:
            self.hook.remove()

        def scale(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if (factor := start()) is None:
                return None
            if args:
                return (args[0] * factor, *args[1:]), kwargs
            name = next(name for name in ("sample", "hidden_states") if name in kwargs)
            return args, {**kwargs, name: kwargs[name] * factor}

        self.hook = network.register_forward_pre_hook(scale, with_kwargs=True)
        return self.hook
