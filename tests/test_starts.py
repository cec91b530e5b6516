"""Where fits start: at the best of several solvers, whose evaluations count; what configs may say of it, and tables do."""

import itertools
import math

import pandas as pd
import pytest
import torch

import s4s
from s4s import FitSettings, S4SError, Tableau
from s4s.learning.fit_record import FitRecord
from s4s.learning.loop import Loop
from s4s.learning.losses import l2
from s4s.learning.result import FitResult
from s4s.learning.starts import best_start
from s4s.metrics.score_file import Score
from s4s.reporting.tables import gather
from s4s.study import paths, plan, targets
from s4s.study.definitions import Learned
from s4s.study.make import learned
from s4s.study.paths import Cell
from tests.conftest import CountingDenoiser
from tests.test_fitting import Interrupt, same
from tests.test_study import TINY, study

NFE = 3
SETTINGS = FitSettings(iterations=4, validate_every=2, batch=8, distance="l2")
OWN = Learned(family="s4s_lms", base="ddim-logsnr", starts=["ipndm2-time_quadratic", "unipc2-logsnr"])
KINDS = {
    "ddim-logsnr": ("ddim", "logsnr", {}),
    "ipndm2-time_quadratic": ("ipndm", "time_quadratic", {"order": 2}),
    "unipc2-logsnr": ("unipc", "logsnr", {"order": 2}),
}


def bases(model, nfe=NFE):
    """The tableaux of OWN.bases, as the workflow makes them."""
    return [
        s4s.solver(kind, s4s.levels(levels, nfe, model), **options).with_meta(token=token)
        for token, (kind, levels, options) in KINDS.items()
    ]


def error(model, pairs, tableau):
    """What a fit validates."""
    y_T, y_0 = torch.from_numpy(pairs.val.y_T), torch.from_numpy(pairs.val.y_0)
    return l2(s4s.sample(model, y_T, tableau), y_0).mean().item()


def start(model, pairs, tableaux, settings=SETTINGS):
    return best_start([(model, None)], pairs, tableaux, settings, 4096)


# ---- the choice


def test_the_start_is_the_best_on_the_validation_pairs_in_any_order(mixture, mixture_pairs):
    own = bases(mixture)
    expected = [error(mixture, mixture_pairs, base) for base in own]
    assert len(set(expected)) == 3
    for order in itertools.permutations(range(3)):
        found = start(mixture, mixture_pairs, [own[n] for n in order])
        assert found.base is own[expected.index(min(expected))]
        assert found.distances == pytest.approx([expected[n] for n in order], rel=1e-9)
        assert found.seconds > 0


def test_only_the_pairs_that_the_fit_validates_on_count(mixture, mixture_pairs):
    few = start(mixture, mixture_pairs, bases(mixture), SETTINGS.changed({"val_pairs": 5}))
    rows = torch.arange(5)
    y_T, y_0 = (torch.from_numpy(array)[rows] for array in (mixture_pairs.val.y_T, mixture_pairs.val.y_0))
    expected = [l2(s4s.sample(mixture, y_T, base), y_0).mean().item() for base in bases(mixture)]
    assert few.distances == pytest.approx(expected, rel=1e-9) and few.evaluations == 3 * NFE * 5


def test_each_start_is_measured_once_and_one_alone_not_at_all(mixture, mixture_pairs):
    model = CountingDenoiser(mixture)
    found = start(model, mixture_pairs, bases(mixture))
    assert found.evaluations == model.rows == 3 * NFE * len(mixture_pairs.val.seeds)
    alone = CountingDenoiser(mixture)
    only = bases(mixture)[:1]
    assert start(alone, mixture_pairs, only) == (only[0], [], 0, 0.0) and alone.rows == 0


def test_a_start_with_samples_that_are_not_finite_loses(mixture, mixture_pairs):
    own = bases(mixture)
    best = start(mixture, mixture_pairs, own).base
    first = [best, *(base for base in own if base is not best)]
    broken = CountingDenoiser(mixture, broken=lambda call: call < NFE)
    found = start(broken, mixture_pairs, first)
    assert found.distances[0] is None and None not in found.distances[1:] and found.base is not best
    assert found.evaluations == 3 * NFE * len(mixture_pairs.val.seeds), "those count too"
    with pytest.raises(S4SError, match="none of the solvers to start from gives finite samples"):
        start(CountingDenoiser(mixture, broken=lambda call: True), mixture_pairs, own)


