"""Teacher pairs (y_T, Psi*(y_T)): what a strong solver with many steps makes of each seed's noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.levels import levels
from s4s.metrics.global_error import global_error
from s4s.models.denoiser import Denoiser
from s4s.provenance import provenance
from s4s.sampling import initial_noise, sample
from s4s.seeds import sample_seeds
from s4s.solvers import solver
from s4s.store import Split, as_array, read_attributes, read_split
from s4s.tableau import Tableau

KIND = "teacher-pairs"


@dataclass(frozen=True)
class TeacherPairs:
    """What a fit learns from and what it is validated on. `Split` holds seeds, y_T and the teacher's y_0.

    Attributes:
        model: name of the model that they were made with, if known.
        levels: the teacher's schedule [steps + 1], float64, if known.
    """

    train: Split
    val: Split
    model: str | None = None
    levels: Tensor | None = None

    @classmethod
    def load(cls, path: str | Path, val_path: str | Path | None = None) -> TeacherPairs:
        """Read both splits of results/teacher/{model}/pairs.h5, or each of a file of its own.

        Raises:
            S4SError: if a file cannot be read, or the two are not of the same model and teacher.
        """
        paths = {"train": path, "val": val_path or path}
        known = [read_attributes(file) for file in paths.values()]
        for key in ("model", "tableau"):
            if known[0].get(key) != known[1].get(key):
                raise S4SError(f"{path} and {val_path} were made with another {key}; make both again")
        levels = known[0].get("levels")
        train, val = (read_split(file, KIND, name) for name, file in paths.items())
        return cls(train, val, known[0].get("model"), None if levels is None else torch.tensor(levels, dtype=torch.float64))


def attributes(denoiser: Denoiser, teacher: Tableau) -> dict[str, Any]:
    """What a file of teacher pairs says of how it was made."""
    return {**provenance(denoiser.name, teacher), "levels": teacher.levels.tolist()}


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

    condition = denoiser.conditions(seeds)
    y_0 = sample(denoiser, y_T, teacher, condition, batch_size, keep if trajectory else None, show_progress)
    split = Split(np.asarray(seeds, dtype=np.uint64), y_0.cpu().numpy(), y_T.cpu().numpy(), condition=as_array(condition))
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
    seeds = sample_seeds("val", count)
    y_T, condition = initial_noise(denoiser, seeds), denoiser.conditions(seeds)

    def end(n: int) -> np.ndarray:
        on = levels(grid, n, denoiser)
        tableau = solver(solver_kind, on, start=denoiser.s_max, path=denoiser.path, **solver_options)
        return sample(denoiser, y_T, tableau, condition, batch_size, show_progress=True).cpu().numpy()

    reference = end(4 * steps)
    tried = sorted({n for n in (5, 8, 12, 16, 24, 32, 48, 64, 96, 128) if n < steps} | {steps})
    return [(n, global_error(end(n), reference)) for n in tried]
