"""What a network takes and gives at a noise level, in numbers: between its own (x, t, output) and (y, s, D)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from s4s.models.paths import EDM, FlowMatching, Path, VPDiscrete
from s4s.models.predicting import Prediction

if TYPE_CHECKING:  # it imports diffusers, which ComfyUI and k-diffusion do without
    from s4s.models.pipelines.scheduler_config import Noise


class Factors(NamedTuple):
    """At a level s: x = scale y is fed at `time`, and D = of_input x + of_output times the network's output."""

    scale: float
    time: float
    of_input: float
    of_output: float


class Coordinates(NamedTuple):
    """The parametrisation of a network.

    Attributes:
        factors: of a noise level.
        at_time: what clean samples and unit noise are multiplied by to be fed at one of the network's times.
        s_min, s_max: the levels that it knows.
        parametrisation: plain values, as in Denoiser.parametrisation.
    """

    factors: Callable[[float], Factors]
    at_time: Callable[[float], tuple[float, float]]
    s_min: float
    s_max: float
    parametrisation: dict[str, Any]


def on_path(path: Path, prediction: Prediction, times: float = 1, s_min: float = 0.0, s_max: float = math.inf) -> Coordinates:
    """Of a network on a Gaussian path, as PredictingDenoiser has it; it is given `times` times t."""
    return Coordinates(
        partial(_factors, path, prediction, times), partial(_at_time, path, times), s_min, s_max,
        {**path.description(), "prediction": prediction},
    )  # fmt: skip


def of_noise(noise: Noise, s_min: float | None = None, s_max: float | None = None) -> Coordinates:
    """Of the network that a scheduler's config describes; where its path has no first and last time, at any or these levels."""
    if isinstance(noise.path, VPDiscrete):
        ends = noise.s_min, noise.s_max
    else:
        ends = 0.0 if s_min is None else s_min, math.inf if s_max is None else s_max
    return on_path(noise.path, noise.prediction, noise.times, *ends)


def on_table(sigmas: Tensor, prediction: Prediction) -> Coordinates:
    """Of a network with a table of times, by their noise levels, rising, [T], as other programs keep them."""
    path = VPDiscrete(alphas_cumprod=1 / (1 + sigmas.cpu().double() ** 2))
    return on_path(path, prediction, 1, *path.ends)


def preconditioned(sigma_data: float) -> Coordinates:
    """Of a raw network F with EDM's preconditioning (Karras et al. 2022, arXiv 2206.00364, table 1), given ln(s)/4."""
    return on_path(EDM(sigma_data), "edm")


def _factors(path: Path, prediction: Prediction, times: float, s: float) -> Factors:
    level = _number(s)
    alpha, t, scale = float(path.alpha_of_s(level)), float(path.t_of_s(level)), path.sigma_data
    of_input, of_output = {
        "epsilon": (1 / alpha, -s),
        "v_prediction": (alpha * scale**2, -alpha * s * scale),
        "edm": (scale**2 / (s**2 + scale**2) / alpha, s * scale * alpha),
        "sample": (0.0, 1.0),
        "flow": (1.0, path.clean - t),
    }[prediction]
    return Factors(alpha, times * t, of_input, of_output)


def _at_time(path: Path, times: float, time: float) -> tuple[float, float]:
    t = time / times
    if isinstance(path, FlowMatching):  # at its end s is infinite
        of_noise = abs(path.clean - t)
        return 1 - of_noise, of_noise
    s = path.s_of_t(_number(t))
    alpha = path.alpha_of_s(s)
    return float(alpha), float(alpha * s)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
