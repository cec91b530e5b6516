"""Where results lie, from the folder that the workflow runs in. Other programs are written against these paths."""

from __future__ import annotations

from typing import NamedTuple


class Cell(NamedTuple):
    """One entry of a comparison: a model, a solver by its token, and a number of evaluations; of the teacher its steps."""

    model: str
    solver: str
    nfe: int


def tableau(cell: Cell) -> str:
    """The solver of a cell."""
    return f"results/tableaux/{cell.model}/{cell.solver}/nfe~{cell.nfe}.json"


def fit(cell: Cell) -> str:
    """Convergence curve and cost of a cell's fit."""
    return f"results/fits/{cell.model}/{cell.solver}/nfe~{cell.nfe}.json"


def samples(cell: Cell, shard: str = "") -> str:
    """Samples of a cell, or a shard of them."""
    part = f"/{shard}" if shard else ""
    return f"results/samples/{cell.model}/{cell.solver}/nfe~{cell.nfe}{part}.h5"


def score(cell: Cell) -> str:
    """Scores of a cell."""
    return f"results/scores/{cell.model}/{cell.solver}/nfe~{cell.nfe}.json"


def shard_score(cell: Cell, shard: str) -> str:
    """Statistics of a shard of samples, which the scores of its cell are made from."""
    return f"results/scores/{cell.model}/{cell.solver}/nfe~{cell.nfe}/{shard}.npz"


def teacher(model: str, name: str) -> str:
    """A file of a model's teacher: pairs.h5, convergence.csv."""
    return f"results/teacher/{model}/{name}"


def pairs(model: str, folder: str, shard: str) -> str:
    """A shard of teacher pairs; `folder` says of which teacher: shards, or steps~N."""
    return f"results/teacher/{model}/{folder}/{shard}.h5"


def search(model: str, name: str) -> str:
    """A file of what optimised schedules and DPM-Solver-v3 need: trajectories.h5, costs.json, statistics.json."""
    return f"results/search/{model}/{name}"


def reference(model: str) -> str:
    """Moments of the features of the real data."""
    return f"results/reference/{model}.npz"
