"""resources/published/fid.csv: what others report, as rows of tables with the source of each. No pandas."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

from s4s.errors import S4SError
from s4s.files.bounded import read_table
from s4s.files.shipped import shipped

PUBLISHED = shipped("resources/published/fid.csv")


class PublishedFID(NamedTuple):
    """A row: the FID that a source reports of a method on a data set."""

    dataset: str
    method: str
    nfe: int
    fid: float
    note: str
    source: str

    @property
    def second_hand(self) -> bool:
        """Whether the figure was read in others' notes about its paper, not in the paper; its note or its source says so."""
        return "second-hand" in f"{self.note} {self.source}"


def read_published(path: str | Path = PUBLISHED) -> list[PublishedFID]:
    """The rows, in the file's order.

    Raises:
        S4SError: if the file cannot be read or a row has no source.
    """
    rows = []
    try:
        for line, row in read_table(path):
            if not row["source"]:
                raise S4SError(f"{path}: line {line} has no source")
            rows.append(
                PublishedFID(row["dataset"], row["method"], int(row["nfe"]), float(row["fid"]), row["note"], row["source"])
            )
    except S4SError:
        raise
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise S4SError(f"{path}: cannot read the published figures: {error}; restore the file") from error
    return rows


@cache
def datasets() -> tuple[str, ...]:
    """The data sets (and models) that figures are published for, in the file's order; none if the file is not there."""
    return tuple(dict.fromkeys(row.dataset for row in read_published())) if PUBLISHED.is_file() else ()
