"""The file of a cell's scores. Imports no torch."""

from __future__ import annotations

from pydantic import ConfigDict

from s4s.files.json_file import JsonFile


class Score(JsonFile):
    """What was scored, and its measures: their mean and spread, and lists with a value for each sampling seed."""

    model_config = ConfigDict(extra="allow")
    what = "these scores"
    always_signed = True
    model: str
    solver: str
    nfe: int
    tableau: str
    evaluations: int
    n_samples: int
    n_seeds: int
    seeds: list[int]
    features: str
    fid: list[float]
    fid_mean: float
    fid_std: float | None
    global_error: list[float]
    global_error_mean: float
    global_error_std: float | None
