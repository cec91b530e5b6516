"""The figures; each function returns one. Those of scores read scores.csv alone; none needs a model or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from s4s.files.atomic import atomic_path
from s4s.files.csv_file import read_csv
from s4s.files.plain_text import mathtext
from s4s.files.rows import read_split, split_sizes
from s4s.learning.fit_record import FitRecord
from s4s.metrics.measures import COMPARED
from s4s.reporting.solver_names import method_of_token, name_of_tableau, names, names_of_tableaux
from s4s.reporting.solver_styles import learned_style, plain_style
from s4s.reporting.tables import NOT_LEARNED
from s4s.tableau import Tableau

CONDITIONING, POINTS = "#CC6677", "#332288"  # conditioning levels; points of samples
# of each training-free solver the best schedule at each NFE is shown, by family
BEST_SCHEDULES = {"classical": ("best fixed schedule", "--"), "searched": ("best optimised schedule", "-.")}
SHOWN, COLUMNS = 64, 12  # samples in a figure: points of a plane, images in a row
UNIT = {"fid": "{features}", "global_error": "RMS difference from the teacher, data units"}  # of a measure, at its axis

plt.rcParams.update({
    "font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "legend.fontsize": 7, "figure.dpi": 150,
    "savefig.bbox": "tight", "pdf.fonttype": 42, "axes.grid": True, "grid.alpha": 0.3, "grid.linewidth": 0.5,
    "axes.spines.top": False, "axes.spines.right": False,
})  # fmt: skip


def save(figure: Figure, *paths: str | Path) -> None:
    """Write PDF or PNG files without a date, so that the same figure is the same file."""
    undated = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}
    for path in paths:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, metadata=undated[Path(path).suffix], format=Path(path).suffix[1:])
    plt.close(figure)


def panels(
    count: int, columns: int, size: tuple[float, float], beside: float = 0.0, **options: Any
) -> tuple[Figure, list[Any]]:
    """A figure of `count` axes in at most `columns` columns, `size` inches each and `beside` inches of room next to them."""
    columns = min(columns, count)
    rows = -(-count // columns)
    options = {"layout": "constrained", **options}
    figure, axes = plt.subplots(rows, columns, figsize=(size[0] * columns + beside, size[1] * rows), squeeze=False, **options)
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, [*axes.flat[:count]]


def draw_curves(axis: Any, block: pd.DataFrame, metric: str, pale: bool = False) -> None:
    """The curves of one model against NFE.

    Args:
        metric: fid or global_error.
        pale: of the solvers on fixed schedules, and of those on optimised ones, only the one with the smallest geometric mean
            is named; others are light grey.
    """
    name, mean, spread, _ = COMPARED[metric]
    for family, (schedule, line) in BEST_SCHEDULES.items():
        rows = block[block.family == family].copy()
        rows["method"] = [row.solver.removesuffix(f"-{row.schedule}") for row in rows.itertuples()]
        best = rows.loc[rows.groupby(["method", "nfe"])[mean].idxmin()].sort_values("nfe")
        overall = _overall(best, mean)
        for method, rows in best.groupby("method", sort=False):
            named = not pale or method == overall.idxmin()
            label = f"{method_of_token(str(method))}, {schedule}" if named else None
            pale_style = {} if named else {"color": "0.82", "marker": "", "zorder": 1}
            style = {**plain_style(method), **pale_style, "linestyle": line}
            axis.errorbar(
                rows.nfe, rows[mean], rows[spread] if named else None, label=label,
                **style, markersize=3, linewidth=0.9, capsize=1.5,
            )  # fmt: skip
    learned = block[~block.family.isin(NOT_LEARNED)]
    shown = names(learned.solver.drop_duplicates(), learned)
    for solver, rows in learned.groupby("solver", sort=False):
        rows = rows.sort_values("nfe")
        axis.errorbar(
            rows.nfe,
            rows[mean],
            rows[spread],
            label=shown[solver],
            **learned_style(solver),
            markersize=4,
            linewidth=1.5,
            capsize=2,
        )
    teacher = block[block.family == "teacher"].iloc[0]
    if metric == "fid":
        axis.axhline(teacher[mean], color="black", linestyle=":", linewidth=1, label=f"teacher (NFE {teacher.nfe})")
    label = f"{name} ({UNIT[metric].format(features=mathtext(teacher.features.split(',')[0]))})"
    axis.set(title=teacher.model, xlabel="network evaluations (NFE)", ylabel=label, yscale="log")
    axis.set_xticks(sorted(block[block.family != "teacher"].nfe.unique()))


def _overall(best: pd.DataFrame, column: str) -> pd.Series:
    """Geometric mean of each method over its NFE, infinite where it lacks some."""
    logs = np.log(best.pivot(index="method", columns="nfe", values=column))
    return logs.mean(axis=1, skipna=False).fillna(np.inf)


def score_against_nfe(scores: pd.DataFrame, metric: str) -> Figure:
    """Fréchet distance or global error against NFE: learned solvers, and training-free ones on their best schedules.

    Error bars are the standard deviation over sampling seeds. The dotted line is the teacher's own value.
    """
    models = scores.model.drop_duplicates()
    several = len(models) > 1
    figure, axes = panels(len(models), 2, (4.6, 3.4), 2.2 * several, layout="constrained" if several else None)
    for axis, model in zip(axes, models, strict=True):
        block = scores[scores.model == model]
        draw_curves(axis, block, metric)
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, handlelength=3)
    return figure


def teacher_convergence(paths: Sequence[str], scores: pd.DataFrame) -> Figure:
    """The teacher's own error against its steps, beside the smallest error of any compared solver."""
    figure, axis = plt.subplots(figsize=(3.6, 2.8))
    for path in paths:
        rows = read_csv(path)
        model = rows.model.iloc[0]
        (line,) = axis.loglog(rows.steps, rows.global_error, marker="o", markersize=3, label=f"teacher's solver, {model}")
        students = scores[(scores.model == model) & (scores.family != "teacher")]
        best = students.global_error.min()
        axis.axhline(best, color=line.get_color(), linestyle="--", label=f"smallest error of a student, {model}")
    steps = scores[scores.family == "teacher"].nfe.iloc[0]
    axis.axvline(steps, color="black", linestyle=":", label=f"chosen: {steps} steps")
    axis.set(xlabel="steps of the teacher's solver", ylabel="global error against 4x the steps (data units)")
    axis.legend(frameon=False)
    return figure


