"""How a diffusers pipeline gets from unit noise to the first input of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from s4s.errors import S4SError

UNIT = 0.01  # initial noise of a scale within this of 1 is taken for unit noise, as by diffusers' own schedulers


class Attachment:
    """What `attach` returns: it undoes the attaching."""

    def __init__(self, handles: Sequence[RemovableHandle] = ()):
        self.handles = handles

    def __deepcopy__(self, memo: object) -> Attachment:
        return self  # pipelines that make several views at a time keep a copy of their scheduler's state for each

    def __reduce__(self) -> tuple[type[Attachment], tuple[()]]:
        return Attachment, ()  # what is read from a file is attached to nothing

    def remove(self) -> None:
        """Leave the networks' inputs as they are from now on."""
        for handle in self.handles:
            handle.remove()

    @property
    def there(self) -> bool:
        """Whether it has not been undone."""
        return bool(self.handles) and all(handle.id in (handle.hooks_dict_ref() or {}) for handle in self.handles)


ATTACHED: WeakKeyDictionary[nn.Module, Attachment] = WeakKeyDictionary()


class InitialNoiseScale:
    """Either the pipeline multiplies its noise by init_noise_sigma, or the networks' first inputs are scaled on their way."""

    def __init__(self) -> None:
        self.announced: float | None = None  # what the pipeline was given as init_noise_sigma for this run
        self.attachment = Attachment()
        self.fed: dict[int, torch.Size] = {}  # shapes of the inputs that were scaled, by attached network

    def begin(self) -> None:
        """A run is about to begin: what was announced before is not for it."""
        self.announced = None
        self.fed.clear()

    def announce(self, scale: float) -> float:
        """init_noise_sigma of a run whose first input is `scale` times unit noise."""
        if self.attachment.there:
            return 1.0
        self.announced = scale
        return scale

    def scaled(self, which: int, x: Tensor, scale: float) -> Tensor:
        """The first input of attached network `which`, of the sample that the pipeline had."""
        self.fed[which] = x.shape
        return x * scale

    def first_input(self, x: Tensor, scale: float) -> Tensor:
        """What the network was fed first, from the sample that the pipeline had.

        Raises:
            S4SError: if the pipeline did not start from `scale` times unit noise, or the networks that scale it were not run on
                the sample alone.
        """
        fed = list(self.fed.values())
        if self.attachment.there:
            if len(fed) < len(self.attachment.handles):
                raise S4SError(
                    "attach was given a network that this pipeline did not run; call remove() on what it returned, and attach "
                    "the pipeline's own networks, pipe.transformer or pipe.unet, and pipe.controlnet where there is one"
                )
            if other := [shape for shape in fed if shape[1:] != x.shape[1:]]:
                raise S4SError(
                    f"this pipeline feeds its network {list(other[0][1:])}, more than the sample, {list(x.shape[1:])}, which "
                    "attach cannot scale alone; call remove() on what it returned, and use a solver that starts from unit noise"
                )
            return x * scale
        found = self.announced or 1.0
        if abs(found / scale - 1) > (UNIT if self.announced is None else 1e-6):
            raise S4SError(
                f"this solver starts from {scale:.4g} times unit noise, but the pipeline started from {found:.4g} times; "
                "call pipe.scheduler.attach(pipe.transformer), or pipe.unet, once, or set_timesteps before taking "
                "init_noise_sigma"
            )
        return x

    def attach(self, networks: Sequence[nn.Module], scaled: Callable[[int, Tensor], Tensor | None]) -> Attachment:
        """Let network n be fed `scaled(n, x)` instead of x, but where it is None, as it is for all but the first of a run."""
        self.attachment.remove()

        def scaling(which: int) -> Callable[..., Any]:
            def scale(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                names = [name for name in ("sample", "hidden_states") if name in kwargs]
                if not (args or names):
                    kind = type(module).__name__
                    raise S4SError(
                        f"attach cannot tell which argument of a {kind} is the sample; call remove() on what it returned"
                    )
                if (x := scaled(which, args[0] if args else kwargs[names[0]])) is None:
                    return None
                return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, names[0]: x})

            return scale

        handles = [network.register_forward_pre_hook(scaling(n), with_kwargs=True) for n, network in enumerate(networks)]
        self.attachment = Attachment(handles)
        for network in networks:
            if (before := ATTACHED.get(network)) is not None:
                before.remove()
            ATTACHED[network] = self.attachment
        return self.attachment
