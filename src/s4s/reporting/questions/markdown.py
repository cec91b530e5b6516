"""Tables that answer a question, before they are written as Markdown or HTML."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd


class Shown(NamedTuple):
    """A table of text with its title and caption."""

    title: str
    caption: str
    table: pd.DataFrame


def markdown(tables: Iterable[Shown]) -> str:
    """All tables, each under its title."""
    return "\n".join(
        f"## {shown.title}\n\n{shown.caption}\n\n{shown.table.to_markdown(index=False, disable_numparse=True)}\n"
        for shown in tables
    )
