"""Tables and figures for a paper: published rows, their sources and style, LaTeX, widths, fonts, colours."""

import re
import shutil
import subprocess
import zlib

import pandas as pd
import pytest

from s4s import S4SError
from s4s.models.model_files import read_model_file
from s4s.models.published import PUBLISHED, datasets
from s4s.reporting.paper_figures import COLUMN, curves, save_at_width
from s4s.reporting.paper_tables import (
    COUNTERPARTS,
    document,
    fid_table,
    fit_time_table,
    latex,
    markdown,
    published_figures,
    published_table,
)
from s4s.reporting.solver_names import name_of_token
from s4s.reporting.solver_styles import FAMILIES, VARIANTS, learned_style
from s4s.reporting.tables import COLUMNS

SOLVERS = {"teacher": "teacher", "ddim-edm": "classical", "unipc3-edm": "classical", "unipc3-gits": "searched",
           "ld3": "ld3", "s4s_alt": "s4s_alt", "s4s_lms-edm": "s4s_lms"}  # fmt: skip


@pytest.fixture(scope="module")
def scores():
    """Two NFE of one model; learned solvers have the smaller FID."""
    rows = []
    for i, (solver, family) in enumerate(SOLVERS.items()):
        for nfe in [20] if solver == "teacher" else [4, 6]:
            fid = 1 + (10 - i) / nfe
            fit = (0, 0.0) if family in ("teacher", "classical") else (1500, 0.0 if family == "searched" else 2.5)
            rows.append(["cifar10", solver, family, "", solver.partition("-")[2], nfe, nfe, 100, 3, fid, 0.1,
                         "Inception-v3", 0.5 / nfe, 0.01, *fit])  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.fixture(scope="module")
def published():
    return published_figures(PUBLISHED)


def test_the_published_figures_are_complete_and_each_is_there_once(published):
    assert len(published) == 612 and not published.duplicated(["dataset", "method", "nfe"]).any()
    assert {"cifar10", "imagenet-64", "imagenet-256-sit-xl2-cfg"} < {*datasets()}
    assert published.second_hand.sum() == 18 and (published.fid > 0).all()


def test_second_hand_figures_are_marked_where_they_are_shown_and_no_ratio_rests_on_them(scores, published):
    table = published_table("cifar10", published, scores, {})
    rows, ratios = ({row.name.text: [cell.text for cell in row.cells] for row in block} for block in table.blocks[:2])
    assert rows["dyweight"][:3] == ["8.16†", "", "3.02"] and rows["ipndm (afs)"][2] == "7.77†"
    assert ratios["dyweight, published"][:3] == ["", "", f"{3.02 / 8.38:.2f}"]  # against GITS, not against 7.77
    assert "† was read in others' notes" in table.caption
    alone = published_table("imagenet-256-dit-xl2-cfg1.5", published, scores, {})
    assert all(cell.text.endswith("†") for row in alone.blocks[0] for cell in row.cells if cell.text)
    assert "†" not in markdown(published_table("afhqv2-64", published, scores, {}))


def test_published_rows_are_below_ours_in_another_style_with_their_sources(scores, published):
    table = fid_table(scores, published, "cifar10")
    ours, theirs = table.blocks
    assert [row.name.text for row in ours] == [name_of_token(token) for token in [*SOLVERS][1:]]
    assert not any(row.published for row in ours)
    assert all(row.published for row in theirs) and table.columns == [*"3456789", "10"]
    used = {mark for row in theirs for cell in (row.name, *row.cells) for mark in cell.notes}
    assert used == {letter for letter, _ in table.footnotes}
    tex, text = latex(table), markdown(table)
    assert r"\textcolor[gray]{0.4}{\textit{6.35}}" in tex and r"\textbf{2.00 {\tiny$\pm$} 0.10}" in tex
    assert "| *ipndm-4*<sup>a</sup> |" in text and "analytic first step" in text and "Teachers: teacher unipc-3 2.03" in text
    for source in published[published.dataset == "cifar10"].source:
        assert source in text


def test_a_model_without_published_figures_says_so_and_shows_no_foreign_numbers(scores, published):
    table = fid_table(scores.assign(model="digits", features="digits-classifier"), published, "")
    assert len(table.blocks) == 1 and "Nothing is published" in table.caption and "(not Inception)" in table.caption


