"""What models, solvers and configs say shows itself in LaTeX, Markdown, HTML, figures and terminals, and does no more."""

import json
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
import yaml
from jinja2 import Environment
from pydantic import ValidationError
from typer.testing import CliRunner

import s4s
from s4s import S4SError
from s4s.cli import app
from s4s.cli.show import facts
from s4s.errors import printable
from s4s.export.card import COLUMNS as OF_CARD
from s4s.export.card import card, use_in_diffusers
from s4s.files.plain_text import Written, WrittenHTML, html, in_one_line, latex, markdown, markdown_table, mathtext, quoted
from s4s.models.description import FeatureNetwork
from s4s.reporting import paper_tables, tables
from s4s.reporting.figures import levels_and_coefficients, score_against_nfe
from s4s.reporting.paper_tables import Entry, Row, Table
from s4s.reporting.questions.ablation import figure as ablation_figure
from s4s.reporting.questions.markdown import Shown
from s4s.reporting.questions.markdown import markdown as shown_markdown
from s4s.study.code import PACKAGE

HOSTILE = {
    "percent": "50 % of it",
    "input": r"\input{/etc/passwd}",
    "bar": "a|b||c",
    "backticks": "`rm -rf` ``` x",
    "script": "<script>alert(1)</script>",
    "link": "[x](javascript:alert(1)) ](javascript:y)",
    "image": "![x](https://example.org/pixel.png)",
    "dollars": r"$\frac$ and $x_1$",
    "underlines": "_a_ __b__ s4s_alt",
    "lines": "a\n\n# b\r\nc\x0b\x0c\x85\u2028d",
    "escape": "\x1b[31mred\x1b]0;title\x07\x9b2J",
    "direction": "a\u202eb\u2066c",
    "row": "[5pt] * {x} & y \\\\ z",
    "strokes": "~~a~~ **b** #c &lt; &amp;",
}  # fmt: skip
SPECIAL = "\\{}_%&#$^~<>|[]*"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_mark_of_latex_is_left(text):
    """But those of the escapes themselves."""
    written = latex(text)
    rest = re.sub(r"\\text[a-z]+\{\}|\\[_%&#${}]|\{[\[\]*]\}|\$\\pm\$", "", written)
    assert not set(rest) & set(SPECIAL) and "\n" not in written and written.isprintable()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_mark_of_markdown_is_left(text):
    written = markdown(text)
    rest = re.sub(r"\\[\\`*{}\[\]#|$~_]|&(amp|lt|gt);|(?<=[A-Za-z0-9])_(?=[A-Za-z0-9])", "", written)
    assert not set(rest) & set("\\`*{}[]#|$~<>&_") and "\n" not in written and written.isprintable()


def test_names_without_marks_stay_as_they_are():
    for text in ("s4s_alt", "dpmpp3m-logsnr", "DPM-Solver++ (3M), EDM schedule", "Inception-v3, 8-bit images", ""):
        assert markdown(text) == mathtext(text) == in_one_line(text) == text
    assert latex("s4s_alt 5 %") == r"s4s\_alt 5 \%" and latex("1 ± 2") == r"1 $\pm$ 2"
    for write in (latex, markdown):
        assert write(Written("**x**")) == "**x**"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_figure_shows_a_name_and_reads_no_formula_in_it(text):
    figure = plt.figure()
    drawn = figure.text(0, 0, mathtext(text))
    assert drawn._preprocess_math(drawn.get_text())[1] is False and "\n" not in mathtext(text)
    assert drawn._preprocess_math(drawn.get_text())[0].count("$") == text.count("$")
    figure.canvas.draw()
    plt.close(figure)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_an_error_shows_what_terminals_obey(text):
    error = S4SError(f"{text}: wrong")
    assert all(mark.isprintable() or mark in "\n\t" for mark in str(error)) and printable(str(error)) == str(error)
    assert in_one_line(text).isprintable()


def scores(features):
    """A table of scores of two solvers and their teacher, on some features."""
    rows = [
        ["digits", solver, family, "", "logsnr", nfe, nfe, 64, 3, 1.0 + nfe, 0.1, features, 0.5, 0.01, 100, 1.0]
        for solver, family in (("teacher", "teacher"), ("ddim-logsnr", "classical"), ("s4s_alt", "s4s_alt"))
        for nfe in ([12] if solver == "teacher" else [3, 4])
    ]
    return pd.DataFrame(rows, columns=tables.COLUMNS)


