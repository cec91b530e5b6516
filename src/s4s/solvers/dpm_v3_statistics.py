"""Statistics of a model along teacher trajectories, for DPM-Solver-v3."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from s4s.errors import S4SError
from s4s.jobs.progress_bar import progress
from s4s.models.denoiser import Denoiser
from s4s.models.denoiser_check import check_denoiser, check_gradients
from s4s.solvers.dpm_v3 import Statistics


def model_statistics(
    denoiser: Denoiser,
    levels: Sequence[float],
    states: np.ndarray,
    outputs: np.ndarray,
    seed: int = 0,
    batch_size: int = 64,
    show_progress: bool = False,
    condition: np.ndarray | None = None,
) -> Statistics:
    """l and s of Zheng et al. 2023 (arXiv 2310.13268), as means over trajectories and components, without bias.

    l = 1 - tr(dD/dy)/d makes f = (1 - l) y - D as constant as possible in y; the trace is estimated with one random vector of
    signs a state. s is the least-squares factor of df/dlambda = s f along the trajectories, by central differences.

    Args:
        levels: of the trajectories, [T + 1].
        states: [n, T + 1, *shape]; outputs: of the denoiser at all levels but the last, [n, T, *shape].
    Raises:
        S4SError: if the trajectories are not finite, or no gradients pass through the model.
    """
    given = None if condition is None else torch.as_tensor(condition[:2], device=denoiser.device)
    check_denoiser(denoiser, given)
    check_gradients(denoiser, given, by_level=False)
    signs = np.random.Generator(np.random.Philox(key=seed))
    linear = []
    bar = progress(total=outputs.shape[1], desc="statistics", unit="level", disable=not show_progress)
    with bar:
        for n in range(outputs.shape[1]):
            total = 0.0
            for chosen in np.array_split(np.arange(len(states)), math.ceil(len(states) / batch_size)):
                rows = states[chosen, n]
                given = None if condition is None else torch.as_tensor(condition[chosen], device=denoiser.device)
                y = torch.as_tensor(rows, device=denoiser.device, dtype=denoiser.dtype).requires_grad_()
                v = torch.as_tensor(signs.integers(0, 2, rows.shape) * 2.0 - 1, device=y.device, dtype=y.dtype)
                (gradient,) = torch.autograd.grad((denoiser(y, float(levels[n]), given) * v).sum(), y)
                total += (gradient * v).double().sum().item()
            linear.append(1 - total / states[:, n].size)
            bar.update()
    lam = -np.log(np.asarray(levels[:-1]))
    shape = (1, -1) + (1,) * (states.ndim - 2)
    f = (1 - np.reshape(linear, shape)) * states[:, :-1].astype(np.float64) - outputs
    slope = np.gradient(f, lam, axis=1)
    over = tuple(axis for axis in range(f.ndim) if axis != 1)
    norm = (f**2).sum(over)
    scale = np.divide((slope * f).sum(over), norm, out=np.zeros_like(norm), where=norm > 0)
    if not (np.isfinite(linear).all() and np.isfinite(scale).all()):
        raise S4SError("the trajectories hold numbers that are not finite; take another teacher or other search levels")
    return Statistics(lam=lam.tolist(), l=linear, s=scale.tolist())
