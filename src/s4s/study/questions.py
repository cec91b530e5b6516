"""Questions asked of a comparison, beyond its scores: one module each, and one line here. No torch in this file.

A module has `answer`, which makes the rows of one model, `tables` and `figure`, which show those of all models.
An ablation is made of the scores alone, by `gather`.
"""

from __future__ import annotations

from typing import NamedTuple


class Question(NamedTuple):
    """What the rows of one model are made from.

    Attributes:
        files: what it reads of each cell: tableaux or samples.
        foreign: it reads the learned tableaux of the other models too.
        fits: it reads the convergence curves of fits too, and asks learned solvers alone.
    """

    files: str = "tableaux"
    foreign: bool = False
    fits: bool = False


QUESTIONS: dict[str, Question] = {
    "cost": Question(fits=True),
    "generalisation": Question(foreign=True),
    "teacher_gap": Question("samples"),
    "tracking": Question(),
}
