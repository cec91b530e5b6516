"""Tableaux of the zoo's solvers, for a model or for whoever checks them himself."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from s4s.errors import S4SError, must_be
from s4s.models.provenance import check
from s4s.models.published_solvers import Entry, shipped_entry
from s4s.schedules.ays import ALIGN_YOUR_STEPS
from s4s.schedules.imported import at_ends
from s4s.solvers import solver
from s4s.solvers.first_evaluation import scaled_start
from s4s.tableau import Tableau


def zoo_tableaux(name: str) -> list[Tableau]:
    """The solvers of an entry, "zoo:NAME", or one of them, "zoo:NAME/NFE", as they are published.

    Their meta says what they were fitted for; `s4s.models.provenance.check` holds that against a network, as S4SScheduler does.

    Raises:
        S4SError: if there is no such entry or number of evaluations, or its numbers do not ship: then where they are.
    """
    entry, nfe = shipped_entry(name)
    counts = entry.nfe if nfe is None else [nfe]
    return [_made(entry, count) for count in counts]


def zoo_tableau(name: str, model: Any) -> Tableau:
    """One solver of the zoo for a model.

    Args:
        name: "zoo:NAME/NFE", or "zoo:NAME" where it has one number of evaluations; zoo: may be left out.
        model: a denoiser, or an outline of one (s4s.models.load.load_outline).
    Raises:
        S4SError: as `zoo_tableaux`; if it has several numbers of evaluations and none was said; or if it was made for a
            network on another path or with another range of levels.
    """
    known = all(hasattr(model, key) for key in ("name", "s_min", "s_max", "parametrisation"))
    must_be("zoo_tableau's model", model, known, "a denoiser, such as s4s.load_model gives, or an outline")
    entry, nfe = shipped_entry(name)
    if nfe is None and len(entry.nfe) > 1:
        choose = ", ".join(f"zoo:{entry.name}/{count}" for count in entry.nfe)
        raise S4SError(f"zoo:{entry.name} has several numbers of evaluations; choose one of {choose}")
    tableau = _made(entry, nfe or entry.nfe[0], model)
    if float(tableau.levels[0]) < model.s_max < math.inf:
        tableau = scaled_start(tableau, model.s_max)
    check(tableau, model, f"model {model.name}")
    return tableau


def _made(entry: Entry, nfe: int, model: Any = None) -> Tableau:
    """The tableau; with a model its ends are the model's own where they are these but for rounding."""
    if entry.numbers is None:
        tableau = Tableau.load(entry.folder / f"nfe~{nfe}.json")
        tableau = tableau if model is None else replace(tableau, levels=at_ends(tableau.levels, model))
    else:
        lists = {10: ALIGN_YOUR_STEPS[entry.numbers.table]} if entry.numbers.table else entry.numbers.levels
        levels = torch.tensor(lists[nfe], dtype=torch.float64)
        levels = levels if model is None else at_ends(levels, model)
        tableau = solver(entry.numbers.solver, levels, **entry.numbers.options)
    return tableau.with_meta(**{**_about(entry), **tableau.meta})


def _about(entry: Entry) -> dict[str, Any]:
    """What the meta of its tableaux says."""
    known = {
        "token": f"zoo-{entry.name}", "model": entry.model, "parametrisation": entry.path, "paper": entry.paper,
        "repository": entry.repository, "commit": entry.commit, "licence": entry.licence, "guidance": entry.guidance,
    }  # fmt: skip
    return {key: value for key, value in known.items() if value}
