"""Where a fit starts: the classical solver with the least validation error, whose evaluations count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from s4s.errors import S4SError
from s4s.learning.checks import check_pairs
from s4s.learning.fit import replicas_of
from s4s.learning.losses import LayeredNetwork
from s4s.learning.objective import Objective, first_rows
from s4s.learning.settings import FitSettings
from s4s.learning.tangents import Counter
from s4s.learning.teacher import TeacherPairs
from s4s.models.denoiser import Denoiser
from s4s.tableau import Tableau


class Start(NamedTuple):
    """The best of some solvers, the mean distance of each on the validation pairs, and the evaluations that this took."""

    base: Tableau
    distances: list[float]
    evaluations: int


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
        rows: states at a time through a network.
    Raises:
        S4SError: if the pairs do not belong to the model, or no solver gives finite samples.
    """
    if len(bases) == 1:
        return Start(bases[0], [], 0)
    for base in bases:
        check_pairs(replicas[0][0], pairs, base, settings)
    counter = Counter()
    validation = Objective(replicas_of(replicas, settings), first_rows(pairs.val, settings.val_pairs), rows, counter)
    everyone = torch.arange(len(validation))
    distances = [validation.distances(base, validation.y_T, everyone).mean().item() for base in bases]
    finite = [distance if math.isfinite(distance) else math.inf for distance in distances]
    if min(finite) == math.inf:
        raise S4SError("fit: none of the solvers to start from gives finite samples; take others, or other levels")
    return Start(bases[finite.index(min(finite))], distances, counter.evaluations)
