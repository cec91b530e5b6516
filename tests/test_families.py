"""Learned solvers' families: exact start, formulas run by hand, derivatives, what they can and cannot represent."""

import inspect
import itertools

import pytest
import torch

import s4s
from s4s import S4SError
from s4s.files.named_function import function_of
from s4s.learning.families import FAMILIES, make_family
from s4s.learning.families.bases import follows_levels, step_cache
from s4s.learning.parameters import Parameters
from s4s.sampling import run
from s4s.solvers import SOLVERS

DOUBLE = torch.float64
FOLLOWED = [kind for kind, entry in SOLVERS.items() if entry.levels_can_move]

# family, its options, a base that it has the form of
EXACT = [
    ("lms", {"prediction": "data"}, "ddim", {}),
    ("lms", {"prediction": "data"}, "dpmpp", {"order": 3}),
    ("lms", {"prediction": "data", "order": 4}, "unipc", {"order": 3}),
    ("lms", {"prediction": "data", "start_weights": True}, "dpmpp", {"order": 2}),
    ("lms", {"prediction": "noise"}, "ipndm", {"order": 4}),
    ("lms", {"prediction": "noise", "order": 2, "consistency": True}, "ipndm", {"order": 2}),
    ("pc", {"prediction": "data", "order": 3}, "unipc", {"order": 3}),
    ("pc", {"prediction": "data"}, "dpmpp", {"order": 2}),
    ("pc", {"prediction": "noise"}, "ipndm", {"order": 3}),
    ("single_step", {"prediction": "data", "order": 2}, "dpm2", {"prediction": "data"}),
    ("single_step", {"prediction": "data", "order": 3}, "dpm3", {"prediction": "data"}),
    ("single_step", {"prediction": "noise", "order": 2}, "dpm2", {}),
    ("single_step", {"prediction": "noise", "order": 3, "consistency": True}, "dpm3", {"variant": "heun"}),
    ("dyweight", {"order": 3}, "ipndm", {"order": 3}),
    ("dyweight", {}, "ipndm", {"order": 4}),
    *((family, {}, kind, {}) for family in ("ld3", "gs") for kind in FOLLOWED),
]
# the same function written in another form
CHANGED_FORM = [
    ("lms", {"prediction": "data"}, "ipndm", {"order": 4}),
    ("lms", {"prediction": "data"}, "heun", {}),
    ("lms", {"prediction": "noise"}, "dpmpp", {"order": 3}),
    ("lms", {"prediction": "noise"}, "ddim", {}),
    ("pc", {"prediction": "data"}, "ipndm", {"order": 3}),
    ("pc", {"prediction": "noise"}, "unipc", {"order": 2}),
    ("single_step", {"prediction": "data", "order": 2}, "dpm2", {}),
    ("single_step", {"prediction": "noise", "order": 3}, "dpm3", {"prediction": "data"}),
    ("single_step", {"prediction": "data", "order": 3}, "ddim", {}),
    ("dyweight", {}, "dpmpp", {"order": 2}),
    ("dyweight", {"order": 1}, "ddim", {}),
    *(("bns", {}, kind, {}) for kind in FOLLOWED),
]
# one or two of each family, at NFE 4
MEMBERS = [
    ("lms", {"prediction": "data"}, "dpmpp", {"order": 2}),
    ("lms", {"prediction": "data", "start_weights": True, "consistency": True}, "dpmpp", {"order": 2}),
    ("lms", {"prediction": "noise", "order": 3}, "ipndm", {"order": 3}),
    ("pc", {"prediction": "data", "order": 2}, "unipc", {"order": 2}),
    ("pc", {"prediction": "noise", "order": 2, "consistency": True}, "ipndm", {"order": 2}),
    ("single_step", {"prediction": "data", "order": 2}, "dpm2", {"prediction": "data"}),
    ("single_step", {"prediction": "noise", "order": 3, "consistency": True}, "dpm3", {}),
    ("dyweight", {"order": 2}, "ipndm", {"order": 2}),
    ("bns", {}, "dpmpp", {"order": 2}),
    *(("ld3", {}, kind, {}) for kind in FOLLOWED),
    ("gs", {}, "dpmpp", {"order": 3}),
    ("gs", {}, "heun", {}),
]


