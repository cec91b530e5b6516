"""Step caches: the tableau against loops that keep an output and use it again, and the search of the evaluated steps."""

import itertools

import pytest
import torch

import s4s
from s4s import S4SError
from s4s.learning.families import make_family
from s4s.learning.fit import fit
from s4s.learning.settings import FitSettings
from s4s.models.load import Outline
from s4s.models.paths import FlowMatching
from s4s.sampling import run
from s4s.solvers import SOLVERS
from s4s.solvers.cached import RULES
from s4s.solvers.ipndm import ADAMS_BASHFORTH
from s4s.study.config import read_config
from s4s.study.definitions import Classical, Learned
from s4s.study.make import classical
from tests.conftest import CountingDenoiser
from tests.test_config import edited

LEVELS = torch.exp(torch.linspace(3.0, -2.0, 10, dtype=torch.float64))  # 9 steps
CHOICES = [[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 3, 6], [0, 1, 4, 5, 8], [0, 7]]


def noise():
    return torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * LEVELS[0]


def reused(mixture, reuse, choice):
    """A network that is asked at some steps only and else gives D again, in the prediction that is reused."""
    kept = {}

    def output(step, y):
        s = LEVELS[step].item()
        x = y / (1 + s)  # of rectified flow: x = (1 - sigma) D + sigma e, sigma = s/(1 + s), v = e - D
        if step in choice:
            D = mixture(y, s)
            e = (y - D) / s
            kept.update(data=D, noise=e, flow=e - D, easycache=e - D - x)
            return D
        if reuse == "data":
            return kept["data"]
        if reuse == "noise":
            return y - s * kept["noise"]
        v = kept["flow"] if reuse == "flow" else x + kept["easycache"]
        return x - s / (1 + s) * v  # the data of flow matching, x - sigma v

    return output


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("reuse", RULES)
def test_a_cached_solver_is_the_loop_that_keeps_the_output(mixture, reuse, choice):
    """DDIM, DPM-Solver++(2M) and iPNDM-3 written out once more."""
    for kind, options in (("ddim", {}), ("dpmpp", {"order": 2}), ("ipndm", {"order": 3})):
        output, y, outputs, directions = reused(mixture, reuse, choice), noise(), [], []
        lam = -LEVELS.log()
        for n in range(9):
            D = output(n, y)
            outputs.append(D)
            directions.append((y - D) / LEVELS[n])
            r = LEVELS[n + 1] / LEVELS[n]
            if kind == "ipndm":
                weights = ADAMS_BASHFORTH[min(3, n + 1)]
                slope = sum(weight * directions[n - k] for k, weight in enumerate(weights))
                y = y + (LEVELS[n + 1] - LEVELS[n]) * slope
                continue
            if kind == "dpmpp" and n:
                ahead = (lam[n + 1] - lam[n]) / (lam[n] - lam[n - 1]) / 2
                D = (1 + ahead) * D - ahead * outputs[n - 1]
            y = r * y + (1 - r) * D
        tableau = s4s.solver(kind, LEVELS, cached=choice, reuse=reuse, **options)
        assert torch.equal(tableau.levels, LEVELS[[*choice, 9]])
        assert torch.allclose(run(mixture, noise(), tableau), y, rtol=1e-12, atol=1e-12), kind


def test_easycache_is_its_authors_rule_in_the_state_of_rectified_flow(mixture):
    """Euler's steps in (x, sigma) with v; a step without an evaluation adds to its input what the last one added to its own."""
    sigma = LEVELS / (1 + LEVELS)
    x, cache = noise() / (1 + LEVELS[0]), None
    for n in range(9):
        if n in (0, 2, 5, 8):
            y = x / (1 - sigma[n])
            D = mixture(y, LEVELS[n].item())
            v = (y - D) / LEVELS[n] - D
            cache = v - x
        else:
            v = x + cache
        x = x + (sigma[n + 1] - sigma[n]) * v
    tableau = s4s.solver("ddim", LEVELS, cached=[0, 2, 5, 8])  # easycache is the default
    assert torch.allclose(run(mixture, noise(), tableau), x / (1 - sigma[9]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", SOLVERS)
def test_a_cache_that_evaluates_every_step_is_the_solver_itself(kind):
    if SOLVERS[kind].files:
        return
    plain = s4s.solver(kind, LEVELS)
    for reuse in RULES:
        made = s4s.solver(kind, LEVELS, cached=range(9), reuse=reuse)
        for table in ("levels", "eval_levels", "A", "B"):
            assert torch.equal(getattr(made, table), getattr(plain, table)), (reuse, table)


@pytest.mark.parametrize("reuse", ["data", "noise", "flow"])
def test_with_eulers_steps_an_output_used_again_is_one_longer_step(reuse):
    made, plain = s4s.solver("ddim", LEVELS, cached=3, reuse=reuse), s4s.solver("ddim", LEVELS[::3])
    assert made.nfe == 3 and made.same_as(plain, 1e-12)
    assert not s4s.solver("ddim", LEVELS, cached=3).same_as(plain, 1e-3)


def test_a_final_denoising_step_may_be_one_without_an_evaluation(mixture):
    levels = torch.cat([LEVELS, torch.zeros(1, dtype=torch.float64)])
    tableau = s4s.solver("unipc", levels, order=2, cached=2, reuse="data")
    assert tableau.nfe == 5
    outputs = []
    y_0 = run(mixture, noise(), tableau, callback=lambda n, y, D: outputs.append(D))
    assert torch.allclose(y_0, outputs[-1], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"cached": given}, "is below their number 9, got") for given in (0, [1], [0, 9], [0, 3, 3], [], "2")),
        ({"cached": 2, "reuse": "v"}, "reuse must be one of data, noise, flow, easycache, got 'v'"),
    ],
)  # fmt: skip
def test_what_is_no_cache_is_refused(options, message):
    with pytest.raises(S4SError, match=message):
        s4s.solver("ddim", LEVELS, **options)


