"""Figures of what scores say: NFE speed-up, and ranks over all cells. Each function returns one."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from s4s.reporting.comparisons import Ranks
from s4s.reporting.figures import panels
from s4s.reporting.solver_names import names
from s4s.reporting.solver_styles import learned_style

GOAL = 2  # NFE speed-up


def evaluations_saved(saved: pd.DataFrame) -> Figure:
    """NFE speed-up against the learned solver's own NFE; a panel a model.

    Bars are 95 % confidence intervals over sampling seeds. Hollow markers are lower bounds: no compared NFE was enough.

    Args:
        saved: what `nfe_saved` gives.
    """
    models, solvers = saved.model.drop_duplicates(), saved.solver.drop_duplicates()
    shown = names(solvers)
    figure, axes = panels(len(models), 3, (2.3, 2.1), 1.4, sharey=True)
    for axis, model in zip(axes, models, strict=True):
        axis.axhline(GOAL, color="0.4", linestyle=":", linewidth=1)
        axis.axhline(1, color="0.4", linewidth=0.8)
        for solver in solvers:
            cells = saved[(saved.model == model) & (saved.solver == solver)].sort_values("nfe")
            if cells.empty:
                continue
            style = learned_style(solver)
            spread = [cells.ratio - cells.ratio_low, cells.ratio_high - cells.ratio]
            axis.errorbar(
                cells.nfe, cells.ratio, spread, **style, markersize=4, linewidth=1.2, capsize=1.5, label=shown[solver]
            )
            bounds = cells[~cells.reached.astype(bool)]
            axis.plot(
                bounds.nfe, bounds.ratio, style["marker"], color=style["color"], markerfacecolor="white", markersize=4, zorder=5
            )
        axis.set(title=model, yscale="log")
        axis.set_xticks(sorted(saved.nfe.unique()))
        axis.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
        axis.minorticks_off()
    figure.supxlabel("network evaluations of the learned solver (NFE)", fontsize=8)
    figure.supylabel("NFE speed-up", fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def critical_difference(found: Ranks | None) -> Figure:
    """Average ranks on a line, the best on the left; bars join what Nemenyi's test does not separate (Demšar 2006)."""
    if found is None:
        figure = plt.figure(figsize=(4, 0.6))
        figure.text(0.5, 0.5, "fewer than three solvers that are in two cells or more: no ranks", ha="center", va="center")
        return figure
    average = found.average
    count = len(average)
    half = -(-count // 2)
    figure, axis = plt.subplots(figsize=(6.8, 0.9 + 0.17 * half + 0.1 * count))
    low, high = 1, count
    shown = names(average.index)
    groups = _groups(average.to_list(), found.critical)
    top, step = 0.0, 0.28
    bottom = -0.3 * (len(groups) + 1)
    axis.set(xlim=(low - 0.32 * count, high + 0.32 * count), ylim=(bottom - step * (half + 1), 1.5))
    axis.axis("off")
    axis.hlines(top, low, high, color="black", linewidth=1)
    for rank in range(low, high + 1):
        axis.vlines(rank, top, top + 0.12, color="black", linewidth=0.8)
        axis.text(rank, top + 0.2, str(rank), ha="center", va="bottom", fontsize=6)
    for i, (solver, rank) in enumerate(average.items()):
        left = i < half
        y = bottom - step * (i if left else count - 1 - i) - 0.1
        end = low - 0.3 if left else high + 0.3
        axis.plot([rank, rank, end], [top, y, y], color="black", linewidth=0.6)
        axis.text(
            end - 0.1 if left else end + 0.1,
            y,
            f"{shown[str(solver)]} ({rank:.1f})",
            ha="right" if left else "left",
            va="center",
            fontsize=6,
        )
    for i, (first, last) in enumerate(groups):
        axis.hlines(-0.3 * (i + 1), first - 0.05, last + 0.05, color="#D55E00", linewidth=2.5)
    axis.hlines(1.2, low, min(low + found.critical, high), color="#D55E00", linewidth=2.5)
    axis.text(low, 1.3, f"critical difference {found.critical:.2f}, {found.cells} cells", ha="left", va="bottom", fontsize=6)
    return figure


def _groups(average: list[float], critical: float) -> list[tuple[float, float]]:
    """The longest runs of neighbouring ranks within the critical difference, each as its first and last."""
    found: list[tuple[float, float]] = []
    for i, rank in enumerate(average):
        last = max(other for other in average[i:] if other - rank < critical)
        if last > rank and not (found and found[-1][1] >= last):
            found.append((rank, last))
    return found
