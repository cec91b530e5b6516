"""Preconditioned denoisers (Karras et al. 2022, arXiv 2206.00364, table 1): D(y; s) from a raw network F."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from s4s.errors import S4SError
from s4s.models.conditions import ClassLabels
from s4s.models.denoiser import Denoiser, as_column
from s4s.models.paths import VPLinear

Scales = tuple[Tensor | float, Tensor, Tensor | float, Tensor]  # c_skip, c_out, c_in, c_noise at a noise level


@dataclass(frozen=True)
class EDMPreconditioning:
    """Unit variance in and out for data of scale sigma_data."""

    sigma_data: float

    def __call__(self, s: Tensor) -> Scales:
        total = s**2 + self.sigma_data**2
        return self.sigma_data**2 / total, s * self.sigma_data * total.rsqrt(), total.rsqrt(), s.log() / 4

    def description(self) -> dict[str, Any]:
        """The parametrisation of a denoiser, as plain values."""
        return {"path": "edm", "sigma_data": self.sigma_data, "prediction": "edm"}


@dataclass(frozen=True)
class VPPreconditioning:
    """Song et al.'s variance-preserving networks: noise prediction at time (M - 1) t(s)."""

    beta_d: float
    beta_min: float
    M: int

    def __call__(self, s: Tensor) -> Scales:
        time = VPLinear(self.beta_min, self.beta_min + self.beta_d).t_of_s(s.double())  # the network sees its rounding
        return 1.0, -s, (s**2 + 1).rsqrt(), ((self.M - 1) * time).to(s.dtype)


@dataclass(frozen=True)
class VEPreconditioning:
    """Song et al.'s variance-exploding networks."""

    def __call__(self, s: Tensor) -> Scales:
        return 1.0, s, 1.0, (s / 2).log()


class EDMDenoiser(Denoiser):
    """D(y; s) = c_skip y + c_out F(c_in y; c_noise), with F the raw network.

    A scalar s stays one number for the whole batch, so that the network embeds it once.
    """

    def __init__(
        self,
        network: nn.Module,
        preconditioning: Callable[[Tensor], Scales],
        *,
        name: str,
        shape: Sequence[int],
        s_min: float,
        s_max: float,
        conditioning: ClassLabels | None = None,
    ):
        self.network, self.preconditioning, self.conditioning = network, preconditioning, conditioning
        self.name, self.shape, self.s_min, self.s_max = name, tuple(shape), s_min, s_max
        self.device = next(network.parameters()).device
        if isinstance(preconditioning, EDMPreconditioning):
            self.parametrisation = preconditioning.description()

    def conditions(self, seeds: Sequence[int] | np.ndarray) -> Tensor | None:
        return None if self.conditioning is None else self.conditioning.of_seeds(seeds)

    def __call__(self, y: Tensor, s: Tensor | float, condition: Tensor | None = None) -> Tensor:
        s = as_column(s, y)
        c_skip, c_out, c_in, c_noise = self.preconditioning(s)
        output: Tensor = self.network(c_in * y, c_noise.flatten(), **self._arguments(condition, len(y)))
        return c_skip * y + c_out * output

    def _arguments(self, condition: Tensor | None, rows: int) -> dict[str, Tensor]:
        if self.conditioning is not None:
            return {key: value.to(self.device) for key, value in self.conditioning.arguments(condition, rows).items()}
        if condition is not None:
            raise S4SError(f"model {self.name} takes no condition")
        return {}
