"""Teacher pairs (y_T, Psi*(y_T)): what a strong solver with many steps makes of each seed's noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from s4s.levels import levels
from s4s.metrics.global_error import global_error
from s4s.models.denoiser import Denoiser
from s4s.sampling import initial_noise, sample
from s4s.seeds import sample_seeds
from s4s.solvers import solver
from s4s.store import Split, read_split
from s4s.tableau import Tableau

KIND = "teacher-pairs"


@dataclass(frozen=True)
class TeacherPairs:
    """What a fit learns from and what it is validated on. `Split` holds seeds, y_T and the teacher's y_0."""

    train: Split
    val: Split

    @classmethod
    def load(cls, path: str) -> TeacherPairs:
        """Read both splits of results/teacher/{model}/pairs.h5."""
        return cls(read_split(path, KIND, "train"), read_split(path, KIND, "val"))


def make_pairs(
    denoiser: Denoiser,
    teacher: Tableau,
    seeds: Sequence[int] | np.ndarray,
    batch_size: int | None = None,
    trajectory: bool = False,
    show_progress: bool = False,
) -> Split:
    """Run the teacher from the noise of each seed.

    With `trajectory`, every node's state is kept too, [n, steps + 1, *shape] from y_T to y_0, and every output of the denoiser,
    [n, steps, *shape].
    """
    y_T = initial_noise(denoiser, seeds)
    states: list[list[Tensor]] = [[] for _ in range(teacher.nfe)]
    outputs: list[list[Tensor]] = [[] for _ in range(teacher.nfe)]

    def keep(n: int, y: Tensor, output: Tensor) -> None:
        states[n].append(y.cpu())
        outputs[n].append(output.cpu())

    y_0 = sample(denoiser, y_T, teacher, None, batch_size, keep if trajectory else None, show_progress)
    split = Split(np.asarray(seeds, dtype=np.uint64), y_0.cpu().numpy(), y_T.cpu().numpy())
    if not trajectory:
        return split
    path = [*(torch.cat(batches) for batches in states), y_0.cpu()]
    kept = torch.stack([torch.cat(batches) for batches in outputs], dim=1)
    return replace(split, trajectory=torch.stack(path, dim=1).numpy(), outputs=kept.numpy())


def convergence(
    denoiser: Denoiser, solver_kind: str, solver_options: dict, grid: str, steps: int, count: int, batch_size: int
) -> list[tuple[int, float]]:
    """The teacher's own global error against its number of steps, measured on validation noise.

    The reference is the same solver with four times `steps`; the numbers tried run from 5 to `steps`.
    """
    y_T = initial_noise(denoiser, sample_seeds("val", count))

    def end(n: int) -> np.ndarray:
        on = levels(grid, n, denoiser)
        tableau = solver(solver_kind, on, start=denoiser.s_max, path=denoiser.path, **solver_options)
        return sample(denoiser, y_T, tableau, batch_size=batch_size, show_progress=True).cpu().numpy()

    reference = end(4 * steps)
    tried = sorted({n for n in (5, 8, 12, 16, 24, 32, 48, 64, 96, 128) if n < steps} | {steps})
    return [(n, global_error(end(n), reference)) for n in tried]