def fit_curves(histories: dict[str, str]) -> Figure:
    """Convergence curves: validation loss against the fit's denoiser evaluations; one panel an NFE, one line a learned solver.

    Args:
        histories: for each "model/solver/nfe" the file of its fit.
    """
    keys = [tuple(key.split("/")) for key in histories]
    shown = sorted({(model, int(nfe)) for model, _, nfe in keys})
    solvers = list(dict.fromkeys(solver for _, solver, _ in keys))
    shown_names = names(solvers)
    figure, axes = panels(len(shown), 3, (2.4, 2.0), 1)
    for axis, (model, nfe) in zip(axes, shown, strict=True):
        for solver in solvers:
            if (path := histories.get(f"{model}/{solver}/{nfe}")) is None:
                continue
            curve = pd.DataFrame(FitRecord.load(path).history)
            axis.plot(curve.evaluations / 1000, curve.val, **{**learned_style(solver), "marker": ""}, label=shown_names[solver])
        axis.set(title=f"{model}, NFE {nfe}", xlabel="denoiser evaluations (thousands)", ylabel="validation loss", yscale="log")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def levels_and_coefficients(tableaux: dict[str, str]) -> Figure:
    """Left: each solver's noise levels. Right: what its output is made of, the reduced weights b of each evaluation.

    Args:
        tableaux: for each solver's token its file; all of one model and one NFE.
    """
    loaded = {token: Tableau.load(path) for token, path in tableaux.items()}
    solvers = [*loaded.values()]
    nfe = solvers[0].nfe
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 0.42 * len(solvers) + 1.2), sharey=True, width_ratios=[3, 2])
    weights = np.stack([tableau.reduced().b[-1].numpy() for tableau in solvers])
    limit = np.abs(weights).max()
    image = right.imshow(weights, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for row, tableau in enumerate(solvers):
        conditioning = tableau.eval_levels.numpy()
        left.plot(tableau.levels.numpy(), [row] * (nfe + 1), "|", color="black", markersize=10)
        left.plot(conditioning, [row] * nfe, "o", color=CONDITIONING, markersize=3)
        for column in range(nfe):
            value = weights[row, column]
            colour = "white" if abs(value) > 0.6 * limit else "black"
            right.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
    left.set(
        xscale="log", xlabel="noise level s (bars: schedule; dots: conditioning levels)", title=f"noise schedules, NFE {nfe}"
    )
    left.invert_xaxis()
    left.set_yticks(range(len(solvers)), [*map(mathtext, names_of_tableaux(loaded).values())])
    right.set(xlabel="evaluation", title="weight of each evaluation in the output")
    right.set_xticks(range(nfe))
    right.grid(False)
    figure.colorbar(image, ax=right, label="weight b")
    return figure


def coefficients(tableaux: dict[str, str], columns: int = 4) -> Figure:
    """Each solver's reduced form as a heat map: what every node is made of, a row a node, y_0 (by s_n/s_0) before the outputs.

    Args:
        tableaux: for each solver's token its file; all of one model and one NFE.
    """
    loaded = {token: Tableau.load(path) for token, path in tableaux.items()}
    shown = {token: mathtext(name) for token, name in names_of_tableaux(loaded).items()}
    solvers = {shown[token]: tableau for token, tableau in loaded.items()}
    figure, axes = panels(len(solvers), columns, (1.9, 1.9), 0.6)
    maps = {name: _coefficients(tableau) for name, tableau in solvers.items()}
    limit = max(np.nanmax(np.abs(values)) for values in maps.values())
    for axis, (name, values) in zip(axes, maps.items(), strict=True):
        image = _heat_map(axis, values, limit)
        axis.set_title(name, fontsize=7)
    figure.colorbar(image, ax=axes, label="weight ($y_0$: over $s_n/s_0$)", shrink=0.8)
    return figure


def _coefficients(tableau: Tableau) -> np.ndarray:
    """What node n + 1 is made of: the weight of y_0, over s_{n+1}/s_0, and those of the outputs; [N, N + 1], NaN above."""
    a, b = (table[1:].numpy() for table in tableau.reduced())
    ratios = (tableau.levels[1:] / tableau.levels[0]).numpy()
    initial = np.divide(a, ratios, out=a.copy(), where=ratios > 0)
    return np.concatenate([initial[:, None], np.where(np.tril(np.ones_like(b)) > 0, b, np.nan)], axis=1)


def _heat_map(axis: Any, values: np.ndarray, limit: float) -> Any:
    image = axis.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    nfe = len(values)
    axis.set_xticks(range(nfe + 1), ["$y_0$", *(f"$D_{{{j}}}$" for j in range(nfe))], fontsize=6)
    axis.set_yticks(range(nfe), [f"$y_{{{n + 1}}}$" for n in range(nfe)], fontsize=6)
    axis.grid(False)
    return image


def one_solver(tableau: Tableau) -> Figure:
    """One solver. Left: its noise schedule and conditioning levels. Right: its reduced form, as in `coefficients`."""
    nfe, values = tableau.nfe, _coefficients(tableau)
    side = max(2.2, 0.34 * nfe)
    figure, (left, right) = plt.subplots(1, 2, figsize=(side + 3.6, side + 0.6), layout="constrained", width_ratios=[2.4, side])
    seen = tableau.levels > 0
    left.plot(np.arange(nfe + 1)[seen], tableau.levels[seen], "_", color="black", markersize=10, label="schedule")
    left.plot(range(nfe), tableau.eval_levels, "o", color=CONDITIONING, markersize=3.5, label="conditioning levels")
    left.set(yscale="log", xlabel="node n", ylabel="noise level s (data units)")
    left.set_xticks(range(nfe + 1))
    left.legend(frameon=False)
    limit = np.nanmax(np.abs(values))
    image = _heat_map(right, values, limit)
    for (row, column), value in np.ndenumerate(values):
        if nfe <= 10 and not np.isnan(value):
            colour = "white" if abs(value) > 0.6 * limit else "black"
            right.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=5, color=colour)
    figure.colorbar(image, ax=right, label="weight ($y_0$: over $s_n/s_0$)")
    title = [str(tableau.meta.get("model", "")), name_of_tableau(tableau), f"NFE {nfe}"]
    figure.suptitle(mathtext(", ".join(filter(None, title))))
    return figure


