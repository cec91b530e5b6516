"""Questions asked of solvers: answers that are known beforehand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import s4s
from s4s.errors import S4SError
from s4s.learning.draw import draw_samples
from s4s.learning.teacher import write_pairs
from s4s.models.seeds import sample_seeds
from s4s.reporting.questions import ablation, cost, generalisation, teacher_gap, tracking
from s4s.reporting.questions.job import Job, Key, carried, rms
from s4s.reporting.questions.markdown import markdown
from s4s.study.config import read_config
from tests.conftest import CountingDenoiser

ROOT = Path(__file__).parents[1]


def markdown_of(question, rows):
    return markdown(question.tables(rows))


def solver(kind, nfe, denoiser, schedule="time_quadratic", **options):
    return s4s.solver(kind, s4s.levels(schedule, nfe, denoiser), **options).with_meta(token=kind)


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch):
    for question in (generalisation, tracking):
        monkeypatch.setattr(question, "COUNT", 32)


@pytest.fixture(scope="module")
def mixture():
    return s4s.load_model("mixture")


@pytest.fixture(scope="module")
def digits():
    return s4s.load_model("digits")


def job(denoiser, folder, tableaux, **others):
    cells = {}
    for (name, nfe), tableau in tableaux.items():
        path = folder / f"{name}-{nfe}.json"
        tableau.save(path)
        cells[Key(denoiser.name, name, nfe)] = str(path)
    return Job(denoiser.name, denoiser, cells, **{"fits": {}, "pairs": [], **others})


def test_the_flow_by_many_steps_is_that_in_closed_form(mixture):
    y_T = s4s.initial_noise(mixture, sample_seeds("test", 16))
    exact = carried(mixture, y_T, mixture.s_max, 0.5, None)
    hidden = CountingDenoiser(mixture)  # without its flow
    assert rms(carried(hidden, y_T, mixture.s_max, 0.5, None) - exact) < 1e-3
    assert carried(hidden, y_T, 0.5, 0.5, None) is y_T


def test_steps_add_up_to_the_error_at_the_end_and_a_fine_solver_tracks(mixture, tmp_path):
    tableaux = {
        ("ipndm", 4): solver("ipndm", 4, mixture, order=3),
        ("fine", 48): solver("unipc", 48, mixture, "logsnr", order=3),
        ("ddim", 4): solver("ddim", 4, mixture),
        ("kappa", 4): replace(solver("ddim", 4, mixture), kappa=0.8),  # evaluates the network elsewhere first
    }
    rows = tracking.answer(job(mixture, tmp_path, tableaux)).set_index(["solver", "step"])
    y_T = s4s.initial_noise(mixture, sample_seeds("test", tracking.COUNT))
    for name, nfe in tableaux:
        end = s4s.sample(mixture, y_T, tableaux[name, nfe])
        assert rows.loc[(name, nfe)].error == pytest.approx(
            rms(end - mixture.flow(y_T, mixture.s_max, mixture.s_min)), rel=1e-5
        )
        first = rows.loc[(name, 1)]  # nothing came before the first step
        assert first.local_error == pytest.approx(first.step_error, rel=1e-4, abs=1e-6)
        assert first.error == pytest.approx(first.step_error, rel=1e-4, abs=1e-6)
        steps = rows.loc[name].step_error
        assert rows.loc[(name, nfe)].error <= steps.sum() * (1 + 1e-6)
    assert rows.loc["fine"].local_error.max() < 0.05 * rows.loc["ddim"].local_error.max()
    # ddim has no memory: its step from exact states is its step from its own, moved along
    assert rows.loc["ddim"].local_error.sum() == pytest.approx(rows.loc["ddim"].step_error.sum(), rel=0.3)
    text = markdown_of(tracking, rows.reset_index())
    assert "## mixture, NFE 4" in text and text.index("| ipndm") < text.index("| ddim")  # the smaller error first


def learned(tableau, base, driver="joint"):
    return tableau.with_meta(start={**base.meta, "token": "base", "schedule": "time_quadratic"},
                             fit={"weights": "lms", "driver": driver})  # fmt: skip


def test_a_solver_carried_over_to_its_own_model_and_nfe_is_itself(mixture, digits, tmp_path):
    base = solver("ipndm", 5, mixture, order=3)
    same = generalisation.carried_over(learned(base, base), 5, mixture)
    assert same.same_as(base, 1e-9)
    moved = generalisation.carried_over(learned(base, base), 8, mixture)
    assert moved.nfe == 8 and float(moved.levels[0]) == mixture.s_max


def test_cases_are_compared_with_the_teacher_from_the_same_initial_noise(digits, tmp_path):
    base = solver("ipndm", 3, digits, order=2)
    teacher = solver("unipc", 16, digits, "logsnr", order=3)
    given = job(digits, tmp_path, {("plain", 3): base, ("learned", 3): learned(base, base), ("teacher", 16): teacher})
    rows = generalisation.answer(given)
    assert {*rows.test} == {"initial noise"}  # no guidance, no other model, no other NFE
    assert rows[rows.case == "largest norms"].learned.sum() == 1 and rows.case.nunique() == 9
    found = generalisation.ratios(rows)
    assert len(found) == 9 and found.ratio.to_numpy() == pytest.approx(1)  # the learned one is the plain one
    usual = rows[(rows.case == generalisation.USUAL) & (rows.solver == "plain")].global_error.item()
    y_T = s4s.initial_noise(digits, sample_seeds("test", generalisation.COUNT))
    assert usual == pytest.approx(rms(s4s.sample(digits, y_T, base) - s4s.sample(digits, y_T, teacher)), rel=1e-4)
    generalisation.figure(rows)


def test_tails_are_tails(digits, tmp_path):
    norms = {case: y_T.flatten(1).norm(dim=1) for case, y_T, _ in generalisation.initial_noises(job(digits, tmp_path, {}))}
    assert norms["smallest norms"].max() < norms[generalisation.USUAL].mean() < norms["largest norms"].min()
    assert norms["scaled by 1.25"] == pytest.approx(1.25 * norms[generalisation.USUAL], rel=1e-5)


def test_guidance_is_set_and_put_back():
    model = s4s.load_model("digits-cond")
    own, passes = model.guidance, model.passes
    seen = [(case, model.guidance, model.passes) for case in generalisation.guided(model)]
    assert [passes for _, _, passes in seen] == [1, 2, 2, 2, 2, 2] and "1.2 (the fit)" in [case for case, *_ in seen]
    assert (model.guidance, model.passes) == (own, passes)


@pytest.mark.suite
def test_the_teacher_does_not_differ_from_itself_and_a_bad_solver_does(digits, tmp_path):
    seeds = {"test~0": sample_seeds("test", 96, 0), "test~1": sample_seeds("test", 96, 1)}
    teacher = solver("unipc", 12, digits, "logsnr", order=3)
    pairs = []
    for name, rows in seeds.items():
        pairs.append(str(tmp_path / f"{name}.h5"))
        write_pairs(digits, teacher, name, rows, 96, pairs[-1])
    cells = {}
    for name, tableau in {"teacher": teacher, "same": teacher, "bad": solver("ddim", 2, digits)}.items():
        path = tmp_path / f"{name}.h5"
        draw_samples(digits, tableau.with_meta(token=name), seeds, 96, path)
        cells[Key("digits", name, tableau.nfe)] = str(path)
    rows = teacher_gap.answer(Job("digits", digits, cells, {}, pairs)).set_index("solver")
    assert rows.loc["same"].difference == 0 and rows.loc["same"].p_value == 1
    assert rows.loc["bad"].low > 0 and rows.loc["bad"].p_value < 0.02 and rows.loc["bad"].fid > rows.loc["bad"].teacher_fid
    text = markdown_of(teacher_gap, rows.assign(family=["joint", "classical"]).reset_index())
    assert "+0.000" in text and "bad" in text


def test_convergence_curves_are_the_best_so_far_and_mixtures_have_other_dimensions(mixture):
    history = [{"val": v, "evaluations": n} for v, n in [(1.0, 100), (0.5, 200), (0.7, 300), (0.49, 400)]]
    rows = pd.DataFrame(
        cost._curve(Key("m", "s4s_alt", 5), 64, 32, {"history": history, "evaluations": 400, "seconds": 8.0}),
        columns=cost.COLUMNS,
    )
    assert rows.error.to_list() == [1.0, 0.5, 0.5, 0.49] and rows.seconds.to_list() == [2, 4, 6, 8]
    summary = cost.summary(rows).iloc[0]
    assert summary["within 10% of it"] == "200 (4.0 s)" and summary["within 2% of it"] == "400 (8.0 s)"
    wide = mixture.of_dimension(130)
    y = s4s.initial_noise(wide, [1, 2])
    own = len(mixture.weights)
    assert wide.shape == (130,)
    for i in (0, 3):
        part = slice(i * own, (i + 1) * own)
        assert torch.equal(wide(y, 2.0)[:, part], mixture(y[:, part], 2.0))


def test_an_ablation_compares_with_the_first_of_each_group():
    rows, scores = [], []
    for model in ("a", "b"):
        for solver_name, factor in {"full": 1.0, "half": 2.0, "other": 3.0}.items():
            scores.append((model, solver_name, 5, 1.5))
            for seed, noise in enumerate((1.0, 1.1, 0.9)):
                rows += [(model, solver_name, 5, metric, seed, factor * noise) for metric in ("global_error", "fid", "kid")]
    measures = pd.DataFrame(rows, columns=["model", "solver", "nfe", "metric", "seed", "value"])
    table = pd.DataFrame(scores, columns=["model", "solver", "nfe", "fit_seconds"])
    found = ablation.gather(measures, table, {"x": ["full", "half"], "y": ["other", "full"]})
    ratio = found.set_index(["group", "model", "metric", "solver"]).ratio
    assert ratio["x", "a", "fid", "half"] == pytest.approx(2) and ratio["y", "b", "global_error", "full"] == pytest.approx(
        1 / 3
    )
    assert np.allclose(found.low, found.ratio) and np.allclose(found.high, found.ratio)  # the same noise: no spread
    assert "## x" in markdown_of(ablation, found) and "kid" not in markdown_of(ablation, found)
    ablation.figure(found)


def test_wrong_groups_and_questions_are_named():
    def config(**own):
        whole = yaml.safe_load((ROOT / "config/config.yaml").read_text())
        base = {"models": ["digits"], "nfe": [5], "solvers": ["joint"]}
        return read_config({**whole, "comparisons": {"mine": {**base, **own}}})

    with pytest.raises(S4SError, match="'ld3' is not among the comparison's solvers"):
        config(groups={"what": ["joint", "ld3"]})
    with pytest.raises(S4SError, match="tracking"):
        config(questions=["why"])
    whole = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    whole["definitions"]["joint"]["teacher_steps"] = 2
    with pytest.raises(S4SError, match=r"joint: teacher_steps 2 are too few for the teacher's order 3"):
        read_config(whole)
