"""How far from the teacher? Fréchet distances of solvers less the teacher's, by a bootstrap over shared initial noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from s4s.metrics.fid import frechet_distance, moments
from s4s.metrics.load import load_features
from s4s.metrics.score import statistics_of
from s4s.reporting.figures import panels
from s4s.reporting.questions.job import Job
from s4s.reporting.questions.markdown import Shown
from s4s.reporting.solver_names import names
from s4s.reporting.solver_styles import nth_style
from s4s.reporting.tables import NOT_LEARNED

DRAWS = 200
COLUMNS = ["model", "solver", "nfe", "fid", "teacher_fid", "features", "difference", "low", "high", "p_value"]


def answer(job: Job) -> pd.DataFrame:
    """Rows of model, solver, nfe, fid, teacher_fid, features, difference, low, high, p_value.

    FID is over the samples of all sampling seeds together. The interval is the basic bootstrap's at 95 %: initial noises are
    drawn with replacement, the same for solver and teacher. The p-value is that of no difference, two-sided.
    """
    features = load_features(job.model, job.denoiser.device, job.reference)
    reference = features.reference()

    def rows_of(path: str) -> np.ndarray:
        found = statistics_of(job.denoiser, features, path, job.pairs)
        kept = [split.features.rows for split in found.values()]
        return np.concatenate([rows for rows in kept if rows is not None])

    teacher = rows_of(job.teacher)
    generator = np.random.default_rng(0)
    draws = [generator.integers(len(teacher), size=len(teacher)) for _ in range(DRAWS)]

    def distance(rows: np.ndarray) -> float:
        return frechet_distance(moments(reference.directions(rows)), reference)

    own, own_draws = distance(teacher), np.array([distance(teacher[draw]) for draw in draws])
    found = []
    for key, path in job.own.items():
        rows = rows_of(path)
        value = distance(rows)
        differences = np.array([distance(rows[draw]) for draw in draws]) - own_draws
        difference = value - own
        low, high = 2 * difference - np.quantile(differences, [0.975, 0.025])
        centred = np.abs(differences - differences.mean())
        p_value = (1 + int((centred >= abs(difference)).sum())) / (1 + DRAWS)
        found.append((*key, value, own, features.name, difference, low, high, p_value))
    return pd.DataFrame(found, columns=COLUMNS)


def best(rows: pd.DataFrame) -> pd.DataFrame:
    """The training-free and the learned solver of the smallest FID of each model and NFE; published ones are neither."""
    rows = rows[rows.family != "published"]
    kinds = rows.assign(kind=np.where(rows.family.isin(NOT_LEARNED), "training-free", "learned"))
    return kinds.loc[kinds.groupby(["model", "kind", "nfe"], sort=False).fid.idxmin()].sort_values(["kind", "nfe"])


def tables(rows: pd.DataFrame) -> list[Shown]:
    """One a model: the best training-free and the best learned solver at each NFE, and their distance from the teacher."""
    found, shown = [], names(rows.solver.drop_duplicates(), rows)
    for model, block in best(rows).groupby("model", sort=False):
        text = [
            f"{r.difference:+.3f} ({r.low:+.3f} to {r.high:+.3f}; p {r.p_value:.3f}) {shown[r.solver]}"
            for r in block.itertuples()
        ]
        table = block.assign(text=text).pivot(index="nfe", columns="kind", values="text").fillna("").reset_index()
        first = block.iloc[0]
        caption = (
            f"Fréchet distance (features: {first.features}) less the teacher's own, {first.teacher_fid:.3f}, over all sampling "
            f"seeds together; 95 % interval and p-value of a bootstrap over the shared initial noises ({DRAWS} draws)."
        )
        found.append(Shown(str(model), caption, table))
    return found


def figure(rows: pd.DataFrame) -> Figure:
    """FID against NFE of the best training-free solver and the best learned one, and the teacher's; a panel a model."""
    shown = best(rows)
    models = list(rows.model.drop_duplicates())
    drawn, axes = panels(len(models), 3, (2.3, 2.0), 1.0)
    for axis, model in zip(axes, models, strict=True):
        block = shown[shown.model == model]
        for i, (kind, line) in enumerate(block.groupby("kind", sort=False)):
            spread = [line.difference - line.low, line.high - line.difference]
            axis.errorbar(line.nfe, line.fid, np.clip(spread, 0, None), **nth_style(i), markersize=3.5,
                          linewidth=1.2, capsize=1.5, label=f"best, {kind}")  # fmt: skip
        axis.axhline(block.teacher_fid.iloc[0], color="black", linestyle=":", linewidth=1, label="teacher")
        axis.set(title=model, yscale="log", xscale="log")
        axis.set_xticks(sorted(block.nfe.unique()), [str(n) for n in sorted(block.nfe.unique())], fontsize=6)
        axis.minorticks_off()
    drawn.supxlabel("network evaluations (NFE)", fontsize=8)
    drawn.supylabel("Fréchet distance (features of each model)", fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside right upper", frameon=False)
    return drawn
