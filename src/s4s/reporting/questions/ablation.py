"""Ablation: groups of solvers that differ in one thing, as the comparison's `groups` name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from s4s.files.plain_text import mathtext
from s4s.metrics.measures import COMPARED
from s4s.reporting.comparisons import interval
from s4s.reporting.figures import panels
from s4s.reporting.questions.markdown import Shown, with_names
from s4s.reporting.solver_names import names
from s4s.reporting.solver_styles import nth_style

Groups = Mapping[str, Sequence[str]]


def gather(measures: pd.DataFrame, scores: pd.DataFrame, groups: Groups) -> pd.DataFrame:
    """Rows of group, model, nfe, solver, metric, value, ratio, low, high, seconds; in the order of the groups.

    The ratio is to the first solver of the group: mean over sampling seeds of the ratio for the same initial noise, with its
    95 % interval (Student's t, in ln).

    Args:
        measures: metrics.csv. scores: scores.csv.
    """
    seconds = scores.set_index(["model", "solver", "nfe"]).fit_seconds
    rows = []
    for group, solvers in groups.items():
        block = measures[measures.solver.isin(solvers) & measures.metric.isin(COMPARED)]
        for (model, nfe, metric), cells in block.groupby(["model", "nfe", "metric"], sort=False):
            values = cells.pivot(index="seed", columns="solver", values="value")
            for solver in solvers:
                if solver in values and solvers[0] in values:
                    middle, low, high = np.exp(interval(np.log(values[solver] / values[solvers[0]]).to_numpy()))
                    cost = float(seconds[model, solver, nfe])
                    rows.append((group, model, nfe, solver, metric, values[solver].mean(), middle, low, high, cost))
    return pd.DataFrame(rows, columns=["group", "model", "nfe", "solver", "metric", "value", "ratio", "low", "high", "seconds"])


def tables(rows: pd.DataFrame) -> list[Shown]:
    """One a group: solvers down, models across."""
    caption = "Mean over sampling seeds; in brackets over the first row of the same measure, for the same initial noise."
    found = []
    for group, block in rows.groupby("group", sort=False):
        text = [f"{r.value:.4g} ({r.ratio:.2f}x)" for r in block.itertuples()]
        cells = block.assign(text=text, metric=[COMPARED[metric].name for metric in block.metric]).pivot_table(
            index=["metric", "nfe", "solver"], columns="model", values="text", aggfunc="first", sort=False
        )
        found.append(Shown(str(group), caption, with_names(cells.reset_index().fillna(""), rows)))
    return found


def figure(rows: pd.DataFrame, metric: str = "global_error") -> Figure:
    """Error over that of each group's first solver; a panel a group, a row a solver, a marker a model."""
    rows = rows[(rows.metric == metric) & (rows.nfe == rows.nfe.min())]
    groups, models = list(rows.group.drop_duplicates()), list(rows.model.drop_duplicates())
    longest = max(rows[rows.group == group].solver.nunique() for group in groups)
    shown = names(rows.solver.drop_duplicates())
    drawn, axes = panels(len(groups), 3, (3.0, 0.6 + 0.2 * longest), 0.8)
    for axis, group in zip(axes, groups, strict=True):
        block = rows[rows.group == group]
        solvers = list(block.solver.drop_duplicates())
        for i, model in enumerate(models):
            own = block[block.model == model]
            at = np.array([solvers.index(solver) for solver in own.solver]) + 0.12 * (i - (len(models) - 1) / 2)
            axis.errorbar(own.ratio, at, xerr=[own.ratio - own.low, own.high - own.ratio], fmt=nth_style(i)["marker"],
                          color=nth_style(i)["color"], markersize=3.5, linewidth=0.8, label=model)  # fmt: skip
        axis.axvline(1, color="0.4", linewidth=0.8)
        axis.set(xscale="log", title=mathtext(group))
        axis.set_yticks(range(len(solvers)), [shown[solver] for solver in solvers], fontsize=6)
        axis.invert_yaxis()
        low, high = axis.get_xlim()
        ticks = [t for t in ((0.5, 0.7, 1, 1.5, 2, 3, 5) if high / low < 10 else (0.1, 1, 10, 100)) if low <= t <= high]
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.minorticks_off()
    drawn.supxlabel(f"{COMPARED[metric].name} over that of the first row", fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside right upper", frameon=False)
    return drawn
