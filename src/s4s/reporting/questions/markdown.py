"""Tables that answer a question, before they are written as Markdown or HTML."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from s4s.files.plain_text import in_markdown
from s4s.reporting.solver_names import names
from s4s.reporting.tables import written_markdown


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
        in_markdown("## {title}\n\n{caption}\n\n", title=shown.title, caption=shown.caption)
        + written_markdown(shown.table, index=False, disable_numparse=True)
        + "\n"
        for shown in tables
    )
