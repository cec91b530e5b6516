"""resources/zoo: what is known of each published solver, a YAML file each, and the numbers of those whose licence allows.

NAME.yaml is an entry. Its numbers are lists of levels with a classical solver in it, or tableaux NAME/nfe~N.json beside it;
where it has none, its commands say how a user gets a copy of his own. Imports no torch.
"""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from s4s.errors import S4SError, explain, one_line, shown
from s4s.files.json_file import Strict
from s4s.files.shipped import shipped
from s4s.files.yaml_file import read_yaml
from s4s.models.published import PublishedFID, read_published

ZOO = shipped("resources/zoo")
MAY_SHIP = ("MIT", "Apache-2.0", "facts of the paper")  # licences
Level = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Numbers(Strict):
    """A classical solver on lists of levels, from which a tableau is made.

    Attributes:
        levels: by the number of steps, the levels of all nodes.
        table: instead, one of Align Your Steps' tables, of 10 steps; s4s.schedules.ays has them.
        solver, options: of the solver, as a config names them.
    """

    levels: dict[Annotated[int, Field(ge=1)], list[Level]] = Field(default_factory=dict)
    table: Literal["sd", "sdxl", "svd"] | None = None
    solver: str
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _lengths(self) -> Numbers:
        if bool(self.levels) == bool(self.table):
            raise ValueError("needs levels, or a table of Align Your Steps")
        for steps, row in self.levels.items():
            if len(row) != steps + 1:
                raise ValueError(f"levels: {steps} steps have {steps + 1} levels, not {len(row)}")
        return self


class Score(Strict):
    """A published figure that is no FID of resources/published/fid.csv."""

    nfe: int
    measure: str
    value: float
    source: str


class FID(Strict):
    """Which rows of resources/published/fid.csv are of this solver."""

    dataset: str
    method: str
    nfe: list[int] = Field([], description="of these numbers of evaluations alone")
    note: str = Field("", description="how the figures and the numbers belong together")


class Entry(Strict):
    """A published solver.

    Attributes:
        name: of the entry, its file's.
        model: what it was fitted for, in words; `config` are names of such models in config/models.
        method: its name, and the solver that runs on its schedule where it is one.
        nfe: numbers of evaluations, those at the same time counted each.
        guidance: the scale that it was fitted with; None where there was none.
        path: what a network's parametrisation must say for it, as Denoiser.parametrisation has it.
        licence: of the numbers, as their repository states it; "none stated" where it does not.
        paper: arXiv number. repository, commit, files: where they are; the commit is the one that was read, where one was.
        commands: how a user gets a copy of his own and converts it, as a shell takes them; the last one converts.
        note: what else to know.
    """

    name: str = Field(pattern="^[a-z0-9.-]+$")
    model: str
    config: list[str] = Field(default_factory=list)
    method: str
    nfe: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    guidance: float | None = Field(None, gt=0, allow_inf_nan=False)
    path: dict[str, Any] = Field(default_factory=dict)
    licence: str
    paper: str = Field(pattern=r"^arXiv \d{4}\.\d{5}(, \d{4}\.\d{5})*$")
    repository: str = Field(pattern="^https://")
    commit: str | None = Field(None, pattern="^[0-9a-f]{40}$")
    files: str
    numbers: Numbers | None = None
    commands: list[str] = Field(default_factory=list)
    fid: FID | None = None
    scores: list[Score] = Field(default_factory=list)
    note: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Entry:
        if self.ships == bool(self.commands):
            raise ValueError("needs either numbers (numbers, or a folder of tableaux) or the commands for a copy of one's own")
        if self.ships and self.licence not in MAY_SHIP:
            raise ValueError(f"licence is {self.licence!r}, but numbers may ship under {', '.join(MAY_SHIP)} only")
        return self

    @property
    def folder(self) -> Path:
        """Where its tableaux are, if it has some."""
        return ZOO / self.name

    @property
    def ships(self) -> bool:
        """Whether its numbers come with s4s."""
        return self.numbers is not None or self.folder.is_dir()

    @cached_property
    def figures(self) -> list[Score]:
        """All published figures: its rows of fid.csv, and its scores."""
        rows = [] if self.fid is None else [row for row in _published() if _is_of(row, self.fid)]
        notes = "" if self.fid is None or not self.fid.note else f"; {self.fid.note}"
        found = [Score(nfe=row.nfe, measure=_measure(row), value=row.fid, source=row.source + notes) for row in rows]
        return found + self.scores


@cache
def _published() -> list[PublishedFID]:
    return read_published()


def _is_of(row: PublishedFID, fid: FID) -> bool:
    return (row.dataset, row.method) == (fid.dataset, fid.method) and (not fid.nfe or row.nfe in fid.nfe)


def _measure(row: PublishedFID) -> str:
    return "FID, second-hand" if row.second_hand else "FID"


def entries() -> dict[str, Entry]:
    """All entries by their names, in the alphabet's order.

    Raises:
        S4SError: if a file cannot be read, or a key is wrong.
    """
    return {path.stem: _read(path) for path in sorted(ZOO.glob("*.yaml"))}


def _read(path: Path) -> Entry:
    try:
        found = read_yaml(path)
        return Entry.model_validate({**found, "name": path.stem} if isinstance(found, dict) else found)
    except OSError as error:
        raise S4SError(f"{path}: cannot be read: {one_line(error)}") from error
    except ValidationError as error:
        raise S4SError(explain(error, str(path))) from error


def entry_of(name: str) -> tuple[Entry, int | None]:
    """The entry that a name says, "zoo:NAME", and the number of evaluations, if it says one, "zoo:NAME/5"; or without zoo:.

    Raises:
        S4SError: if there is no such entry, or it has no solver with so many evaluations.
    """
    known = sorted(path.stem for path in ZOO.glob("*.yaml"))
    text, _, number = name.removeprefix("zoo:").partition("/") if isinstance(name, str) else ("", "", "")
    if text not in known:
        raise S4SError(f"no solver {shown(name)} in the zoo; write zoo:NAME or zoo:NAME/NFE; NAME is one of {', '.join(known)}")
    entry = _read(ZOO / f"{text}.yaml")
    if not number:
        return entry, None
    if number not in map(str, entry.nfe):
        raise S4SError(f"zoo:{text} has no solver {number!r}; its numbers of evaluations are {', '.join(map(str, entry.nfe))}")
    return entry, int(number)


def shipped_entry(name: str) -> tuple[Entry, int | None]:
    """`entry_of` a name, if its numbers are here.

    Raises:
        S4SError: as `entry_of`, or if they are not: then where they are.
    """
    entry, nfe = entry_of(name)
    if not entry.ships:
        raise S4SError(
            f"zoo:{entry.name}: its numbers do not come with s4s (licence: {entry.licence}); your own copy comes from "
            f"{entry.repository}, and `s4s zoo show {entry.name}` has the commands"
        )
    return entry, nfe
