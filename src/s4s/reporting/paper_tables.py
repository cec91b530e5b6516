"""results/paper: the paper's tables, our rows beside published ones, and a document with everything.

A table is made once, of plain text with a few marks, and then written as LaTeX or Markdown.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from s4s.errors import S4SError
from s4s.files.plain_text import Written, markdown_table
from s4s.files.plain_text import latex as in_latex
from s4s.files.plain_text import markdown as in_markdown
from s4s.metrics.measures import COMPARED
from s4s.models.published import PublishedFID, read_published
from s4s.reporting.solver_names import names
from s4s.reporting.tables import NOT_LEARNED, caption, comparison, needed_packages

# published methods with a learned counterpart here: how the name begins -> our family
COUNTERPARTS = {"ld3": "ld3", "s4s-alt": "s4s_alt", "s4s": "s4s_lms", "gs": "gs", "dyweight": "dyweight"}
TRAINED = (  # published methods that are not training-free
    *COUNTERPARTS, "gas", "epd", "amed", "adasde", "spanlift", "ds-solver", "dual-solver", "teacher"
)  # fmt: skip
SECOND_HAND = "†"


class Entry(NamedTuple):
    """Text in a table, with the letters of its footnotes."""

    text: str
    bold: bool = False
    notes: str = ""


class Row(NamedTuple):
    """A row: ours, or a published one, which is set in grey italics."""

    name: Entry
    cells: Sequence[Entry]
    published: bool = False


class Table(NamedTuple):
    """A table before it is written in a format.

    Attributes:
        corner: head of the first column; columns: heads of the others.
        blocks: rows between rules.
        footnotes: letter and text.
    """

    label: str
    caption: str
    corner: str
    columns: Sequence[str]
    blocks: Sequence[Sequence[Row]]
    footnotes: Sequence[tuple[str, str]] = ()


def published_figures(path: str | Path) -> pd.DataFrame:
    """fid.csv: rows of dataset, method, nfe, fid, note, source, second_hand.

    Raises:
        S4SError: as `read_published`.
    """
    rows = read_published(path)
    found = pd.DataFrame(rows, columns=PublishedFID._fields)
    return found.assign(second_hand=[row.second_hand for row in rows])


def _of(published: pd.DataFrame, dataset: str) -> pd.DataFrame:
    rows = published[published.dataset == dataset]
    if rows.empty:
        known = ", ".join(published.dataset.drop_duplicates())
        raise S4SError(f"no published figures of {dataset!r}; known: {known}")
    return rows


def traps(rows: pd.DataFrame) -> list[str]:
    """What to mind when comparing with some published rows."""
    methods, datasets = rows.method.str, rows.dataset.str
    found = {
        "An analytic first step costs no evaluation: one step more than the NFE says.": rows.note.str.contains("analytic"),
        "DyWeight and EPD are trained on Inception features, which favours FID.": methods.match("dyweight|epd"),
        "With guidance, NFE counts steps, each of two evaluations.": datasets.contains("cfg|sd1"),
        "Others' figures for LSUN bedrooms in pixels (AMED, EPD) are of another model and left out.": datasets.contains("lsun"),
        "GITS is better in its authors' own figures than in reruns by others.": methods.contains("gits"),
        f"{SECOND_HAND} was read in others' notes about the paper, not in the paper.": rows.second_hand,
    }
    return [text for text, where in found.items() if where.any()] + ["No source gives a spread over sampling seeds."]


def published_rows(rows: pd.DataFrame, columns: Sequence[int]) -> tuple[list[Row], list[tuple[str, str]], str]:
    """Rows of one data set, their footnotes, and a sentence on the teachers.

    A footnote stands at a method's name where it holds for its whole row, else at single values.
    """
    sources = (rows.source + rows.note.map(lambda note: f"; {note}" if note else "")).rename("text")
    teacher = rows.method.str.startswith("teacher")
    letters = dict(zip(sources[~teacher].drop_duplicates(), string.ascii_lowercase, strict=False))
    found = []
    for method, block in rows[~teacher].groupby("method", sort=False):
        marks = dict(zip(block.nfe, sources[block.index].map(letters), strict=True))
        fid = {row.nfe: f"{row.fid:.2f}{SECOND_HAND if row.second_hand else ''}" for row in block.itertuples()}
        whole = len({*marks.values()}) == 1
        cells = [Entry(fid[nfe], notes="" if whole else marks[nfe]) if nfe in fid else Entry("") for nfe in columns]
        found.append(Row(Entry(str(method), notes=next(iter(marks.values())) if whole else ""), cells, published=True))
    teachers = "; ".join(
        f"{row.method} {row.fid:.2f} (NFE {row.nfe}, {sources[row.Index]})" for row in rows[teacher].itertuples()
    )
    used = sources[~teacher].drop_duplicates().map(lambda text: (letters[text], text))
    return found, list(used), f"Teachers: {teachers}." if teachers else ""


def fid_table(scores: pd.DataFrame, published: pd.DataFrame, dataset: str) -> Table:
    """Our rows of one model, solvers x NFE, and below them the published ones of its data set.

    Args:
        scores: scores.csv's rows of one model.
        dataset: the model's in fid.csv; "" if nothing is published of it.
    """
    model = scores.model.iloc[0]
    cells, teacher = comparison(scores, "fid", lambda value: f"*{value}")
    theirs = _of(published, dataset) if dataset else published.iloc[:0]
    steps = theirs[~theirs.method.str.startswith("teacher")].nfe
    columns = sorted({*cells.columns} | {*steps})
    shown = names(cells.index, scores)
    ours = [
        Row(
            Entry(shown[str(solver)]),
            [Entry(text.lstrip("*"), text.startswith("*")) for text in row.reindex(columns).fillna("")],
        )
        for solver, row in cells.iterrows()
    ]
    about = f"{model}. {caption(scores, 'fid', teacher)}"
    if not dataset:
        about += " Nothing is published of this model."
        return Table(f"fid-{model}", about, "solver", [*map(str, columns)], [ours])
    rows, footnotes, teachers = published_rows(theirs, columns)
    about += (
        f" In grey italics, below: what others report for {dataset}, not measured here. {teachers} {' '.join(traps(theirs))}"
    )
    return Table(f"fid-{model}", about, "solver", [*map(str, columns)], [ours, rows], footnotes)


def published_table(dataset: str, published: pd.DataFrame, scores: pd.DataFrame, models: Mapping[str, str]) -> Table:
    """The published rows of a data set; then FID over the best training-free solver at that NFE, published and of every
    model here.

    Args:
        models: for each model with published figures its data set.
    """
    theirs = _of(published, dataset)
    students = theirs[~theirs.method.str.startswith("teacher")]
    ours = scores[scores.family != "teacher"]
    columns = sorted({*students.nfe})
    rows, footnotes, teachers = published_rows(theirs, columns)
    read = students[~students.second_hand]
    plain = read[~read.method.str.startswith(TRAINED)].groupby("nfe").fid.min()
    learned = read[read.method.str.match("|".join(rf"{name}( |$)" for name in COUNTERPARTS))]
    ratios = [
        Row(Entry(f"{method}, published"), _ratios(block.set_index("nfe").fid / plain, columns), True)
        for method, block in learned.groupby("method", sort=False)
    ]
    own, fid = [], COMPARED["fid"].mean
    shown = names(ours.solver.drop_duplicates(), ours)
    for model, block in ours.groupby("model", sort=False):
        best = block[block.family.isin(NOT_LEARNED)].groupby("nfe")[fid].min()
        name = model if models.get(model) == dataset else f"{model} (another model)"
        for solver, fits in block[~block.family.isin(NOT_LEARNED)].groupby("solver", sort=False):
            own.append(Row(Entry(f"{shown[solver]}, {name}"), _ratios(fits.set_index("nfe")[fid] / best, columns)))
    about = (
        f"What others report for {dataset} (FID, lower is better; not measured here). {teachers} {' '.join(traps(theirs))} "
        "Below the second rule: FID of a learned solver over the smallest FID of any training-free solver at the same NFE; "
        "below 1 the learned one is better; second-hand figures are left out. Such ratios are comparable in kind only: of "
        "other models they rest on other data and another feature network. Upright: measured here."
    )
    blocks = [rows, ratios, own]
    return Table(f"published-{dataset}", about, "method", [*map(str, columns)], [block for block in blocks if block], footnotes)


def _ratios(values: pd.Series, columns: Sequence[int]) -> list[Entry]:
    return [Entry("" if pd.isna(value) else f"{value:.2f}") for value in values.reindex(columns)]


def fit_time_table(scores: pd.DataFrame) -> Table:
    """What each fit or search cost: thousands of network evaluations, and seconds, solvers x NFE, a block a model."""
    costly = scores[(scores.fit_evaluations > 0) & (scores.family != "teacher")]
    columns, shown = sorted({*costly.nfe}), names(costly.solver.drop_duplicates(), costly)
    blocks = []
    for model, block in costly.groupby("model", sort=False):
        rows = []
        for solver, cells in block.groupby("solver", sort=False):
            text = {
                row.nfe: f"{row.fit_evaluations / 1000:.1f}k" + (f" / {row.fit_seconds:.1f} s" if row.fit_seconds else "")
                for row in cells.itertuples()
            }
            rows.append(Row(Entry(f"{shown[solver]}, {model}"), [Entry(text.get(nfe, "")) for nfe in columns]))
        blocks.append(rows)
    about = (
        "Cost of each fit: evaluations of the network in thousands, with those of a search before it but without the teacher's "
        "pairs, and seconds on the machine that ran it. Optimised schedules have no fit; their trajectories serve all NFE."
    )
    return Table("fit_time", about, "solver, model", [*map(str, columns)], blocks)


def markdown(table: Table) -> str:
    """A table in Markdown: published rows in italics, the best of ours in bold."""

    def cell(value: Entry, published: bool) -> Written:
        text = in_markdown(value.text)
        text = f"**{text}**" if value.bold else f"*{text}*" if published and text else text
        return Written(text + (f"<sup>{value.notes}</sup>" if value.notes else ""))

    rows = [[cell(value, row.published) for value in (row.name, *row.cells)] for block in table.blocks for row in block]
    lines = [f"{in_markdown(table.caption)}\n", markdown_table([table.corner, *table.columns], rows, ":--")]
    lines += ["", *(f"<sup>{letter}</sup> {in_markdown(text)}  " for letter, text in table.footnotes)]
    return "\n".join(lines).rstrip() + "\n"


def latex(table: Table) -> str:
    """A table in LaTeX, no wider than a line: published rows in grey italics, our best in bold."""

    def cell(value: Entry, published: bool) -> str:
        text = in_latex(value.text).replace(r" $\pm$ ", r" {\tiny$\pm$} ")
        text = rf"\textbf{{{text}}}" if value.bold else text
        text = rf"\textcolor[gray]{{0.4}}{{\textit{{{text}}}}}" if published and value.text else text
        return text + (rf"\textsuperscript{{{value.notes}}}" if value.notes else "")

    head = " & ".join(map(in_latex, [table.corner, *table.columns]))
    blocks = [
        "\n".join(" & ".join(cell(value, row.published) for value in (row.name, *row.cells)) + r" \\" for row in block)
        for block in table.blocks
    ]
    body = "\n\\midrule\n".join([rf"{head} \\", *blocks])
    notes = " ".join(rf"\textsuperscript{{{letter}}}~{in_latex(text)}." for letter, text in table.footnotes)
    return "\n".join([
        needed_packages("booktabs", "graphicx", "xcolor"),
        r"\begin{table}[tbp]", r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{in_latex(table.caption)}}}", rf"\label{{tab:{table.label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}}}", r"\toprule", body, r"\bottomrule", r"\end{tabular}}",
        *([rf"\par\smallskip\raggedright\scriptsize {notes}"] if notes else []), r"\end{table}", "",
    ])  # fmt: skip


CAPTIONS = {
    "fid": "Fréchet distance against NFE. Named: learned solvers, and of training-free ones the best on fixed and on "
    "optimised schedules, at its best schedule for each NFE; the others are light grey. Bars: standard deviation over sampling "
    "seeds.",
    "global_error": "Global error against NFE; colours and bars as for the Fréchet distance.",
    "samples": "Samples of each solver, the same initial noise down a column.",
    "schedules": "Noise schedules of learned solvers and of their base solvers. Crosses: conditioning levels, "
    "where they differ from the schedule.",
    "coefficients": "What each node is made of: the weights of the initial noise and of each output.",
}


def document(tables: Sequence[str], figures: Sequence[str]) -> str:
    """A LaTeX document with all tables and figures; it compiles from its own folder and from the one above results/.

    Args:
        tables: names of .tex files; figures: names of .pdf files, such as fid-digits.pdf.
    """
    parts = [rf"\input{{{name}}}" + "\n\\clearpage" for name in tables]
    for name in figures:
        kind, _, model = name.removesuffix(".pdf").partition("-")
        parts.append("\n".join([
            r"\begin{figure}[tbp]", r"\centering", rf"\includegraphics{{{name}}}",
            rf"\caption{{{in_latex(f'{model}. {CAPTIONS[kind]}')}}}", r"\end{figure}",
        ]))  # fmt: skip
        if len(parts) % 4 == 0:  # LaTeX holds few floats
            parts.append(r"\clearpage")
    start = r"""\documentclass[10pt]{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[letterpaper,textwidth=6.75in,textheight=9in]{geometry}
\usepackage{booktabs,graphicx,xcolor}
\makeatletter\def\input@path{{results/paper/}{./}}\makeatother
\graphicspath{{results/paper/}{./}}
\begin{document}
"""
    return start + "\n".join(parts) + "\n\\end{document}\n"