# ---- definitions


def test_a_definition_has_as_many_evaluations_as_it_says_on_its_own_levels():
    model = Outline("mine", 0.01, 100.0, FlowMatching(), "flow")
    plain = Classical(solver="unipc", order=3, levels="logsnr", lower_order_final=True)
    for count, reuse in itertools.product((2, 3), (None, "noise")):
        definition = Classical(**plain.model_dump(exclude_none=True, exclude={"cached"}), cached=count, reuse=reuse)
        assert Classical.from_json(definition.to_json()) == definition
        made, fine = classical(definition, 4, model, "mine"), classical(plain, 4 * count, model, "mine")
        assert made.nfe == 4 and torch.equal(made.levels[:-1], fine.levels[:-1:count])
        assert made.meta["steps"] == fine.levels.tolist() and made.meta["options"]["cached"] == count


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"solver": "ddim", "levels": "edm", "cached": 0}, r"cached: .*greater than or equal to 1"),
        ({"solver": "ddim", "levels": "edm", "reuse": "noise"}, "set cached to 2 or more"),
        ({"solver": "ddim", "levels": "edm", "cached": 2, "reuse": "v"}, "'data', 'noise', 'flow' or 'easycache'"),
        (
            {"solver": "ddim", "levels": "edm", "cached": 2, "analytic_first_step": True},
            "leave out cached or",
        ),
        ({"family": "cached", "base": "ddim-edm", "fit": {"preset": "exchange"}}, "set cached: 2 or 3 there"),
        ({"family": "cached", "base": "unipc3_cache2-logsnr"}, r"set fit: \{preset: exchange\} for family cached"),
        (
            {"family": "joint", "base": "ddim-edm", "fit": {"preset": "exchange"}},
            "which is for nothing else",
        ),
        ({"family": "ld3", "base": "unipc3_cache2-logsnr"}, "an analytic first step, a step cache"),
        ({"family": "dyweight", "base": "ipndm3_cache2-time_quadratic"}, "without analytic_first_step, cached"),
        ({"family": "s4s_lms", "base": "unipc3_cache2-logsnr", "order": 3}, "set order: full"),
        (
            {"family": "cached", "base": "unipc3_cache2-logsnr", "driver": "joint", "fit": {"preset": "exchange"}},
            "beside whole numbers nothing is learned",
        ),
        (
            {"family": "cached", "base": "unipc3_cache2-logsnr", "fit": {"preset": "exchange", "radius": 1}},
            "set radius: 0",
        ),
    ],
)
def test_what_a_config_cannot_mean_is_refused(definition, message):
    with pytest.raises(S4SError, match=message):
        read_config(edited(definitions={"mine": definition}, solvers=["mine"]))


def test_a_cached_solver_can_be_what_another_family_starts_from(mixture):
    base = s4s.solver("unipc", s4s.levels("logsnr", 8, mixture), order=3, cached=2)
    for family in ("lms", "bns"):
        made = make_family(family, base)
        assert made.tableau(base.levels, torch.zeros(made.size, dtype=torch.float64)).same_as(base, 1e-10)
    for family in ("ld3", "gs"):
        with pytest.raises(S4SError, match="without an analytic first step or a step cache"):
            make_family(family, base, mixture.path)


# ---- the search


def cache_of(mixture, nfe=4, count=3):
    return s4s.solver("unipc", s4s.levels("logsnr", nfe * count, mixture), order=3, cached=count)


SETTINGS = FitSettings(preset="exchange", distance="l2", iterations=9, batch=32, validate_every=3)


def test_the_family_is_its_base_at_zero_and_another_choice_elsewhere(mixture):
    base = cache_of(mixture)
    made = make_family("cached", base, mixture.path)
    assert made.size == 3 and made.tableau(base.levels, torch.zeros(3, dtype=torch.float64)).same_as(base)
    moved = made.tableau(base.levels, torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64))
    other = s4s.solver("unipc", base.meta["steps"], order=3, cached=[0, 4, 5, 11])
    assert moved.same_as(other)
    for impossible in ([2.0, -1.0, 0.0], [0.0, 0.0, 3.0], [-3.0, 0.0, 0.0]):
        with pytest.raises(S4SError, match="cached must be"):
            made.tableau(base.levels, torch.tensor(impossible, dtype=torch.float64))


