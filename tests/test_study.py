"""What a config means, without Snakemake: cells, teachers, initialisation, inputs and files of each; digests of models."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from s4s.errors import S4SError
from s4s.jobs.job_records import keep_with_results
from s4s.models.model_files import read_model_file
from s4s.study import content, paths, plan, targets
from s4s.study.definitions import Classical, Learned
from s4s.study.paths import Cell
from s4s.study.study import MAIN, Study

ROOT = Path(__file__).parents[1]
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text())
TINY = yaml.safe_load((ROOT / "tests/configs/tiny.yaml").read_text())


def study(**changes) -> Study:
    """The tiny study, with changes of its config and further definitions."""
    definitions = {**DEFAULT["definitions"], **TINY.get("definitions", {}), **changes.pop("definitions", {})}
    return Study.read({**DEFAULT, **TINY, "comparisons": {}, **changes, "definitions": definitions})


def learned(**options):
    return {"own": {"family": "joint", "base": "ipndm2-time_quadratic", **options}}


def test_cells_come_by_models_with_the_teacher_first():
    own = study(nfe=[3, 4], solvers=["ddim-logsnr", "s4s_alt"])
    assert own.cells() == [
        Cell("digits", "teacher", 12),
        *(Cell("digits", token, nfe) for token in ("ddim-logsnr", "s4s_alt") for nfe in (3, 4)),
    ]
    assert own.fits() == [Cell("digits", "s4s_alt", 3), Cell("digits", "s4s_alt", 4)]
    assert {"s4s_alt", "joint"} <= {*own.tokens(learned=True)} and "teacher" in own.tokens(learned=False)


@pytest.mark.parametrize(
    ("teacher", "options", "steps", "folder"),
    [
        ({}, {}, 12, "shards"),
        ({"ahead": 2}, {}, 6, "steps~6"),
        ({}, {"teacher_steps": 8}, 8, "steps~8"),
        ({"ahead": 2}, {"teacher_steps": 8}, 8, "steps~8"),
        ({}, {"teacher_steps": 12}, 12, "shards"),  # the model's own after all
        ({"ahead": 8}, {}, 12, "shards"),
    ],
)
def test_a_fit_has_the_teacher_that_its_solver_and_its_model_say(teacher, options, steps, folder):
    own = study(solvers=["own"], nfe=[4], teacher={**TINY["teacher"], **teacher}, definitions=learned(**options))
    cell = Cell("digits", "own", 4)
    assert own.teacher_of(cell) == Cell("digits", "teacher", steps)
    assert own.teacher_of(Cell("digits", "ddim-logsnr", 4)).nfe == 12, "samples are compared with the model's own"
    inputs = own.inputs("fit", model="digits", solver="own", nfe="4")
    assert inputs["train"] == [f"results/teacher/digits/{folder}/train-0.h5"]
    made = own.inputs("pairs", model="digits", folder=folder, split="train", shard="0")
    assert made["teacher"] == [f"results/tableaux/digits/teacher/nfe~{steps}.json"]
    assert (f"results/teacher/digits/{folder}/train-0.h5" in targets.kept(own)) and inputs["train"][0] in targets.kept(own)
    further = 0 if steps == 12 else steps * (own.settings["digits"].teacher.train + own.settings["digits"].teacher.val)
    assert plan.evaluations(own, "digits")["teacher"] - plan.evaluations(study(), "digits")["teacher"] == further


def test_a_fit_starts_at_its_base_at_the_next_smaller_nfe_or_at_a_file():
    base = Cell("digits", "ipndm2-time_quadratic", 4)
    assert study(definitions=learned()).initialisation_of(Cell("digits", "own", 4)) == ([base], None)
    warm = study(solvers=["own"], nfe=[3, 4, 8], definitions=learned(warm_start="previous"))
    assert warm.initialisation_of(Cell("digits", "own", 8)).near == Cell("digits", "own", 4)
    assert warm.initialisation_of(Cell("digits", "own", 3)).near is None
    inputs = warm.inputs("fit", model="digits", solver="own", nfe="8")
    assert inputs["near"] == ["results/tableaux/digits/own/nfe~4.json"] and not warm.warm_start_file("digits", "own", "8")
    filed = study(definitions=learned(warm_start="mine-{nfe}.json"))
    assert filed.warm_start_file("digits", "own", "4") == ["mine-4.json"]
    assert filed.inputs("fit", model="digits", solver="own", nfe="4")["near"] == []


def test_many_samples_are_cut_into_shards_of_whole_blocks():
    whole, cut = study(samples=512), study(samples=600, shard=300)
    cell = Cell("digits", "ddim-logsnr", 3)
    assert whole.is_whole("digits") and whole.samples(cell) == [paths.samples(cell)]
    assert cut.shard_size("digits") == 512 and not cut.is_whole("digits")
    shards = [f"test~{seed}-{shard}" for seed in TINY["seeds"] for shard in (0, 1)]
    assert cut.samples(cell) == [paths.samples(cell, name) for name in shards]
    assert cut.inputs("score", model="digits", solver="ddim-logsnr", nfe="3")["statistics"] == [
        paths.shard_score(cell, name) for name in shards
    ]
    one = cut.inputs("score_shard", model="digits", solver="ddim-logsnr", nfe="3", name="test~1-1")
    assert one["samples"] == [paths.samples(cell, "test~1-1")] and one["pairs"] == [paths.pairs("digits", "shards", "test~1-1")]
    of_teacher = cut.inputs("score_shard", model="digits", solver="teacher", nfe="12", name="test~1-1")
    assert of_teacher["samples"] == of_teacher["pairs"]
    with pytest.raises(S4SError, match="test~1-2: no shard of digits; its shards: test~0-0 to test~1-1"):
        cut.inputs("score_shard", model="digits", solver="ddim-logsnr", nfe="3", name="test~1-2")


def test_all_that_a_comparison_is_made_from_is_asked_for():
    """Then a file that was deleted is noticed and made again."""
    own = study(nfe=[4], solvers=["unipc3-gits", "s4s_alt"], definitions={})
    kept = {*targets.kept(own)}
    for cell in own.cells():
        assert {paths.tableau(cell), paths.score(cell), paths.samples(cell)} <= kept
    assert {"results/search/digits/costs.json", "results/search/digits/trajectories.h5", "results/reference/digits.npz"} <= kept
    assert {
        f"results/teacher/digits/shards/{name}.h5" for name in own.shards("digits", "train", "val", "test~0", "test~1")
    } <= kept
    assert paths.tableau(Cell("digits", "ipndm2-time_quadratic", 4)) in kept, "of the base"
    assert not any("/samples/" in path for path in targets.kept(study(keep_samples=False)))


def read(own, cell):
    """What the results of a cell are made of."""
    names = {"model": cell.model, "solver": cell.solver, "nfe": str(cell.nfe)}
    stages = ["score"] if cell.solver == "teacher" else ["sample", "score", "fit" if own.is_learned(cell.solver) else "tableau"]
    return own.definition_json(cell.model, cell.solver), [own.inputs(stage, **names) for stage in stages]


@pytest.mark.parametrize(
    ("changes", "cells"),
    [
        ({"nfe": [3, 4, 5]}, [(token, 5) for token in TINY["solvers"]]),
        ({"solvers": [*TINY["solvers"], "ddim-edm"]}, [("ddim-edm", 3), ("ddim-edm", 4)]),
        ({"solvers": [*TINY["solvers"], "joint"], "nfe": [4]}, [("joint", 4)]),
    ],
)
def test_what_is_added_to_a_config_computes_only_its_cells(changes, cells):
    """No other file is new but that of a base, and what the cells that were there are made of is as it was."""
    before, after = study(), study(**changes)
    new = [Cell("digits", *cell) for cell in cells]
    wanted = {file(cell) for cell in new for file in (paths.tableau, paths.samples, paths.score)}
    for cell in new:
        wanted |= (
            {paths.fit(cell), *map(paths.tableau, after.initialisation_of(cell).bases)}
            if after.is_learned(cell.solver)
            else set()
        )
    known = {*targets.kept(before)}
    assert {*targets.kept(after)} - known == wanted - known
    for cell in {*before.cells()} & {*after.cells()}:
        assert read(before, cell) == read(after, cell)


def test_searches_and_statistics_are_made_once_a_model():
    tokens = ["ipndm3-gits", "unipc3-gits", "unipc3-dmn", "dpm_v3-logsnr", "ipndm3_afs-gits", "heun-edm"]
    kept = targets.kept(study(nfe=[3, 4], solvers=tokens))
    searches = [f"results/search/digits/{name}" for name in ("costs.json", "statistics.json", "trajectories.h5")]
    assert sorted(path for path in kept if "/search/" in path) == searches
    assert sum("/scores/" in path for path in kept) == 1 + 2 * len(tokens)


def test_a_solver_travels_as_one_json_text():
    own = study(definitions=learned(fit={"iterations": 5}))
    definition = Learned.from_json(own.definition_json("digits", "own"))
    assert definition.base == "ipndm2-time_quadratic" and definition.fit["iterations"] == 5
    assert definition.fit["batch"] == own.settings["digits"].fit.batch, "all settings, wherever they were said"
    assert Classical.from_json(own.definition_json("digits", "teacher")).solver == "unipc"
    assert Classical.from_json(own.definition_json("digits", "search")).levels == "edm"


def test_a_comparison_that_the_config_contradicts_is_wrong_only_where_it_is_asked_for():
    own = study(comparisons={"late": {"models": ["digits"], "nfe": [30], "solvers": ["ddim-logsnr"]}})
    assert own.cells(MAIN) and "nfe [30] must be smaller" in own.wrong["late"]
    other = study(comparisons={"late": {"models": ["mixture"], "nfe": [30], "solvers": ["ddim-logsnr"]}})
    assert other.wrong and {*other.models} == {*other.settings} == {*other.files} == {"digits"}, "its models are left out"
    with pytest.raises(S4SError, match=r"comparisons\.late"):
        targets.comparison_files(own, "late")


def test_a_comparison_may_have_models_of_its_own():
    own = study(comparisons={"more": {"models": ["tabular"], "nfe": [3, 4], "solvers": ["ddim-logsnr", "s4s_alt", "joint"]}})
    assert {cell.model for cell in own.cells("study/more")} == {"tabular"} and {cell.model for cell in own.cells()} == {
        "digits"
    }
    files = targets.comparison_files(own, "more")
    assert {"results/study/more/report.html", "results/study/more/ranks.pdf"} <= {*files}
    assert not any("evaluations_saved" in file for file in targets.comparison_files(
        study(comparisons={"alone": {"models": ["digits"], "nfe": [3, 4], "solvers": ["s4s_alt"]}}), "alone"))  # fmt: skip


def test_what_a_figure_of_one_nfe_shows():
    own = study(nfe=[3, 4, 8], solvers=["ddim-logsnr", "s4s_alt"])
    shown = targets.figures(own)["samples-digits"]
    assert [*shown] == ["teacher", "ipndm2-time_quadratic", "s4s_alt"] and shown["s4s_alt"].endswith("s4s_alt/nfe~4.h5")
    assert targets.decoded_model(own, "samples-digits") is None and targets.decoded_model(own, "fid") is None
    latent = study(models=["patches-latent"])
    assert targets.decoded_model(latent, "samples-patches-latent") == "patches-latent"
    # what is not stored as pictures either
    galaxies = study(models=["galaxies-hsc32"], solvers=["ddim-logsnr"])
    assert targets.decoded_model(galaxies, "samples-galaxies-hsc32") == "galaxies-hsc32"


def test_records_go_where_results_go(tmp_path):
    """Also those of a folder from before, and where results were deleted or came from elsewhere."""
    link, place = tmp_path / ".snakemake/metadata", tmp_path / "results/.metadata"
    link.mkdir(parents=True)
    (link / "record").write_text("old")
    keep_with_results(tmp_path)
    assert (place / "record").read_text() == "old" and link.is_symlink() and (link / "record").exists()
    shutil.rmtree(tmp_path / "results")
    keep_with_results(tmp_path)
    assert link.is_dir() and not any(place.iterdir())
    (tmp_path / "results").rename(tmp_path / "elsewhere")
    (tmp_path / "other").mkdir()
    shutil.move(tmp_path / "elsewhere", tmp_path / "other/results")
    keep_with_results(tmp_path / "other")
    assert (tmp_path / "other/.snakemake/metadata").resolve() == (tmp_path / "other/results/.metadata").resolve()


def model_of(folder: Path):
    """The digits model, with its files in a folder of its own."""
    (folder / "models").mkdir(parents=True)
    shutil.copytree(ROOT / "resources/digits", folder / "digits")
    text = (ROOT / "config/models/digits.yaml").read_text().replace("../../resources/digits", "../digits")
    (folder / "models/digits.yaml").write_text(text)
    return folder / "models/digits.yaml"


def test_a_models_digest_is_of_content_not_of_places_and_times(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here, there = (read_model_file(model_of(tmp_path / name)) for name in ("here", "there/deep"))
    assert content.of_model(here) == content.of_model(there)
    assert content.of_model(here) == content.of_model(here.model_copy(update={"throughput": 5.0, "licence": "x", "study": {}}))
    assert content.of_model(here) != content.of_model(here.model_copy(update={"block": 8})), "last bits depend on it"
    other = here.perceptual.model_copy(update={"sha256": "0" * 64})
    changed = here.model_copy(update={"perceptual": other})
    assert content.of_model(changed) == content.of_model(here)
    assert content.of_model(changed, "perceptual") != content.of_model(here, "perceptual")


def test_what_is_published_counts_the_same_before_and_after_it_is_fetched(tmp_path):
    text = "{name: mine, kind: edm, path: a.pkl, url: https://example.org/%s}"
    (tmp_path / "mine.yaml").write_text(text % "a.pkl")
    before = content.of_model(read_model_file(tmp_path / "mine.yaml"))
    (tmp_path / "a.pkl").write_text("fetched")
    assert content.of_model(read_model_file(tmp_path / "mine.yaml")) == before
    (tmp_path / "mine.yaml").write_text(text % "b.pkl")
    assert content.of_model(read_model_file(tmp_path / "mine.yaml")) != before
    (tmp_path / "mine.yaml").write_text("{name: mine, kind: edm, path: a.pkl}")
    of_content = content.of_model(read_model_file(tmp_path / "mine.yaml"))
    (tmp_path / "a.pkl").write_text("replaced")
    assert content.of_model(read_model_file(tmp_path / "mine.yaml")) != of_content


def test_a_fit_says_which_files_of_the_users_it_reads(tmp_path):
    fit = {"lpips_weights": str(tmp_path / "vgg.pth")}
    own = study(solvers=["own"], nfe=[4], definitions=learned(warm_start="mine.json", fit=fit))
    assert own.files_of_fit("digits", "own", "4") == [Path("mine.json"), tmp_path / "vgg.pth"]
    assert study().files_of_fit("digits", "s4s_alt", "4") == []


def test_files_without_a_checksum_count_by_their_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(content, "LARGE", 4)
    content._kept.cache_clear()
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / "w.bin").write_bytes(b"12345")
    os.utime(tmp_path / "w.bin", (1, 1))
    first = content.path_digest(tmp_path / "w.bin")
    assert (tmp_path / content.KEPT).is_file() and content.path_digest(tmp_path / "w.bin") == first
    (tmp_path / "w.bin").write_bytes(b"12346")
    assert content.path_digest(tmp_path / "w.bin") != first
    (tmp_path / content.KEPT).write_text("[broken")
    content._kept.cache_clear()
    (tmp_path / "w.bin").write_bytes(b"12345")
    assert content.path_digest(tmp_path / "w.bin") == first and content.path_digest(tmp_path / "none") == "absent"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("a")
    one = content.path_digest(folder)
    (folder / "a").rename(folder / "b")
    assert content.path_digest(folder) != one
    content._kept.cache_clear()
