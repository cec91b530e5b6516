"""What a network takes and gives at a noise level, in numbers: between its own (x, t, output) and (y, s, D)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.models.edm.denoiser import EDMPreconditioning
from s4s.models.paths import FlowMatching, VPDiscrete


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
        s_min, s_max: the levels of its first and its last time.
        parametrisation: plain values, as in Denoiser.parametrisation.
    """

    factors: Callable[[float], Factors]
    at_time: Callable[[float], tuple[float, float]]
    s_min: float
    s_max: float
    parametrisation: dict[str, Any]


def on_path(path: VPDiscrete | FlowMatching, prediction: str, flow_times: int = 1000) -> Coordinates:
    """Of a network on a Gaussian path that predicts `prediction`; one for flow matching is given `flow_times` times t.

    Raises:
        S4SError: if networks on this path do not predict that.
    """
    flow = isinstance(path, FlowMatching)
    known = ("flow_prediction", "sample") if flow else ("epsilon", "v_prediction", "sample")
    if prediction not in known:
        raise S4SError(f"a network on the path {path.kind} predicts {' or '.join(known)}, not {prediction}")
    unit = flow_times if flow else 1
    about = {**path.description(), "prediction": "flow" if prediction == "flow_prediction" else prediction}
    factors = partial(_on_path, path, prediction, unit)
    if isinstance(path, FlowMatching):
        return Coordinates(factors, partial(_flow_at_time, unit), 0.0, math.inf, about)
    first, last = path.s_of_t(_number([0.0, path.times - 1.0])).tolist()
    return Coordinates(factors, partial(_vp_at_time, path), first, last, about)


def on_table(sigmas: Tensor, prediction: str) -> Coordinates:
    """Of a network with a table of times, by their noise levels, rising, [T], as other programs keep them."""
    return on_path(VPDiscrete(alphas_cumprod=1 / (1 + sigmas.cpu().double() ** 2)), prediction)


def _on_path(path: VPDiscrete | FlowMatching, prediction: str, unit: float, s: float) -> Factors:
    level = _number(s)
    alpha, time = float(path.alpha_of_s(level)), float(path.t_of_s(level))
    of_input, of_output = {
        "epsilon": (1 / alpha, -s),
        "v_prediction": (alpha, -alpha * s),
        "sample": (0.0, 1.0),
        "flow_prediction": (1.0, -time),
    }[prediction]
    return Factors(alpha, unit * time, of_input, of_output)


def _vp_at_time(path: VPDiscrete, time: float) -> tuple[float, float]:
    s = path.s_of_t(_number(time))
    alpha = path.alpha_of_s(s)
    return float(alpha), float(alpha * s)


def _flow_at_time(unit: float, time: float) -> tuple[float, float]:
    return 1 - time / unit, time / unit


def preconditioned(sigma_data: float) -> Coordinates:
    """Of a raw network F with EDM's preconditioning (Karras et al. 2022, arXiv 2206.00364, table 1), given ln(s)/4."""
    scales = EDMPreconditioning(sigma_data)
    factors = partial(_preconditioned, scales)
    return Coordinates(factors, partial(_preconditioned_at_time, factors), 0.0, math.inf, scales.description())


def _preconditioned(scales: EDMPreconditioning, s: float) -> Factors:
    c_skip, c_out, c_in, c_noise = (float(scale) for scale in scales(_number(s)))
    return Factors(c_in, c_noise, c_skip / c_in, c_out)


def _preconditioned_at_time(factors: Callable[[float], Factors], time: float) -> tuple[float, float]:
    s = math.exp(4 * time)
    return (scale := factors(s).scale), scale * s


def _number(value: float | list[float]) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