def test_what_a_fit_would_refuse_is_refused_before_any_measuring(mixture, mixture_pairs):
    model = CountingDenoiser(mixture)
    lower = s4s.solver("ddim", [19.0, 3.0, 1.0, mixture.s_min])
    with pytest.raises(S4SError, match="the solver starts at level 19"):
        start(model, mixture_pairs, [*bases(mixture), lower])
    assert model.rows == 0


def test_a_model_that_is_wrong_is_refused_as_a_fit_would(mixture, mixture_pairs):
    class Flat(type(mixture)):
        def __call__(self, y, s, condition=None):
            return super().__call__(y, s, condition).flatten()

    flat = Flat(mixture.means, mixture.weights, std=0.3, s_min=mixture.s_min, s_max=mixture.s_max)
    with pytest.raises(S4SError) as of_fit:
        s4s.fit(flat, mixture_pairs, "lms", bases(mixture)[0].levels, base="ddim", settings=SETTINGS)
    with pytest.raises(S4SError) as of_start:
        start(flat, mixture_pairs, bases(mixture))
    assert str(of_start.value) == str(of_fit.value)


# ---- the fit


def learn(digits, pairs, tableaux, definition=OWN, **options):
    return learned(definition, SETTINGS, digits, tableaux, pairs, "own", "digits", **options)


def test_a_fit_says_where_it_started_and_counts_what_that_took(digits, digits_pairs, tmp_path):
    own, val = bases(digits), len(digits_pairs.val.seeds)
    found = learn(digits, digits_pairs, own)
    meta, errors = found.tableau.meta, {base.meta["token"]: error(digits, digits_pairs, base) for base in own}
    best = min(errors, key=errors.get)
    assert meta["starts"] == pytest.approx(errors, rel=1e-4) and meta["fit"]["base"] == best
    assert meta["validation"]["start"] == found.history[0]["val"] == pytest.approx(min(meta["starts"].values()), rel=1e-6)
    assert meta["validation"]["learned"] <= min(meta["starts"].values()), "never worse than any of them"
    assert error(digits, digits_pairs, found.tableau) <= min(errors.values()) * (1 + 1e-4)
    alone = learn(digits, digits_pairs, [base for base in own if base.meta["token"] == best])
    assert same(alone.tableau, found.tableau) and "starts" not in alone.tableau.meta
    choice = 3 * NFE * val
    assert found.evaluations - alone.evaluations == choice == meta["evaluations"] - alone.tableau.meta["evaluations"]
    assert [entry["evaluations"] - choice for entry in found.history] == [entry["evaluations"] for entry in alone.history]
    found.tableau.save(tmp_path / "own.json")
    assert Tableau.load(tmp_path / "own.json").meta["starts"] == meta["starts"]
    record = FitRecord.of(found)
    record.save(tmp_path / "fit.json")
    read = FitRecord.load(tmp_path / "fit.json")
    assert (read.base, read.evaluations, read.history) == (best, found.evaluations, found.history)


def test_the_result_of_a_fit_with_a_start_that_fails_can_be_written(digits, digits_pairs, tmp_path):
    """NaN is no JSON."""
    broken = CountingDenoiser(digits, broken=lambda call: call < NFE)
    found = learn(broken, digits_pairs, bases(digits))
    assert found.tableau.meta["starts"]["ddim-logsnr"] is None and found.tableau.meta["fit"]["base"] != "ddim-logsnr"
    found.tableau.save(tmp_path / "own.json")
    assert Tableau.load(tmp_path / "own.json").meta["starts"] == found.tableau.meta["starts"]


def test_near_another_solver_nothing_is_chosen(digits, digits_pairs):
    near = learn(digits, digits_pairs, bases(digits)[:1]).tableau
    found = learn(digits, digits_pairs, bases(digits), near=near)
    assert found.tableau.meta["fit"]["base"] == "ddim-logsnr" and "starts" not in found.tableau.meta


