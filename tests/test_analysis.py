"""What scores say: NFE speed-up, ranks and paired tests on tables whose answers are known."""

import numpy as np
import pandas as pd
import pytest
import scipy  # whose stats are imported where they are used

from s4s.reporting.comparison_figures import _groups, critical_difference, evaluations_saved
from s4s.reporting.comparisons import needed_evaluations, nfe_saved, paired_tests, ranks, with_families
from s4s.reporting.tables import saved_markdown

NFE = np.array([3.0, 4.0, 6.0, 8.0, 12.0])


def table(curves, seeds=3, noise=0.0):
    """curves: (model, solver, family) -> function of NFE."""
    rng = np.random.default_rng(0)
    rows, scores = [], []
    for (model, solver, family), curve in curves.items():
        for nfe in NFE:
            scores.append((model, solver, nfe, family))
            rows += [
                (model, solver, nfe, "global_error", seed, curve(nfe) * np.exp(noise * rng.normal())) for seed in range(seeds)
            ]
    metrics = pd.DataFrame(rows, columns=["model", "solver", "nfe", "metric", "seed", "value"])
    return with_families(metrics, pd.DataFrame(scores, columns=["model", "solver", "nfe", "family"]))


def test_a_curve_is_read_between_its_points_as_a_power_law():
    assert needed_evaluations(NFE, NFE**-2.0, 5.0**-2) == pytest.approx(5)
    assert needed_evaluations(NFE, NFE**-2.0, 1.0) == 3 and needed_evaluations(NFE, NFE**-2.0, 1e-9) == np.inf
    uneven = np.array([1.0, 0.5, 0.7, 0.2, 0.1])  # the first time counts
    assert needed_evaluations(NFE, uneven, 0.5) == 4


def test_a_solver_that_is_four_times_as_exact_at_order_two_saves_half():
    """Against the better of two classical solvers at each NFE; other models and learned solvers do not mix in."""
    found = nfe_saved(table({
        ("a", "coarse", "classical"): lambda n: 3 * n**-2.0,
        ("a", "fine", "searched"): lambda n: n**-2.0,
        ("a", "learned", "s4s_alt"): lambda n: n**-2.0 / 4,
        ("a", "worse", "ld3"): lambda n: 2 * n**-2.0,
        ("b", "fine", "classical"): lambda n: n**-2.0,
        ("b", "learned", "s4s_alt"): lambda n: n**-2.0,
    })).set_index(["model", "solver", "nfe"])  # fmt: skip
    for nfe in (3, 4, 6):
        row = found.loc[("a", "learned", nfe)]
        assert row.reached and [row.needed, row.low, row.high, row.ratio * nfe] == pytest.approx([2 * nfe] * 4)
    assert found.loc[("a", "worse", 12)].needed == pytest.approx(12 / np.sqrt(2))
    assert found.loc[("b", "learned", 6)].ratio == pytest.approx(1)
    late = found.loc[("a", "learned", 12)]
    assert not late.reached and late.needed == 12  # a lower bound


@pytest.mark.parametrize("family", ["classical", "joint"])
def test_there_is_no_speed_up_where_there_are_not_both_kinds_of_solvers(family):
    found = nfe_saved(table({("a", "alone", family): lambda n: n**-2.0}))
    assert found.empty and "ratio_low" in found and not saved_markdown(found)


def test_the_interval_is_students_over_seeds():
    noisy = table(
        {("a", "fine", "classical"): lambda n: n**-2.0, ("a", "learned", "joint"): lambda n: n**-2.0 / 4}, seeds=8, noise=0.1
    )
    row = nfe_saved(noisy).set_index("nfe").loc[4]
    assert row.low < row.needed < row.high and row.ratio_low < 2 < row.ratio_high and row.high / row.low < 1.5
    one = nfe_saved(noisy[noisy.seed == 0]).set_index("nfe").loc[4]
    assert one.low == one.needed == one.high


