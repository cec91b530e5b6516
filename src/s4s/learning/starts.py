"""Where a fit starts: at the classical solver with the least validation error; the evaluations that this takes count."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.learning.checks import check_pairs
from s4s.learning.fit import replicas_of
from s4s.learning.losses import LayeredNetwork
from s4s.learning.objective import Objective, first_rows
from s4s.learning.settings import FitSettings
from s4s.learning.tangents import Counter
from s4s.learning.teacher import TeacherPairs
from s4s.models.denoiser import Denoiser
from s4s.models.denoiser_check import check_denoiser
from s4s.tableau import Tableau


class Start(NamedTuple):
    """The best of some solvers.

    Attributes:
        distances: mean of each on the validation pairs, in order; None where it is not finite; empty if none was measured.
        evaluations: of the denoiser, that this took; seconds: likewise.
    """

    base: Tableau
    distances: list[float | None]
    evaluations: int
    seconds: float


def best_start(
    replicas: Sequence[tuple[Denoiser, LayeredNetwork | None]],
    pairs: TeacherPairs,
    bases: Sequence[Tableau],
    settings: FitSettings,
    rows: int,
) -> Start:
    """The solver to start from; of one alone nothing is measured.

    Args:
        replicas: the denoiser and the perceptual network, and copies of them on further devices.
        bases: at least one; of those that are alike the first is taken.
        rows: states at a time through a network.
    Raises:
        S4SError: if the model is not what it should be, the pairs do not belong to it, or no solver gives finite samples.
    """
    if len(bases) == 1:
        return Start(bases[0], [], 0, 0.0)
    begun, counter = time.perf_counter(), Counter()
    for base in bases:
        check_pairs(replicas[0][0], pairs, base, settings)
    for denoiser, _ in replicas:
        check_denoiser(denoiser, _conditions(pairs, denoiser))
    validation = Objective(replicas_of(replicas, settings), first_rows(pairs.val, settings.val_pairs), rows, counter)
    everyone = torch.arange(len(validation))
    means = [validation.distances(base, validation.y_T, everyone).mean().item() for base in bases]
    distances = [mean if math.isfinite(mean) else None for mean in means]
    finite = [mean for mean in distances if mean is not None]
    if not finite:
        raise S4SError("fit: none of the solvers to start from gives finite samples; take others, or other levels")
    return Start(bases[distances.index(min(finite))], distances, counter.evaluations, time.perf_counter() - begun)


def _conditions(pairs: TeacherPairs, denoiser: Denoiser) -> Tensor | None:
    condition = pairs.train.condition
    return None if condition is None else torch.as_tensor(condition).to(denoiser.device)
