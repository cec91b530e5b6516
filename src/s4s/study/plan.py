"""How much work a comparison is, told before it starts: cells, fits, states through the network, GPU-hours. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from s4s.learning.settings import FitSettings
from s4s.models.description import Model
from s4s.study.config import Config
from s4s.study.definitions import Learned

CONVERGENCE = 128  # samples that the teacher's own error is measured on


def passes(model: Model) -> int:
    """States through the network for an evaluation: two with guidance."""
    return 2 if getattr(model, "guidance", 1.0) != 1.0 else 1


def fit_evaluations(settings: FitSettings, nfe: int, val: int) -> int:
    """About how many states a fit takes through the network; it may stop earlier.

    A gradient counts 2 evaluations beside the forward one; a Jacobian one for each of nfe (nfe + 1)/2 weights and 2 nfe levels.
    """
    iterations = settings.iterations
    step = 3 if settings.optimiser != "gauss_newton" else 1 + nfe * (nfe + 1) // 2 + 2 * nfe
    validations = 1 + iterations // settings.validate_every
    return nfe * (iterations * settings.batch * step + validations * (settings.val_pairs or val))


def evaluations(config: Config) -> dict[str, int]:
    """Evaluations of the denoiser by part, for the config of one model."""
    teacher, test = config.teacher, len(config.seeds) * config.samples
    cells = [cell for cell in config.cells() if cell.solver != "teacher"]
    fits = [cell for cell in cells if isinstance(config.definition(cell.solver), Learned)]
    searched = any(config.classical(token).files for token in config.solvers)
    own_steps = sum({cell.nfe + teacher.ahead for cell in fits}) if teacher.ahead else 0  # of the fits' own teachers
    pairs = teacher.train + teacher.val
    return {
        "teacher": teacher.steps * (pairs + test + 5 * min(CONVERGENCE, teacher.val)) + own_steps * pairs,
        "search": searched * config.search.steps * config.search.trajectories,
        "fits": sum(fit_evaluations(config.fit_settings(cell.solver), cell.nfe, teacher.val) for cell in fits),
        "samples": sum(cell.nfe * test for cell in cells),
    }


def summary(studies: Mapping[str, Config], models: Mapping[str, Model]) -> str:
    """A table: one line a model, with GPU-hours where a model's file states a throughput."""
    head = ("model", "cells", "fits", "teacher", "search", "fits", "samples", "GPU-hours")
    rows, hours, unknown = [], 0.0, []
    for name, config in studies.items():
        model = models[name]
        parts = {key: passes(model) * value for key, value in evaluations(config).items()}
        own = sum(parts.values()) / model.throughput / 3600 if model.throughput else None
        hours += own or 0.0
        unknown += [] if own is not None else [name]
        cells = config.cells()
        fits = sum(isinstance(config.definition(cell.solver), Learned) for cell in cells)
        counts = [f"{value:.2g}" if value else "0" for value in parts.values()]
        rows.append((name, str(len(cells)), str(fits), *counts, "unknown" if own is None else f"{own:,.1f}"))
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    note = f"; without {', '.join(unknown)}, whose files state no throughput" if unknown else ""
    return "\n".join(
        [
            "Plan (states through the network for the teacher, searches, fits and samples; fits are an estimate):",
            *lines,
            f"GPU-hours in all: about {hours:,.0f} at the throughputs that the models' files state{note}.",
        ]
    )
