"""The classical solvers that a live pipeline is taught by, compared with, and that its fits start from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.models.pipelines.live import LivePipeline
from s4s.schedules import levels
from s4s.solvers import solver
from s4s.tableau import Tableau, check_levels

SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DDIM": ("ddim", {}),
    "DPM-Solver++ (2M)": ("dpmpp", {"order": 2, "lower_order_final": True}),
    "UniPC-3": ("unipc", {"order": 3, "lower_order_final": True}),
    "iPNDM-3": ("ipndm", {"order": 3}),
}
OWN_LEVELS = "the pipeline's own levels"
TRIED = [  # solvers and levels, the best of which a fit starts from
    *((name, OWN_LEVELS) for name in SOLVERS),
    ("DPM-Solver++ (2M)", "logsnr"),
    ("UniPC-3", "time_uniform"),
    ("iPNDM-3", "time_uniform"),
    ("iPNDM-3", "time_quadratic"),
    ("iPNDM-3", "edm"),
    ("UniPC-3", "logsnr"),
]
TEACHER = SOLVERS["UniPC-3"]


def teacher_of(denoiser: LivePipeline, steps: int) -> Tableau:
    """The teacher with so many steps."""
    on = own_levels(denoiser, steps)
    on = levels("logsnr", steps, denoiser) if on is None else on
    return solver(TEACHER[0], on, path=denoiser.path, start=denoiser.s_max, **TEACHER[1])


def teacher_in_words(denoiser: LivePipeline, teacher: Tableau) -> str:
    """As a solver's file names it."""
    on = "logsnr levels" if own_levels(denoiser, teacher.nfe) is None else OWN_LEVELS
    return f"UniPC-3, {teacher.nfe} evaluations on {on}"


def few_steps(denoiser: LivePipeline, nfe: int) -> Tableau:
    """What samples with a few steps as pipelines usually do."""
    return classical(denoiser, "DPM-Solver++ (2M)", OWN_LEVELS, nfe) or teacher_of(denoiser, nfe)


def classical(denoiser: LivePipeline, name: str, on: str, nfe: int) -> Tableau | None:
    """A classical solver of SOLVERS; None where there is none with so few evaluations or on this path."""
    kind, settings = SOLVERS[name]
    options: dict[str, Any] = {**settings}
    schedule = own_levels(denoiser, nfe) if on == OWN_LEVELS else _levels(denoiser, on, nfe)
    if schedule is None:
        return None
    if "order" in options:
        options["order"] = min(options["order"], nfe)
    return solver(kind, schedule, path=denoiser.path, start=denoiser.s_max, **options)


def _levels(denoiser: LivePipeline, on: str, nfe: int) -> Tensor | None:
    try:
        return levels(on, nfe, denoiser)
    except S4SError:  # powers of a time that is negative, as EDM's
        return None


def own_levels(denoiser: LivePipeline, nfe: int) -> Tensor | None:
    """The levels of the pipeline's own scheduler with so many steps, from full noise to s_min; None where there are none."""
    times = denoiser.own_times(nfe)
    if times is None or len(times) != nfe:
        return None
    found = denoiser.path.s_of_t(times / denoiser.times).clamp(denoiser.s_min, denoiser.s_max)
    found = torch.cat([found.new_tensor([denoiser.s_max]), found[1:], found.new_tensor([denoiser.s_min])])
    try:
        check_levels(found)
    except S4SError:
        return None
    return found