def test_ratios_are_to_the_best_training_free_solver(scores, published):
    table = published_table("cifar10", published, scores, {"cifar10": "cifar10"})
    _, ratios, own = table.blocks
    found = {row.name.text: [cell.text for cell in row.cells] for row in (*ratios, *own)}
    assert found["s4s-alt, published"][1] == f"{6.35 / 15.63:.2f}"  # GITS as rerun is the best of the training-free ones
    best = scores[(scores.solver == "unipc3-gits") & (scores.nfe == 4)].fid_mean.item()
    ratio = scores[(scores.solver == "s4s_alt") & (scores.nfe == 4)].fid_mean.item() / best
    assert found["S4S-Alt, cifar10"][1] == f"{ratio:.2f}"
    assert len(ratios) <= len(COUNTERPARTS) + 1 and "comparable in kind only" in table.caption


def test_models_name_their_data_set_and_a_wrong_name_is_one_clear_error(tmp_path, scores, published):
    assert read_model_file("cifar10").published == "cifar10" and read_model_file("digits").published is None
    assert read_model_file("sd15").published in datasets() and read_model_file("sd14").published is None
    path = tmp_path / "own.yaml"
    path.write_text("{name: own, kind: edm, path: x.pkl, published: cifar11}")
    with pytest.raises(S4SError, match="published: no published figures of this data set; known: cifar10, ffhq64") as error:
        read_model_file(path)
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(S4SError, match="no published figures of 'cifar11'; known: cifar10"):
        fid_table(scores, published, "cifar11")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("cifar10,ipndm,3,24.5,,", "line 3 has no source"),
        ("cifar10,ipndm,3", "line 3 has no source"),
        ("cifar10,ipndm,three,24.5,,someone", "cannot read the published figures"),
    ],
)
def test_a_broken_file_of_published_figures_is_one_clear_error(tmp_path, row, words):
    path = tmp_path / "fid.csv"
    path.write_text(f"dataset,method,nfe,fid,note,source\ncifar10,ddim,3,93.36,,someone\n{row}\n")
    with pytest.raises(S4SError, match=words):
        published_figures(path)


@pytest.mark.slow
def test_tables_compile(scores, published, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex; Debian's texlive-latex-base and texlive-latex-recommended have it")
    tables = {"fid-cifar10": fid_table(scores, published, "cifar10"), "fit_time": fit_time_table(scores)}
    tables |= {f"published-{name}": published_table(name, published, scores, {}) for name in datasets()}
    for name, table in tables.items():
        (tmp_path / f"{name}.tex").write_text(latex(table))
    save_at_width(curves(scores, "fid"), tmp_path / "fid-cifar10.pdf", COLUMN)
    (tmp_path / "paper.tex").write_text(document([f"{name}.tex" for name in tables], ["fid-cifar10.pdf"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout[-2000:].decode(errors="replace")
    assert b"Overfull" not in (tmp_path / "paper.log").read_bytes()


@pytest.mark.slow
def test_figures_are_a_column_wide_with_truetype_fonts(scores, tmp_path):
    for metric in ("fid", "global_error"):
        save_at_width(curves(scores, metric), tmp_path / "figure.pdf", COLUMN)
        content = (tmp_path / "figure.pdf").read_bytes()
        width = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", content).group(1))
        assert width == pytest.approx(COLUMN * 72, abs=0.1)
        text = content + b"".join(
            zlib.decompress(part) for part in re.findall(rb"FlateDecode >>\nstream\n(.*?)\nendstream", content, re.S)
        )
        assert b"/CIDFontType2" in text or b"/TrueType" in text
        assert b"/Type3" not in text


def test_a_solver_looks_the_same_whatever_is_drawn_beside_it(scores):
    shown = {name_of_token(token) for token in SOLVERS}

    def looks(some):
        figure = curves(some, "fid")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        return {
            label: (bar[0].get_color(), bar[0].get_marker())
            for bar, label in zip(handles, labels, strict=True)
            if label in shown
        }

    assert looks(scores[scores.solver != "ld3"]) == {k: v for k, v in looks(scores).items() if k != "LD3"}
    styles = [str(learned_style(f"{family}{rest}")) for family in FAMILIES for rest in VARIANTS]
    assert len({*styles}) == len(FAMILIES) * len(VARIANTS)
    assert len({style[1] for style in FAMILIES.values()}) == len(FAMILIES)  # markers tell them apart in grey
    assert learned_style("mine") == learned_style("mine")
