"""Solvers from their definitions in the config (s4s/study/definitions.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4s.errors import S4SError
from s4s.files.named_function import function_of
from s4s.models.provenance import check, check_guidance, made_for
from s4s.schedules.registry import is_own
from s4s.study.definitions import Classical, Learned
from s4s.study.published import Published

if TYPE_CHECKING:
    from s4s.learning.result import FitResult
    from s4s.learning.settings import FitSettings
    from s4s.learning.teacher import TeacherPairs
    from s4s.models.denoiser import Denoiser
    from s4s.models.load import Outline
    from s4s.tableau import Tableau


def classical(
    definition: Classical,
    nfe: int,
    model: Denoiser | Outline,
    token: str,
    costs: str | Path | None = None,
    statistics: str | Path | None = None,
) -> Tableau:
    """A classical solver on its levels.

    Args:
        costs: file of the costs of steps, for levels gits. statistics: file of the model's statistics, for solver dpm_v3.
    Raises:
        S4SError: if the model has no such levels, or the solver no such options.
    """
    from s4s.schedules import levels
    from s4s.solvers import solver

    level_options = {**definition.level_options(), **({"costs": costs} if costs else {})}
    options = {**definition.solver_options(), **({"statistics": statistics} if statistics else {})}
    steps = nfe * definition.cached + definition.analytic_first_step
    schedule = levels(definition.levels, steps, model, **level_options)  # type: ignore[arg-type]
    tableau = solver(definition.solver, schedule, start=model.s_max, path=model.path, **options)
    return tableau.with_meta(**made_for(model), token=token, family=definition.family, schedule=definition.levels)


def published(
    source: Tableau, definition: Published, nfe: int, model: Denoiser | Outline, token: str, guidance: float | None = None
) -> Tableau:
    """A solver that is a tableau already, as a cell of a study. Its own meta is kept under `published`.

    Args:
        guidance: scale with which the model is used; None where that is not known.
    Raises:
        S4SError: if it has another number of evaluations, or was made for another network or guidance, as far as it says.
    """
    whose, made, path = f"model {model.name}", source.meta.get("model"), definition.source(model.name)
    if source.nfe != nfe:
        raise S4SError(f"{token}: {path} has a solver with {source.nfe} evaluations, not {nfe}; name its file after these")
    if path == definition.tableau and not definition.in_zoo(model.name, nfe) and made not in (None, model.name):
        raise S4SError(
            f"{token}: {path} was made for model {made}, not for {model.name}; write tableau: {{{made}: {path}}} to leave "
            f"{model.name} out, or {{{model.name}: {path}}} to take it nonetheless"
        )
    source.require_one_output()
    check(source, model, whose)
    check_guidance(source, guidance, whose)
    known = {"guidance": source.meta["guidance"]} if "guidance" in source.meta else {}
    return replace(
        source, meta={**made_for(model), **known, "token": token, "family": definition.family, "published": source.meta}
    )


def carried_over(source: Tableau, nfe: int, denoiser: Denoiser, s_end: float, base: Mapping[str, Any], weights: str) -> Tableau:
    """A learned solver between the levels of a model, from s_max to s_end, or at another NFE (`resampled`).

    Args:
        base: meta of the classical solver that it starts from, with solver and options. weights: their family.
    """
    from s4s.learning.families import family_of
    from s4s.learning.warm_start import resampled
    from s4s.solvers import solver

    family = family_of(weights)
    return resampled(
        source, nfe, denoiser.s_max, s_end,
        lambda levels: solver(base["solver"], levels, path=denoiser.path, **base["options"]),
        weights=family.by_lag, formula=family.schedule_only,
    )  # fmt: skip


def learned(
    definition: Learned, settings: FitSettings, denoiser: Denoiser, bases: Sequence[Tableau], pairs: TeacherPairs, token: str,
    model: str | Path, near: Tableau | None = None, state_path: str | Path | None = None,
) -> FitResult:  # fmt: skip
    """Fit a learned solver, on all devices of this process; a line of progress is shown.

    Args:
        settings: all those of the fit, what the definition says included.
        bases: the classical solvers that it may start at; the best on the validation pairs is taken, or the first with `near`.
        model: name or file of the denoiser, for its perceptual network and copies on further GPUs.
        near: a learned solver, at another NFE or of another model, to start near instead.
        state_path: where an interrupted fit goes on from.
    Returns:
        As `s4s.fit`; where there are several bases, with the evaluations (in the history too) and seconds of the choice.
        The tableau's meta says in `fit` which base it was, and in `starts` how far each was from the teacher.
    Raises:
        S4SError: as `s4s.fit` and `best_start`.
    """
    from s4s.learning.fit import fit
    from s4s.learning.result import FitResult
    from s4s.learning.starts import best_start
    from s4s.models.load import copies, load_perceptual

    network, further = load_perceptual(model, denoiser.device), copies(model, denoiser.device)
    tried = bases if near is None else bases[:1]
    chosen = best_start([(denoiser, network), *further], pairs, tried, settings, denoiser.block)
    base, recipe = chosen.base, definition.recipe
    start = base
    if is_own(made_by := str(base.meta.get("solver"))):
        function_of(made_by)  # the config named it, for its base is a result of this study
    if near is not None:
        moved = carried_over(near, base.nfe, denoiser, float(base.levels[-1]), base.meta, recipe.weights)
        start = moved.with_meta(**base.meta)
    result = fit(
        denoiser,
        pairs,
        recipe.weights,
        start.levels,
        base=start,
        family_options=definition.family_options,
        driver=recipe.driver,
        decoupled=recipe.decoupled,
        first_node=definition.first_node,
        settings=settings,
        perceptual_network=network,
        batch_size=denoiser.block,
        replicas=further,
        state_path=state_path,
        show_progress=True,
    )
    own = str(base.meta.get("token", definition.base))
    meta: dict[str, Any] = {"token": token, "fit": definition.record(settings, own)}
    if chosen.distances:
        tokens = [str(each.meta.get("token")) for each in tried]
        meta["starts"] = dict(zip(tokens, chosen.distances, strict=True))
        meta["evaluations"] = result.tableau.meta["evaluations"] + chosen.evaluations * denoiser.passes
    return FitResult(
        result.tableau.with_meta(**meta),
        [{**entry, "evaluations": entry["evaluations"] + chosen.evaluations} for entry in result.history],
        result.evaluations + chosen.evaluations,
        result.seconds + chosen.seconds,
    )