def samples_of_solvers(samples: dict[str, str], decode: Callable[[np.ndarray], np.ndarray] | None = None) -> Figure:
    """The first samples of each solver, from the same initial noise: images as a grid, vectors as points of a plane.

    Args:
        samples: for each solver's token a file of samples, the teacher's first; all of one model.
        decode: states [n, ...] to images in [-1, 1] or data; by default states are these themselves.
    """
    first = next(iter(split_sizes(next(iter(samples.values())))))
    shown = names(samples)
    states = {shown[token]: read_split(path, "samples", first, SHOWN).y_0 for token, path in samples.items()}
    if states[next(iter(states))].ndim == 2:
        return sample_plane(states)
    few = {name: rows[:COLUMNS] for name, rows in states.items()}
    return sample_grid({name: decode(rows) if decode else rows for name, rows in few.items()})


def sample_grid(images: dict[str, np.ndarray]) -> Figure:
    """Images [n, 1 or 3, H, W] in [-1, 1] of each solver: the same noise down a column, a solver a row."""
    columns = len(images[next(iter(images))])
    figure, axes = plt.subplots(len(images), columns, figsize=(0.42 * columns + 1.8, 0.44 * len(images)), squeeze=False)
    for row, (name, rows) in zip(axes, images.items(), strict=True):
        for axis, image in zip(row, rows, strict=True):
            draw_image(axis, image)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    room = 0.08 * max(map(len, images)) / figure.get_figwidth()  # for the names
    figure.subplots_adjust(left=room, right=0.995, bottom=0.01, top=0.99, wspace=0.05, hspace=0.05)
    return figure


