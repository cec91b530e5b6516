"""The sampling loop: seeds, batches, dropped states, exactness."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import s4s
from s4s import S4SError, Tableau
from s4s.models.denoiser_check import take_as_checked
from s4s.models.embedded.mixture import MixtureDenoiser
from s4s.models.seeds import SPLITS, sample_seeds
from s4s.sampling import run
from tests.test_tableau import random_tableau


def test_rows_of_noise_depend_on_their_own_seed_alone(digits):
    seeds = sample_seeds("test", 6, 2)
    together = s4s.initial_noise(digits, seeds)
    assert torch.equal(together[[4, 1]], s4s.initial_noise(digits, seeds[[4, 1]]))
    assert together.shape == (6, 1, 8, 8) and together.dtype == torch.float32
    many = s4s.initial_noise(digits, sample_seeds("val", 2000)) / digits.s_max
    assert abs(many.mean().item()) < 0.01 and abs(many.std().item() - 1) < 0.01


def test_a_number_of_samples_is_no_list_of_seeds(digits):
    with pytest.raises(S4SError, match=r"seeds must be a list of whole numbers of .* such as range\(16\), got 16"):
        s4s.initial_noise(digits, 16)


def test_seeds_that_differ_only_above_bit_31_give_different_noise(digits):
    """torch's own CPU generator would not tell them apart."""
    a, b = s4s.initial_noise(digits, [5, 5 + 2**32])
    assert not torch.equal(a, b)


def test_splits_never_share_a_seed():
    rows = [sample_seeds(split, 1000) for split in SPLITS] + [sample_seeds("test", 1000, seed) for seed in range(1, 5)]
    together = np.concatenate(rows)
    assert len(np.unique(together)) == len(together)
    assert {int(row[0]) >> 56 for row in rows} == set(SPLITS.values())


@pytest.mark.parametrize("args", [("tset", 1), ("test", 1, 2**24), ("test", 1, -1), ("train", 0)])
def test_bad_seed_requests_are_refused(args):
    with pytest.raises(S4SError):
        sample_seeds(*args)


def test_samples_do_not_depend_on_the_batch_size(digits):
    """To float32 rounding: a CPU's convolutions choose their order of summation by the batch size."""
    tableau = s4s.solver("unipc", s4s.levels("logsnr", 6, digits), order=3)
    y_T = s4s.initial_noise(digits, sample_seeds("test", 33))
    together = s4s.sample(digits, y_T, tableau)
    for batch_size in (1, 7, 32):
        assert torch.allclose(s4s.sample(digits, y_T, tableau, batch_size=batch_size), together, atol=2e-4)
    assert torch.equal(s4s.sample(digits, y_T, tableau), together)


def test_run_computes_the_rows(mixture):
    """A dense random tableau with kappa and conditioning levels, against the definition written out."""
    for seed in range(5):
        tableau = random_tableau(4, seed)
        y = [torch.randn(3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)]
        D = []
        for n in range(4):
            D.append(mixture(y[n] * (tableau.kappa if n == 0 else 1), tableau.eval_levels[n]))
            y.append(sum(tableau.A[n, j] * y[j] + tableau.B[n, j] * D[j] for j in range(n + 1)))
        assert torch.allclose(run(mixture, y[0], tableau), y[4], rtol=1e-9, atol=1e-9)


def test_a_tableau_and_its_reduced_form_sample_alike(mixture):
    """Row N of the reduced form, run as a tableau of its own with only y_0 and D in it, gives the same samples."""
    tableau = s4s.solver("ipndm", s4s.levels("edm", 6, mixture), order=3)
    a, b = tableau.reduced()
    A = torch.zeros(6, 6, dtype=torch.float64)
    A[:, 0] = a[1:]
    y = torch.randn(20, 2, dtype=torch.float64) * mixture.s_max
    other = Tableau(tableau.levels, A, b[1:])
    assert other.same_as(tableau)
    assert torch.allclose(run(mixture, y, other), run(mixture, y, tableau), rtol=1e-9, atol=1e-9)


