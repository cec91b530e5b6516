"""The fit: parameters of a learned solver that bring it close to the teacher's final samples, from any initial noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s4s import __version__
from s4s.errors import S4SError, must_be
from s4s.jobs.progress_bar import progress
from s4s.learning.checks import check_pairs
from s4s.learning.drivers import DRIVERS, cannot_search, nothing_to_learn
from s4s.learning.families import make_family
from s4s.learning.loop import Loop
from s4s.learning.losses import Distance, LayeredNetwork, make_distance
from s4s.learning.objective import Objective, Replica, first_rows
from s4s.learning.parameters import Parameters
from s4s.learning.result import FitResult
from s4s.learning.settings import FitSettings
from s4s.learning.state import StateFile, identity, rows_digest
from s4s.learning.tangents import Counter
from s4s.learning.teacher import TeacherPairs
from s4s.learning.teacher_path import TeacherPath
from s4s.models.accelerated import accelerated
from s4s.models.denoiser import Denoiser
from s4s.models.denoiser_check import check_attributes, check_denoiser, check_gradients
from s4s.models.provenance import made_for
from s4s.solvers import solver
from s4s.tableau import Tableau


def fit(
    denoiser: Denoiser,
    pairs: TeacherPairs,
    family: str,
    levels: Tensor,
    *,
    base: str | Tableau = "dpmpp",
    family_options: dict[str, Any] | None = None,
    driver: str = "coefficients",
    decoupled: bool = False,
    first_node: bool = False,
    same_start: bool = False,
    settings: FitSettings | None = None,
    perceptual_network: LayeredNetwork | None = None,
    batch_size: int | None = None,
    replicas: Sequence[tuple[Denoiser, LayeredNetwork | None]] = (),
    state_path: str | Path | None = None,
    show_progress: bool = False,
) -> FitResult:
    """Learn a solver: min over parameters of E min_{||y' - y_T|| <= r s_T} d(student(y'), teacher(y_T)).

    Args:
        pairs: training and validation pairs of the teacher, made with this denoiser.
        family: a name in FAMILIES; family_options: its options (`lms`: prediction, order, ...).
        levels: the noise schedule of the initialisation, [N + 1], float64.
        base: the solver that is the initialisation: a classical kind, or a tableau on `levels`, learned ones included.
        driver: what is free: "coefficients" (S4S), "schedule" (LD3), "alternate" (S4S-Alt), "joint".
        decoupled: also learn the conditioning level of each node (with every driver but the first).
        first_node: also learn the first evaluation point, (kappa y_0, s~_0).
        same_start: keep the network's first input as large as the base's, whatever level it is told (kappa follows): for
            pipelines, which start from unit noise. Not with first_node.
        settings: see FitSettings.
        perceptual_network: what the distances "perceptual" and "features" compare images with (load_perceptual).
        batch_size: states at a time through a network; by default 4096.
        replicas: copies of the denoiser and the perceptual network on further devices; each batch is divided among all.
        state_path: where to keep a state from which an interrupted fit goes on, and a finished one is there at once; remove it
            when the result is stored.
    Returns:
        The solver whose validation loss was smallest, the initialisation included: never worse than `base` there. Its meta says
        the model, its parametrisation, the teacher, the numbers of pairs, the validation loss at initialisation and learned,
        the evaluations and the base solver.
    Raises:
        S4SError: if the settings contradict each other, the pairs do not belong to the model, the family cannot represent
            `base`, or losses are not finite again and again.
    """
    check_attributes(denoiser)
    must_be("fit's pairs", pairs, isinstance(pairs, TeacherPairs), "s4s.TeacherPairs, such as TeacherPairs.load gives")
    must_be("settings", settings, isinstance(settings, FitSettings | None), "s4s.FitSettings")
    must_be("base", base, isinstance(base, str | Tableau), "the name of a solver, or a tableau")
    settings = settings or FitSettings()
    base = solver(base, levels, path=denoiser.path) if isinstance(base, str) else base
    options = family_options or {}
    parameters = _parameters(denoiser, family, options, levels, base, driver, decoupled, first_node, same_start)
    if problem := cannot_search(parameters.family.discrete, settings.optimiser, driver, first_node):
        raise S4SError(f"fit: {problem}")
    check_pairs(denoiser, pairs, base, settings)
    _check_models([denoiser, *(copy for copy, _ in replicas)], pairs, parameters, driver, settings)
    if batch_size is not None and batch_size < 1:
        raise S4SError(f"fit: batch_size must be at least 1, got {batch_size}")
    train, val = first_rows(pairs.train, settings.train_pairs), first_rows(pairs.val, settings.val_pairs)
    rows, counter = batch_size or 4096, Counter()
    everywhere = replicas_of([(denoiser, perceptual_network), *replicas], settings)
    path = TeacherPath(train, pairs.levels) if settings.trajectory else None
    learning = Objective(everywhere, train, rows, counter, path, settings.trajectory)
    validation = Objective(everywhere, val, rows, counter)
    name = identity(
        version=__version__,
        model=denoiser.name,
        family=family,
        options=options,
        base=base.digest(),
        meta=base.meta,
        driver=driver,
        decoupled=decoupled,
        first_node=first_node,
        **({"same_start": True} if same_start else {}),
        settings=settings.model_dump(),
        rows=rows,
        replicas=len(everywhere),
        pairs=rows_digest(train),
        val=rows_digest(val),
    )
    state = StateFile(Path(state_path) if state_path else None, name)
    loop = Loop(parameters, learning, validation, driver, settings, _radius(settings, denoiser, base.nfe))
    state.resume(loop)
    _run(loop, state, f"fit {denoiser.name} nfe {base.nfe}", show_progress)
    tableau = replace(parameters.tableau(loop.best).detach(), meta=_meta(denoiser, base, pairs, loop))
    return FitResult(tableau, loop.history, loop.evaluations, state.seconds())


def _parameters(
    denoiser: Denoiser,
    family: str,
    options: dict[str, Any],
    levels: Tensor,
    base: Tableau,
    driver: str,
    decoupled: bool,
    first_node: bool,
    same_start: bool,
) -> Parameters:
    """The parameters of the learned solver, at the initialisation; S4SError if a turn of the driver has nothing to learn."""
    if driver not in DRIVERS:
        raise S4SError(f"unknown driver {driver!r}; known: {', '.join(DRIVERS)}")
    if problem := nothing_to_learn(driver, base.nfe, decoupled, first_node):
        raise S4SError(f"fit: {problem}")
    if not torch.equal(torch.as_tensor(levels, dtype=torch.float64), base.levels):
        raise S4SError("fit: the base tableau is on other levels than the ones given")
    if first_node and same_start:
        raise S4SError("fit: first_node changes the noise that a run starts from, which same_start keeps; take one of them")
    made = make_family(family, base, denoiser.path, **options)
    parameters = Parameters(made, base, decoupled, first_node, denoiser.path if same_start else None)
    for names in DRIVERS[driver]:
        if not len(parameters.independent(parameters.free(names))):
            what = "coefficients" if "theta" in names else "levels"
            raise S4SError(
                f"fit: family {family!r} at NFE {base.nfe} has no {what} to learn; take another driver than {driver}"
            )
    return parameters


def _check_models(
    denoisers: Sequence[Denoiser], pairs: TeacherPairs, parameters: Parameters, driver: str, settings: FitSettings
) -> None:
    """That each copy of the model is what it should be, with the derivatives that the optimiser takes in reverse mode."""
    condition = None if pairs.train.condition is None else torch.as_tensor(pairs.train.condition)
    first_order = settings.optimiser in ("adam", "rmsprop")
    levels = frozenset({"xi", "first", "delta"}).intersection(frozenset().union(*DRIVERS[driver]))
    for denoiser in denoisers:
        own = None if condition is None else condition.to(denoiser.device)
        check_denoiser(denoiser, own)
        if first_order or settings.radius:
            check_gradients(denoiser, own, by_level=first_order and len(parameters.free(levels)) > 0)


def replicas_of(copies: Sequence[tuple[Denoiser, LayeredNetwork | None]], settings: FitSettings) -> list[Replica]:
    """Each copy of the model in the settings' precision, with the distance on its device."""
    return [
        Replica(accelerated(denoiser, settings.precision, settings.compile), distance_of(settings, network, denoiser))
        for denoiser, network in copies
    ]


