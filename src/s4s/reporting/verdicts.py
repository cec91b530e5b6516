"""What scores say in words: the best learned solver against the best training-free one, at each number of evaluations."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from s4s.reporting.solver_names import names
from s4s.reporting.tables import METRICS, NOT_LEARNED

NAMES = {"fid": "Fréchet distance", "global_error": "global error"}


class Duel(NamedTuple):
    """The best learned solver and the best training-free one of a model at one NFE, each as "mean ± spread" of its solver."""

    nfe: int
    learned: str
    learned_value: str
    plain: str
    plain_value: str
    ratio: float
    verdict: str


def with_spread(mean: float, spread: float, digits: int) -> str:
    """ "mean ± spread", without what is missing."""
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if pd.isna(spread) else f" ± {spread:.{digits}f}")


def duels(scores: pd.DataFrame, metric: str) -> list[Duel]:
    """One at each NFE where a model has both kinds of solver. Closer than both standard deviations together is "level".

    Args:
        scores: those of one model.
        metric: fid or global_error.
    """
    mean, spread, digits = METRICS[metric]
    students = scores[(scores.family != "teacher") & scores[mean].notna()]
    shown = names(students.solver.drop_duplicates(), students)
    found = []
    for nfe, cells in students.groupby("nfe"):
        learned, plain = (cells[cells.family.isin(NOT_LEARNED) == own] for own in (False, True))
        if learned.empty or plain.empty:
            continue
        ours, theirs = (rows.loc[rows[mean].idxmin()] for rows in (learned, plain))
        close = abs(ours[mean] - theirs[mean]) <= pd.Series([ours[spread], theirs[spread]]).sum()
        verdict = "level" if close else "ahead" if ours[mean] < theirs[mean] else "behind"
        texts = [(shown[row.solver], with_spread(row[mean], row[spread], digits)) for row in (ours, theirs)]
        ratio = theirs[mean] / ours[mean] if ours[mean] else float("nan")
        found.append(Duel(int(str(nfe)), *texts[0], *texts[1], ratio, verdict))
    return found


def in_words(model: str, of_metric: dict[str, list[Duel]]) -> str:
    """A sentence or two on one model, also where learned solvers lose or nothing can be compared."""
    if not any(of_metric.values()):
        return f"On {model} there is no number of evaluations at which learned and other solvers can be compared."
    return " ".join(_sentence(model, NAMES[metric], found) for metric, found in of_metric.items() if found)


def _sentence(model: str, name: str, found: list[Duel]) -> str:
    counts = {verdict: sum(duel.verdict == verdict for duel in found) for verdict in ("ahead", "level", "behind")}
    parts = [f"{verdict} at {counts[verdict]}" for verdict in counts if counts[verdict]]
    first = found[0]
    return (
        f"By {name} on {model}, the best learned solver is {_listed(parts)} of {len(found)} numbers of evaluations: "
        f"at {first.nfe}, {first.learned} has {first.learned_value} and {first.plain}, the best training-free one, "
        f"{first.plain_value}."
    )


def _listed(parts: list[Any]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
