"""Samples: the test noise of one cell through its tableau, in HDF5 files with a split for each sampling seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from s4s.files.resumable_rows import whole_blocks, write_resumable
from s4s.files.rows import SAMPLES, Split, as_array
from s4s.jobs.progress_bar import progress
from s4s.models.denoiser import Denoiser
from s4s.models.provenance import provenance
from s4s.sampling import initial_noise, sample
from s4s.tableau import Tableau


def draw_samples(
    denoiser: Denoiser,
    tableau: Tableau,
    seeds: Mapping[str, np.ndarray],
    batch_size: int,
    path: str | Path,
    identity: str = "",
) -> int:
    """Sample from the noise of each split's seeds and write the samples, `batch_size` at a time; resumes.

    A sample is the same to the bit for any `batch_size` and any other seeds as long as its position in the split, modulo
    `denoiser.block`, is the same.

    Returns:
        The states that went through the network for it, those of an interrupted run included.
    """
    total = sum(map(len, seeds.values())) * tableau.nfe
    with progress(total=total, desc=f"sample {_named(denoiser, tableau)}", unit="evaluation") as bar:

        def make(rows: np.ndarray) -> Split:
            y_T, condition = initial_noise(denoiser, rows, float(tableau.levels[0])), denoiser.conditions(rows)
            y_0 = sample(denoiser, y_T, tableau, condition, denoiser.block, None, bar, fill=True)
            return Split(rows, y_0.cpu().numpy(), condition=as_array(condition))

        write_resumable(
            path, SAMPLES, seeds, make, whole_blocks(batch_size, denoiser.block), provenance(denoiser.name, tableau), identity,
            lambda rows: bar.update(rows * tableau.nfe),
        )  # fmt: skip
    return total * denoiser.passes


def _named(denoiser: Denoiser, tableau: Tableau) -> str:
    return " ".join(filter(None, [denoiser.name, tableau.meta.get("token"), f"NFE {tableau.nfe}"]))
