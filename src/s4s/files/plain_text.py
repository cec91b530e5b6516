"""Plain text written in LaTeX, in Markdown and in figures so that it shows itself, and does nothing else there.

What models, solvers, configs and files from elsewhere say goes through one of these functions on its way to a page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape

from s4s.errors import printable

LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}", "±": r"$\pm$",
    "<": r"\textless{}", ">": r"\textgreater{}",
    **{mark: f"\\{mark}" for mark in "_%&#${}"},
    **{mark: f"{{{mark}}}" for mark in "[]*"},  # which mean something behind the end of a row
}  # fmt: skip
HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MARKDOWN = re.compile(r"[\\`*{}\[\]#|$~]|(?<![^\W_])_|_(?![^\W_])")  # an underline between letters means nothing


class Written(str):
    """Text that is written in a format already, of parts that were escaped."""

    __slots__ = ()


class WrittenHTML(Written):
    """Text that is written in HTML already; jinja2 asks for `__html__`."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def in_one_line(text: object) -> str:
    """Any value as text in one line, without what terminals obey."""
    return printable(" ".join(str(text).split()))


def latex(text: object) -> str:
    """Any value in LaTeX; the packages inputenc (utf8) and fontenc (T1) show letters beyond ASCII."""
    return text if isinstance(text, Written) else "".join(LATEX.get(mark, mark) for mark in in_one_line(text))


def markdown(text: object) -> str:
    """Any value in Markdown, also in a cell of a table or in a heading."""
    if isinstance(text, Written):
        return text
    return MARKDOWN.sub(r"\\\g<0>", "".join(HTML.get(mark, mark) for mark in in_one_line(text)))


def html(text: object) -> str:
    """Any value in HTML, also in an attribute; templates of jinja2 do the same by themselves."""
    return text if isinstance(text, WrittenHTML) else escape(in_one_line(text))


def mathtext(text: object) -> str:
    """Any value in a figure of matplotlib, which reads formulas between two dollars."""
    return in_one_line(text).replace("$", r"\$")


def quoted(text: object) -> str:
    """Any value as a string of Python or JSON."""
    return json.dumps(str(text))


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]], align: str) -> str:
    """A table in Markdown, of any values; `align` is :--- or ---: or the like."""
    lines = [[*map(markdown, head)], [align] * len(head), *([*map(markdown, row)] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def in_markdown(template: str, **values: object) -> str:
    """A template of Markdown filled in with any values."""
    return template.format(**{name: markdown(value) for name, value in values.items()})
