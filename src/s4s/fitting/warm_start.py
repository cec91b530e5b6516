"""Starting a fit from another learned solver: at another NFE, or of another model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from s4s.errors import S4SError
from s4s.families.family import data_start
from s4s.solvers.exponential import ratios
from s4s.tableau import Tableau


def resampled(
    source: Tableau, nfe: int, s_max: float, s_min: float, classical: Callable[[Tensor], Tableau], weights: bool = True
) -> Tableau:
    """A learned solver carried over to `nfe` evaluations between other levels: a start for a fit, not its result.

    The nodes' places in lambda = -ln s, between the ends, are interpolated monotonically over n/N, and so are the factors on
    the told levels. What the weights of the last outputs differ by from those of the classical solver on the source's levels
    is interpolated for each lag over the steps' places and added to the classical solver on the new levels.

    Args:
        source: a learned tableau that ends above level 0. classical: levels [N + 1] to the solver that it was based on.
        weights: carry the weights over, not the levels alone.
    Raises:
        S4SError: if the source ends at level 0.
    """
    if source.levels[-1] == 0:
        raise S4SError("a fit cannot start from a learned solver that ends at level 0")
    lam = -source.levels.log().numpy()
    places = (lam - lam[0]) / (lam[-1] - lam[0])
    new_places = _interpolated(np.linspace(0, 1, source.nfe + 1), places, np.linspace(0, 1, nfe + 1))
    start, end = -np.log(s_max), -np.log(s_min)
    levels = torch.exp(-torch.as_tensor(start + (end - start) * new_places))
    levels[0], levels[-1] = s_max, s_min
    old_steps, new_steps = (np.arange(n) / max(1, n - 1) for n in (source.nfe, nfe))
    told = (source.eval_levels / source.levels[:-1]).log().numpy()
    factors = torch.exp(torch.as_tensor(_interpolated(old_steps, told, new_steps)))
    base = classical(levels)
    new = Tableau(levels, base.A, base.B, base.eval_levels * factors, base.kappa, meta=base.meta)
    if not weights:
        return new
    own = classical(source.levels)
    change = _lags(source) - _lags(own)
    B = new.B.clone()
    scale = 1 - ratios(levels)
    for lag in range(min(source.nfe, nfe)):
        rows = np.arange(lag, source.nfe)
        values = _interpolated(old_steps[rows], change[rows, lag], new_steps[lag:])
        for n, value in zip(range(lag, nfe), values, strict=True):
            B[n, n - lag] += scale[n] * value
    return Tableau(levels, new.A, B, new.eval_levels, new.kappa, meta=base.meta)


def _lags(tableau: Tableau) -> np.ndarray:
    """Weights of data prediction by lag: [n, k] is that of D_{n-k}, over 1 - s_{n+1}/s_n."""
    B, _ = data_start(tableau, "lms")
    b = (B / (1 - ratios(tableau.levels))[:, None]).numpy()
    return np.array([[b[n, n - k] if k <= n else 0.0 for k in range(len(b))] for n in range(len(b))])


def _interpolated(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Monotone cubic interpolation, constant beyond the ends; a single value stays that value."""
    if len(x) == 1:
        return np.full(len(at), y[0])
    return PchipInterpolator(x, y)(np.clip(at, x[0], x[-1]))
