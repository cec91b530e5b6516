"""resources/published/fid.csv: what others report, as rows of tables with the source of each. Its names need no pandas."""

from __future__ import annotations

import csv
from functools import cache

from s4s.files.shipped import shipped

PUBLISHED = shipped("resources/published/fid.csv")


@cache
def datasets() -> tuple[str, ...]:
    """The data sets (and models) that figures are published for, in the file's order; none if the file is not there."""
    if not PUBLISHED.is_file():
        return ()
    with PUBLISHED.open(newline="") as file:
        return tuple(dict.fromkeys(row["dataset"] for row in csv.DictReader(file)))
