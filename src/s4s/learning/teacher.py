"""Teacher pairs (y_T, Psi*(y_T)): what a strong solver with many steps makes of each seed's noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from s4s.errors import S4SError
from s4s.files.resumable_rows import whole_blocks, write_resumable
from s4s.files.rows import TEACHER_PAIRS, Paths, Split, as_array, as_list, read_attributes, read_split
from s4s.jobs.progress_bar import progress
from s4s.metrics.global_error import global_error
from s4s.models.denoiser import Denoiser
from s4s.models.provenance import in_words, provenance
from s4s.models.seeds import sample_seeds
from s4s.sampling import initial_noise, sample
from s4s.schedules import levels
from s4s.solvers import solver
from s4s.tableau import Tableau


@dataclass(frozen=True)
class TeacherPairs:
    """What a fit learns from and what it is validated on. `Split` holds seeds, y_T and the teacher's y_0.

    Attributes:
        model: name of the model that they were made with, if known.
        levels: the teacher's schedule [steps + 1], float64, if known.
        teacher: what the teacher is, in words, if known.
    """

    train: Split
    val: Split
    model: str | None = None
    levels: Tensor | None = None
    teacher: str | None = None

    @classmethod
    def load(cls, paths: Paths, val_paths: Paths | None = None) -> TeacherPairs:
        """Read both splits of results/teacher/{model}/pairs.h5, or each of a file or of shards of its own.

        Raises:
            S4SError: if a file cannot be read, or they are not of the same model and teacher.
        """
        files = {name: as_list(given) for name, given in {"train": paths, "val": val_paths or paths}.items()}
        first = files["train"][0]
        known = read_attributes(first)
        for file in {path: None for listed in files.values() for path in listed}:
            for key in ("model", "tableau"):
                if known.get(key) != read_attributes(file).get(key):
                    raise S4SError(f"{first} and {file} were made with another {key}; make both again")
        levels = known.get("levels")
        train, val = (read_split(listed, TEACHER_PAIRS, name) for name, listed in files.items())
        levels = None if levels is None else torch.tensor(levels, dtype=torch.float64)
        return cls(train, val, known.get("model"), levels, known.get("teacher"))


def attributes(denoiser: Denoiser, teacher: Tableau) -> dict[str, Any]:
    """What a file of teacher pairs says of how it was made."""
    return {**provenance(denoiser.name, teacher), "levels": teacher.levels.tolist(), "teacher": in_words(teacher)}


def make_pairs(
    denoiser: Denoiser,
    teacher: Tableau,
    seeds: Sequence[int] | np.ndarray,
    batch_size: int | None = None,
    trajectory: bool = False,
    show_progress: bool | tqdm[NoReturn] = False,
    fill: bool = False,
) -> Split:
    """Run the teacher from the noise of each seed.

    With `trajectory`, every node's state is kept too, [n, steps + 1, *shape] from y_T to y_0, and every output of the denoiser,
    [n, steps, *shape]. The other arguments are those of `sample`.
    """
    y_T = initial_noise(denoiser, seeds)
    states: list[list[Tensor]] = [[] for _ in range(teacher.nfe)]
    outputs: list[list[Tensor]] = [[] for _ in range(teacher.nfe)]

    def keep(n: int, y: Tensor, output: Tensor) -> None:
        states[n].append(y.cpu())
        outputs[n].append(output.cpu())

    condition = denoiser.conditions(seeds)
    y_0 = sample(denoiser, y_T, teacher, condition, batch_size, keep if trajectory else None, show_progress, fill)
    split = Split(np.asarray(seeds, dtype=np.uint64), y_0.cpu().numpy(), y_T.cpu().numpy(), condition=as_array(condition))
    if not trajectory:
        return split
    path = [*(torch.cat(batches) for batches in states), y_0.cpu()]
    kept = torch.stack([torch.cat(batches) for batches in outputs], dim=1)
    return replace(split, trajectory=torch.stack(path, dim=1).numpy(), outputs=kept.numpy())


def write_pairs(
    denoiser: Denoiser,
    teacher: Tableau,
    split: str,
    seeds: np.ndarray,
    batch_size: int,
    path: str | Path,
    trajectory: bool = False,
    identity: str = "",
) -> int:
    """Make the pairs of a split's seeds, `batch_size` at a time, and write them; resumes. Bits and result as `draw_samples`."""
    with progress(
        total=len(seeds) * teacher.nfe, desc=f"teacher {denoiser.name} NFE {teacher.nfe} {split}", unit="evaluation"
    ) as bar:
        write_resumable(
            path, TEACHER_PAIRS, {split: seeds},
            lambda rows: make_pairs(denoiser, teacher, rows, denoiser.block, trajectory, bar, fill=True),
            whole_blocks(batch_size, denoiser.block), attributes(denoiser, teacher), identity,
            lambda rows: bar.update(rows * teacher.nfe),
        )  # fmt: skip
    return len(seeds) * teacher.nfe * denoiser.passes


def convergence(
    denoiser: Denoiser, solver_kind: str, solver_options: dict[str, Any], schedule: str, steps: int, count: int, batch_size: int
) -> list[tuple[int, float]]:
    """The teacher's own global error against its number of steps, measured on validation noise.

    The reference is the same solver with four times `steps`; the numbers tried run from 5 to `steps`.
    """
    seeds = sample_seeds("val", count)
    y_T, condition = initial_noise(denoiser, seeds), denoiser.conditions(seeds)

    def final_samples(n: int) -> np.ndarray:
        on = levels(schedule, n, denoiser)
        tableau = solver(solver_kind, on, start=denoiser.s_max, path=denoiser.path, **solver_options)
        return sample(denoiser, y_T, tableau, condition, batch_size, show_progress=True).cpu().numpy()

    reference = final_samples(4 * steps)
    tried = sorted({n for n in (5, 8, 12, 16, 24, 32, 48, 64, 96, 128) if n < steps} | {steps})
    return [(n, global_error(final_samples(n), reference)) for n in tried]
