"""What a fit computes: derivatives of runs, residuals, distances, the teacher's path, counted evaluations, memory."""

import copy
import math
from dataclasses import replace

import pytest
import torch

import s4s
from benchmarks.peak_memory import PeakMemory
from s4s import FitSettings, S4SError, fit
from s4s.learning.families import FAMILIES, make_family
from s4s.learning.losses import l1, l2, make_distance
from s4s.learning.objective import Objective, Replica
from s4s.learning.parameters import Parameters
from s4s.learning.relaxed import RelaxedNoise
from s4s.learning.tangents import FORWARD_COST, Counter, run_with_tangents
from s4s.learning.teacher_path import TeacherPath
from s4s.learning.warm_start import resampled
from s4s.models.accelerated import accelerated
from s4s.models.load import load_perceptual
from s4s.models.seeds import sample_seeds
from s4s.sampling import initial_noise, run
from tests.conftest import CountingDenoiser

DOUBLE = torch.float64
CASES = [
    ("lms", {"prediction": "data"}, "dpmpp", {"order": 2}),
    ("lms", {"prediction": "noise"}, "ipndm", {"order": 2}),
    ("pc", {"prediction": "data", "order": 2}, "unipc", {"order": 2}),
    ("single_step", {"prediction": "noise"}, "dpm2", {}),
    ("ld3", {}, "dpmpp", {"order": 2}),
    ("gs", {}, "heun", {}),
    ("dyweight", {}, "ipndm", {"order": 2}),
    ("bns", {}, "dpmpp", {"order": 2}),
]


def small(size, seed=0, scale=0.05):
    return scale * torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def make(denoiser, family="lms", options=None, kind="dpmpp", solver_options=None, nfe=4, schedule="time_quadratic"):
    """A family with all parameters there are."""
    base = s4s.solver(
        kind,
        s4s.levels(schedule, nfe, denoiser),
        path=denoiser.path,
        **({"order": 2} if solver_options is None else solver_options),
    )
    made = make_family(family, base, denoiser.path, **(options or {}))
    return Parameters(made, base, decoupled=True, first_node=True)


def all_states(denoiser, y, tableau):
    states = []
    end = run(denoiser, y, tableau, callback=lambda n, state, output: states.append(state))
    return torch.stack([*states, end])


@pytest.mark.parametrize(("mode", "tolerance"), [("differences", 1e-2), ("forward", 1e-8)])
@pytest.mark.parametrize(("family", "options", "kind", "solver_options"), CASES)
def test_tangents_of_a_run_are_its_finite_differences(mixture, family, options, kind, solver_options, mode, tolerance):
    """Of all nodes, by weights, schedule, conditioning levels and kappa, away from the initialisation."""
    made = make(mixture, family, options, kind, solver_options)
    values, y = small(made.size, 1), initial_noise(mixture, sample_seeds("train", 5))
    counter = Counter()
    lin = made.linearise(values, torch.arange(made.size))
    with torch.no_grad():
        states, tangents = run_with_tangents(mixture, y, lin, counter, 4096, mode)
        assert torch.allclose(torch.stack(states), all_states(mixture, y, made.tableau(values).detach()), rtol=1e-12)
        tangents = torch.stack(tangents, 1)
        step = 3e-5
        for k, unit in enumerate(torch.eye(made.size, dtype=DOUBLE)):
            ends = [all_states(mixture, y, made.tableau(values + i * step * unit).detach()) for i in (-2, -1, 1, 2)]
            measured = (8 * (ends[2] - ends[1]) - (ends[3] - ends[0])) / (12 * step)  # exact to fourth order
            floor = 1e-6 if mode == "forward" else 1e-3  # of the states
            assert (tangents[k] - measured).norm() <= tolerance * measured.norm() + tolerance * floor * y.norm(), k