def cells_of(line):
    """The cells of a row of Markdown: bars behind a backslash are text."""
    return re.split(r"(?<!\\)\|", line.strip().strip("|"))


def check_markdown(page):
    """Rows of a table have as many cells as its head, and no mark of the hostile texts is alone."""
    assert not re.search(r"(?<!\\)`(?!``)(?![0-9a-f]{16}`)(?<![0-9a-f]{16}`)|<script|(?<!\\)\]\(", page), page
    for block in re.findall(r"(?:^\|.*\n?)+", page, re.M):
        assert len({len(cells_of(line)) for line in block.splitlines()}) == 1, block


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_table_obeys_what_it_shows(text):
    found = scores(text)
    for metric in ("fid", "global_error"):
        page = tables.markdown(found, metric)
        check_markdown(page)
        assert markdown(text) in page or metric != "fid"
        assert "**" in page and r"\*\*" not in page.replace(markdown(text), "")
        page = tables.latex(found, metric)
        assert latex(text) in page or metric != "fid"
        assert text not in page or text == latex(text) or metric != "fid"
        assert r"\textbf{" in page and page.startswith("% needs \\usepackage{booktabs,graphicx}")
    rows = [Row(Entry(text, True), [Entry(text)]), Row(Entry(text), [Entry(text)], published=True)]
    table = Table("x", text, text, [text], [rows], [("a", text)])
    check_markdown(paper_tables.markdown(table))
    page = paper_tables.latex(table)
    assert page.count(latex(text)) == 8 and page.startswith("% needs \\usepackage{booktabs,graphicx,xcolor}")
    page = shown_markdown([Shown(text, text, pd.DataFrame({text: [text, "b"], "c": ["1", text]}))])
    check_markdown(page)
    assert page.startswith(f"## {markdown(text)}\n\n{markdown(text)}\n\n|")
    check_markdown(markdown_table([text, "b"], [[text, 1], [2, text]], ":--"))


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_the_report_shows_cells_as_text(text):
    """Bold is all that a cell of its tables may be."""
    cells, _ = tables.comparison(scores(text), "fid", lambda value: WrittenHTML(f"<b>{html(value)}</b>"))
    page = (
        Environment(autoescape=True)
        .from_string("{% for v in cells %}<td>{{ v }}</td>{% endfor %}")
        .render(cells=[*cells.to_numpy().ravel(), text])
    )
    found = Tags()
    found.feed(page)
    assert set(found.tags) == {"td", "b"}
    template = (PACKAGE / "reporting/report.html").read_text()
    assert "safe" not in re.findall(r"\|\s*(\w+)", template) and "autoescape false" not in template


def hostile_tableau(text):
    levels = torch.tensor([10.0, 1.0, 0.1], dtype=torch.float64)
    about = {"train": text, "val": text, "path": text}
    validation = {"start": 1.0, "learned": 0.5, "distance": text}
    meta = {"token": text, "solver": text, "model": text, "teacher": text, "pairs": about, "parametrisation": about}
    return s4s.solver("ddim", levels).with_meta(**meta, schedule=text, options={text: text}, validation=validation, family=text)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_card_obeys_no_file(tmp_path, text):
    tableau = hostile_tableau(text)
    row = {**dict.fromkeys(OF_CARD, "1"), "model": text, "solver": text, "nfe": 2, "features": text}
    pd.DataFrame([row]).to_csv(tmp_path / "scores.csv", index=False)
    page = card({2: tableau}, use_in_diffusers(f"a/{text}", {2: tableau}), text, tmp_path / "scores.csv")
    _, head, body = page.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == text and set(yaml.safe_load(head)) == {"license", "library_name", "tags"}
    prose, code, rest = body.split("```")[0], re.search(r"```python\n(.*?)\n```", body, re.S)[1], body.rpartition("```")[2]
    check_markdown(prose)
    assert not rest.strip() and len([line for line in prose.splitlines() if line.startswith("# ")]) == 1
    assert json.loads(re.search(r"from_pretrained\((.*)\)$", code, re.M)[1]) == f"a/{text}" == json.loads(quoted(f"a/{text}"))


