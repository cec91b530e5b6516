"""What scores say: NFE speed-up of learned solvers, ranks over cells, paired tests. Reads the long-form tables alone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy  # whose stats take a second to import, where they are used

from s4s.files.csv_file import read_csv
from s4s.reporting.tables import NOT_FITTED, NOT_LEARNED, read_scores

CONFIDENCE = 0.95


def read_measures(metrics: str | Path, scores: str | Path) -> pd.DataFrame:
    """metrics.csv `with_families`, from the two files of a comparison."""
    return with_families(read_csv(metrics, "these measures"), read_scores(scores))


def with_families(metrics: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """metrics.csv with the family of each solver, from scores.csv."""
    return metrics.merge(scores[["model", "solver", "nfe", "family"]], on=["model", "solver", "nfe"], validate="many_to_one")


def needed_evaluations(nfe: np.ndarray, errors: np.ndarray, target: float) -> float:
    """Evaluations at which a curve of errors first comes down to a target, with ln error linear in ln NFE between its points.

    Returns:
        The first NFE if the error is below the target there; infinity if it never is.
    """
    below = np.flatnonzero(errors <= target)
    if not len(below):
        return np.inf
    i = int(below[0])
    if i == 0:
        return float(nfe[0])
    x, y = np.log(nfe[i - 1 : i + 1]), np.log(errors[i - 1 : i + 1])
    return float(np.exp(x[0] + (np.log(target) - y[0]) * (x[1] - x[0]) / (y[1] - y[0])))


def nfe_saved(table: pd.DataFrame, metric: str = "global_error") -> pd.DataFrame:
    """How many evaluations the best training-free solver needs to match each learned or published one, and the NFE speed-up.

    "Best" is the smallest mean over seeds at each NFE of any training-free solver, on any schedule; learned solvers are
    not chosen, each has its own rows. What is needed is found for each sampling seed on its own, so the interval is that of
    their mean (Student's t, in ln NFE). Where some seed's error is not reached by any NFE in the table, the row says so by
    `reached`, and the largest NFE stands for what that seed needs: a lower bound. Likewise the smallest NFE is an upper bound.

    Args:
        table: what `with_families` gives.
    Returns:
        Rows of model, solver, nfe, needed, low, high, ratio, ratio_low, ratio_high, reached; none of a model without both.
    """
    rows = []
    for model, block in table[table.metric == metric].groupby("model", sort=False):
        students = block[block.family != "teacher"]
        plain = students[students.family.isin(NOT_LEARNED)]
        if plain.empty:
            continue
        means = plain.groupby(["solver", "nfe"]).value.mean()
        best = means.groupby("nfe").idxmin()
        curve = pd.concat([plain[(plain.solver == solver) & (plain.nfe == nfe)] for solver, nfe in best])
        by_seed = curve.pivot(index="nfe", columns="seed", values="value").sort_index()
        learned = students[~students.family.isin(NOT_LEARNED)]
        for (solver, nfe), cell in learned.groupby(["solver", "nfe"], sort=False):
            tried = by_seed.index.to_numpy(dtype=float)
            needed = np.array([needed_evaluations(tried, by_seed[row.seed].to_numpy(), row.value) for row in cell.itertuples()])
            reached = bool(np.isfinite(needed).all())
            mean, low, high = interval(np.log(np.where(np.isfinite(needed), needed, tried[-1])))
            rows.append((model, solver, nfe, *np.exp([mean, low, high]), *(np.exp([mean, low, high]) / nfe), reached))
    columns = ["model", "solver", "nfe", "needed", "low", "high", "ratio", "ratio_low", "ratio_high", "reached"]
    return pd.DataFrame(rows, columns=columns)


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and confidence interval by Student's t; the mean three times if there is one value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, mean, mean
    half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * scipy.stats.sem(values))
    return mean, mean - half, mean + half


class Ranks(NamedTuple):
    """Average ranks of solvers over cells, 1 for the best.

    Attributes:
        average: by solver, the best first.
        cells: number of cells (model, NFE).
        p_value: Friedman's test that all are alike.
        critical: difference of average ranks from which on two differ significantly (Nemenyi's test at 5 %).
        p_next: by solver but the last, Wilcoxon's signed-rank test over cells against the next, of ln value; Holm's correction.
    """

    average: pd.Series
    cells: int
    p_value: float
    critical: float
    p_next: pd.Series

    def table(self) -> pd.DataFrame:
        """Rows of solver, average_rank, p_next (no number for the last)."""
        columns = {"average_rank": self.average, "p_next": self.p_next}
        return pd.DataFrame(columns, self.average.index).reset_index(names="solver")


def ranks(table: pd.DataFrame, metric: str = "global_error") -> Ranks | None:
    """Ranks over the cells in which learned solvers are compared (Demšar 2006, Statistical comparisons of classifiers).

    A solver that is not in all of these cells is left out.

    Returns:
        None where fewer than three solvers or two cells are left.
    """
    block = table[(table.metric == metric) & (table.family != "teacher")]
    learned = block[~block.family.isin(NOT_FITTED)]
    if len(learned):
        block = block[block.nfe.isin(learned.nfe)]
    means = block.groupby(["model", "nfe", "solver"]).value.mean().unstack("solver").dropna(axis=1)
    cells, count = means.shape
    if count < 3 or cells < 2:
        return None
    average = means.rank(axis=1).mean().sort_values()
    p_value = float(scipy.stats.friedmanchisquare(*means.to_numpy().T).pvalue)
    quantile = scipy.stats.studentized_range.ppf(CONFIDENCE, count, np.inf) / np.sqrt(2)
    logs = np.log(means.clip(lower=1e-300))
    p_next = {a: _signed_rank(logs[b] - logs[a]) for a, b in itertools.pairwise(average.index)}
    critical = float(quantile * np.sqrt(count * (count + 1) / (6 * cells)))
    return Ranks(average, cells, p_value, critical, _holm(pd.Series(p_next)))


def _signed_rank(differences: pd.Series) -> float:
    """Wilcoxon's test that differences are about 0; 1 where all are."""
    return float(scipy.stats.wilcoxon(differences).pvalue) if (differences != 0).any() else 1.0


def paired_tests(table: pd.DataFrame, metric: str = "global_error") -> pd.DataFrame:
    """Each solver against the next best in its cell, paired over sampling seeds.

    Returns:
        Rows of model, nfe, solver, next, difference (of ln value, mean over seeds), p_value (two-sided t test, Holm's
        correction over the rows of a model). With three seeds only large and steady differences are significant.
    """
    rows = []
    for (model, nfe), cell in table[(table.metric == metric) & (table.family != "teacher")].groupby(
        ["model", "nfe"], sort=False
    ):
        values = np.log(cell.pivot(index="seed", columns="solver", values="value").clip(lower=1e-300))
        order = values.mean().sort_values().index
        for solver, following in itertools.pairwise(order):
            difference = values[following] - values[solver]
            spread = difference.std()
            p_value = float(scipy.stats.ttest_1samp(difference, 0).pvalue) if len(difference) > 1 and spread > 0 else 1.0
            rows.append((model, nfe, solver, following, float(difference.mean()), p_value))
    found = pd.DataFrame(rows, columns=["model", "nfe", "solver", "next", "difference", "p_value"])
    found["p_value"] = found.groupby("model", sort=False).p_value.transform(_holm)
    return found


def _holm(p_values: pd.Series) -> pd.Series:
    """Holm's correction for several tests."""
    order = p_values.sort_values()
    corrected = (order * (len(order) - np.arange(len(order)))).cummax().clip(upper=1)
    return corrected.reindex(p_values.index)