@pytest.mark.parametrize("mode", ["differences", "forward"])
def test_tangents_do_not_depend_on_how_many_states_go_at_a_time(mixture, mode):
    made = make(mixture)
    y = initial_noise(mixture, sample_seeds("train", 5))
    lin = made.linearise(small(made.size, 1), torch.arange(made.size))
    with torch.no_grad():
        found = [run_with_tangents(mixture, y, lin, Counter(), rows, mode) for rows in (4096, 11, 3)]
    for states, tangents in found[1:]:
        assert torch.allclose(torch.stack(states), torch.stack(found[0][0]), rtol=1e-12)
        assert torch.allclose(torch.stack(tangents), torch.stack(found[0][1]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("family", "options", "kind", "solver_options"), CASES)
def test_tangents_count_what_goes_through_the_network(mixture, family, options, kind, solver_options):
    """Exactly the rows in mode differences, of which one in FORWARD_COST is counted in mode forward."""
    made = make(mixture, family, options, kind, solver_options)
    counting, counter, dual = CountingDenoiser(mixture), Counter(), Counter()
    y = initial_noise(mixture, sample_seeds("train", 5))
    lin = made.linearise(made.zeros(), torch.arange(made.size))
    with torch.no_grad():
        run_with_tangents(counting, y, lin, counter, 4096)
        run_with_tangents(mixture, y, lin, dual, 4096, "forward")
    assert counter.evaluations == counting.rows
    own = 5 * lin.tableau.nfe
    assert dual.evaluations - own == FORWARD_COST * (counting.rows - own)
    assert counting.rows <= own * (1 + made.size)


def test_weights_of_late_rows_cost_less(mixture):
    """A weight of row n moves nothing before node n + 1: of LMS's 15 at NFE 5, those of the last row are free."""
    base = s4s.solver("dpmpp", s4s.levels("edm", 5, mixture), order=2)
    made = Parameters(make_family("lms", base), base)
    counter, y = Counter(), initial_noise(mixture, sample_seeds("train", 1))
    lin = made.linearise(made.zeros(), made.free(frozenset({"theta"})))
    with torch.no_grad():
        run_with_tangents(mixture, y, lin, counter, 4096)
    assert len(lin.A) == 15 and counter.evaluations == 5 + (1 + 3 + 6 + 10)


def objective(denoiser, pairs, distance, weight=0.0, replicas=1, rows=4096):
    path = TeacherPath(pairs.train, pairs.levels) if weight else None
    return Objective([Replica(denoiser, distance)] * replicas, pairs.train, rows, Counter(), path, weight)


@pytest.mark.parametrize("weight", [0.0, 0.7])
@pytest.mark.parametrize(("distance", "tolerance"), [(l2, 1e-5), (l1, 0.3)])
def test_normal_equations_have_the_gradient_of_the_distance(mixture, mixture_paths, distance, tolerance, weight):
    """As reverse mode finds it, with a part of the teacher's path as well; l1 to what its smallest residuals are clamped to."""
    made = make(mixture)
    values, rows = small(made.size, 1), torch.arange(8)
    learning = objective(mixture, mixture_paths, distance, weight)
    lin = made.linearise(values, torch.arange(made.size))
    equations = learning.normal_equations(lin, learning.y_T[rows], rows, "forward")
    slopes = learning.gradients(made, values, learning.y_T[rows], rows, by_noise=False, recompute=False)
    assert torch.allclose(equations.distances, slopes.distances, rtol=1e-6)
    assert (equations.gradient - slopes.by_values).norm() <= tolerance * slopes.by_values.norm()
    assert torch.linalg.eigvalsh(equations.matrix).min() >= -1e-9 * equations.matrix.diagonal().max()


@pytest.mark.parametrize("mode", ["differences", "forward"])
@pytest.mark.parametrize("name", ["perceptual", "features"])
def test_normal_equations_have_the_gradient_of_a_network_distance(digits, digits_pairs, name, mode):
    """Torch's forward mode refuses group_norm of channels_last tensors: one clear error, and a network in the other format."""
    made = make(digits, schedule="edm")
    distance, rows = make_distance(name, load_perceptual("digits")), torch.arange(4)
    if mode == "forward":
        lin = made.linearise(made.zeros(), torch.arange(made.size))
        with pytest.raises(S4SError, match=r"forward mode does not work on digits .*set derivatives: differences"):
            objective(digits, digits_pairs, distance).normal_equations(
                lin, torch.from_numpy(digits_pairs.train.y_T[:4]), rows, mode
            )
        digits = copy.deepcopy(digits)
        digits.network.memory_format = torch.contiguous_format
        digits.network.to(memory_format=torch.contiguous_format)
    learning = objective(digits, digits_pairs, distance)
    equations = learning.normal_equations(made.linearise(made.zeros(), torch.arange(made.size)), learning.y_T[rows], rows, mode)
    slopes = learning.gradients(made, made.zeros(), learning.y_T[rows], rows, by_noise=False, recompute=False)
    assert (equations.gradient - slopes.by_values).norm() <= 0.05 * slopes.by_values.norm()


def test_distances_of_states_decode_nothing(mixture, mixture_pairs, monkeypatch):
    """l1 and l2 compare latent states as they are; distances of images see what they decode to."""
    made, rows = make(mixture), torch.arange(4)
    values = small(made.size, 1)
    monkeypatch.setattr(mixture, "decode", lambda y_0: 3 * y_0)
    of_states, of_images = (objective(mixture, mixture_pairs, replace(l2, of_states=own)) for own in (True, False))
    found = []
    for learning in (of_states, of_images):
        lin = made.linearise(values, torch.arange(made.size))
        equations = learning.normal_equations(lin, learning.y_T[rows], rows, "forward")
        assert torch.allclose(
            equations.distances, learning.distances(made.tableau(values), learning.y_T[rows], rows), rtol=1e-5
        )
        found.append(equations)
    assert torch.allclose(found[1].distances, 3 * found[0].distances, rtol=1e-3)
    assert torch.allclose(found[1].gradient, 3 * found[0].gradient, rtol=0.02)


def test_the_matrix_of_normal_equations_is_that_of_the_weighted_residuals(mixture, mixture_pairs):
    """J'WWJ with J measured by whole runs and W of the distance."""
    made = make(mixture, "bns")
    learning, rows = objective(mixture, mixture_pairs, l2), torch.arange(6)
    lin = made.linearise(made.zeros(), torch.arange(made.size))
    matrix = learning.normal_equations(lin, learning.y_T[rows], rows, "forward").matrix

    def residuals(values):
        end = run(mixture, learning.y_T[rows], made.tableau(values))
        return (end - learning.y_0[rows]).flatten(1) / math.sqrt(2)

    J = torch.autograd.functional.jacobian(residuals, made.zeros())
    weights = l2.weights(residuals(made.zeros()))[..., None]
    assert torch.allclose(matrix, ((J * weights).flatten(0, 1).T @ J.flatten(0, 1)), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_gradients_are_those_of_the_distance_by_parameters_and_start(mixture, mixture_paths, weight):
    made = make(mixture)
    learning, rows, step = objective(mixture, mixture_paths, l2, weight), torch.arange(3), 1e-6
    values, y = small(made.size, 1), learning.y_T[rows]
    found = learning.gradients(made, values, y, rows, by_noise=True, recompute=False)

    def distances(values, y):
        return learning.distances(made.tableau(values).detach(), y, rows)

    assert torch.allclose(found.distances, distances(values, y))
    for k, unit in enumerate(torch.eye(made.size, dtype=DOUBLE)):
        measured = (distances(values + step * unit, y) - distances(values - step * unit, y)).sum() / (2 * step)
        assert torch.isclose(found.by_values[k], measured, rtol=1e-4, atol=1e-6), k
    for k, unit in enumerate(torch.eye(2, dtype=DOUBLE)):
        measured = (distances(values, y + 1e-4 * unit) - distances(values, y - 1e-4 * unit)) / 2e-4
        assert torch.allclose(found.by_noise[:, k], measured, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("distance", [l1, l2], ids=["l1", "l2"])
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_what_an_objective_finds_does_not_depend_on_rows_at_a_time_or_replicas(mixture, mixture_paths, rows, distance):
    made, chosen = make(mixture), torch.arange(7)
    lin = made.linearise(made.zeros(), torch.arange(made.size))
    for replicas in (1, 2, 3):
        one, other = (objective(mixture, mixture_paths, distance, 0.5, *more) for more in ((), (replicas, rows)))
        found = [
            (
                o.distances(lin.tableau, o.y_T[chosen], chosen),
                *o.normal_equations(lin, o.y_T[chosen], chosen, "forward"),
                *o.gradients(made, made.zeros(), o.y_T[chosen], chosen, by_noise=True, recompute=False),
            )
            for o in (one, other)
        ]
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in zip(*found, strict=True))
        assert one.counter.evaluations == other.counter.evaluations


def test_the_teachers_path_is_the_exact_trajectory_between_its_steps(mixture, mixture_paths):
    """Against a run of 150 steps to each level; and at the teacher's own levels it is the teacher's states."""
    path, rows = TeacherPath(mixture_paths.train, mixture_paths.levels), torch.arange(16)
    y_T = torch.from_numpy(mixture_paths.train.y_T)
    for n in (0, 1, 7, 38):
        states = torch.from_numpy(mixture_paths.train.trajectory[:, n])
        assert torch.allclose(path.at(mixture_paths.levels[n], rows)[0], states, rtol=1e-9)
    for level in (12.3, 0.77, 0.11):
        fine = torch.logspace(math.log10(20.0), math.log10(level), 151, dtype=DOUBLE)
        dense = s4s.sample(mixture, y_T, s4s.solver("unipc", fine, order=3))
        state, slope = path.at(torch.tensor(level, dtype=DOUBLE), rows)
        assert (state - dense).abs().max() < 1e-3 * (1 + level)
        assert (slope - (mixture(dense, level) - dense)).abs().max() < 2e-2 * (1 + level)


def test_the_derivative_of_the_teachers_path_is_its_finite_difference(mixture_paths):
    path, rows = TeacherPath(mixture_paths.train, mixture_paths.levels), torch.tensor([3, 5])
    level = torch.tensor(0.8, dtype=DOUBLE)
    slope = path.at(level, rows)[1]
    measured = (path.at(level * math.exp(-1e-5), rows)[0] - path.at(level * math.exp(1e-5), rows)[0]) / 2e-5
    assert torch.allclose(slope, measured, rtol=1e-6)
    by_level = torch.autograd.functional.jacobian(lambda s: path.at(s, rows)[0], level)
    assert torch.allclose(by_level, -slope / level, rtol=1e-9)


def test_a_path_needs_kept_states(mixture_pairs, mixture_paths):
    for pairs in (mixture_pairs, s4s.TeacherPairs(mixture_paths.train, mixture_paths.val)):
        with pytest.raises(S4SError, match=r"teacher: \{trajectory: true\}"):
            TeacherPath(pairs.train, pairs.levels)


@pytest.mark.parametrize("name", ["l1", "l2", "perceptual", "features"])
def test_weighted_squares_have_the_gradient_of_the_distance(digits, name):
    """Of sum(weights difference^2)/2 with the weights held; l1 away from 0."""
    distance = make_distance(name, load_perceptual("digits"))
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(3, 1, 8, 8, generator=generator) * 2 - 1 for _ in range(2))
    if name == "l1":
        y = x + 0.5 + y / 4
    differences = [
        (a - b).detach().double().requires_grad_() for a, b in zip(distance.blocks(x), distance.blocks(y), strict=True)
    ]
    total = distance.between(differences, [torch.zeros_like(d) for d in differences]).sum()
    for difference, slope in zip(differences, torch.autograd.grad(total, differences), strict=True):
        assert torch.allclose(slope, (distance.weights(difference) * difference).detach(), rtol=1e-9)


@pytest.mark.parametrize("name", ["l1", "l2", "perceptual", "features"])
def test_distances_are_zero_on_equals_and_grow(name):
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    d = make_distance(name, load_perceptual("digits"))
    near, far = d(x, x + 0.05), d(x, x + 0.5)
    assert d(x, x).max() < 1e-3 and (near > d(x, x)).all() and (far > near).all()


@pytest.mark.parametrize(
    ("name", "message"), [("perceptual", "needs a perceptual network"), ("features", "needs"), ("l3", "unknown distance 'l3'")]
)
def test_a_distance_that_cannot_be_made_is_refused(name, message):
    with pytest.raises(S4SError, match=message):
        make_distance(name)


def peak_of_a_gradient(denoiser, pairs, nfe, recompute):
    made = make(denoiser, nfe=nfe, schedule="edm")
    learning, rows = objective(denoiser, pairs, l2), torch.arange(8)
    with PeakMemory() as memory:
        learning.gradients(made, made.zeros(), learning.y_T[rows], rows, by_noise=False, recompute=recompute)
    return memory.bytes


def test_memory_of_a_gradient_does_not_grow_with_nfe_if_activations_are_computed_again(digits, digits_pairs):
    peaks = {
        recompute: [peak_of_a_gradient(digits, digits_pairs, nfe, recompute) for nfe in (4, 10)] for recompute in (True, False)
    }
    assert peaks[True][1] <= 1.3 * peaks[True][0]
    assert peaks[False][1] > 1.5 * peaks[False][0]
    assert peaks[True][0] < 0.5 * peaks[False][0]


def test_a_gradient_is_the_same_if_activations_are_computed_again(digits, digits_pairs):
    made, rows = make(digits, schedule="edm"), torch.arange(4)
    found, counts = [], []
    for recompute in (False, True):
        counting = CountingDenoiser(digits)
        learning = objective(counting, digits_pairs, l2)
        found.append(learning.gradients(made, made.zeros(), learning.y_T[rows], rows, by_noise=True, recompute=recompute))
        counts.append((counting.rows, learning.counter.evaluations))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert counts == [(16, 48), (32, 64)], "one more forward pass is made, and counted"


def test_lower_precision_changes_the_network_a_little_and_not_the_type_of_states(digits):
    y = initial_noise(digits, sample_seeds("test", 4)) / 40
    exact, rough = digits(y, 2.0), accelerated(digits, "bfloat16")(y, 2.0)
    assert rough.dtype == torch.float32 and accelerated(digits) is digits
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("radius", "step"),
    [(0.3, 1.0), (0.3, 1e-3)],
    ids=["long steps end on the ball's surface", "short steps are gradient steps"],
)
def test_relaxed_noise_moves_in_its_ball(radius, step):
    y_T = torch.randn(10, 3, 4, generator=torch.Generator().manual_seed(0))
    relaxed = RelaxedNoise(y_T.clone(), s_T=2.0, radius=radius, step=step)
    rows, gradient = torch.tensor([1, 4, 7]), torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(1))
    candidates = relaxed.propose(rows, gradient)
    if step == 1.0:
        distance = (candidates - y_T[rows]).flatten(1).norm(dim=1)
        assert torch.allclose(distance, torch.full((3,), 0.6))
    else:
        assert torch.allclose(candidates, y_T[rows] - 4e-3 * gradient)
    relaxed.keep(rows, candidates, torch.tensor([True, False, True]))
    assert torch.equal(relaxed.y[[1, 7]], candidates[[0, 2]]), "improvements are kept"
    kept = [i for i in range(10) if i not in (1, 7)]
    assert torch.equal(relaxed.y[kept], y_T[kept])
    assert (relaxed.y - y_T).flatten(1).norm(dim=1).max() <= relaxed.radius * (1 + 1e-6)