def test_show_prints_no_line_of_a_file_s_own(tmp_path):
    for text in HOSTILE.values():
        found = facts(hostile_tableau(text))
        assert {"solver", "model", "teacher", "network", "pairs", "validation"} <= {*found}
        assert all(value.isprintable() for value in found.values()), text
    hostile_tableau("".join(HOSTILE.values())).save(tmp_path / "nfe~2.json")
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "nfe~2.json")]).output
    assert not {"\x1b", "\x9b", "\x07", "\u202e"} & {*shown}


@pytest.mark.slow
def test_figures_show_names_with_dollars(tmp_path):
    hostile_tableau(r"$\frac$").save(tmp_path / "a.json")
    hostile_tableau(r"$\nothing{").save(tmp_path / "b.json")
    figures = [
        levels_and_coefficients({r"$\frac$": str(tmp_path / "a.json"), "b": str(tmp_path / "b.json")}),
        score_against_nfe(scores(r"$\frac$ of it, more"), "fid"),
    ]
    row = {"group": r"$\frac$", "model": "m", "nfe": 3, "solver": "s4s_alt", "metric": "global_error", "value": 1.0}
    figures.append(ablation_figure(pd.DataFrame([{**row, "ratio": 1.0, "low": 0.9, "high": 1.1, "seconds": 1.0}])))
    for figure in figures:
        figure.savefig(tmp_path / "drawn.png")
        plt.close(figure)


@pytest.mark.parametrize("name", ["=1+1", "+x", "@sum", "-x", "a\nb", "a\x1b[31m", "", " a"])
def test_features_have_a_name_that_no_spreadsheet_calculates(name):
    with pytest.raises(ValidationError, match="name"):
        FeatureNetwork(path="x.pt", kind="torchscript", images="real", name=name)


def test_tables_are_written_in_one_place_alone():
    """Pandas' and tabulate's own writers escape nothing."""
    for call, places in {"to_markdown(": {"tables.py"}, "to_latex(": {"tables.py"}, "|safe": set(), "| safe": set()}.items():
        found = {path.name for path in PACKAGE.rglob("*") if path.suffix in (".py", ".html") and call in path.read_text()}
        assert found == places, call


def test_a_table_of_scores_says_which_columns_it_lacks(tmp_path):
    good = scores("x")
    path = tmp_path / "scores.csv"
    good.to_csv(path, index=False, encoding="utf-8-sig")
    assert len(tables.read_scores(path)) == len(good)
    tableau = s4s.solver("ddim", torch.tensor([10.0, 1.0, 0.5, 0.1])).with_meta(model="digits", token="s4s_alt")
    assert "4 ± 0.1" in card({3: tableau}, "use", "mit", path)
    kinds = "columns model, solver.*missing; its columns are separated by"
    cases = {
        "semicolons": (
            good.to_csv(index=False, sep=";"),
            f"{kinds} semicolons",
        ),
        "tabs": (good.to_csv(index=False, sep="\t"), f"{kinds} tabs"),
        "one": (good.drop(columns="features").to_csv(index=False), "column features missing"),
        "two": (
            good.drop(columns=["fid_mean", "n_seeds"]).to_csv(index=False),
            "columns .*(n_seeds|fid_mean).* missing",
        ),
        "other": ("a,b\n1,2\n", "columns model, solver"),
        "no head": ("1,2\n", "columns model, solver"),
        "empty": ("", "columns model, solver|cannot read the scores"),
        "not text": ("\x00\x01", "columns model, solver|cannot read|line contains NUL"),
    }
    for text, words in cases.values():
        path.write_text(text)
        for read in (lambda: tables.read_scores(path), lambda: card({3: tableau}, "use", "mit", path)):
            with pytest.raises(S4SError, match=words) as error:
                read()
            assert len(str(error.value).splitlines()) == 1
    path.write_bytes("ü".encode("latin-1"))
    with pytest.raises(S4SError, match="cannot read the scores"):
        tables.read_scores(path)