def test_an_interrupted_fit_chooses_again_and_goes_on_to_the_same(digits, digits_pairs, tmp_path, monkeypatch):
    own, state = bases(digits), tmp_path / "fit.state"
    expected = learn(digits, digits_pairs, own)
    monkeypatch.setattr("s4s.learning.state.STATE_SECONDS", 0.0)
    step, calls = Loop.step, itertools.count()

    def dies(self):
        if next(calls) == 3:
            raise Interrupt
        step(self)

    monkeypatch.setattr(Loop, "step", dies)
    with pytest.raises(Interrupt):
        learn(digits, digits_pairs, own, state_path=state)
    resumed = learn(digits, digits_pairs, own, state_path=state)
    assert next(calls) - 1 - 3 == SETTINGS.iterations - 3, "only the missing steps are made"
    assert same(resumed.tableau, expected.tableau) and resumed.history == expected.history
    assert resumed.evaluations == expected.evaluations and resumed.tableau.meta == expected.tableau.meta
    best = expected.tableau.meta["fit"]["base"]
    others = [base for base in own if base.meta["token"] != best]
    other = learn(digits, digits_pairs, others)
    assert other.tableau.meta["fit"]["base"] != best
    again = learn(digits, digits_pairs, others, state_path=state)
    assert same(again.tableau, other.tableau) and again.history == other.history, "a state of another start is left alone"
    before = next(calls)
    named = [base.with_meta(token="alike") for base in others if base.meta["token"] == again.tableau.meta["fit"]["base"]]
    assert learn(digits, digits_pairs, named, state_path=state).tableau.meta["fit"]["base"] == "alike"
    assert next(calls) - 1 - before == SETTINGS.iterations, "nor is one of a start that only has the same numbers resumed"


# ---- the config


def own_study(nfe=(NFE, 4), definitions=(), **options):
    own = {"family": "s4s_lms", "base": "ipndm2-time_quadratic", "starts": ["ddim-logsnr", "fourth"], **options}
    known = {"fourth": {"solver": "ipndm", "order": 4, "levels": "edm"}, **dict(definitions)}
    return study(solvers=["own"], nfe=[*nfe], definitions={"own": own, **known})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": ["nobody"]}, "definitions.own.starts: 'nobody' is not a classical solver; defined: .*ddim-edm"),
        ({"starts": ["s4s_alt"]}, "definitions.own.starts: 's4s_alt' is not a classical solver"),
        ({"starts": ["zero"]}, "definitions.own.starts: a learned solver cannot start at 'zero': it ends at level 0"),
        (
            {"starts": ["ipndm4-edm"], "order": 2, "prediction": "noise"},
            "definitions.own.starts: a learned solver cannot start at 'ipndm4-edm'",
        ),
        ({"base": "zero"}, "definitions.own.base: a learned solver cannot start at 'zero'"),
        ({"warm_start": "mine.json"}, "starts: a fit near the solver of a file starts there; leave out starts or warm_start"),
    ],
)
def test_a_start_that_cannot_be_is_refused_in_a_line(options, message):
    with pytest.raises(S4SError, match=message) as refused:
        own_study(definitions={"zero": {"solver": "ddim", "levels": "edm", "to_zero": True}}, **options)
    assert "\n" not in str(refused.value)


def test_a_search_that_a_start_needs_is_checked_counted_and_made():
    own = own_study(starts=["unipc3-gits"])
    assert targets.describe(own)["digits"]["own"]["search_evaluations"] == 12 * TINY["search"]["trajectories"]
    assert plan.evaluations(own, "digits")["search"] == 12 * TINY["search"]["trajectories"]
    assert {"results/search/digits/costs.json", "results/search/digits/trajectories.h5"} <= {*targets.kept(own)}
    with pytest.raises(S4SError, match=r"definitions.own: 13 gits levels cannot be chosen from search\.steps 12"):
        study(
            solvers=["own"], nfe=[13], teacher={**TINY["teacher"], "steps": 20},
            definitions={"own": {"family": "s4s_lms", "base": "ddim-logsnr", "starts": ["unipc3-gits"]}},
        )  # fmt: skip