def learned(mixture, nfe=5):
    base = s4s.solver("dpmpp", s4s.levels("logsnr", nfe, mixture), order=2)
    made = Parameters(make_family("lms", base, order=3), base, decoupled=True)
    return made.tableau(small(made.size, 5, 0.1)).detach()


def classical(levels):
    return s4s.solver("dpmpp", levels, order=2)


CARRIED = [
    ("lms", {}, "dpmpp"), ("lms", {"order": 3}, "dpmpp"), ("lms", {}, "ipndm"), ("lms", {"start_weights": True}, "ipndm"),
    ("lms", {"prediction": "noise", "order": 3}, "ipndm"), ("pc", {}, "unipc"), ("pc", {}, "ipndm"), ("bns", {}, "ipndm"),
    ("dyweight", {}, "ipndm"), ("ld3", {}, "ipndm"), ("gs", {}, "dpmpp"), ("single_step", {}, "dpm2"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "options", "kind"), CARRIED)
def test_a_learned_solver_carried_to_its_own_nfe_is_itself(mixture, family, options, kind):
    """And at other NFE its family can start from what it became."""
    kind_options = {} if kind == "dpm2" else {"order": 2}

    def classical(levels):
        return s4s.solver(kind, levels, path=mixture.path, **kind_options)

    base = classical(s4s.levels("time_quadratic", 5, mixture))
    made = Parameters(make_family(family, base, mixture.path, **options), base, decoupled=True, first_node=True)
    source, by_lag = made.tableau(small(made.size, 5, 0.03)).detach(), FAMILIES[family].by_lag
    for nfe in (5, 4, 6):
        start = resampled(source, nfe, mixture.s_max, mixture.s_min, classical, by_lag, FAMILIES[family].schedule_only)
        again = Parameters(make_family(family, start, mixture.path, **options), start, decoupled=True, first_node=True)
        assert again.tableau(again.zeros()).same_as(start, 1e-9)
        assert start.kappa == source.kappa and start.meta == classical(start.levels).meta
        if nfe == 5:
            assert torch.allclose(start.levels, source.levels) and torch.allclose(start.eval_levels, source.eval_levels)
            assert start.same_as(source, 1e-9) == (by_lag or family == "ld3")


