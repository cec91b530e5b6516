"""What does a fit cost, and where does it plateau? From convergence curves, across models, NFE and pairs."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from s4s.learning.fit_record import FitRecord
from s4s.learning.settings import FitSettings
from s4s.learning.teacher import TeacherPairs, make_pairs
from s4s.models.embedded.mixture import IndependentMixture
from s4s.models.seeds import sample_seeds
from s4s.reporting.figures import panels
from s4s.reporting.questions.job import Job, Key
from s4s.reporting.questions.markdown import Shown, with_names
from s4s.reporting.solver_names import names
from s4s.reporting.solver_styles import solver_style
from s4s.schedules import levels
from s4s.solvers import solver
from s4s.study.definitions import Learned
from s4s.study.make import learned
from s4s.tableau import Tableau

COLUMNS = ["model", "solver", "nfe", "dimension", "pairs", "evaluations", "seconds", "error"]
Row = tuple[str, str, int, int, int, int, float, float]  # of COLUMNS
DIMENSIONS = (4, 16, 64, 256, 1024)  # of mixtures of the same components, repeated or left out
WITHIN = (0.25, 0.1, 0.02)  # above the smallest error of the fit


def answer(job: Job) -> pd.DataFrame:
    """The convergence curve of each fit: model, solver, nfe, dimension, pairs; evaluations, seconds, error of each validation.

    The error is the best validation loss so far. Of a mixture the first solver is also fitted at other dimensions.
    """
    dimension, rows = math.prod(job.denoiser.shape), []
    tableaux = job.tableaux()
    for key, path in job.fits.items():
        if key.model == job.denoiser.name:
            rows += _curve(key, dimension, tableaux[key].meta["pairs"]["train"], FitRecord.load(path).model_dump())
    if isinstance(job.denoiser, IndependentMixture):
        key = next(iter(tableaux))
        for size in DIMENSIONS:
            rows += _of_dimension(job, job.denoiser, key, tableaux[key], size)
    return pd.DataFrame(rows, columns=COLUMNS)


def _curve(key: Key, dimension: int, pairs: int, fit: dict[str, Any]) -> list[Row]:
    """The rows of one fit; seconds are shared out by evaluations, as its history counts them."""
    rows, best = [], math.inf
    for step in fit["history"]:
        best = best if step["val"] is None else min(best, step["val"])
        seconds = fit["seconds"] * step["evaluations"] / fit["history"][-1]["evaluations"]
        rows.append((*key, dimension, pairs, step["evaluations"], seconds, best))
    return rows


def _of_dimension(job: Job, mixture: IndependentMixture, key: Key, tableau: Tableau, dimension: int) -> list[Row]:
    """The same fit on a mixture of another dimension."""
    model, sizes, start = mixture.of_dimension(dimension), tableau.meta["pairs"], tableau.meta["start"]
    train, val = (make_pairs(model, Tableau.load(job.teacher), sample_seeds(split, sizes[split])) for split in ("train", "val"))
    base = solver(start["solver"], levels(start["schedule"], key.nfe, model), **start["options"]).with_meta(**start)
    definition = Learned.from_record(tableau.meta["fit"])
    settings = FitSettings.model_validate(definition.fit)
    result = learned(definition, settings, model, [base], TeacherPairs(train, val), key.solver, job.model)
    return _curve(Key(model.name, key.solver, key.nfe), dimension, sizes["train"], FitRecord.of(result).model_dump())


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a fit: its initial and its smallest loss, and what it took to come within some share of its smallest loss."""
    found = []
    for place, block in rows.groupby(["model", "dimension", "solver", "nfe", "pairs"], sort=False):
        end = block.error.min()
        reached = [block[block.error <= (1 + share) * end].iloc[0] for share in WITHIN]
        last = block.iloc[-1]
        found.append((*place, block.error.iloc[0], end, *(f"{int(row.evaluations)} ({row.seconds:.1f} s)" for row in reached),
                      f"{int(last.evaluations)} ({last.seconds:.1f} s)"))  # fmt: skip
    within = [f"within {share:.0%} of it" for share in WITHIN]
    columns = ["model", "dimension", "solver", "NFE", "pairs", "initial loss", "smallest loss", *within, "whole fit"]
    return pd.DataFrame(found, columns=columns)


def tables(rows: pd.DataFrame) -> list[Shown]:
    """All fits: what they reached, and the evaluations and seconds to come near it."""
    caption = (
        "Validation loss at initialisation and the smallest of each fit; denoiser evaluations and seconds until it came within "
        "a share of the smallest, by the best so far at validations."
    )
    table = summary(rows)
    for column in ("initial loss", "smallest loss"):
        table[column] = table[column].map(lambda value: f"{value:.4g}")
    return [Shown("Cost of fits", caption, with_names(table, rows))]


def figure(rows: pd.DataFrame) -> Figure:
    """Best validation loss so far over that at initialisation: a row a model, a column an NFE, a line a solver.

    A last panel has the mixture's other dimensions, a line each.
    """
    resized = rows.model.str.contains(r"-d\d+$")
    models, other = rows[~resized], rows[resized]
    keys = list(models.groupby(["model", "nfe"], sort=False).groups)
    shown = names(rows.solver.drop_duplicates(), rows if "family" in rows else None)
    drawn, axes = panels(len(keys) + (not other.empty), models.nfe.nunique(), (2.2, 1.7), 1.2)
    for axis, (model, nfe) in zip(axes, keys, strict=False):
        for name, line in models[(models.model == model) & (models.nfe == nfe)].groupby("solver", sort=False):
            style = {key: value for key, value in solver_style(str(name)).items() if key != "marker"}
            _draw_curve(axis, line, label=shown[str(name)], **style)
        axis.set_title(f"{model}, NFE {nfe}", fontsize=7)
    if not other.empty:
        for i, (dimension, line) in enumerate(other.groupby("dimension")):
            _draw_curve(axes[-1], line, label=f"dimension {dimension}", color=f"{0.8 - 0.18 * i:.2f}", linestyle="-")
        axes[-1].set_title(f"mixtures, {shown[other.solver.iloc[0]]}, NFE {other.nfe.iloc[0]}", fontsize=7)
        axes[-1].legend(frameon=False, fontsize=6)
    drawn.supxlabel("denoiser evaluations (thousands)", fontsize=8)
    drawn.supylabel("validation loss over that at initialisation", fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside right upper", frameon=False)
    return drawn


def _draw_curve(axis: Any, line: pd.DataFrame, **style: Any) -> None:
    axis.plot(line.evaluations / 1000, line.error / line.error.iloc[0], linewidth=1.2, **style)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
