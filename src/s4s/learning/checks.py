"""What is checked of teacher pairs before a fit does any work."""

from __future__ import annotations

import numpy as np

from s4s.errors import S4SError
from s4s.files.rows import Split
from s4s.learning.settings import FitSettings
from s4s.learning.teacher import TeacherPairs
from s4s.models.denoiser import Denoiser
from s4s.sampling import initial_noise
from s4s.tableau import Tableau


def check_pairs(denoiser: Denoiser, pairs: TeacherPairs, base: Tableau, settings: FitSettings) -> None:
    """Raise S4SError if the pairs are of another model or of other levels, too few, or not apart from each other."""
    if pairs.model is not None and pairs.model != denoiser.name:
        raise S4SError(f"fit: the pairs are of model {pairs.model!r}, not of {denoiser.name!r}; make pairs with this model")
    splits = {"train": (pairs.train, settings.train_pairs), "val": (pairs.val, settings.val_pairs)}
    for name, (split, wanted) in splits.items():
        _check_split(denoiser, split, name)
        if wanted is not None and wanted > len(split.y_0):
            raise S4SError(
                f"fit: {name}_pairs is {wanted} but there are {len(split.y_0)} {name} pairs; lower it, or raise teacher: {name}"
            )
    used = settings.train_pairs or len(pairs.train.y_0)
    if used < settings.least_pairs:
        raise S4SError(
            f"fit: too few training pairs: {used}, fewer than a batch of {settings.batch}; make more, or lower batch"
        )
    shared = np.intersect1d(pairs.train.seeds, pairs.val.seeds)
    if len(shared):
        raise S4SError(f"fit: {len(shared)} validation pairs have the initial noise of training pairs; they must not overlap")
    firsts = [float(base.levels[0])] + ([] if pairs.levels is None else [float(pairs.levels[0])])
    for first in firsts:
        if abs(first / denoiser.s_max - 1) > 1e-6:
            what = "solver" if first == firsts[0] else "teacher"
            raise S4SError(
                f"fit: the {what} starts at level {first:.6g}, the model's initial noise at {denoiser.s_max:.6g}; "
                "the student, the teacher and the initial noise must start at the same level"
            )
    ends = [float(base.levels[-1])] + ([] if pairs.levels is None else [float(pairs.levels[-1])])
    if abs(ends[0] - ends[-1]) > 1e-6 * ends[-1]:
        raise S4SError(
            f"fit: the solver ends at level {ends[0]:.6g}, the teacher at {ends[-1]:.6g}; final samples at two levels "
            "cannot be compared: give both the same last level"
        )


def _check_split(denoiser: Denoiser, split: Split, name: str) -> None:
    if split.y_T is None:
        raise S4SError(f"fit: the {name} pairs lack y_T; these are samples, not teacher pairs")
    if split.y_T.shape[1:] != tuple(denoiser.shape) or split.y_0.shape != split.y_T.shape:
        raise S4SError(
            f"fit: the {name} pairs have shape {list(split.y_T.shape[1:])}, the model's states {list(denoiser.shape)}; "
            "make pairs with this model"
        )
    if not len(split.y_0):
        raise S4SError(f"fit: there are no {name} pairs; make some")
    if not np.isfinite(split.y_0).all():
        raise S4SError(
            f"fit: the {name} pairs are not finite: model {denoiser.name} gave them, or its teacher steps too far; look "
            "at the model's weights and precision, then make them again, with more steps"
        )
    expected = initial_noise(denoiser, split.seeds[:1]).cpu().numpy()
    if not np.allclose(split.y_T[:1], expected, rtol=1e-4, atol=1e-6 * denoiser.s_max):
        raise S4SError(
            f"fit: the {name} pairs do not start from this model's noise of their seeds: they are of another model or of other "
            "levels; make them again"
        )