def test_the_search_finds_the_best_choice_where_all_can_be_tried(mixture, mixture_pairs):
    """On the training pairs, to the best of its neighbours; it may not find the best of all."""
    base = cache_of(mixture, 3, 2)
    made = make_family("cached", base, mixture.path)
    settings = SETTINGS.changed({"batch": 64, "iterations": 12})
    found = fit(mixture, mixture_pairs, "cached", base.levels, base=base, settings=settings).tableau
    y_T, y_0 = torch.as_tensor(mixture_pairs.train.y_T), torch.as_tensor(mixture_pairs.train.y_0)

    def error(tableau):
        return (s4s.sample(mixture, y_T, tableau) - y_0).pow(2).mean(1).sqrt().mean().item()

    choices = [(a, b) for a, b in itertools.combinations(range(1, 6), 2)]
    errors = {c: error(s4s.solver("unipc", base.meta["steps"], order=3, cached=[0, *c])) for c in choices}
    chosen = next(c for c in choices if torch.equal(made.whole.levels[[0, *c, 6]], found.levels))
    neighbours = [c for c in choices if sum(a != b for a, b in zip(c, chosen, strict=True)) == 1]
    assert errors[chosen] <= min(errors[c] for c in neighbours) and errors[chosen] < errors[2, 4]


class Stopped(CountingDenoiser):
    """One that a Ctrl-C meets in the middle of the search."""

    def __call__(self, y, s, condition=None):
        if self.calls == 60:
            raise KeyboardInterrupt
        return super().__call__(y, s, condition)


def test_a_search_is_never_worse_on_validation_is_counted_and_resumes(mixture, mixture_pairs, tmp_path, monkeypatch):
    base = cache_of(mixture)
    counting = CountingDenoiser(mixture)
    result = fit(counting, mixture_pairs, "cached", base.levels, base=base, settings=SETTINGS)
    assert result.evaluations == counting.rows == result.tableau.meta["evaluations"]
    values = [entry["val"] for entry in result.history]
    assert result.tableau.meta["validation"]["learned"] == min(values) < values[0]
    assert result.tableau.nfe == 4 and {*result.tableau.levels.tolist()} < {*base.meta["steps"]}
    state = tmp_path / "fit.state"
    monkeypatch.setattr("s4s.learning.state.STATE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(Stopped(mixture), mixture_pairs, "cached", base.levels, base=base, settings=SETTINGS, state_path=state)
    rest = CountingDenoiser(mixture)
    again = fit(rest, mixture_pairs, "cached", base.levels, base=base, settings=SETTINGS, state_path=state)
    assert state.exists() and rest.rows < counting.rows
    assert again.history == result.history and again.tableau.same_as(result.tableau, 0)


def test_outputs_that_are_not_finite_end_no_search(mixture, mixture_pairs):
    base = cache_of(mixture)
    broken = CountingDenoiser(mixture, broken=lambda call: 4 <= call < 8)  # after the first validation
    result = fit(broken, mixture_pairs, "cached", base.levels, base=base, settings=SETTINGS)
    assert result.history[-1]["recovered"] == 1
    assert result.tableau.meta["validation"]["learned"] < result.history[0]["val"]


def test_only_the_search_of_whole_numbers_is_for_this_family(mixture, mixture_pairs):
    base = cache_of(mixture)
    for family, start, settings in (
        ("cached", base, FitSettings(distance="l2")),
        ("lms", s4s.solver("ddim", s4s.levels("logsnr", 3, mixture)), SETTINGS),
    ):
        with pytest.raises(S4SError, match="optimiser exchange"):
            fit(mixture, mixture_pairs, family, start.levels, base=start, settings=settings)
    with pytest.raises(S4SError, match="leave out first_node"):
        fit(mixture, mixture_pairs, "cached", base.levels, base=base, first_node=True, settings=SETTINGS)
    with pytest.raises(S4SError, match="chooses steps of a step cache"):
        make_family("cached", s4s.solver("ddim", LEVELS), mixture.path)
    with pytest.raises(S4SError, match="is not what its meta says"):
        make_family("cached", base.with_meta(options={"order": 2, "cached": 3, "reuse": "easycache"}), mixture.path)


def test_the_configs_searches_start_at_its_step_caches():
    config = read_config(edited(solvers=["unipc3_cache2-logsnr", "cached"], nfe=[3, 5, 10]))
    assert config.nfe_of("cached") == [3, 5, 10]
    definition = config.definition("cached")
    assert isinstance(definition, Learned) and config.classical("cached").cached == 3
    assert config.fit_settings("cached").optimiser == "exchange"
