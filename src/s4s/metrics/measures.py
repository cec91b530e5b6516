"""The measures that comparisons show: their names, their columns of scores.csv, and how a mean and its spread are printed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

PLUS_MINUS = "±"
# what is said of features whose reference is no real data
OF_TEACHER = "reference: samples of the teacher from noise of their own, for there are no real images"
# how every table of means begins its caption
MEAN_AND_SPREAD = f"Mean {PLUS_MINUS} standard deviation over"


class Measure(NamedTuple):
    """One measure of a cell; for both, lower is better.

    Attributes:
        name: in words.
        mean: column of scores.csv with the mean over sampling seeds.
        spread: column with the standard deviation, empty for one seed.
        digits: after the point, in comparison tables.
    """

    name: str
    mean: str
    spread: str
    digits: int

    def text(self, mean: float, spread: float) -> str:
        """The value of a cell in a comparison table."""
        return with_spread(mean, spread, self.digits)


# key, as in score files, metrics.csv and names of tables and figures -> the measure
COMPARED = {
    "fid": Measure("Fréchet distance", "fid_mean", "fid_std", 2),
    "global_error": Measure("global error", "global_error", "global_error_std", 4),
}


def lacking(columns: Iterable[str | None], needed: Iterable[str]) -> str | None:
    """Which columns a table of scores lacks, and where that is by another separator, which one."""
    there = [*columns]
    missing = [column for column in needed if column not in there]
    if not missing:
        return None
    marks = {";": "semicolons", "\t": "tabs"}
    kind = next((name for mark, name in marks.items() if len(there) == 1 and mark in str(there[0])), None)
    means = f"; its columns are separated by {kind}, but must be by commas" if kind else ""
    return f"{'column' if len(missing) == 1 else 'columns'} {', '.join(missing)} missing{means}"


def too_few(what: str, count: int, features: int) -> str | None:
    """Why the Fréchet distance of `count` rows of some features cannot be measured: a covariance of full rank needs more."""
    return None if count > features else f"FID needs more {what} than features: {count} {what}, {features} features"


def with_spread(mean: float, spread: float, digits: int | None = None) -> str:
    """Mean and spread as text, without what is missing (NaN).

    Args:
        digits: after the point; None for four significant digits of the mean and two of the spread.
    """
    if math.isnan(mean):
        return ""
    of_mean, of_spread = (".4g", ".2g") if digits is None else (f".{digits}f", f".{digits}f")
    return f"{mean:{of_mean}}" + ("" if math.isnan(spread) else f" {PLUS_MINUS} {spread:{of_spread}}")
