"""Solvers from the plain values that a definition of the config stands for (`spec` in s4s/study/definitions.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4s.models.provenance import made_for

if TYPE_CHECKING:
    from s4s.learning.result import FitResult
    from s4s.learning.teacher import TeacherPairs
    from s4s.models.denoiser import Denoiser
    from s4s.models.load import Outline
    from s4s.tableau import Tableau

Spec = Mapping[str, Any]


def classical(
    spec: Spec, nfe: int, model: Denoiser | Outline, token: str, family: str = "classical",
    costs: str | Path | None = None, statistics: str | Path | None = None,
) -> Tableau:  # fmt: skip
    """A classical solver on its levels.

    Args:
        spec: solver, solver_options, levels, level_options.
        costs: file of the costs of steps, for levels gits. statistics: file of the model's statistics, for solver dpm_v3.
    Raises:
        S4SError: if the model has no such levels, or the solver no such options.
    """
    from s4s.schedules import levels
    from s4s.solvers import solver

    level_options = {**spec["level_options"], **({"costs": costs} if costs else {})}
    options = {**spec["solver_options"], **({"statistics": statistics} if statistics else {})}
    grid = levels(spec["levels"], nfe + options.get("analytic_first_step", False), model, **level_options)  # type: ignore[arg-type]
    tableau = solver(spec["solver"], grid, start=model.s_max, path=model.path, **options)
    return tableau.with_meta(**made_for(model), token=token, family=family, schedule=spec["levels"])


def carried_over(source: Tableau, nfe: int, denoiser: Denoiser, s_end: float, base: Spec, weights: str) -> Tableau:
    """A learned solver between the levels of a model, from s_max to s_end, or at another NFE (`resampled`).

    Args:
        base: meta of the classical solver that it starts from, with solver and options. weights: their family.
    """
    from s4s.learning.families import FAMILIES
    from s4s.learning.warm_start import resampled
    from s4s.solvers import solver

    return resampled(
        source, nfe, denoiser.s_max, s_end,
        lambda levels: solver(base["solver"], levels, path=denoiser.path, **base["options"]),
        weights=FAMILIES[weights].by_lag,
    )  # fmt: skip


def learned(
    spec: Spec, denoiser: Denoiser, base: Tableau, pairs: TeacherPairs, token: str, model: str | Path,
    near: Tableau | None = None, embeddings: str | Path | None = None, state_path: str | Path | None = None,
) -> FitResult:  # fmt: skip
    """Fit a learned solver, on all devices of this process; a line of progress is shown.

    Args:
        spec: weights, options, driver, decoupled, first_node, settings.
        base: the classical solver that it starts from.
        model: name or file of the denoiser, for its perceptual network and copies on further GPUs.
        near: a learned solver, at another NFE or of another model, to start near instead.
        state_path: where an interrupted fit goes on from.
    Raises:
        S4SError: as `s4s.fit`.
    """
    from s4s.learning.fit import fit
    from s4s.learning.settings import FitSettings
    from s4s.models.load import copies, load_perceptual

    start = base
    if near is not None:
        moved = carried_over(near, base.nfe, denoiser, float(base.levels[-1]), base.meta, spec["weights"])
        start = moved.with_meta(**base.meta)
    result = fit(
        denoiser,
        pairs,
        spec["weights"],
        start.levels,
        base=start,
        family_options=spec["options"],
        driver=spec["driver"],
        decoupled=spec["decoupled"],
        first_node=spec["first_node"],
        settings=FitSettings(**spec["settings"]),
        perceptual_network=load_perceptual(model, denoiser.device),
        batch_size=denoiser.block,
        replicas=copies(model, denoiser.device, embeddings),
        state_path=state_path,
        show_progress=True,
    )
    return replace(result, tableau=result.tableau.with_meta(token=token, fit=dict(spec)))
