"""results/tables: the long-form scores.csv, and comparison tables drawn from it alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from s4s.errors import S4SError
from s4s.files.csv_file import read_csv
from s4s.files.plain_text import Written
from s4s.files.plain_text import latex as in_latex
from s4s.files.plain_text import markdown as in_markdown
from s4s.learning.fit_record import FitRecord
from s4s.metrics.measures import COMPARED, MEAN_AND_SPREAD, lacking, with_spread
from s4s.metrics.score_file import Score
from s4s.reporting.solver_names import names

COLUMNS = [
    "model", "solver", "family", "base", "schedule", "nfe", "evaluations", "n_samples", "n_seeds", "fid_mean", "fid_std",
    "features", "global_error", "global_error_std", "fit_evaluations", "fit_seconds",
]  # fmt: skip

# what score files have of each sampling seed; those after the first two where features of the real data are known
MEASURES = ["fid", "global_error", "kid", "precision", "recall", "coverage", "sliced_wasserstein"]

NOT_LEARNED = ("classical", "searched", "teacher")  # families that are training-free
NOT_FITTED = (*NOT_LEARNED, "published")  # families that no fit of the study has made


def gather(
    scores: Iterable[str], descriptions: Mapping[str, Mapping[str, Mapping[str, Any]]], fits: Mapping[str, str]
) -> pd.DataFrame:
    """One row a cell, in the order of `scores`.

    Args:
        scores: score files.
        descriptions: for each model and solver its family, its schedule by each base that it may have, and the evaluations of
            a search before it.
        fits: for each score file of a learned solver the file with the convergence curve and cost of its fit.
    """
    rows = []
    for path in scores:
        score = Score.load(path).model_dump()
        cost = FitRecord.load(fits[path]) if path in fits else FitRecord(evaluations=0, seconds=0.0, history=[])
        own = descriptions[score["model"]][score["solver"]]
        base = cost.base or next(iter(own["schedules"]))
        rows.append({
            **{key: score[key] for key in score.keys() & set(COLUMNS)},
            "family": own["family"],
            "base": base,
            "schedule": own["schedules"][base],
            "global_error": score["global_error_mean"],
            "fit_evaluations": cost.evaluations + own.get("search_evaluations", 0),
            "fit_seconds": round(cost.seconds, 2),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def by_seed(scores: Iterable[str]) -> pd.DataFrame:
    """Every measure of every cell and sampling seed, a row each: model, solver, nfe, metric, seed, value.

    Args:
        scores: score files.
    """
    rows = []
    for path in scores:
        score = Score.load(path).model_dump()
        for metric in MEASURES:
            for seed, value in zip(score["seeds"], score.get(metric, ()), strict=False):
                rows.append((score["model"], score["solver"], score["nfe"], metric, seed, value))
    return pd.DataFrame(rows, columns=["model", "solver", "nfe", "metric", "seed", "value"])


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read scores.csv.

    Raises:
        S4SError: if it is missing, was changed or lacks columns.
    """
    scores = read_csv(path, "the scores", dtype={"base": str, "schedule": str}, keep_default_na=True)
    if problem := lacking(scores.columns, COLUMNS):
        raise S4SError(f"{path}: not a table of scores that the workflow wrote: {problem}; run the workflow again")
    return scores


def comparison(scores: pd.DataFrame, metric: str, bold: Any) -> tuple[pd.DataFrame, str]:
    """Solvers x NFE of one model as text, mean and spread, and the teacher's own value.

    The best mean of each NFE, and any that prints the same, goes through `bold`. The teacher is not in the contest.
    """
    measure = COMPARED[metric]
    students = scores[scores.family != "teacher"]
    best = students.groupby("nfe")[measure.mean].min().round(measure.digits)

    def text(row: pd.Series) -> str:
        value = measure.text(row[measure.mean], row[measure.spread])
        return bold(value) if round(row[measure.mean], measure.digits) == best[row.nfe] else value

    cells = students.assign(text=students.apply(text, axis=1)).pivot(index="solver", columns="nfe", values="text")
    cells = cells.reindex(students.solver.drop_duplicates()).fillna("")
    teacher = scores[scores.family == "teacher"].iloc[0]
    return cells, f"{measure.text(teacher[measure.mean], teacher[measure.spread])} at NFE {teacher.nfe}"


def written_markdown(table: pd.DataFrame, **options: Any) -> str:
    """A table as Markdown, whatever its cells and the names of its rows and columns hold."""

    def text(value: Any) -> Any:
        return in_markdown(value) if isinstance(value, str) else value

    names = {"index": table.index.rename(text(table.index.name)).map(text), "columns": table.columns.map(text)}
    return str(pd.DataFrame(table.map(text).to_numpy(), **names).to_markdown(**options))


def named(cells: pd.DataFrame, scores: pd.DataFrame | None = None) -> pd.DataFrame:
    """A table by solvers' tokens as one by their display names; `scores` as for `names`."""
    return cells.rename(index=names(cells.index, scores))


