"""Published solvers in a study: where they are compared, what their cells are made of, and what is refused."""

import json
import runpy
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import s4s
from s4s.errors import S4SError
from s4s.files.csv_file import write_csv
from s4s.models.load import load_outline
from s4s.models.model_files import read_model_file
from s4s.models.provenance import check_guidance, made_for
from s4s.models.published_solvers import ZOO, entries
from s4s.reporting.comparisons import ranks
from s4s.reporting.report import write_report
from s4s.reporting.solver_names import name_of_tableau, name_of_token
from s4s.reporting.solver_styles import FAMILIES, PUBLISHED, learned_style
from s4s.reporting.tables import COLUMNS, NOT_LEARNED
from s4s.reporting.verdicts import duels
from s4s.study import content, paths, plan, targets
from s4s.study.definitions import without_fit
from s4s.study.paths import Cell
from s4s.study.published import Published
from s4s.study.study import MAIN
from s4s.tableau import Tableau
from tests.test_plan import PAPER, paper
from tests.test_study import ROOT, study

GITS = "zoo:gits-cifar10"
FILES = "mine/nfe~{nfe}.json"


def published(tableau=FILES, token="gas_published", **changes):
    """The tiny study with a published solver beside the others."""
    options = {key: changes.pop(key) for key in ("min_nfe",) if key in changes}
    solvers = changes.pop("solvers", ["ddim-logsnr", "s4s_alt", token])
    return study(solvers=solvers, definitions={token: {"tableau": tableau, **options}, **changes.pop("more", {})}, **changes)


def cells(own, token="gas_published"):
    return [(cell.model, cell.nfe) for cell in own.cells() if cell.solver == token]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Of 3, 4 and 8 evaluations, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for nfe in (3, 4, 8):
        (tmp_path / f"mine/nfe~{nfe}.json").write_text("{}")
    return tmp_path / "mine"


def test_it_is_compared_where_its_files_are(files):
    assert cells(published(nfe=[3, 4, 5], more_nfe=[8])) == [("digits", 3), ("digits", 4), ("digits", 8)]
    assert cells(published(nfe=[3, 4, 5], min_nfe=4)) == [("digits", 4)]
    assert cells(published("none/nfe~{nfe}.json")) == []


def test_it_is_compared_on_its_own_models_at_the_nfe_of_its_entry(files):
    own = {"models": ["cifar10", "digits"], "nfe": [3, 6], "teacher": {"steps": 20}, "samples": 4096}
    assert cells(published(GITS, **own)) == [("cifar10", 6)]
    assert cells(published(f"{GITS}/6", **own)) == [("cifar10", 6)]
    assert cells(published({"digits": FILES, "cifar10": GITS}, **own)) == [("cifar10", 6), ("digits", 3)]
    assert cells(published({"digits": GITS}, **own)) == [("digits", 6)], "of a model that the user vouches for"


def test_it_is_neither_fitted_nor_training_free(files):
    own, cell = published(), Cell("digits", "gas_published", 4)
    assert not own.is_learned(cell.solver) and not own.is_training_free(cell.solver) and cell not in own.fits()
    assert cell.solver in own.tokens(learned=False), "which the rule tableau makes"
    assert {paths.tableau(cell), paths.samples(cell), paths.score(cell)} <= {*targets.kept(own)}
    assert not any(own.inputs("tableau", model="digits", solver=cell.solver, nfe="4").values())
    assert targets.describe(own)["digits"][cell.solver]["family"] == "published" not in NOT_LEARNED
    assert cell.solver in targets.figures(own)["levels_and_coefficients-digits"]
    assert plan.evaluations(own, "digits")["samples"] == (3 + 4) * 3 * 2 * 40


