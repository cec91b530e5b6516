"""What people see first: samples of the same noise beside the teacher's, maps of their errors, and error against NFE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from s4s.errors import S4SError
from s4s.files.rows import SAMPLES, read_split, split_sizes
from s4s.reporting.figures import draw_curves
from s4s.reporting.solver_names import names
from s4s.reporting.tables import NOT_LEARNED

Decode = Callable[[np.ndarray], np.ndarray]
NOISES = 2  # rows of samples of a model
PICTURE = 0.72  # inches
LARGEST = 0.995  # share of an error map's pixels that are below the end of its scale


class Column(NamedTuple):
    """Samples of one solver at one number of evaluations, decoded: [n, 1 or 3, H, W] in [-1, 1]."""

    title: str
    images: np.ndarray


def best_training_free(scores: pd.DataFrame, nfe: int) -> str:
    """The training-free solver of the least global error at a number of evaluations, of one model's rows of scores.csv.

    Raises:
        S4SError: if there is none.
    """
    plain = scores[scores.family.isin(NOT_LEARNED) & (scores.family != "teacher") & (scores.nfe == nfe)]
    if plain.empty:
        raise S4SError(f"showcase: no training-free solver is compared at NFE {nfe}")
    return str(plain.loc[plain.global_error.idxmin()].solver)


def showcase(
    samples: Mapping[str, str], scores: pd.DataFrame, solvers: Sequence[str], nfe: Sequence[int], decode: Mapping[str, Decode]
) -> Figure:
    """A block of rows for each model: for each noise the pictures and below them how far they are from the teacher's.

    Columns are, for each number of evaluations, the solvers that are named and the best training-free one; then the teacher.

    Args:
        samples: file of samples of each cell, by MODEL/SOLVER/NFE.
        decode: of each model, states [n, ...] to images in [-1, 1].
    """
    models = [*decode]
    columns = len(nfe) * (len(solvers) + 1) + 1
    figure = plt.figure(figsize=(PICTURE * columns + 3.3, (PICTURE * 2 * NOISES + 0.55) * len(models)))
    grid = figure.add_gridspec(len(models), 2, width_ratios=[PICTURE * columns, 3.0], wspace=0.16, hspace=0.2)
    for row, model in enumerate(models):
        block = scores[scores.model == model]
        shown = _columns(samples, block, solvers, nfe, decode[model], model)
        _draw_pictures(figure, grid[row, 0].subgridspec(2 * NOISES, columns, wspace=0.04, hspace=0.04), shown, model)
        axis = figure.add_subplot(grid[row, 1])
        draw_curves(axis, block, "global_error", pale=True)
        axis.set(title="", xlabel="network evaluations (NFE)" if row == len(models) - 1 else "")
        axis.legend(loc="upper right", frameon=False, fontsize=5.5, handlelength=2.5)
    return figure


def _columns(
    samples: Mapping[str, str], scores: pd.DataFrame, solvers: Sequence[str], nfe: Sequence[int], decode: Decode, model: str
) -> list[Column]:
    shown, found = names([*scores.solver.drop_duplicates()], scores), []
    teacher = scores[scores.family == "teacher"].iloc[0]
    for n in nfe:
        best = best_training_free(scores, n)
        for solver in dict.fromkeys([*solvers[:1], best, *solvers[1:]]):
            found.append(Column(f"{shown[solver]}\n{n} evaluations", _images(samples[f"{model}/{solver}/{n}"], decode)))
    reference = _images(samples[f"{model}/teacher/{teacher.nfe}"], decode)
    return [*found, Column(f"teacher\n{teacher.nfe} evaluations", reference)]


def _images(path: str, decode: Decode) -> np.ndarray:
    first = next(name for name in split_sizes(path) if name.startswith("test~"))
    return decode(read_split(path, SAMPLES, first, NOISES).y_0)


def _draw_pictures(figure: Figure, grid: Any, shown: Sequence[Column], model: str) -> None:
    teacher = shown[-1].images
    errors = [np.abs(column.images - teacher).mean(axis=1) / 2 for column in shown]
    largest = float(np.quantile(np.stack(errors[:-1]), LARGEST)) or 1.0
    for at, (column, error) in enumerate(zip(shown, errors, strict=True)):
        for noise in range(NOISES):
            above, below = figure.add_subplot(grid[2 * noise, at]), figure.add_subplot(grid[2 * noise + 1, at])
            picture = np.moveaxis(np.clip(column.images[noise] / 2 + 0.5, 0, 1), 0, -1).squeeze()
            above.imshow(picture, cmap="gray", vmin=0, vmax=1)
            below.imshow(error[noise], cmap="inferno", vmin=0, vmax=largest)
            for axis in (above, below):
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
                axis.grid(False)
            if noise == 0:
                above.set_title(column.title, fontsize=5)
            if at == 0:
                above.set_ylabel(model if noise == 0 else "", fontsize=6)
                below.set_ylabel("error", fontsize=6)
            if column is shown[-1]:
                below.set_visible(False)
