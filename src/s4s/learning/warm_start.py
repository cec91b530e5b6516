"""Warm start: a fit initialised with another learned solver, of another NFE or another model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from s4s.errors import S4SError
from s4s.learning.families.family import data_form
from s4s.solvers.conditioning import conditioned
from s4s.solvers.exponential import data_tableau, noise_tableau, unit_weights
from s4s.tableau import Tableau


def resampled(
    source: Tableau,
    nfe: int,
    s_max: float,
    s_min: float,
    classical: Callable[[Tensor], Tableau],
    weights: bool = True,
    formula: bool = False,
) -> Tableau:
    """A learned solver carried over to `nfe` evaluations between other levels: the initialisation of a fit, not its result.

    The nodes' places in lambda = -ln s, between the ends, are interpolated monotonically over n/N, and so are the factors on
    the conditioning levels. What the weights of the last outputs and of y_0 differ by from those of the classical solver on the
    source's levels is interpolated for each lag over the steps' places and added to the classical solver on the new levels: in
    noise prediction where both are written so, else in data prediction. At its own NFE and levels a source is itself.

    Args:
        source: a learned tableau that ends above level 0. classical: levels [N + 1] to its base solver.
        weights: carry the weights over, not the levels alone.
        formula: instead of them, the base solver's formula follows the conditioning levels too, as in family ld3.
    Raises:
        S4SError: if the source ends at level 0.
    """
    if source.levels[-1] == 0:
        raise S4SError("a fit cannot be initialised with a learned solver that ends at level 0")
    lam = -source.levels.log().numpy()
    places = (lam - lam[0]) / (lam[-1] - lam[0])
    new_places = _interpolated(np.linspace(0, 1, source.nfe + 1), places, np.linspace(0, 1, nfe + 1))
    start, end = -np.log(s_max), -np.log(s_min)
    levels = torch.exp(-torch.as_tensor(start + (end - start) * new_places))
    levels[0], levels[-1] = s_max, s_min
    old_steps, new_steps = (np.arange(n) / max(1, n - 1) for n in (source.nfe, nfe))
    log_factors = (source.eval_levels / source.levels[:-1]).log().numpy()
    factors = torch.exp(torch.as_tensor(_interpolated(old_steps, log_factors, new_steps)))
    new = classical(levels)
    if weights:
        own = classical(source.levels)
        prediction = "noise" if _of_directions(source) and _of_directions(own) else "data"
        (b, g), (own_b, own_g), (new_b, new_g) = (_weights(tableau, prediction) for tableau in (source, own, new))
        for lag in range(min(source.nfe, nfe)):
            change = _interpolated(old_steps[lag:], (b - own_b).diagonal(-lag).numpy(), new_steps[lag:])
            new_b = new_b + torch.diag(torch.as_tensor(change), -lag)
        B = unit_weights(levels, prediction) * new_b
        skip_weights = new_g + torch.as_tensor(_interpolated(old_steps, (g - own_g).numpy(), new_steps))
        new = replace(
            noise_tableau(levels, B) if prediction == "noise" else data_tableau(levels, B, skip_weights), meta=new.meta
        )
    conditioning = levels[:-1] * factors
    made = conditioned(new, conditioning) if formula else replace(new, eval_levels=conditioning)
    return replace(made, kappa=source.kappa)


def _of_directions(tableau: Tableau) -> bool:
    """Whether it is written in noise prediction, y_{n+1} = y_n + sum_j B[n,j] (D_j - y_j)."""
    return torch.equal(torch.eye(tableau.nfe, dtype=torch.float64) - tableau.B, tableau.A)


def _weights(tableau: Tableau, prediction: str) -> tuple[Tensor, Tensor]:
    """Weights of the outputs [N, N], and of y_0 [N] (none in noise prediction)."""
    B, g = (tableau.B, torch.zeros(tableau.nfe).double()) if prediction == "noise" else data_form(tableau, "lms")
    return B / unit_weights(tableau.levels, prediction), g


def _interpolated(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Monotone cubic interpolation, constant beyond the ends; a single value stays that value."""
    if len(x) == 1:
        return np.full(len(at), y[0])
    values: np.ndarray = PchipInterpolator(x, y)(np.clip(at, x[0], x[-1]))
    return values