@pytest.mark.parametrize("kind", ["dpmpp", "ipndm"])
def test_a_solver_carried_to_one_evaluation_more_is_a_better_start_than_the_classical_one(mixture, mixture_pairs, kind):
    def classical(levels):
        return s4s.solver(kind, levels, order=2)

    base = classical(s4s.levels("time_quadratic", 4, mixture))
    settings = FitSettings(iterations=16, distance="l2")
    source = fit(mixture, mixture_pairs, "lms", base.levels, base=base, driver="joint", decoupled=True, settings=settings)
    start = resampled(source.tableau, 5, mixture.s_max, mixture.s_min, classical)
    cold = classical(s4s.levels("time_quadratic", 5, mixture))
    y_T, y_0 = (torch.from_numpy(a) for a in (mixture_pairs.val.y_T, mixture_pairs.val.y_0))
    errors = [l2(s4s.sample(mixture, y_T, tableau), y_0).mean().item() for tableau in (start, cold)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("nfe", [1, 2, 3, 4, 6, 9])
def test_a_learned_solver_carried_to_another_nfe_has_the_new_ends(mixture, nfe, weights):
    source = learned(mixture)

    def order_1_at_first(levels):
        return s4s.solver("dpmpp", levels, order=min(2, len(levels) - 1))

    new = resampled(source, nfe, 40.0, 0.01, order_1_at_first, weights)
    assert new.nfe == nfe and new.levels[0] == 40.0 and new.levels[-1] == 0.01 and (new.levels.diff() < 0).all()
    assert (new.eval_levels[0] / new.levels[0]).isclose(source.eval_levels[0] / source.levels[0])
    plain = order_1_at_first(new.levels)
    assert torch.equal(new.B, plain.B) != weights or nfe == 1


def test_a_source_that_ends_at_level_0_is_refused(mixture):
    source = s4s.solver("dpmpp", s4s.levels("edm", 5, mixture, to_zero=True))
    with pytest.raises(S4SError, match="ends at level 0"):
        resampled(source, 5, mixture.s_max, mixture.s_min, classical)
