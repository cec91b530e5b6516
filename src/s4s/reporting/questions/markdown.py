"""Tables that answer a question, before they are written as Markdown or HTML."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from s4s.reporting.solver_names import names


class Shown(NamedTuple):
    """A table of text with its title and caption."""

    title: str
    caption: str
    table: pd.DataFrame


def with_names(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """A table with the display names of its column `solver`; `rows` may have the family of each."""
    shown = names(rows.solver.drop_duplicates(), rows if "family" in rows else None)
    return table.assign(solver=table.solver.map(shown))


def markdown(tables: Iterable[Shown]) -> str:
    """All tables, each under its title."""
    return "\n".join(
        f"## {shown.title}\n\n{shown.caption}\n\n{shown.table.to_markdown(index=False, disable_numparse=True)}\n"
        for shown in tables
    )