def test_a_start_is_left_out_where_its_order_is_above_the_nfe():
    own = own_study()
    tokens = {nfe: own.settings["digits"].bases_of("own", nfe) for nfe in (NFE, 4)}
    assert tokens == {NFE: ["ipndm2-time_quadratic", "ddim-logsnr"], 4: ["ipndm2-time_quadratic", "ddim-logsnr", "fourth"]}
    late = own_study(starts=["ipndm3-edm", "late"], definitions={"late": {"solver": "ddim", "levels": "edm", "min_nfe": 4}})
    assert late.settings["digits"].bases_of("own", NFE) == ["ipndm2-time_quadratic", "ipndm3-edm"], "nor where it has no cell"
    assert own_study(starts=["ddim-logsnr", "ipndm2-time_quadratic"]).settings["digits"].bases("own") == [
        "ipndm2-time_quadratic",
        "ddim-logsnr",
    ], "once each"


def test_a_fit_of_the_workflow_reads_the_tableaux_of_all_its_starts():
    own = own_study()
    for nfe in (NFE, 4):
        made = [paths.tableau(Cell("digits", token, nfe)) for token in own.settings["digits"].bases_of("own", nfe)]
        assert own.inputs("fit", model="digits", solver="own", nfe=str(nfe))["bases"] == made
        assert {*made} <= {*targets.kept(own)}
    warm = own_study(warm_start="previous")
    assert len(warm.initialisation_of(Cell("digits", "own", NFE)).bases) == 2
    assert warm.initialisation_of(Cell("digits", "own", 4)) == (
        [Cell("digits", "ipndm2-time_quadratic", 4)],
        Cell("digits", "own", NFE),
    )
    assert own.definition_json("digits", "own") == own_study(starts=[]).definition_json("digits", "own"), (
        "which starts there are is no matter of a fit that has the tableaux"
    )


def test_a_plan_counts_what_the_choice_takes():
    val = TINY["teacher"]["val"]
    assert (
        plan.evaluations(own_study(), "digits")["fits"] - plan.evaluations(own_study(starts=[]), "digits")["fits"]
        == (2 * NFE + 3 * 4) * val
    )
    few = {"fit": {"val_pairs": 5}}
    assert (
        plan.evaluations(own_study(**few), "digits")["fits"] - plan.evaluations(own_study(starts=[], **few), "digits")["fits"]
        == (2 * NFE + 3 * 4) * 5
    )
    names = {"model": "digits", "solver": "own", "nfe": "4"}
    assert plan.minutes(own_study(), "fit", **names) > plan.minutes(own_study(starts=[]), "fit", **names)


# ---- the tables


def score_file(folder, solver, nfe):
    path = folder / f"{solver}-{nfe}.json"
    Score(
        model="digits", solver=solver, nfe=nfe, tableau="t", evaluations=nfe, n_samples=40, n_seeds=1, seeds=[0], features="f",
        fid=[1.0], fid_mean=1.0, fid_std=None, global_error=[0.5], global_error_mean=0.5, global_error_std=None,
    ).save(path)  # fmt: skip
    return str(path)


@pytest.mark.parametrize(
    ("options", "schedules"),
    [({}, ["time_quadratic", "logsnr"]), ({"driver": "joint"}, ["learned", "learned"])],
)
def test_a_table_says_of_each_cell_where_its_fit_started(tmp_path, options, schedules):
    own = own_study(**options)
    started = {NFE: "ipndm2-time_quadratic", 4: "ddim-logsnr"}
    scores, fits = [score_file(tmp_path, "teacher", 12)], {}
    for nfe, base in started.items():
        scores.append(score_file(tmp_path, "own", nfe))
        meta = {"evaluations": 70 + nfe, "fit": {"base": base}}
        result = FitResult(s4s.solver("ddim", [3.0, 1.0]).with_meta(**meta), [], 0, 1.25)
        FitRecord.of(result).save(tmp_path / f"fit-{nfe}.json")
        fits[scores[-1]] = str(tmp_path / f"fit-{nfe}.json")
    table = gather(scores, targets.describe(own), fits)
    assert table.base.tolist() == ["", *started.values()] and table.schedule.tolist() == ["logsnr", *schedules]
    assert table.fit_evaluations.tolist() == [0, 73, 74] and not pd.isna(table.schedule).any()
    assert math.isclose(table.fit_seconds.iloc[-1], 1.25)
