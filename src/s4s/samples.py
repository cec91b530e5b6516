"""The samples of one cell: every sampling seed's noise through one tableau, in one HDF5 file with a split a seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s4s.models.denoiser import Denoiser
from s4s.provenance import provenance
from s4s.sampling import initial_noise, sample
from s4s.seeds import sample_seeds
from s4s.store import Split, as_array, read_attributes, read_split, write_splits
from s4s.tableau import Tableau

KIND = "samples"


def draw_samples(
    denoiser: Denoiser, tableau: Tableau, seeds: Sequence[int], count: int, batch_size: int, path: str | Path
) -> None:
    """Draw `count` samples for each sampling seed from the noise of the test split and write them."""
    splits = {}
    for seed in seeds:
        rows = sample_seeds("test", count, seed)
        y_T, condition = initial_noise(denoiser, rows), denoiser.conditions(rows)
        y_0 = sample(denoiser, y_T, tableau, condition, batch_size, show_progress=True)
        splits[f"test~{seed}"] = Split(rows, y_0.cpu().numpy(), condition=as_array(condition))
    write_splits(path, KIND, splits, provenance(denoiser.name, tableau))


def copy_teacher_samples(pairs: str | Path, seeds: Sequence[int], path: str | Path) -> None:
    """The teacher's own end points in the form of samples, so that the teacher is scored like any solver."""
    from s4s.teacher import KIND as PAIRS

    splits = {f"test~{seed}": read_split(pairs, PAIRS, f"test~{seed}") for seed in seeds}
    attributes = {key: value for key, value in read_attributes(pairs).items() if key != "kind"}
    write_splits(
        path,
        KIND,
        {name: Split(split.seeds, split.y_0, condition=split.condition) for name, split in splits.items()},
        attributes,
    )
