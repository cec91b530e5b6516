"""What does a fit cost, and where does it plateau? From the courses of fits, across models, NFE and pairs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from s4s.figures import panels
from s4s.from_spec import learned
from s4s.levels import levels
from s4s.models.mixture import IndependentMixture
from s4s.questions.job import Job, Key
from s4s.questions.shown import Shown
from s4s.seeds import sample_seeds
from s4s.solver_styles import nth_style
from s4s.solvers import solver
from s4s.tableau import Tableau
from s4s.teacher import TeacherPairs, make_pairs

COLUMNS = ["model", "solver", "nfe", "dimension", "pairs", "evaluations", "seconds", "error"]
DIMENSIONS = (4, 16, 64, 256, 1024)  # of mixtures of the same components, repeated or left out
WITHIN = (0.25, 0.1, 0.02)  # above the smallest error of the fit


def answer(job: Job) -> pd.DataFrame:
    """The course of each fit: model, solver, nfe, dimension, pairs, and evaluations, seconds and error of each validation.

    The error is the best validation error so far. Of a mixture the first solver is also fitted at other dimensions.
    """
    dimension, rows = math.prod(job.denoiser.shape), []
    tableaux = job.tableaux()
    for key, path in job.fits.items():
        if key.model == job.denoiser.name:
            rows += _course(key, dimension, tableaux[key].meta["pairs"]["train"], json.loads(Path(path).read_text()))
    if isinstance(job.denoiser, IndependentMixture):
        key = next(iter(tableaux))
        for size in DIMENSIONS:
            rows += _of_dimension(job, job.denoiser, key, tableaux[key], size)
    return pd.DataFrame(rows, columns=COLUMNS)


def _course(key: Key, dimension: int, pairs: int, fit: dict[str, Any]) -> list[tuple]:
    """The rows of one fit; seconds are shared out by evaluations."""
    rows, best = [], math.inf
    for step in fit["history"]:
        best = min(best, step["val"])
        seconds = fit["seconds"] * step["evaluations"] / fit["evaluations"]
        rows.append((*key, dimension, pairs, step["evaluations"], seconds, best))
    return rows


def _of_dimension(job: Job, mixture: IndependentMixture, key: Key, tableau: Tableau, dimension: int) -> list[tuple]:
    """The same fit on a mixture of another dimension."""
    model, sizes, start = mixture.of_dimension(dimension), tableau.meta["pairs"], tableau.meta["start"]
    train, val = (make_pairs(model, Tableau.load(job.teacher), sample_seeds(split, sizes[split])) for split in ("train", "val"))
    base = solver(start["solver"], levels(start["schedule"], key.nfe, model), **start["options"]).with_meta(**start)
    result = learned(tableau.meta["fit"], model, base, TeacherPairs(train, val), key.solver, job.model)
    fit = {"evaluations": result.evaluations, "seconds": result.seconds, "history": result.history}
    return _course(Key(model.name, key.solver, key.nfe), dimension, sizes["train"], fit)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a fit: error at its start and at its end, and what it took to come within some share of its smallest error."""
    found = []
    for place, block in rows.groupby(["model", "dimension", "solver", "nfe", "pairs"], sort=False):
        end = block.error.min()
        reached = [block[block.error <= (1 + share) * end].iloc[0] for share in WITHIN]
        last = block.iloc[-1]
        found.append((*place, block.error.iloc[0], end, *(f"{int(row.evaluations)} ({row.seconds:.1f} s)" for row in reached),
                      f"{int(last.evaluations)} ({last.seconds:.1f} s)"))  # fmt: skip
    within = [f"within {share:.0%} of it" for share in WITHIN]
    columns = ["model", "dimension", "solver", "NFE", "pairs", "error at the start", "smallest error", *within, "whole fit"]
    return pd.DataFrame(found, columns=columns)


def tables(rows: pd.DataFrame) -> list[Shown]:
    """All fits: what they reached, and the evaluations and seconds to come near it."""
    caption = (
        "Validation error at the start and the smallest of each fit; denoiser evaluations and seconds until it came within a "
        "share of the smallest, by the best so far at validations."
    )
    table = summary(rows)
    for column in ("error at the start", "smallest error"):
        table[column] = table[column].map(lambda value: f"{value:.4g}")
    return [Shown("Cost of fits", caption, table)]


def figure(rows: pd.DataFrame) -> Figure:
    """Best validation error so far over that at the start, against evaluations; a panel a model and solver, a line an NFE."""
    keys = list(rows.groupby(["model", "solver"], sort=False).groups)
    nfe = sorted(rows.nfe.unique())
    drawn, axes = panels(len(keys), 4, (1.9, 1.8), 0.8)
    for axis, (model, name) in zip(axes, keys, strict=True):
        block = rows[(rows.model == model) & (rows.solver == name)]
        for n, line in block.groupby("nfe"):
            style = {**nth_style(nfe.index(n)), "marker": ""}
            axis.plot(line.evaluations / 1000, line.error / line.error.iloc[0], **style, linewidth=1.2,
                      label=f"NFE {n}")  # fmt: skip
        axis.set_title(f"{model}\n{name}", fontsize=7)
        axis.set_yscale("log")
    drawn.supxlabel("denoiser evaluations (thousands)", fontsize=8)
    drawn.supylabel("validation error over that at the start", fontsize=8)
    handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    drawn.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    return drawn
