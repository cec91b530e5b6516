"""Comparisons with numbers of evaluations for single models, and the figure of samples beside the teacher's."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from s4s.errors import S4SError
from s4s.files.rows import SAMPLES, TEACHER_PAIRS, Split, merge, write_splits
from s4s.reporting.showcase import NOISES, best_training_free, showcase
from s4s.reporting.tables import COLUMNS
from s4s.study import paths, targets
from s4s.study.paths import Cell
from tests.test_demands import model
from tests.test_study import study

SOLVERS = ["ddim-logsnr", "ipndm2-time_quadratic", "s4s_alt"]
SHOWN = {"models": ["digits"], "nfe": [3, 4], "solvers": ["s4s_alt"]}


def more(models=("digits", "digits-cond"), config=None, **options):
    """The tiny study with a comparison `more`."""
    asked = {"models": [*models], "nfe": [3, 4], "solvers": SOLVERS, **options}
    return study(comparisons={"more": asked}, **(config or {}))


def cells(own, name):
    return {(cell.solver, cell.nfe) for cell in own.cells("study/more") if cell.model == name and cell.solver != "teacher"}


# ---- numbers of evaluations of single models


def test_a_model_may_have_numbers_of_its_own_instead_of_both():
    own = more(more_nfe=[6], nfe_of={"digits-cond": [5]})
    assert cells(own, "digits-cond") == {(token, 5) for token in SOLVERS}
    plain = {(token, nfe) for token in SOLVERS for nfe in (3, 4)} | {(token, 6) for token in SOLVERS[:2]}
    assert cells(own, "digits") == plain
    assert {cell.nfe for cell in own.cells() if cell.solver != "teacher"} == {3, 4}, "the main comparison is as it was"
    assert targets.report_settings(own, "study/more")["nfe_of"] == {"digits-cond": [5]}
    config = {"per_model": {"digits-cond": {"nfe": [7], "teacher": {"steps": 20}}}}
    before, after = more(config=config), more(config=config, nfe_of={"digits-cond": [5]})
    assert {nfe for _, nfe in cells(before, "digits-cond")} == {7} and {nfe for _, nfe in cells(after, "digits-cond")} == {5}
    assert after.compared["study/more"]["digits-cond"].teacher.steps == 20


def test_a_model_that_goes_by_a_path_is_meant_by_it(tmp_path):
    """Results lie under the name in its file."""
    path = model(tmp_path, study={"samples": 40})
    own = more(["digits", path], nfe_of={path: [5]}, showcase={**SHOWN, "models": [path], "nfe": [5]})
    assert cells(own, "own") == {(token, 5) for token in SOLVERS}
    assert own.config.comparisons["more"].showcase.models == ["own"] and own.config.comparisons["more"].models[1] == "own"
    assert {cell.model for cell in targets.showcase_cells(own, "more")} == {"own"}
    assert {cell.nfe for cell in targets.showcase_cells(own, "more")} == {5, 12}


@pytest.mark.parametrize(
    ("options", "saved", "ranks"),
    [
        ({}, True, True),
        ({"nfe_of": {"digits": [5], "digits-cond": [5]}}, False, True),
        ({"nfe": [3], "nfe_of": {"digits": [3, 5]}}, True, True),
        ({"models": ["digits"], "nfe_of": {"digits": [5]}}, False, False),
        ({"models": ["digits"], "nfe": [3], "nfe_of": {"digits": [3, 5]}}, True, True),
        ({"models": ["digits"], "nfe": [3], "more_nfe": [6]}, True, False),
    ],
)
def test_speed_ups_need_a_model_with_two_numbers_and_ranks_two_cells(options, saved, ranks):
    files = targets.comparison_files(more(**options), "more")
    assert (
        ("results/study/more/evaluations_saved.md" in files) == saved == ("results/study/more/evaluations_saved.pdf" in files)
    )
    assert ("results/study/more/ranks.pdf" in files) == ranks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nfe_of": {"mixture": [5]}}, "nfe_of: 'mixture' is not among the comparison's models"),
        ({"nfe_of": {"digits": [0]}}, r"nfe_of\.digits\.0: .*greater than or equal to 1"),
        ({"nfe_of": {"digits": [5, 5]}}, "settings of model digits: .*nfe lists an entry twice"),
        ({"nfe_of": {"digits": [12]}}, r"settings of model digits: .*nfe \[12\] must be smaller than the teacher's 12 steps"),
        ({"nfe_of": {"digits": []}}, "settings of model digits: nfe: .*at least 1"),
        ({"showcase": {**SHOWN, "models": ["mixture"]}}, "showcase: 'mixture' is not among the comparison's models; add it"),
        ({"showcase": {**SHOWN, "solvers": ["joint"]}}, "showcase: 'joint' is not among the comparison's solvers; add it"),
        ({"showcase": {**SHOWN, "nfe": [5]}}, "more: showcase: s4s_alt is not compared at NFE 5 on digits"),
        ({"showcase": SHOWN, "nfe_of": {"digits": [3]}}, "showcase: s4s_alt is not compared at NFE 4 on digits"),
        ({"showcase": {**SHOWN, "nfe": [6]}, "more_nfe": [6]}, "showcase: s4s_alt is not compared at NFE 6 on digits"),
        ({"showcase": SHOWN, "solvers": ["s4s_alt"]}, "showcase: no training-free solver is compared at NFE 3 on digits; add"),
        (
            {"showcase": {**SHOWN, "models": ["mixture"]}, "models": ["digits", "mixture"]},
            "showcase: states of mixture are no images",
        ),
        ({"showcase": {**SHOWN, "models": []}}, r"showcase\.models: .*at least 1"),
    ],
)
def test_what_a_comparison_cannot_show_is_said_in_a_line(options, message):
    with pytest.raises(S4SError, match=message) as refused:
        more(**options).cells("study/more")
    assert "\n" not in str(refused.value)


def test_a_solver_with_a_least_number_is_not_shown_below_it():
    late = {"late": {"family": "s4s_alt", "base": "ipndm2-time_quadratic", "min_nfe": 4}}
    options = {"solvers": ["ddim-logsnr", "late"], "config": {"definitions": late}}
    with pytest.raises(S4SError, match="showcase: late is not compared at NFE 3 on digits"):
        more(**options, showcase={**SHOWN, "solvers": ["late"]}).cells("study/more")
    assert more(**options, showcase={**SHOWN, "solvers": ["late"], "nfe": [4]}).cells("study/more")


def test_a_showcase_reads_the_named_solvers_all_training_free_ones_and_the_teacher_in_shards_too():
    own = more(showcase={**SHOWN, "nfe": [4]}, solvers=[*SOLVERS, "s4s_lms_full-time_quadratic"])
    shown = [Cell("digits", "teacher", 12), *(Cell("digits", token, 4) for token in SOLVERS)]
    assert targets.showcase_cells(own, "more") == shown
    files = targets.comparison_files(own, "more")
    assert {"results/study/more/showcase.pdf", "results/study/more/showcase.png"} <= {*files}
    assert "results/study/more/showcase.pdf" not in targets.comparison_files(more(), "more")
    cut = more(showcase={**SHOWN, "nfe": [4]}, config={"samples": 600, "shard": 300})
    teacher, *others = targets.showcase_cells(cut, "more")
    assert cut.samples(teacher) == cut.test_pairs("digits") and len(cut.samples(teacher)) == 4
    assert cut.samples(others[0]) == [paths.samples(others[0], name) for name in cut.shards("digits", *cut.test_splits)]


# ---- the figure

SHAPE, SEEDS = (1, 4, 4), np.arange(5, dtype=np.uint64)
FAMILIES = {"teacher": "teacher", "a-edm": "classical", "b-gits": "searched", "mine": "mine:Own"}
ERRORS = {("a-edm", 3): 0.5, ("b-gits", 3): 0.7, ("mine", 3): 0.1, ("a-edm", 5): 0.4, ("b-gits", 5): 0.2, ("mine", 5): 0.05}
LEVELS = {"a-edm": 0.1, "b-gits": 0.2, "mine": 0.4, "teacher": 0.8}  # of all pixels, plus NFE/100


def rows_of_scores(name="m", errors=ERRORS):
    rows = [{"solver": "teacher", "nfe": 12, "global_error": 0.0}]
    rows += [{"solver": solver, "nfe": nfe, "global_error": error} for (solver, nfe), error in errors.items()]
    found = [
        dict.fromkeys(COLUMNS, 0.0)
        | {
            "model": name,
            "base": "",
            "schedule": row["solver"].partition("-")[2],
            "family": FAMILIES[row["solver"]],
            "features": "f",
        }
        | row
        for row in rows
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def states(solver, nfe, seeds=SEEDS):
    """Those of noise n are all LEVELS + NFE/100 + n/1000."""
    level = LEVELS[solver] + nfe / 100 + seeds.astype(np.float32) / 1000
    return np.broadcast_to(level[:, None, None, None], (len(seeds), *SHAPE)).astype(np.float32)


def write(path, solver, nfe, seeds=SEEDS, kind=SAMPLES, splits=("test~0", "test~1"), made=states):
    values = {name: Split(seeds + 10 * n, made(solver, nfe, seeds)) for n, name in enumerate(splits)}
    write_splits(path, kind, values, {"model": "m"})
    return str(path)


def drawn(folder, name="m", **changes):
    """Files of samples by cell, of all of ERRORS and the teacher."""
    names = [("teacher", 12), *ERRORS]
    return {
        f"{name}/{solver}/{nfe}": write(folder / f"{name}-{solver}-{nfe}.h5", solver, nfe, **changes) for solver, nfe in names
    }


def pictures(figure):
    """Arrays of what imshow drew, by the title of their column: pictures of a noise and, after each, its error map."""
    found, title = {}, {}
    for axis in figure.axes:
        if axis.images:
            place = axis.get_subplotspec()
            title.setdefault(place.colspan.start, axis.get_title() or None)
            column = found.setdefault(title[place.colspan.start], {})
            column[place.rowspan.start] = np.asarray(axis.images[0].get_array())
    return found


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_the_best_training_free_solver_is_that_of_the_number_and_never_learned():
    scores = rows_of_scores()
    assert best_training_free(scores, 3) == "a-edm" and best_training_free(scores, 5) == "b-gits"
    with pytest.raises(S4SError, match="no training-free solver is compared at NFE 12"):
        best_training_free(scores, 12)
    with pytest.raises(S4SError, match="no training-free solver is compared at NFE 4"):
        best_training_free(scores, 4)


def test_a_showcase_shows_each_solver_beside_the_teacher_with_its_errors(tmp_path):
    """Of another model with other scores too."""
    swapped = {key: 1 - error for key, error in ERRORS.items()}
    scores = pd.concat([rows_of_scores("other", swapped), rows_of_scores("m")])
    figure = showcase(drawn(tmp_path), scores, ["mine"], [3, 5], {"m": lambda y_0: y_0})
    found = pictures(figure)
    assert [*found] == ["mine\nNFE 3", "a-edm\nNFE 3", "mine\nNFE 5", "b-gits\nNFE 5", "teacher\nNFE 12"]
    teacher = states("teacher", 12)[0, 0, 0, 0]
    for title, column in found.items():
        solver, nfe = title.split("\nNFE ")
        assert sorted(column) == ([0, 2] if solver == "teacher" else [0, 1, 2, 3])
        level = states(solver, int(nfe))[0, 0, 0, 0]
        for noise in range(NOISES):
            assert column[2 * noise] == pytest.approx(np.full(SHAPE[1:], (level + noise / 1000) / 2 + 0.5), abs=1e-6)
            if solver != "teacher":
                assert column[2 * noise + 1] == pytest.approx(np.full(SHAPE[1:], (teacher - level) / 2), abs=1e-6)
    scales = {axis.images[0].get_clim() for axis in figure.axes if axis.images and axis.get_subplotspec().rowspan.start % 2}
    assert len(scales) == 1, "all maps of a model have one scale"


def test_a_solver_that_is_the_best_anyway_is_there_once_and_leaves_no_gap(tmp_path):
    figure = showcase(drawn(tmp_path), rows_of_scores(), ["a-edm", "mine"], [3], {"m": lambda y_0: y_0})
    assert [*pictures(figure)] == ["a-edm\nNFE 3", "mine\nNFE 3", "teacher\nNFE 12"]
    assert figure.axes[0].get_subplotspec().get_gridspec().ncols == 3


def test_a_showcase_has_a_block_a_model_with_its_own_decoder(tmp_path):
    scores = pd.concat([rows_of_scores("m"), rows_of_scores("n")])
    samples = drawn(tmp_path) | drawn(tmp_path, "n")
    decode = {"n": lambda y_0: np.repeat(-y_0, 3, axis=1), "m": lambda y_0: y_0}
    figure = showcase(samples, scores, ["mine"], [5], decode)
    colour, grey = (axis for axis in figure.axes if axis.images and "mine" in axis.get_title())
    assert colour.images[0].get_array().shape == (4, 4, 3) and grey.images[0].get_array().shape == (4, 4)
    assert colour.images[0].get_array()[0, 0, 0] == pytest.approx(1 - grey.images[0].get_array()[0, 0], abs=1e-6)
    assert [axis.get_title() for axis in figure.axes if not axis.images] == ["n: global error", "m: global error"]


def test_joined_shards_are_read_as_one_file(tmp_path):
    """As the teacher's, whose samples are shards of its pairs; here the first has fewer rows than are shown."""
    whole = showcase(drawn(tmp_path), rows_of_scores(), ["mine"], [3], {"m": lambda y_0: y_0})
    folder = tmp_path / "cut"
    folder.mkdir()
    samples = {}
    for solver, nfe in [("teacher", 12), *ERRORS]:
        kind = TEACHER_PAIRS if solver == "teacher" else SAMPLES
        shards = [
            write(folder / f"{solver}-{nfe}-{name}-{k}.h5", solver, nfe, SEEDS[rows], kind, [name])
            for name in ("test~0", "test~1")
            for k, rows in enumerate((slice(0, 1), slice(1, 5)))
        ]
        samples[f"m/{solver}/{nfe}"] = str(folder / f"{solver}-{nfe}.h5")
        merge(samples[f"m/{solver}/{nfe}"], SAMPLES, shards, ["seeds", "y_0"])
    cut = showcase(samples, rows_of_scores(), ["mine"], [3], {"m": lambda y_0: y_0})
    for title, column in pictures(whole).items():
        assert all(np.array_equal(column[row], pictures(cut)[title][row]) for row in column)


def test_samples_that_cannot_be_shown_are_refused_in_a_line(tmp_path):
    samples, scores, decode = drawn(tmp_path), rows_of_scores(), {"m": lambda y_0: y_0}
    with pytest.raises(S4SError, match="there are no samples of mine at NFE 3 on m"):
        showcase({key: path for key, path in samples.items() if "mine" not in key}, scores, ["mine"], [3], decode)
    with pytest.raises(S4SError, match=r"samples of m, \[16\], are no images"):
        showcase(samples, scores, ["mine"], [3], {"m": lambda y_0: y_0.reshape(len(y_0), -1)})
    write(tmp_path / "m-mine-3.h5", "mine", 3, SEEDS + 1)
    with pytest.raises(S4SError, match=r"m-mine-3\.h5: not of the noise that the teacher's samples are of"):
        showcase(samples, scores, ["mine"], [3], decode)