def _radius(settings: FitSettings, denoiser: Denoiser, nfe: int) -> float:
    """Radius of the ball of the initial noise, on unit noise."""
    return 0.001 * math.prod(denoiser.shape) / nfe**2 if settings.radius == "ld3" else float(settings.radius)


def _run(loop: Loop, state: StateFile, label: str, show_progress: bool) -> None:
    """All steps that are left, with a state now and then and at the end."""
    total, done = loop.settings.iterations, loop.iteration
    with progress(total=total, initial=done, desc=label, unit="step", disable=not show_progress) as bar:
        while not loop.finished():
            loop.step()
            bar.update()
            bar.set_postfix(val=f"{loop.best_val:.5f}", refresh=False)
            if loop.finished() or state.is_due():
                state.save(loop)


def _meta(denoiser: Denoiser, base: Tableau, pairs: TeacherPairs, loop: Loop) -> dict[str, Any]:
    """What the learned solver's file says of how it was made."""
    distance, start = loop.settings.distance, loop.history[0]["val"]
    meta = {
        **made_for(denoiser),
        "start": base.meta,
        "evaluations": loop.evaluations * denoiser.passes,
        "teacher": pairs.teacher,
        "pairs": {"train": len(loop.train), "val": len(loop.val)},
        "validation": {"distance": distance, "start": start, "learned": loop.best_val},
    }
    return meta if denoiser.guidance == 1 else {**meta, "guidance": denoiser.guidance}


def distance_of(settings: FitSettings, network: LayeredNetwork | None, denoiser: Denoiser) -> Distance:
    """The distance that the settings name, on the denoiser's device.

    Raises:
        S4SError: if its network is missing, or it is one of images and the denoiser's samples are none.
    """
    if settings.distance != "lpips":
        return make_distance(settings.distance, network)
    from s4s.learning.lpips_loss import check_images, load_lpips

    check_images(denoiser.decode(torch.zeros(1, *denoiser.shape, dtype=denoiser.dtype, device=denoiser.device)))
    return load_lpips(settings.lpips_network, settings.lpips_weights, device=denoiser.device)