def test_ranks_are_averages_over_cells_with_nemenyis_difference():
    """Five cells and three solvers: the critical difference of Demšar's table, 2.343 sqrt(k (k + 1)/(6 N))."""
    found = ranks(
        table(
            {
                ("a", "best", "joint"): lambda n: 1.0 / n,
                ("a", "middle", "ld3"): lambda n: 2.0 / n if n > 3 else 9.0,
                ("a", "last", "classical"): lambda n: 3.0 / n,
            }
        )
    )
    assert found.average.to_dict() == pytest.approx({"best": 1.0, "middle": 2.2, "last": 2.8})
    assert [*found.average.index] == ["best", "middle", "last"] and found.cells == 5
    assert found.critical == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 5)), rel=1e-3)
    assert found.p_next["best"] == pytest.approx(2 * 2**-5 * 2)  # five of five cells alike, two-sided, of two tests
    assert found.p_value == pytest.approx(scipy.stats.friedmanchisquare([1] * 5, [3, 2, 2, 2, 2], [2, 3, 3, 3, 3]).pvalue)


def test_ranks_leave_out_solvers_that_are_not_everywhere_and_cells_without_a_learned_solver():
    whole = table({
        ("a", "best", "joint"): lambda n: 1.0 / n,
        ("a", "half", "s4s_ss"): lambda n: 0.5 / n,
        ("a", "middle", "classical"): lambda n: 2.0 / n,
        ("a", "last", "classical"): lambda n: 3.0 / n,
    })  # fmt: skip
    few = whole[~((whole.solver == "half") & (whole.nfe == 4)) & ~((whole.family == "joint") & (whole.nfe == 12))]
    few = few[~((few.solver == "half") & (few.nfe == 12))]
    found = ranks(few)
    assert found.average.to_dict() == {"best": 1, "middle": 2, "last": 3} and found.cells == 4


def test_too_few_cells_have_no_ranks():
    few = table({("a", "x", "joint"): lambda n: n, ("a", "y", "ld3"): lambda n: 2 * n})
    assert ranks(few) is None
    assert "no ranks" in critical_difference(None).texts[0].get_text()


def test_solvers_that_do_not_differ_significantly_are_joined_once():
    assert _groups([1.0, 1.5, 3.0, 3.2, 9.0], 1.0) == [(1.0, 1.5), (3.0, 3.2)]
    assert _groups([1.0, 2.0, 2.5], 2.0) == [(1.0, 2.5)] and _groups([1.0, 5.0], 1.0) == []


def test_lower_bounds_are_hollow_and_every_solver_is_named():
    curves = {("a", "fine", "classical"): lambda n: n**-2.0, ("a", "learned", "joint"): lambda n: n**-2.0 / 4}
    figure = evaluations_saved(nfe_saved(table(curves)))
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [*hollow[0].get_xdata()] == [8, 12]  # 16 and 24 are needed, 12 are there
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["learned"]


def test_neighbours_differ_significantly_only_where_seeds_agree():
    clear = paired_tests(table(
        {("a", "x", "joint"): lambda n: 1.0, ("a", "y", "ld3"): lambda n: 2.0, ("a", "z", "ld3"): lambda n: 2.001}, 3, 0.01
    ))  # fmt: skip
    first = clear[clear.solver == "x"]
    assert (first.p_value < 0.05).all() and first.difference.to_numpy() == pytest.approx(np.log(2), abs=0.05)
    assert (clear[clear.solver != "x"].p_value > 0.05).all()


def test_holms_correction_is_that_of_its_definition():
    """The smallest of m p-values times m, the next times m - 1, never falling."""
    found = paired_tests(table({("a", "x", "joint"): lambda n: 1.0, ("a", "y", "ld3"): lambda n: 1.02}, 4, 0.01))
    values = []
    for _, cell in table({("a", "x", "joint"): lambda n: 1.0, ("a", "y", "ld3"): lambda n: 1.02}, 4, 0.01).groupby("nfe"):
        logs = np.log(cell.pivot(index="seed", columns="solver", values="value"))
        values.append(scipy.stats.ttest_rel(logs["x"], logs["y"]).pvalue)
    expected = np.minimum(np.maximum.accumulate(np.sort(values) * np.arange(5, 0, -1)), 1)
    assert np.sort(found.p_value) == pytest.approx(expected)