def test_gradients_flow_to_the_tables(mixture):
    """Autograd through the loop agrees with finite differences in a weight, a level and the start."""
    levels = s4s.levels("logsnr", 3, mixture)
    base = s4s.solver("dpmpp", levels, order=2)
    y = torch.randn(5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def end(B, eval_levels, start):
        return run(mixture, start, Tableau(levels, base.A, B, eval_levels)).sum()

    inputs = [x.clone().requires_grad_() for x in (base.B, levels[:-1], y)]
    gradients = torch.autograd.grad(end(*inputs), inputs)
    for which, index in [(0, (1, 0)), (0, (2, 2)), (1, (1,)), (2, (4, 1))]:
        plus, minus = ([x.detach().clone() for x in inputs] for _ in range(2))
        plus[which][index] += 1e-6
        minus[which][index] -= 1e-6
        difference = (end(*plus) - end(*minus)).item() / 2e-6
        assert abs(gradients[which][index].item() - difference) < 1e-5 * max(1, abs(difference))


GROUPS = [[[0], [1, 2], [3, 4, 5]], [[0, 1], [2], [3, 4], [5]], [[0, 1, 2, 3, 4, 5]], [[n] for n in range(6)]]


def grouped_tableau(groups, seed=0):
    """A dense random solver whose nodes see the outputs of earlier groups alone, but the states of their own."""
    dense = random_tableau(6, seed)
    B = dense.B.clone()
    for group in groups:
        for node in group[1:]:
            B[node - 1, group[0] : node] = 0
    return replace(dense, B=B, groups=groups)


@pytest.mark.parametrize("groups", GROUPS, ids=str)
def test_parallel_evaluations_are_those_one_after_the_other(mixture, groups):
    """In one call each: with kappa, conditions of rows, batches, a callback; no call is made without `parallel`."""
    calls = []

    class Shifted(MixtureDenoiser):
        def __call__(self, y, s, condition=None):
            calls.append((len(y), torch.as_tensor(s).numel()))
            return super().__call__(y, s) + condition

    model = Shifted(mixture.means, mixture.weights, std=0.3, s_min=0.05, s_max=20.0)
    take_as_checked(model)
    tableau, seen = grouped_tableau(groups), {True: [], False: []}
    y = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    condition = torch.randn(5, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ends = {
        parallel: s4s.sample(
            model, y, tableau, condition, batch_size=3, parallel=parallel,
            callback=lambda n, y, D, parallel=parallel: seen[parallel].append((n, y, D)),
        )
        for parallel in (False, True)
    }  # fmt: skip
    assert torch.allclose(ends[True], ends[False], rtol=1e-12, atol=1e-12)
    sizes = [(rows * len(group), rows * len(group) if len(group) > 1 else 1) for rows in (3, 2) for group in groups]
    assert calls == [(rows, 1) for rows in (3, 2) for _ in range(6)] + sizes
    for (n, y_n, D_n), (m, y_m, D_m) in zip(seen[True], seen[False], strict=True):
        assert n == m and torch.allclose(y_n, y_m, rtol=1e-12) and torch.allclose(D_n, D_m, rtol=1e-12, atol=1e-12)


def test_without_groups_parallel_changes_nothing(digits):
    tableau = s4s.solver("unipc", s4s.levels("logsnr", 5, digits), order=3)
    y_T = s4s.initial_noise(digits, range(4))
    assert torch.equal(s4s.sample(digits, y_T, tableau, parallel=True), s4s.sample(digits, y_T, tableau))


def test_gradients_are_those_one_after_the_other(mixture):
    tableau = grouped_tableau(GROUPS[0])
    y = torch.randn(5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = []
    for parallel, recompute in ((False, False), (True, False), (True, True)):
        inputs = [x.clone().requires_grad_() for x in (tableau.A, tableau.B, tableau.eval_levels, y)]
        made = replace(tableau, A=inputs[0], B=inputs[1], eval_levels=inputs[2])
        end = run(mixture, inputs[3], made, recompute=recompute, parallel=parallel).sum()
        A, B, *rest = torch.autograd.grad(end, inputs)
        found.append([A, B * (tableau.B != 0), *rest])
    for slopes in found[1:]:
        assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(slopes, found[0], strict=True))


def test_states_are_dropped_after_their_last_use(mixture):
    """Of a multistep solver's outputs only as many live as its order needs."""
    import gc
    import weakref

    alive = []

    def watch(n, y, D):
        alive.append(weakref.ref(D))
        gc.collect()  # of what came after the start of the test
        assert sum(reference() is not None for reference in alive) <= 3

    gc.freeze()
    try:
        y, tableau = torch.randn(2, 2, dtype=torch.float64), s4s.solver("dpmpp", s4s.levels("edm", 12, mixture), order=2)
        run(mixture, y, tableau, None, watch)
    finally:
        gc.unfreeze()
    assert len(alive) == 12


def test_wrong_shapes_are_refused(digits):
    tableau = s4s.solver("ddim", s4s.levels("edm", 2, digits))
    with pytest.raises(S4SError, match=r"\[B, 1, 8, 8\]"):
        s4s.sample(digits, torch.zeros(2, 8, 8), tableau)
    with pytest.raises(S4SError, match="batch_size"):
        s4s.sample(digits, torch.zeros(2, 1, 8, 8), tableau, batch_size=0)


@pytest.mark.parametrize("kind", ["edm", "logsnr", "time_uniform", "time_quadratic", "cosine", "trailing", "linspace"])
@pytest.mark.parametrize("nfe", [1, 2, 7, 50])
def test_grids_decrease_between_the_models_ends(digits, kind, nfe):
    levels = s4s.levels(kind, nfe, digits)
    assert levels.dtype == torch.float64 and len(levels) == nfe + 1
    assert levels[0] == digits.s_max and levels[-1] == digits.s_min and (levels.diff() < 0).all()


def test_grids_are_uniform_in_what_their_name_says(digits):
    from s4s.models.paths import VPLinear

    path = VPLinear()
    time = path.t_of_s(s4s.levels("time_uniform", 9, digits))
    root = path.t_of_s(s4s.levels("time_quadratic", 9, digits)).sqrt()
    for values in (s4s.levels("edm", 9, digits) ** (1 / 7), s4s.levels("logsnr", 9, digits).log(), time, root):
        assert torch.allclose(values.diff(), values.diff().mean().expand(9), rtol=1e-6)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("karras", 4), {}, "unknown schedule 'karras'; known: ays, cosine"),
        (("edm", 0), {}, "at least 1, got 0"),
        (("edm", 2.5), {}, "whole number"),
        (("logsnr", 4), {"rho": 7}, "no option 'rho'"),
    ],
)
def test_bad_schedules_are_refused(digits, args, options, message):
    with pytest.raises(S4SError, match=message):
        s4s.levels(*args, digits, **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_samples_on_a_gpu_equal_those_on_the_cpu_to_tolerance(digits):
    tableau = s4s.solver("unipc", s4s.levels("logsnr", 6, digits), order=3)
    y_T = s4s.initial_noise(digits, sample_seeds("test", 16))
    gpu = s4s.sample(s4s.load_model("digits", "cuda"), y_T, tableau).cpu()
    assert torch.allclose(gpu, s4s.sample(digits, y_T, tableau), atol=5e-3)