def caption(scores: pd.DataFrame, metric: str, teacher: str) -> str:
    """What a table of one model shows, with its features, seeds and samples."""
    row = scores.iloc[0]
    inception = "" if row.features.startswith("Inception-v3") else " (not Inception)"
    what = {
        "fid": f"Fréchet distance to reference data; features: {row.features}{inception}; lower is better",
        "global_error": "Global error: mean over samples of the root-mean-square difference from the teacher's final sample "
        "for the same initial noise, in data units, lower is better",
    }[metric]
    noise = f"{MEAN_AND_SPREAD} {row.n_seeds} sampling seeds of {row.n_samples} samples."
    own = f" The teacher's own value is {teacher}." if metric == "fid" else ""
    return f"{what}. {noise}{own} Columns: network evaluations (NFE). Best in bold."


def markdown(scores: pd.DataFrame, metric: str) -> str:
    """The comparison table in Markdown, one block a model."""
    blocks = []
    for model, block in scores.groupby("model", sort=False):
        cells, teacher = comparison(block, metric, lambda value: Written(f"**{in_markdown(value)}**"))
        about, table = in_markdown(caption(block, metric, teacher)), written_markdown(named(cells, block))
        blocks.append(f"## {in_markdown(model)}\n\n{about}\n\n{table}\n")
    return "\n".join(blocks)


def latex(scores: pd.DataFrame, metric: str) -> str:
    """The comparison table in LaTeX, one table a model; its first line says which packages it needs."""
    blocks = [needed_packages("booktabs", "graphicx")]
    for model, block in scores.groupby("model", sort=False):
        cells, teacher = comparison(block, metric, lambda value: Written(rf"\textbf{{{in_latex(value)}}}"))
        cells = named(cells, block).map(lambda value: in_latex(value).replace(r" $\pm$ ", r" {\tiny$\pm$} "))
        cells.index = cells.index.map(in_latex)
        text = in_latex(f"{model}. {caption(block, metric, teacher)}")
        table = cells.rename_axis(index="solver", columns="NFE").to_latex(
            column_format="l" + "c" * len(cells.columns), caption=text, label=f"tab:{metric}-{model}", position="tbp"
        )
        blocks.append(table.replace(r"\begin{tabular}", r"\resizebox{\linewidth}{!}{\begin{tabular}").replace(
            r"\end{tabular}", r"\end{tabular}}"))  # fmt: skip
    return "\n".join(blocks)


def needed_packages(*names: str) -> str:
    """The first line of a file with a table in LaTeX: what the document that takes it in must load."""
    return rf"% needs \usepackage{{{','.join(names)}}}, \usepackage[utf8]{{inputenc}} and \usepackage[T1]{{fontenc}}"


SPEED_UP_CAPTION = (
    "Evaluations that the best training-free solver needs for the global error of a learned one at the column's NFE, "
    "interpolated, no less than the smallest that is compared; in brackets the NFE speed-up, how many times as many these are, "
    "and its 95 % confidence interval over sampling seeds."
)


def speed_up_cells(saved: pd.DataFrame) -> pd.DataFrame:
    """NFE speed-up on one model, solvers x NFE as text: what training-free solvers need, and how many times as many."""
    text = [
        f"{row.needed:.1f} ({row.ratio:.1f}x; {row.ratio_low:.1f} to {row.ratio_high:.1f})" if row.reached
        else f"above {row.needed:.0f} ({row.ratio:.1f}x)" for row in saved.itertuples()
    ]  # fmt: skip
    cells = saved.assign(text=text).pivot(index="solver", columns="nfe", values="text")
    return cells.reindex(saved.solver.drop_duplicates()).fillna("")


def measures_markdown(measures: pd.DataFrame) -> str:
    """Every measure of every solver, mean and standard deviation over sampling seeds; a table a model and NFE.

    Args:
        measures: metrics.csv.
    """
    found = measures.groupby(["model", "nfe", "solver", "metric"], sort=False).value.agg(["mean", "std"])
    text = pd.Series([*map(with_spread, found["mean"], found["std"])], found.index)
    columns = [metric for metric in MEASURES if metric in {*measures.metric}]
    blocks = []
    for (model, nfe), block in text.groupby(["model", "nfe"], sort=False):
        cells = block.droplevel(["model", "nfe"]).unstack("metric")[columns].fillna("")
        order = found.loc[(model, nfe)]["mean"].unstack("metric").sort_values("global_error").index
        blocks.append(f"## {in_markdown(model)}, NFE {nfe}\n\n{written_markdown(named(cells.loc[order]))}\n")
    caption = (
        f"{MEAN_AND_SPREAD} sampling seeds, the smallest global error first. Fréchet distance (fid), global error, "
        "kernel distance (kid) and sliced Wasserstein distance: lower is better; precision, recall and coverage: higher."
    )
    return "\n".join([caption + "\n", *blocks])


def saved_markdown(saved: pd.DataFrame) -> str:
    """NFE speed-up, one block a model."""
    return "\n".join(
        f"## {in_markdown(model)}\n\n{SPEED_UP_CAPTION}\n\n{written_markdown(named(speed_up_cells(block)))}\n"
        for model, block in saved.groupby("model", sort=False)
    )
