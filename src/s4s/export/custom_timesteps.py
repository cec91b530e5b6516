"""Numbers of steps, timesteps and sigmas that a pipeline or a user gives a sampler; a learned solver has its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from s4s.errors import S4SError, shown


def whole_number(what: str, given: Any) -> int:
    """A number of steps, also as a tensor, of NumPy, or as a float without a fraction.

    Raises:
        S4SError: if it is something else.
    """
    one = isinstance(given, torch.Tensor | np.ndarray | np.generic) and math.prod(given.shape) == 1
    value = given.item() if one else given
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        raise S4SError(f"{what} must be a whole number, got {shown(given)}")
    return int(value)


def numbers(what: str, given: Any) -> tuple[list[float], float]:
    """Timesteps or sigmas as plain numbers, and how exact they are, relative: a list, an array, or a tensor wherever it lies.

    Raises:
        S4SError: if they are something else.
    """
    try:
        if isinstance(given, str | bytes | Mapping):
            raise TypeError
        plain = given.tolist() if isinstance(given, torch.Tensor | np.ndarray) else given
        values = [float(value) for value in plain]
    except (TypeError, ValueError, RuntimeError):
        raise S4SError(f"{what} must be a list of numbers, got {shown(given)}") from None
    if not all(map(math.isfinite, values)):
        raise S4SError(f"{what} must be finite numbers, got {shown(values)}")
    half = isinstance(given, torch.Tensor) and given.is_floating_point()
    return values, max(1e-3, torch.finfo(given.dtype).eps / 2 if half else 0.0)


def even(first: float, last: float, steps: int) -> np.ndarray:
    """Evenly spaced ones, [steps]."""
    return np.linspace(first, last, steps)


def linear_quadratic(steps: int, threshold: float = 0.025) -> np.ndarray:
    """Mochi's, [steps]: 1 - sigma is linear up to `threshold` at half of the steps, then quadratic and smooth up to 1."""
    linear = max(steps // 2, 1)
    n, slope = np.arange(steps), threshold / linear
    beyond = np.clip(n - linear, 0, None)
    return np.asarray(1 - slope * n - (1 - slope * steps) * (beyond / max(steps - linear, 1)) ** 2)


def check_custom(
    what: str,
    given: Sequence[float],
    exact: float,
    own: Sequence[float],
    rounding: float,
    unasked: Sequence[np.ndarray],
    slack: float,
) -> None:
    """Raise S4SError where levels are neither the solver's own nor what pipelines give unasked.

    Args:
        what: their name in set_timesteps, timesteps or sigmas.
        given, exact: what `numbers` gives.
        own: the solver's, as many.
        rounding: of pipelines that cut them to whole numbers.
        unasked: what pipelines give unasked, as many; each to within `slack` or `rounding`.
    """
    if any(np.allclose(given, values, rtol=exact, atol=max(rounding, slack)) for values in unasked):
        return
    if not np.allclose(given, own, rtol=exact, atol=rounding):
        shown = ", ".join(f"{value:.6g}" for value in own)
        raise S4SError(
            f"{what} must be the solver's own, {shown}, for it is fitted to them; leave out {what}, or, if the pipeline gives "
            "them unasked, use another"
        )