def parameters(denoiser, family, options, kind, solver_options, nfe=4, schedule="logsnr", **more):
    base = s4s.solver(kind, s4s.levels(schedule, nfe, denoiser), path=denoiser.path, **solver_options)
    return base, Parameters(make_family(family, base, denoiser.path, **options), base, **more)


def small(size, seed=0, scale=0.1):
    return scale * torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def numbers(tableau):
    kappa = torch.as_tensor(tableau.kappa, dtype=DOUBLE).reshape(1)
    return torch.cat([tableau.levels, tableau.A.flatten(), tableau.B.flatten(), tableau.eval_levels, kappa])


def name(value):
    return "-".join(map(str, value.values())) if isinstance(value, dict) else None


@pytest.mark.parametrize("entry", FAMILIES)
def test_every_entry_names_its_class_and_all_of_its_options(entry):
    cls = function_of(FAMILIES[entry].function)
    assert set(inspect.signature(cls).parameters) - {"base", "path"} == set(FAMILIES[entry].options.names())
    assert ("path" in inspect.signature(cls).parameters) == (FAMILIES[entry].cannot_start in (follows_levels, step_cache))


def test_schedule_only_families_are_those_without_weights(mixture):
    for family, options, kind, solver_options in MEMBERS:
        _, made = parameters(mixture, family, options, kind, solver_options)
        assert (made.family.size == 0) == FAMILIES[family].schedule_only, family


@pytest.mark.parametrize(("family", "options", "kind", "solver_options"), EXACT, ids=name)
def test_iteration_0_is_the_classical_solver_bit_for_bit(digits, family, options, kind, solver_options):
    """Parameters zero -> schedule -> family -> tableau, with and without learned conditioning levels and kappa."""
    for schedule, extra in (("edm", False), ("logsnr", True), ("time_uniform", False), ("time_quadratic", False)):
        base, made = parameters(
            digits, family, options, kind, solver_options, nfe=6, schedule=schedule, decoupled=extra, first_node=extra
        )
        start = made.tableau(made.zeros())
        for table in ("levels", "eval_levels", "A", "B"):
            assert torch.equal(getattr(start, table), getattr(base, table)), (schedule, table)
        assert start.kappa == base.kappa


@pytest.mark.parametrize(("family", "options", "kind", "solver_options"), CHANGED_FORM, ids=name)
def test_iteration_0_is_the_classical_solver_in_another_form(digits, family, options, kind, solver_options):
    for schedule in ("edm", "time_uniform"):
        base, made = parameters(digits, family, options, kind, solver_options, nfe=6, schedule=schedule)
        assert made.tableau(made.zeros()).same_as(base, 1e-10), schedule


@pytest.mark.parametrize("family", ["lms", "pc", "bns"])
@pytest.mark.parametrize(("kind", "options"), [("dpmpp", {"order": 3}), ("ipndm", {"order": 3}), ("heun", {}), ("unipc", {})])
def test_a_start_without_first_evaluation_is_kept(digits, family, kind, options):
    """kappa < 1 and rows that take something from y_0."""
    base = s4s.solver(kind, s4s.levels("edm", 6, digits), analytic_first_step=True, **options)
    assert base.kappa < 1
    made = Parameters(make_family(family, base), base)
    assert made.tableau(made.zeros()).same_as(base, 1e-10)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("ld3", {}),
        ("gs", {}),
        ("dyweight", {}),
        ("lms", {"prediction": "noise"}),
        ("pc", {"prediction": "noise"}),
        ("single_step", {}),
        ("single_step", {"prediction": "noise"}),
    ],
    ids=name,
)
@pytest.mark.parametrize("kind", ["dpmpp", "ipndm"])
def test_a_start_without_first_evaluation_is_refused_where_it_has_no_form(digits, family, options, kind):
    base = s4s.solver(kind, s4s.levels("edm", 6, digits), analytic_first_step=True)
    with pytest.raises(S4SError, match=r"analytic first step|outputs|exponential"):
        make_family(family, base, digits.path, **options)


