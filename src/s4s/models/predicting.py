"""A network in a model's own coordinates (x, t) as a denoiser: epsilon, v, x_0, flow or EDM prediction, with guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.models.conditions import Conditioning
from s4s.models.denoiser import Denoiser, as_column
from s4s.models.paths import Path

HALF_STEP = 3e-2  # of differences in half precision, whose rounding is 2 to 4 permille of an output
Prediction = Literal["epsilon", "v_prediction", "sample", "flow", "edm"]


class PredictingDenoiser(Denoiser):
    """D(y; s) from a network that predicts noise, velocity, data or flow at (x, t), x = alpha y.

    With n the noise and alpha, sigma those of the path at t:

        epsilon:       n,                  D = y - s n
        v_prediction:  alpha n - sigma x_0, D = alpha (x - s v)  (arXiv 2202.00512; alpha^2 + sigma^2 = 1)
        sample:        x_0,                D = x_0
        flow:          dx/dt,              D = x + (t_0 - t) v   (rectified flow; t_0 the time of clean data)
        edm:           -v                                        (EDM's raw network; arXiv 2206.00364, table 1)

    On a path for data of scale d = sigma_data, v is D = alpha d (d x - s v).

    With a guidance scale w other than 1 the output is that without the condition plus w times the difference that the condition
    makes (Ho & Salimans 2022, arXiv 2207.12598), both from one call on twice the batch.

    Args:
        network: called as network(x, times t, **arguments of the conditioning), x [B, *shape] in the type of the weights, times
            [B]; returns [B, *shape].
        path: the Gaussian path whose times t are.
        decoder: clean states [B, *shape] to images in [-1, 1], called on at most `decode_batch` at a time.
        weights: type of the network's weights; states are float32.
        times: the network's time at t = 1; times t elsewhere.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        path: Path,
        prediction: Prediction,
        *,
        name: str,
        shape: Sequence[int],
        s_min: float,
        s_max: float,
        device: torch.device,
        weights: torch.dtype = torch.float32,
        times: float = 1,
        conditioning: Conditioning | None = None,
        guidance: float = 1.0,
        decoder: Callable[[Tensor], Tensor] | None = None,
        decode_batch: int = 8,
    ):
        self.network, self.path, self.prediction = network, path, prediction
        self.parametrisation = {**path.description(), "prediction": prediction}
        self.name, self.shape, self.s_min, self.s_max, self.device = name, tuple(shape), s_min, s_max, device
        self.weights, self.times, self.conditioning, self.guidance = weights, times, conditioning, guidance
        self.decoder, self.decode_batch = decoder, decode_batch
        self.passes = 1 if conditioning is None or guidance == 1 else 2
        self.difference_step = difference_step(weights)

    def conditions(self, seeds: Sequence[int] | np.ndarray) -> Tensor | None:
        return None if self.conditioning is None else self.conditioning.of_seeds(seeds)

    def __call__(self, y: Tensor, s: Tensor | float, condition: Tensor | None = None) -> Tensor:
        if not isinstance(s, Tensor):  # filled in on the device; a copy from here would be waited for
            s = torch.full((), s, dtype=torch.float64, device=y.device)
        s = s.to(y.device, torch.float64)
        x, t = self.path.from_ys(y, s)
        time = (self.times * t).to(y.dtype)  # rounded once: networks see the rounding of float32
        output = self._network(x, time.expand(len(y)), condition)
        if self.prediction == "sample":
            return output
        if self.prediction == "epsilon":
            return y - as_column(s, y) * output
        if self.prediction == "flow":
            return x + as_column(self.path.clean - t, y) * output
        if self.prediction == "edm":
            output = -output
        if (scale := self.path.sigma_data) != 1:
            return as_column(self.path.alpha_of_s(s) * scale, y) * (scale * x - as_column(s, y) * output)
        return as_column(self.path.alpha_of_s(s), y) * (x - as_column(s, y) * output)

    def _network(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        arguments = {}
        if self.conditioning is None:
            if condition is not None:
                raise S4SError(f"model {self.name} takes no condition")
        else:
            if condition is None and self.passes == 2:
                raise S4SError(f"model {self.name} is guided and needs a condition; denoiser.conditions(seeds) makes some")
            arguments = self._arguments(condition, len(x))
            if self.passes == 2:
                null = self._arguments(None, len(x))
                arguments = {key: torch.cat([null[key], arguments[key]]) for key in arguments}
                x, t = x.repeat(2, *[1] * (x.ndim - 1)), t.repeat(2)
        output = self.network(x.to(self.weights, copy=True), t, **arguments).to(x.dtype)
        if output.shape != x.shape:  # it would be spread over the rows
            raise S4SError(f"model {self.name}: its network returns shape {list(output.shape)} for states {list(x.shape)}")
        if self.passes == 1:
            return output
        null_output, own = output.chunk(2)
        return null_output + self.guidance * (own - null_output)

    def _arguments(self, condition: Tensor | None, rows: int) -> dict[str, Tensor]:
        assert self.conditioning is not None
        arguments = self.conditioning.arguments(condition, rows)
        return {
            key: value.to(self.device, self.weights if value.is_floating_point() else value.dtype)
            for key, value in arguments.items()
        }

    def decode(self, y_0: Tensor) -> Tensor:
        if self.decoder is None:
            return y_0
        return torch.cat([self.decoder(rows).to(y_0.dtype) for rows in y_0.split(self.decode_batch)])


def difference_step(weights: torch.dtype) -> float:
    """`Denoiser.difference_step` of a network whose weights have this type."""
    return HALF_STEP if weights in (torch.float16, torch.bfloat16) else Denoiser.difference_step
