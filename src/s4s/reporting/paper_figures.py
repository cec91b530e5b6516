"""Figures at the width of a paper's column, as vector PDF with TrueType fonts of 6.5 points or more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text

from s4s.files.atomic import atomic_path
from s4s.files.plain_text import mathtext
from s4s.reporting.figures import draw_curves
from s4s.reporting.solver_names import names_of_tableaux
from s4s.reporting.solver_styles import learned_style, plain_style
from s4s.reporting.tables import NOT_LEARNED
from s4s.tableau import Tableau

COLUMN, PAGE = 3.25, 6.75  # inches
SMALLEST = 6.5  # points


def save_at_width(figure: Figure, path: str | Path, width: float) -> None:
    """Write a figure as PDF of exactly this width, in inches, and a height in proportion."""
    now, height = figure.get_size_inches()
    figure.set_size_inches(width, height * width / now)
    for text in figure.findobj(Text):
        text.set_fontsize(max(SMALLEST, text.get_fontsize()))
    with plt.rc_context({"savefig.bbox": None}), atomic_path(path) as partial:
        figure.savefig(partial, format="pdf", metadata={"CreationDate": None})
    plt.close(figure)


def curves(scores: pd.DataFrame, metric: str) -> Figure:
    """One model's Fréchet distance or global error against NFE, a column wide, the legend below."""
    names = scores[~scores.family.isin(NOT_LEARNED)].solver.nunique()
    figure, axis = plt.subplots(figsize=(COLUMN, 2.5 + 0.075 * names), layout="constrained")
    draw_curves(axis, scores, metric, pale=True)
    label = axis.get_ylabel().replace("(RMS difference from the teacher, data units)", "(data units)")
    axis.set_ylabel(label.replace(" (", "\n("))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, handlelength=2.4, columnspacing=1)
    return figure


def schedules(tableaux: dict[str, str]) -> Figure:
    """Noise levels against the step: coloured curves for learned and published solvers, grey ones for base solvers.

    Args:
        tableaux: for each solver's token its file; all of one model and one NFE.
    """
    figure, axis = plt.subplots(figsize=(COLUMN, 2.6), layout="constrained")
    nfe = 1
    loaded = {token: Tableau.load(path) for token, path in tableaux.items()}
    shown = {token: mathtext(name) for token, name in names_of_tableaux(loaded).items()}
    for token, tableau in loaded.items():
        nfe, levels, conditioning = tableau.nfe, tableau.levels.numpy(), tableau.eval_levels.numpy()
        seen = levels > 0
        method = token.removesuffix(f"-{tableau.meta.get('schedule')}")
        style = learned_style(token) if {"fit", "published"} & {*tableau.meta} else {**plain_style(method), "linestyle": "--"}
        axis.plot(np.arange(nfe + 1)[seen], levels[seen], **style, markersize=3.5, linewidth=1.2, label=shown[token])
        if not np.allclose(conditioning, levels[:-1], rtol=1e-6):
            axis.plot(range(nfe), conditioning, "x", color=style["color"], markersize=4)
    axis.set(xlabel="node", ylabel="noise level s (data units)", yscale="log", title=f"NFE {nfe}")
    axis.set_xticks(range(nfe + 1))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, handlelength=2.4, columnspacing=1)
    return figure