def draw_image(axis: Any, image: np.ndarray) -> None:
    """An image [1 or 3, H, W] in [-1, 1]."""
    draw_pixels(axis, np.moveaxis(np.clip(image / 2 + 0.5, 0, 1), 0, -1).squeeze(), cmap="gray", vmin=0, vmax=1)


def draw_pixels(axis: Any, pixels: np.ndarray, **options: Any) -> None:
    """Pixels [H, W] or [H, W, 3] without a frame, with options of `imshow`."""
    axis.imshow(pixels, **options)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.grid(False)


def sample_plane(states: dict[str, np.ndarray]) -> Figure:
    """The first two components of vectors [n, d]; in each panel a solver's points, and lines from where the teacher's lie.

    Args:
        states: of each solver, the teacher's first.
    """
    teacher, *solvers = states
    figure, axes = panels(len(solvers), 4, (1.9, 1.9), sharex=True, sharey=True)
    x = states[teacher]
    for axis, name in zip(axes, solvers, strict=True):
        y = states[name]
        axis.plot([x[:, 0], y[:, 0]], [x[:, 1], y[:, 1]], color="0.6", linewidth=0.5)
        axis.plot(x[:, 0], x[:, 1], "o", color="0.6", markersize=2)
        axis.plot(y[:, 0], y[:, 1], "o", color=POINTS, markersize=2)
        axis.set_title(name, fontsize=7)
    figure.supxlabel("component 1 (data units)", fontsize=8)
    figure.supylabel("component 2 (data units)", fontsize=8)
    axes[0].legend(handles=axes[0].lines[-2:], labels=[teacher, "solver"], frameon=False, markerscale=2)
    return figure