@pytest.mark.parametrize(("others", "there"), [(["ddim-logsnr", "s4s_alt"], True), (["ddim-logsnr"], False), (["ld3"], False)])
def test_speed_ups_are_of_learned_solvers_against_training_free_ones(files, others, there):
    further = {"more": {"models": ["digits"], "nfe": [3, 4], "solvers": [*others, "gas_published"]}}
    assert targets.has_speedups(published(comparisons=further), "more") == there


def test_a_changed_file_or_entry_changes_what_its_cells_are_made_of(files):
    own = published({"digits": FILES, "cifar10": GITS})
    (file,) = own.files_of_tableau("digits", "gas_published", "4")
    before = content.path_digest(file)
    file.write_text("{ }")
    assert file == Path("mine/nfe~4.json") and content.path_digest(file) != before
    assert own.files_of_tableau("cifar10", "gas_published", "6") == [ZOO / "gits-cifar10.yaml"]
    assert own.files_of_tableau("digits", "ddim-logsnr", "4") == own.files_of_tableau("digits", "teacher", "12") == []
    flow = published({"digits": "zoo:neuralsolver-sit-xl2"}).files_of_tableau("digits", "gas_published", "5")
    assert [path.name for path in flow] == ["neuralsolver-sit-xl2.yaml", "nfe~5.json"] and all(map(Path.is_file, flow))


