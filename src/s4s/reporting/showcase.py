"""What people see first: samples of the same noise beside the teacher's, maps of their errors, and error against NFE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from s4s.errors import S4SError
from s4s.files.rows import SAMPLES, Split, read_split, split_sizes
from s4s.reporting.figures import draw_curves, draw_image, draw_pixels
from s4s.reporting.solver_names import names
from s4s.reporting.tables import NOT_LEARNED

Decode = Callable[[np.ndarray], np.ndarray]
NOISES = 2  # rows of samples of a model
PICTURE, CURVES = 0.72, 3.2  # inches
BELOW = 0.3  # share of the range of the curves that is added below them for the legend
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
    Raises:
        S4SError: if there is no training-free solver, or samples are missing, no images, or not of the teacher's noise.
    """
    blocks = {model: scores[scores.model == model] for model in decode}
    shown = {model: _columns(samples, blocks[model], solvers, nfe, own, model) for model, own in decode.items()}
    columns = max(map(len, shown.values()))
    wide, tall = PICTURE * columns, PICTURE * 2 * NOISES
    width, height = wide + CURVES + 1.1, (tall + 0.5) * len(decode) + 0.25
    figure = plt.figure(figsize=(width, height))
    for row, (model, block) in enumerate(blocks.items()):
        top = 1 - ((tall + 0.5) * row + 0.35) / height
        bottom = top - tall / height
        place = {"left": 0.2 / width, "right": (0.2 + wide) / width, "bottom": bottom, "top": top}
        grid = figure.add_gridspec(2 * NOISES, columns, wspace=0.03, hspace=0.03, **place)
        _draw_pictures(figure, grid, shown[model])
        axis = figure.add_axes(((0.95 + wide) / width, bottom, CURVES / width, tall / height))
        draw_curves(axis, block, "global_error", pale=True)
        low, high = axis.get_ylim()
        axis.set_ylim(low * (low / high) ** BELOW, high)
        last = row == len(blocks) - 1
        axis.set(title=f"{model}: global error", ylabel="", xlabel="network evaluations (NFE)" if last else "")
        axis.legend(loc="lower left", frameon=False, fontsize=5, handlelength=2.5, ncols=2)
    return figure


def _columns(
    samples: Mapping[str, str], scores: pd.DataFrame, solvers: Sequence[str], nfe: Sequence[int], decode: Decode, model: str
) -> list[Column]:
    shown, steps = names([*scores.solver.drop_duplicates()], scores), scores[scores.family == "teacher"].iloc[0].nfe
    cells = []
    for n in nfe:
        best = best_training_free(scores, n)
        cells += [(solver, n) for solver in dict.fromkeys([*solvers[:1], best, *solvers[1:]])]
    found, seeds = [], None
    for solver, n in [("teacher", steps), *cells]:
        path = samples.get(f"{model}/{solver}/{n}")
        if path is None:
            raise S4SError(f"showcase: there are no samples of {solver} at NFE {n} on {model}")
        split = _first_rows(path)
        seeds = split.seeds if seeds is None else seeds
        if not np.array_equal(split.seeds, seeds):
            raise S4SError(f"{path}: not of the noise that the teacher's samples are of; make both again")
        images = decode(split.y_0)
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise S4SError(f"showcase: samples of {model}, {list(images.shape[1:])}, are no images; leave it out")
        found.append(Column(f"{shown[solver].partition(',')[0]}\nNFE {n}", images))
    return [*found[1:], found[0]]


def _first_rows(path: str) -> Split:
    """The samples from the first noises, of the first sampling seed."""
    first = next(name for name in split_sizes(path) if name.startswith("test~"))
    return read_split(path, SAMPLES, first, NOISES)


def _draw_pictures(figure: Figure, grid: Any, shown: Sequence[Column]) -> None:
    teacher = shown[-1].images
    errors = [np.abs(column.images - teacher).mean(axis=1) / 2 for column in shown]
    largest = float(np.quantile(np.stack(errors[:-1]), LARGEST)) or 1.0
    for at, (column, error) in enumerate(zip(shown, errors, strict=True)):
        for noise in range(NOISES):
            above = figure.add_subplot(grid[2 * noise, at])
            draw_image(above, column.images[noise])
            if noise == 0:
                above.set_title(column.title, fontsize=6, pad=2)
            if at == 0:
                above.set_ylabel("sample", fontsize=6)
            if column is not shown[-1]:
                below = figure.add_subplot(grid[2 * noise + 1, at])
                draw_pixels(below, error[noise], cmap="inferno", vmin=0, vmax=largest)
                below.set_ylabel("error" if at == 0 else "", fontsize=6)