@pytest.mark.parametrize(("family", "options", "kind", "solver_options"), MEMBERS, ids=name)
def test_derivatives_of_the_tableau_are_its_finite_differences(mixture, family, options, kind, solver_options):
    """By weights, schedule, conditioning levels and kappa, away from the initialisation."""
    _, made = parameters(mixture, family, options, kind, solver_options, decoupled=True, first_node=True)
    values, free = small(made.size, 1, 0.05), torch.arange(made.size)
    lin = made.linearise(values, free)
    slopes = torch.cat([lin.levels, lin.A.flatten(1), lin.B.flatten(1), lin.eval_levels, lin.kappa[:, None]], 1)
    step = 1e-6
    for k, unit in enumerate(torch.eye(made.size, dtype=DOUBLE)):
        measured = (numbers(made.tableau(values + step * unit)) - numbers(made.tableau(values - step * unit))) / (2 * step)
        assert torch.allclose(slopes[k], measured, rtol=1e-5, atol=1e-6 * slopes.abs().max().item()), k
    assert torch.equal(numbers(lin.tableau), numbers(made.tableau(values)))


@pytest.mark.parametrize(("family", "options", "kind", "solver_options"), MEMBERS, ids=name)
def test_independent_parameters_span_all_that_a_family_can_do(mixture, family, options, kind, solver_options):
    """As many as the rank of the derivative of (reduced form, conditioning levels, kappa), and none of them superfluous."""
    _, made = parameters(mixture, family, options, kind, solver_options, decoupled=True, first_node=True)
    free = torch.arange(made.size)

    def effect(values):
        tableau = made.tableau(values)
        a, b = tableau.reduced()
        kappa = torch.as_tensor(tableau.kappa).reshape(1)
        return torch.cat([a[1:], b[1:].flatten(), tableau.eval_levels.log(), kappa])

    jacobian = torch.autograd.functional.jacobian(effect, made.zeros()).T
    jacobian = jacobian / jacobian.norm(dim=1, keepdim=True).clamp_min(1e-300)
    chosen = made.independent(free)
    rank = torch.linalg.matrix_rank(jacobian, rtol=1e-8)
    assert len(chosen) == rank == torch.linalg.matrix_rank(jacobian[chosen], rtol=1e-8)


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_pc_of_order_k_can_do_what_lms_of_order_k_plus_1_can(mixture, prediction, order):
    base = s4s.solver("ddim", s4s.levels("time_quadratic", 5, mixture))
    spans, counts = [], []
    for family, k in (("pc", order), ("lms", order + 1)):
        made = make_family(family, base, prediction=prediction, order=k)
        chosen = Parameters(made, base).independent(torch.arange(made.size))
        counts.append(len(chosen))
        zero = torch.zeros(made.size, dtype=DOUBLE)
        spans.append(torch.autograd.functional.jacobian(lambda t, f=made: f.tableau(base.levels, t).reduced().b[1:], zero))
    ranks = [int(torch.linalg.matrix_rank(span.flatten(0, 1), rtol=1e-9)) for span in (*spans, torch.cat(spans, 2))]
    assert ranks[0] == ranks[1] == ranks[2] == counts[0] == counts[1]


def exact_step(prediction, levels, g, n, y, outputs, states, conditioning, weights):
    """Node n + 1 from node g, with `weights` {j: b} of the outputs D_j or of e_j = (states_j - D_j)/told_j."""
    if prediction == "data":
        r = levels[n + 1] / levels[g]
        return r * y + (1 - r) * sum(b * outputs[j] for j, b in weights.items())
    return y + (levels[n + 1] - levels[g]) * sum(b * (states[j] - outputs[j]) / conditioning[j] for j, b in weights.items())


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_lms_run_by_hand(mixture, prediction, order):
    """The formula of the docstring; for DDIM b is 1 for the newest output."""
    levels = s4s.levels("edm", 5, mixture)
    made = make_family("lms", s4s.solver("ddim", levels), prediction=prediction, order=order)
    theta = small(made.size, 2)
    left = iter(theta.tolist())
    y = states = [20 * small((3, 2), 3, 1.0)]
    outputs = []
    for n in range(5):
        outputs.append(mixture(states[n], levels[n]))
        weights = {j: float(j == n) + next(left) for j in range(max(0, n - order + 1), n + 1)}
        states = [*states, exact_step(prediction, levels, n, n, states[n], outputs, states, levels, weights)]
    assert torch.allclose(run(mixture, y[0], made.tableau(levels, theta)), states[-1], rtol=1e-12)


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_pc_run_by_hand_as_predictor_and_corrector(mixture, prediction, order):
    """The two formulas of the docstring, with states corrected after each evaluation."""
    nfe = 5
    levels = s4s.levels("edm", nfe, mixture)
    made = make_family("pc", s4s.solver("ddim", levels), prediction=prediction, order=order)
    theta = small(made.size, 4)
    left = iter(theta.tolist())
    b = [{j: float(j == n) + next(left) for j in range(max(0, n - order + 1), n + 1)} for n in range(nfe)]
    c = [{j: float(j == n) + next(left) for j in range(max(0, n - order + 1), n + 2)} for n in range(nfe - 1)]
    assert next(left, None) is None
    y_T = 20 * small((3, 2), 5, 1.0)
    predicted, outputs, y = [y_T], [mixture(y_T, levels[0])], y_T
    for n in range(nfe):
        predicted.append(exact_step(prediction, levels, n, n, y, outputs, predicted, levels, b[n]))
        if n < nfe - 1:
            outputs.append(mixture(predicted[n + 1], levels[n + 1]))
            y = exact_step(prediction, levels, n, n, y, outputs, predicted, levels, c[n])
    assert torch.allclose(run(mixture, y_T, made.tableau(levels, theta)), predicted[-1], rtol=1e-12)