def test_a_job_is_given_what_is_of_its_model(files):
    own = published({"digits": FILES, "cifar10": GITS}, min_nfe=4)
    assert json.loads(own.definition_json("digits", "gas_published")) == {"tableau": {"digits": FILES}}
    assert without_fit(own.definition_json("digits", "gas_published")) == Published(tableau={"digits": FILES})
    assert without_fit(own.definition_json("digits", "ddim-logsnr")).solver == "ddim"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tableau": "mine.json"},
            r"definitions.gas_published.*a path with \{nfe\} in it and no other braces, got 'mine.json'",
        ),
        ({"tableau": "{model}/{nfe}.json"}, "no other braces"),
        ({"tableau": {}}, "definitions.gas_published"),
        ({"tableau": "zoo:nothing"}, "no solver 'nothing'|no solver 'zoo:nothing'"),
        ({"tableau": f"{GITS}/5"}, "its numbers of evaluations are 6"),
        ({"tableau": "zoo:dyweight-cifar10"}, "its numbers do not come with s4s .*`s4s zoo show dyweight-cifar10`"),
        ({"tableau": "zoo:neuralsolver-sit-xl2"}, "is for no model in config/models; write tableau: {MODEL: zoo:neur"),
        ({"more": {"own": {"tableau": FILES, "order": 2}}}, "order: unknown key"),
        (
            {"solvers": ["own"], "more": {"own": {"family": "joint", "base": "gas_published"}}},
            "definitions.own.base: 'gas_published' is not a classical solver; defined: ",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(S4SError, match=message):
        published(**changes)


def test_a_plan_says_which_are_left_out(files):
    assert "Left out" not in plan.summary(published())
    assert "Left out, for no file of theirs is there at these NFE: digits/gas_published." in plan.summary(published(nfe=[5]))
    assert "Left out" not in plan.summary(published(GITS)), "it is for another model"


@pytest.fixture
def run_tableau(tmp_path, monkeypatch, capsys):
    """The program that the rule calls; what it wrote, or its last line."""
    for where, name in ((warnings, "showwarning"), (sys, "unraisablehook")):
        monkeypatch.setattr(where, name, getattr(where, name))  # which it changes

    def run(model, definition, nfe):
        text = json.dumps(definition)
        arguments = [
            "--model",
            model,
            "--token",
            "x_published",
            "--nfe",
            nfe,
            "--definition",
            text,
            "--out",
            tmp_path / "out.json",
        ]
        monkeypatch.setattr(sys, "argv", ["tableau.py", *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / "workflow/scripts/tableau.py"))
        except SystemExit:
            return capsys.readouterr().err.strip().splitlines()[-1]
        return Tableau.load(tmp_path / "out.json")

    return run


def made(model="digits", nfe=4, scale=1.0, **meta):
    """A tableau as `s4s convert` writes one, two of its evaluations at the same time."""
    outline = load_outline(model)
    tableau = s4s.solver("ddim", scale * s4s.levels("logsnr", nfe, outline), path=outline.path)
    B = tableau.B.clone()
    B[0, 0] = 0
    groups = ((0, 1), *((node,) for node in range(2, nfe)))
    return replace(tableau, B=B, groups=groups, meta={**made_for(outline), "paper": "arXiv 1", "commit": "c", **meta})


def test_a_user_s_file_becomes_a_cell_with_all_that_it_says(tmp_path, run_tableau):
    source = made(token="other", fit={"driver": "joint"})
    source.save(tmp_path / "nfe~4.json")
    found = run_tableau("digits", {"tableau": str(tmp_path / "nfe~{nfe}.json")}, 4)
    assert found.digest() == source.digest() and found.groups == source.groups and found.nfe == 4
    assert found.meta == {
        **made_for(load_outline("digits")), "token": "x_published", "family": "published", "published": source.meta
    }  # fmt: skip
    assert "fit" not in found.meta, "or questions would take it for one of ours"


def test_an_entry_of_the_zoo_becomes_a_cell(run_tableau):
    """Of a model whose weights are not here."""
    found = run_tableau("cifar10", {"tableau": GITS}, 6)
    assert torch.equal(found.levels, s4s.export.zoo.zoo_tableau(GITS, load_outline("cifar10")).levels)
    assert (found.meta["model"], found.meta["family"], found.meta["published"]["commit"][:7]) == (
        "cifar10",
        "published",
        "68d5ce4",
    )


def test_a_classical_solver_is_made_as_ever(run_tableau):
    found = run_tableau("digits", {"solver": "ddim", "levels": "logsnr"}, 3)
    assert found.meta["family"] == "classical" and found.nfe == 3


@pytest.mark.parametrize(
    ("change", "by_model", "message"),
    [
        ({"nfe": 5}, False, "has a solver with 5 evaluations, not 4"),
        ({"model": "mixture"}, False, "was made for model mixture, not for digits; write tableau: {mixture: "),
        ({"parametrisation": {"path": "flow"}}, False, "made for a network with path flow"),
        ({"parametrisation": {"path": "flow"}}, True, "made for a network with path flow"),
        ({"scale": 2.0}, True, "runs over noise levels 160 to 0.004 (model digits), but model digits covers 80 to"),
        ({"guidance": 7.5}, False, "was made with guidance 7.5, but model digits has 1"),
    ],
)
def test_a_solver_for_something_else_is_refused_in_one_line(tmp_path, run_tableau, change, by_model, message):
    made(**change).save(tmp_path / "nfe~4.json")
    path = str(tmp_path / "nfe~{nfe}.json")
    said = run_tableau("digits", {"tableau": {"digits": path} if by_model else path}, 4)
    assert message in said


def test_another_guidance_is_refused_where_both_are_known():
    scales = {name: read_model_file(name).guidance_scale() for name in ("imagenet256", "sd15", "digits-cond", "cifar10")}
    assert scales == {"imagenet256": 2.0, "sd15": 7.5, "digits-cond": 1.2, "cifar10": None}
    fitted = made(guidance=7.5)
    for scale in (7.5, None):
        check_guidance(fitted, scale, "model x")
    check_guidance(made(), 2.0, "model x")
    with pytest.raises(S4SError, match=r"was made with guidance 7\.5, but model x has 2"):
        check_guidance(fitted, 2.0, "model x")


def test_the_paper_s_config_has_every_entry_of_its_models(tmp_path, monkeypatch):
    """The same solver under one token, and its files where the commands of docs/zoo.md put them."""
    monkeypatch.chdir(tmp_path)
    named = {*PAPER["models"], *PAPER["comparisons"]["published"]["models"]}
    own = {token: Published(**it) for token, it in PAPER["definitions"].items() if "tableau" in it}
    for name, entry in entries().items():
        for model in {*entry.config} & named:
            wanted = f"zoo:{name}" if entry.ships else f"zoo/{name}/nfe~{{nfe}}.json"
            assert own[f"{name.partition('-')[0]}_published"].source(model) == wanted, (name, model)
    assert {*own} <= {*PAPER["comparisons"]["published"]["solvers"]} and not {*own} & {*PAPER["solvers"]}


def test_the_paper_s_comparison_runs_without_any_file_and_takes_those_that_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def found():
        shown = [cell for cell in paper().cells("study/published") if cell.solver.endswith("_published")]
        return {(cell.model, cell.solver, cell.nfe) for cell in shown}

    shipped = {("cifar10", "gits_published", 6), ("sd15", "ays_published", 10)}
    assert found() == shipped
    (tmp_path / "zoo/epd-cifar10").mkdir(parents=True)
    for nfe in (5, 8):
        (tmp_path / f"zoo/epd-cifar10/nfe~{nfe}.json").touch()
    assert found() == shipped | {("cifar10", "epd_published", nfe) for nfe in (5, 8)}
    main = {cell.solver for cell in paper().cells()}
    ours = {cell.solver for cell in paper().cells("study/published") if not cell.solver.endswith("_published")}
    assert ours <= main and not any(token.endswith("_published") for token in main)


def scores():
    """Of one model: a published solver, better than all, at an NFE beyond that of the fits too."""
    rows = [
        ["digits", solver, family, "", schedule, nfe, nfe, 64, 3, value / nfe, 0.001, "f", value / nfe, 0.0001, fit, 1.0]
        for solver, family, schedule, value, fit in (
            ("teacher", "teacher", "logsnr", 0.1, 0),
            ("ddim-logsnr", "classical", "logsnr", 3.0, 0),
            ("ipndm2-time_quadratic", "classical", "time_quadratic", 2.5, 0),
            ("s4s_alt", "s4s_alt", "learned", 2.0, 100),
            ("gas_published", "published", "", 1.0, 0),
        )
        for nfe in ([12] if solver == "teacher" else [3, 4] if fit else [3, 4, 8])
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_what_is_said_of_learned_solvers_is_of_those_that_were_fitted_here():
    found = duels(scores(), "global_error")
    assert [duel.learned for duel in found] == ["S4S-Alt", "S4S-Alt"] and [duel.nfe for duel in found] == [3, 4]
    table = scores().rename(columns={"global_error": "value"}).assign(metric="global_error", seed=0)
    ranked = ranks(table[["model", "solver", "nfe", "family", "metric", "seed", "value"]])
    assert ranked.cells == 2 and list(ranked.average.index[:2]) == ["gas_published", "s4s_alt"]


def test_a_report_names_published_solvers(files):
    own, table = published(), files / "scores.csv"
    write_csv(table, scores()[lambda rows: rows.nfe != 8])
    write_report(own, MAIN, table, [], files / "report.html", files / "logs")
    page = (files / "report.html").read_text()
    assert "<dt>Published solvers</dt><dd>GAS, authors&#39; solver</dd>" in page
    assert "Learned and published solvers are in bold." in page
    assert "<dt>Training-free solvers</dt><dd>DDIM, log-SNR schedule</dd>" in page


def test_published_solvers_have_names_and_looks_of_their_own():
    tokens = [token for token, it in PAPER["definitions"].items() if "tableau" in it]
    assert all(name_of_token(token, "published").endswith(", authors' solver") for token in tokens)
    assert name_of_token("dyweight_mine", "published") == "dyweight_mine"
    assert name_of_tableau(made(token="dyweight_mine", family="published")) == "dyweight_mine"
    looks = [str(learned_style(token)) for token in [*tokens, *FAMILIES]]
    assert len({*looks}) == len(looks) and len({colour for colour, _ in PUBLISHED.values()}) == len(PUBLISHED)
