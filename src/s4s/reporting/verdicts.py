"""What scores say in words: the best learned solver against the best training-free one, at each number of evaluations."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from s4s.metrics.measures import COMPARED
from s4s.reporting.solver_names import names
from s4s.reporting.tables import NOT_FITTED, NOT_LEARNED


class Duel(NamedTuple):
    """The best learned solver and the best training-free one of a model at one NFE, each with mean and spread of its solver."""

    nfe: int
    learned: str
    learned_value: str
    plain: str
    plain_value: str
    ratio: float
    verdict: str


def duels(scores: pd.DataFrame, metric: str) -> list[Duel]:
    """One at each NFE where a model has both kinds of solver; published ones are neither.

    Closer than both standard deviations together is "level".

    Args:
        scores: those of one model.
        metric: fid or global_error.
    """
    measure = COMPARED[metric]
    mean, spread = measure.mean, measure.spread
    students = scores[(scores.family != "teacher") & scores[mean].notna()]
    shown = names(students.solver.drop_duplicates(), students)
    found = []
    for nfe, cells in students.groupby("nfe"):
        learned, plain = cells[~cells.family.isin(NOT_FITTED)], cells[cells.family.isin(NOT_LEARNED)]
        if learned.empty or plain.empty:
            continue
        ours, theirs = (rows.loc[rows[mean].idxmin()] for rows in (learned, plain))
        close = abs(ours[mean] - theirs[mean]) <= pd.Series([ours[spread], theirs[spread]]).sum()
        verdict = "level" if close else "ahead" if ours[mean] < theirs[mean] else "behind"
        texts = [(shown[row.solver], measure.text(row[mean], row[spread])) for row in (ours, theirs)]
        ratio = theirs[mean] / ours[mean] if ours[mean] else float("nan")
        found.append(Duel(int(str(nfe)), *texts[0], *texts[1], ratio, verdict))
    return found


def in_words(model: str, of_metric: dict[str, list[Duel]]) -> str:
    """A sentence or two on one model, also where learned solvers lose or nothing can be compared."""
    if not any(of_metric.values()):
        return f"On {model} there is no number of evaluations at which learned and other solvers can be compared."
    return " ".join(_sentence(model, COMPARED[metric].name, found) for metric, found in of_metric.items() if found)


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