@pytest.mark.parametrize("order", [1, 3, None])
def test_dyweight_run_by_hand(mixture, order):
    """Adams-Bashforth weights plus theta; the conditioning levels are where the sums of the weights say that the state is."""
    nfe = 5
    levels = s4s.levels("edm", nfe, mixture)
    start = order or 4
    made = make_family("dyweight", s4s.solver("ipndm", levels, order=start), order=order)
    adams = {1: [1], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
    theta = small(made.size, 6, 0.05)
    left = iter(theta.tolist())
    y_T = y = 20 * small((3, 2), 7, 1.0)
    t, directions = levels[0], []
    for n in range(nfe):
        directions.append((y - mixture(y, t)) / t)
        b = adams[min(start, n + 1)]
        w = {j: (b[n - j] if n - j < len(b) else 0) + next(left) for j in range(max(0, n - (order or nfe) + 1), n + 1)}
        y = y + (levels[n + 1] - t) * sum(weight * directions[j] for j, weight in w.items())
        t = t + (levels[n + 1] - t) * sum(w.values())
    tableau = made.tableau(levels, theta)
    assert not torch.allclose(tableau.eval_levels, levels[:-1], rtol=1e-3)
    assert torch.allclose(run(mixture, y_T, tableau), y, rtol=1e-12)


def test_dyweight_refuses_weights_that_lead_to_a_time_that_is_not_positive(mixture):
    base = s4s.solver("ipndm", s4s.levels("edm", 4, mixture), order=2)
    made = make_family("dyweight", base)
    with pytest.raises(S4SError, match="> 0"):
        made.tableau(base.levels, torch.full((made.size,), 5.0, dtype=DOUBLE))


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize(("order", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (3, [3, 2])])
def test_single_step_run_by_hand_uses_nothing_of_earlier_steps(mixture, prediction, order, sizes):
    levels = s4s.levels("edm", 5, mixture)
    kind, options = {1: ("ddim", {}), 2: ("dpm2", {"prediction": prediction}), 3: ("dpm3", {"prediction": prediction})}[order]
    base = s4s.solver(kind, levels, **options)
    made = make_family("single_step", base, prediction=prediction, order=order)
    starts = [g for g, size in zip(itertools.accumulate([0, *sizes]), sizes, strict=False) for _ in range(size)]
    weights_at_start = [  # of the classical solver on its own levels
        {
            j: float(base.B[n, j] / (1 - levels[n + 1] / levels[g]))
            if prediction == "data"
            else float(-base.B[n, j] * levels[j] / (levels[n + 1] - levels[g]))
            for j in range(g, n + 1)
        }
        for n, g in enumerate(starts)
    ]
    if kind == "ddim" and prediction == "noise":
        weights_at_start = [{n: 1.0} for n in range(5)]
    theta = small(made.size, 8, 0.2)
    left = iter(theta.tolist())
    b = [{j: weight + next(left) for j, weight in row.items()} for row in weights_at_start]
    conditioning = levels.clone()
    for g, size in zip(itertools.accumulate([0, *sizes]), sizes, strict=False):
        lam = -levels[g : g + size + 1].log()
        increments = lam.diff() * torch.tensor([next(left) for _ in range(size - 1)] + [0.0], dtype=DOUBLE).exp()
        inner = lam[0] + (increments.cumsum(0) / increments.sum() * (lam[-1] - lam[0]))[:-1]
        conditioning[g + 1 : g + size] = (-inner).exp()
    assert next(left, None) is None
    states, outputs = [20 * small((3, 2), 9, 1.0)], []
    for n, g in enumerate(starts):
        outputs.append(mixture(states[n], conditioning[n]))
        states.append(exact_step(prediction, conditioning, g, n, states[g], outputs, states, conditioning, b[n]))
    tableau = made.tableau(levels, theta)
    assert tableau.nfe == sum(sizes) == 5
    assert torch.allclose(tableau.levels, conditioning, rtol=1e-12)
    ends = [0, *itertools.accumulate(sizes)]
    assert torch.equal(tableau.levels[ends], levels[ends]), "stage levels move inside their step only"
    for n, g in enumerate(starts):
        assert (torch.cat([tableau.A[n, :g], tableau.B[n, :g]]).abs() < 1e-15).all(), "but for the rounding of a change of form"
    assert torch.allclose(run(mixture, states[0], tableau), states[-1], rtol=1e-11)


def test_single_step_levels_stay_in_order_whatever_the_weights(mixture):
    base = s4s.solver("dpm3", s4s.levels("logsnr", 6, mixture))
    made = make_family("single_step", base, prediction="noise", order=3)
    for seed in range(5):
        levels = made.tableau(base.levels, small(made.size, seed, 3.0)).levels
        assert torch.equal(levels[[0, 3, 6]], base.levels[[0, 3, 6]]) and (levels.diff() < 0).all()


def row_sums(prediction, tableau, starts):
    """Sums over each row of the weights b of a formula in data or noise prediction."""
    if prediction == "data":
        return tableau.B.sum(1) / (1 - tableau.levels[1:] / tableau.levels[starts])
    return (-tableau.B * tableau.levels[:-1]).sum(1) / (tableau.levels[1:] - tableau.levels[starts])


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("family", ["lms", "single_step"])
@pytest.mark.parametrize("consistency", [True, False])
def test_consistency_keeps_the_sum_of_each_row(mixture, family, prediction, consistency):
    base = s4s.solver("dpm2", s4s.levels("logsnr", 4, mixture), prediction=prediction)
    starts = [0, 0, 2, 2]
    if family == "lms":
        base, starts = s4s.solver("ipndm" if prediction == "noise" else "dpmpp", base.levels, order=2), [0, 1, 2, 3]
    made = make_family(family, base, prediction=prediction, order=2, consistency=consistency)
    sums = row_sums(prediction, made.tableau(base.levels, small(made.size)), starts)
    assert torch.allclose(sums, torch.ones(4, dtype=DOUBLE)) == consistency


@pytest.mark.parametrize("prediction", ["data", "noise"])
def test_consistency_of_pc_is_exactness_on_constants(mixture, prediction):
    base = s4s.solver("ddim", s4s.levels("edm", 5, mixture))
    for consistency in (True, False):
        made = make_family("pc", base, prediction=prediction, order=2, consistency=consistency)
        a, b = made.tableau(base.levels, small(made.size)).reduced()
        if prediction == "data":
            assert torch.allclose(a, base.levels / base.levels[0])
            assert torch.allclose(a + b.sum(1), torch.ones(6, dtype=DOUBLE)) == consistency
        else:  # any weights keep constant states; their sum says what becomes of D = 0
            assert torch.allclose(a + b.sum(1), torch.ones(6, dtype=DOUBLE))


@pytest.mark.parametrize(("family", "width"), [("lms", 2), ("pc", 3), ("dyweight", 2)])
@pytest.mark.parametrize("prediction", ["data", "noise"])
def test_order_limits_what_a_step_sees(mixture, family, width, prediction):
    base = s4s.solver("ddim", s4s.levels("edm", 6, mixture))
    options = {"order": 2} if family == "dyweight" else {"order": 2, "prediction": prediction}
    made = make_family(family, base, **options)
    B = made.tableau(base.levels, small(made.size)).B
    outside = B.tril(-width)  # rounding of a change of form
    assert outside.abs().max() < 1e-15 and (B.diagonal(1 - width).abs() > 1e-6).all()


@pytest.mark.parametrize("options", [{}, {"start_weights": True}])
def test_lms_in_data_prediction_takes_from_the_start_only_what_its_base_does(mixture, options):
    base = s4s.solver("dpmpp", s4s.levels("edm", 5, mixture))
    made = make_family("lms", base, prediction="data", **options)
    below = made.tableau(base.levels, small(made.size)).A.tril(-1)
    assert not below[:, 1:].any() and bool(below[1:, 0].all()) == bool(options)


def test_bns_goes_straight_from_the_start(mixture):
    base = s4s.solver("ipndm", s4s.levels("edm", 5, mixture))
    made = make_family("bns", base)
    tableau = made.tableau(base.levels, small(made.size))
    assert not tableau.A[:, 1:].any() and tableau.A[:, 0].all() and (tableau.B.tril() != 0).sum() == 15


@pytest.mark.parametrize("kind", FOLLOWED)
def test_ld3_is_the_classical_solver_on_its_new_levels(digits, kind):
    base, made = parameters(digits, "ld3", {}, kind, {}, nfe=6)
    values = small(made.size, 3, 0.3)
    learned = made.tableau(values)
    assert not torch.allclose(learned.levels, base.levels, rtol=1e-2)
    assert learned.same_as(s4s.solver(kind, learned.levels, path=digits.path), 1e-12)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("lsm", {}, "unknown family 'lsm'; known: bns, cached, dyweight, gs, ld3, lms, pc, single_step"),
        ("lms", {"ordre": 3}, "family 'lms' has no option 'ordre'; allowed: prediction, order"),
        ("bns", {"order": 3}, "family 'bns' has no option 'order'; allowed: none"),
        ("lms", {"order": 7}, "order 7 .* between 1 and its NFE, 6"),
        ("lms", {"order": 0}, "family 'lms': order must be >= 1, got 0"),
        ("pc", {"order": 7}, "between 1 and its NFE, 6"),
        ("single_step", {"order": 7}, "between 1 and its NFE, 6"),
        ("dyweight", {"order": 7}, "between 1 and its NFE, 6"),
        ("lms", {"order": 3}, "uses the last 4 outputs; take order 4 or full"),
        ("pc", {"order": 2}, "uses the last 4 outputs; take order 4 less 1 or full"),
        ("dyweight", {"order": 3}, "uses the last 6 outputs; take order 6 or full"),  # in noise prediction it uses all
        ("single_step", {"order": 2}, "uses the last .* outputs; take a base with steps of 2 evaluations"),
        ("lms", {"prediction": "v"}, "family 'lms': prediction must be one of data, noise, got 'v'"),
        ("single_step", {"prediction": "v"}, "prediction must be one of data, noise, got 'v'"),
        ("lms", {"prediction": "noise", "start_weights": True}, "start_weights belong to data prediction"),
    ],
)
def test_a_family_says_what_it_cannot_do(digits, family, options, message):
    base = s4s.solver("unipc", s4s.levels("edm", 6, digits), order=3)
    with pytest.raises(S4SError, match=message):
        make_family(family, base, digits.path, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_starts_at_a_solver_that_ends_at_level_0(digits, family):
    base = s4s.solver("dpmpp", s4s.levels("edm", 6, digits, to_zero=True), order=2)
    with pytest.raises(S4SError, match="ends at level 0; leave out to_zero"):
        make_family(family, base, digits.path)


@pytest.mark.parametrize("family", ["ld3", "gs"])
def test_a_family_that_follows_the_levels_needs_a_formula(digits, family):
    levels = s4s.levels("edm", 4, digits)
    base = s4s.solver("dpmpp", levels)
    learned = s4s.Tableau(base.levels, base.A, base.B)
    with pytest.raises(S4SError, match=r"made by s4s\.solver"):
        make_family(family, learned, digits.path)
    scaled = s4s.solver("dpmpp", 0.9 * levels, start=float(levels[0]))
    with pytest.raises(S4SError, match="without leading levels"):
        make_family(family, scaled, digits.path)


def test_none_stands_for_the_default_of_an_option(digits):
    base = s4s.solver("dpmpp", s4s.levels("edm", 5, digits))
    assert make_family("lms", base, order=None, prediction=None).size == make_family("lms", base).size == 15
