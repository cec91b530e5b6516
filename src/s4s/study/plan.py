"""How much work a comparison is, said before it starts, and what its jobs ask a machine for. No torch.

Work is counted in states through the network: an evaluation of the denoiser for one sample, twice with guidance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from s4s.files.stray_files import files_below
from s4s.learning.settings import FitSettings
from s4s.models.description import Model
from s4s.study.config import Config
from s4s.study.definitions import Learned
from s4s.study.paths import Cell
from s4s.study.study import CONVERGENCE, MAIN, Study, cell_of

# MB of activations for a state, times states a second: docs/models.md counts about 0.35 MB a GFLOP, and throughputs assume
# 20 TFLOP/s
ACTIVATIONS = 0.35 * 20_000
STATES_A_SECOND = {"embedded": 1000.0}  # of models whose files state no throughput
SLOW = 50.0
# MB that the jobs of a stage need beside the weights and activations
BESIDE = {"trajectories": 4000, "statistics": 4000, "question": 4000, "reference": 8000}


def passes(model: Model) -> int:
    """States through the network for an evaluation: two with guidance."""
    return 2 if model.guided() else 1


def fit_evaluations(settings: FitSettings, nfe: int, val: int, starts: int = 1) -> int:
    """About how many evaluations a fit takes; it may stop earlier.

    A gradient counts 2 evaluations beside the forward one; a Jacobian one for each of nfe (nfe + 1)/2 weights and 2 nfe levels;
    an exchange tries about 4 other values. Of several solvers to start from each is validated first.
    """
    iterations = settings.iterations
    step = {"gauss_newton": 1 + nfe * (nfe + 1) // 2 + 2 * nfe, "exchange": 5}.get(settings.optimiser, 3)
    validations = 1 + iterations // settings.validate_every + (starts if starts > 1 else 0)
    return nfe * (iterations * settings.batch * step + validations * (settings.val_pairs or val))


def _of_fit(study: Study, own: Config, cell: Cell) -> int:
    starts = len(study.initialisation_of(cell).bases)
    return fit_evaluations(own.fit_settings(cell.solver), cell.nfe, own.teacher.val, starts)


def convergence_samples(study: Study, model: str) -> int:
    """Samples that a teacher's own error is measured on."""
    return min(CONVERGENCE, study.settings[model].teacher.val)


def evaluations(study: Study, model: str, folder: str = MAIN) -> dict[str, int]:
    """Evaluations of a model's denoiser for a comparison, by part."""
    own = study.compared[folder][model]
    teacher, test = own.teacher, len(study.config.seeds) * own.samples
    cells = [cell for cell in own.cells() if cell.solver != "teacher"]
    fits = [cell for cell in cells if study.is_learned(cell.solver)]
    further = {study.teacher_of(cell) for cell in fits} - {Cell(model, "teacher", teacher.steps)}
    pairs = teacher.train + teacher.val
    features = study.models[model].features
    compared = teacher.reference if features is not None and features.teacher else 0
    searched = any(own.classical(base).files for token in own.solvers for base in own.bases(token))
    return {
        "teacher": teacher.steps * (pairs + compared + test + 5 * convergence_samples(study, model))
        + sum(cell.nfe for cell in further) * pairs,
        "search": searched * own.search.steps * own.search.trajectories,
        "fits": sum(_of_fit(study, own, cell) for cell in fits),
        "samples": sum(cell.nfe * test for cell in cells),
    }


def summary(study: Study, folder: str = MAIN) -> str:
    """A table: one line a model, with GPU-hours where a model's file states a throughput."""
    head = ("model", "cells", "fits", "teacher", "search", "fits", "samples", "GPU-hours")
    rows, hours, unknown = [], 0.0, []
    for name, config in study.compared[folder].items():
        model = study.models[name]
        parts = {key: passes(model) * value for key, value in evaluations(study, name, folder).items()}
        own = sum(parts.values()) / model.throughput / 3600 if model.throughput else None
        hours += own or 0.0
        unknown += [] if own is not None else [name]
        cells = config.cells()
        fits = sum(study.is_learned(cell.solver) for cell in cells)
        counts = [f"{value:.2g}" if value else "0" for value in parts.values()]
        rows.append((name, str(len(cells)), str(fits), *counts, "unknown" if own is None else f"{own:,.1f}"))
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    note = f"; without {', '.join(unknown)}, whose files state no throughput" if unknown else ""
    absent = [
        f"{name}/{token}"
        for name, config in study.compared[folder].items()
        for token in config.solvers
        if (theirs := study.published(token)) and theirs.source(name) and not config.nfe_of(token)
    ]
    left_out = [f"Left out, for no file of theirs is there at these NFE: {', '.join(absent)}."] if absent else []
    return "\n".join(
        [
            "Plan (states through the network for the teacher, searches, fits and samples; fits are an estimate):",
            *lines,
            f"GPU-hours in all: about {hours:,.0f} at the throughputs that the models' files state{note}.",
            *left_out,
        ]
    )


def memory_mb(study: Study, stage: str, model: str) -> float:
    """Memory of a job: three copies of the weights, as far as they are there, a block's activations and what else it needs."""
    own = study.models[model]
    weights = sum(_size(file.path) for file in own.own_files()) / 2**20
    activations = own.block * passes(own) * ACTIVATIONS / (own.throughput or float("inf"))
    return BESIDE.get(stage, 2000) + 3 * weights + activations


def _size(path: Path) -> int:
    """Bytes of weights: of a file, or of the one form of those that a folder holds in several; 0 where nothing is."""
    if not path.is_dir():
        return path.stat().st_size if path.is_file() else 0
    files = files_below(path)
    return max(sum(file.stat().st_size for file in files if file.suffix == form) for form in (".safetensors", ".bin"))


def minutes(study: Study, stage: str, **names: str) -> float:
    """Longest time of a job of a stage, from the states that go through its model's network."""
    own = study.models[names["model"]]
    throughput = own.throughput or STATES_A_SECOND.get(own.kind, SLOW)
    return 5 + 3 * _STATES[stage](study, names) * passes(own) / throughput / 60


def _rows(study: Study, names: Mapping[str, str]) -> int:
    """Samples of a job that draws or scores: a shard, or all of a cell."""
    model = names["model"]
    whole = len(study.config.seeds) * study.settings[model].samples
    return whole if study.is_whole(model) else study.shard_size(model)


def _pairs(study: Study, names: Mapping[str, str]) -> int:
    model, (_, _, steps) = names["model"], names["folder"].partition("~")
    rows = min(study.split_size(model, names["split"]), study.shard_size(model))
    return int(steps or study.settings[model].teacher.steps) * rows


def _fit(study: Study, names: Mapping[str, str]) -> int:
    cell, own = cell_of(names), study.settings[names["model"]]
    assert isinstance(own.definition(cell.solver), Learned)
    return _of_fit(study, own, cell)


def _search(study: Study, names: Mapping[str, str]) -> int:
    search = study.settings[names["model"]].search
    return 3 * search.steps * search.trajectories


_STATES: dict[str, Callable[[Study, Mapping[str, str]], float]] = {
    "pairs": _pairs,
    "convergence": lambda study, names: 10 * study.settings[names["model"]].teacher.steps * CONVERGENCE,
    "trajectories": _search,
    "statistics": _search,
    "fit": _fit,
    "sample": lambda study, names: int(names["nfe"]) * _rows(study, names),
    "reference": lambda study, names: 100_000,
    "score": lambda study, names: 2 * _rows(study, names),
    # about as many as for a few dozen runs of the teacher
    "question": lambda study, names: 30 * study.settings[names["model"]].teacher.steps * 256,
}
