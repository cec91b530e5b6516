"""A learned solver for a live pipeline in one call: price, pairs, fit, comparison; what an interrupted one leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import s4s
from s4s import S4SError
from s4s.export import S4SScheduler, pipeline_comparison, pipeline_fit, pipeline_plan
from s4s.export.few_step_networks import check_teaches
from s4s.export.pipeline_comparison import CLASSICAL, FULL, LEARNED, OWN, Comparison, draw_grid
from s4s.learning.families import make_family
from s4s.learning.parameters import Parameters
from s4s.learning.tangents import Counter, run_with_tangents
from s4s.models.seeds import sample_seeds
from tests.builders import pipelines as builder

PROMPTS = ["a cat", "a dog in", "the sea", "bread"]
SMALLEST = pipeline_plan.Plan(2, 2, 2, 6, 3, 1)
CALL = {"guidance_scale": 5.0, "prompts": PROMPTS, "show_progress": False, "distilled": True}


@pytest.fixture(scope="module")
def pipe():
    made = builder.stable_diffusion()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def small(monkeypatch):
    """The smallest plan, whatever is asked for."""
    monkeypatch.setattr(pipeline_plan, "DEFAULT", SMALLEST)


def watched(pipe, calls, stop_at=None):
    """Count the rows through the network, and stop at one."""

    def count(module, args, kwargs):
        calls.append(len(args[0] if args else kwargs["sample"]))
        if stop_at is not None and len(calls) == stop_at:
            raise KeyboardInterrupt

    return pipe.unet.register_forward_pre_hook(count, with_kwargs=True)


@pytest.fixture(scope="module")
def fitted(pipe, tmp_path_factory):
    """Solvers with three and four evaluations, their folder, and the rows that went through the network."""
    folder, calls = tmp_path_factory.mktemp("fitted") / "out", []
    before = {**vars(pipe)}
    handle = watched(pipe, calls)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_plan, "DEFAULT", SMALLEST)
        scheduler = s4s.fit_pipeline(pipe, nfe=[3, 4], out=folder, **CALL)
    handle.remove()
    assert vars(pipe) == before
    return scheduler, folder, calls


def test_a_fit_is_nearer_to_the_teacher_and_runs_in_the_pipeline(pipe, fitted):
    scheduler, _, _ = fitted
    assert scheduler.available_steps == [3, 4]
    for tableau in scheduler.tableaux.values():
        assert tableau.meta["validation"]["learned"] < tableau.meta["validation"]["start"]
        assert "evaluations" in tableau.meta["check"]["verdict"]
    assert set(scheduler.comparisons) == {3, 4}
    own, pipe.scheduler = pipe.scheduler, scheduler
    try:
        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        found = pipe("a cat", num_inference_steps=3, guidance_scale=5.0, latents=noise.clone(), output_type="latent").images
    finally:
        pipe.scheduler = own
    denoiser = s4s.from_pipeline(pipe, prompts=PROMPTS, guidance_scale=5.0)
    expected = s4s.sample(denoiser, noise * denoiser.s_max, scheduler.tableaux[3], torch.tensor([0]))
    denoiser.close()
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()


def test_the_first_input_is_unit_noise(fitted):
    scheduler, _, _ = fitted
    for steps in (3, 4):
        scheduler.set_timesteps(steps)
        assert abs(scheduler.init_noise_sigma - 1) < 0.01


def test_what_the_folder_holds(fitted):
    _, folder, _ = fitted
    assert {"nfe~3.json", "nfe~4.json", "nfe~3.png", "nfe~4.png", "scheduler_config.json"} <= {p.name for p in folder.iterdir()}
    assert not [*(folder / "fits").glob("*.state")]
    again = S4SScheduler.from_pretrained(folder)
    assert again.available_steps == [3, 4]
    assert Image.open(folder / "nfe~3.png").size[0] > 16
    assert json.loads((folder / "nfe~3.json").read_text())["meta"]["pipeline"]["class"] == "StableDiffusionPipeline"


def test_evaluations_are_those_of_the_network(fitted):
    """All but what the check of the pipeline, timing and the pictures take."""
    scheduler, _, calls = fitted
    three, four = (scheduler.tableaux[n].meta for n in (3, 4))
    pairs = (SMALLEST.train + SMALLEST.val + SMALLEST.test) * SMALLEST.teacher * 2
    assert pairs <= three["evaluations_total"] - three["evaluations"]
    counted = three["evaluations_total"] + four["evaluations_total"] - pairs  # which they share
    assert 0.5 < counted / sum(calls) < 1


def test_a_finished_fit_is_read(pipe, fitted, small):
    scheduler, folder, _ = fitted
    calls = []
    before = (folder / "nfe~3.json").read_bytes()
    handle = watched(pipe, calls)
    again = s4s.fit_pipeline(pipe, nfe=[3, 4], out=folder, **CALL)
    handle.remove()
    assert [t.digest() for t in again.tableaux.values()] == [t.digest() for t in scheduler.tableaux.values()]
    assert len(calls) < 40 and (folder / "nfe~3.json").read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [{"prompts": [*PROMPTS[:3], "x"]}, {"guidance_scale": 4.0}, {"negative_prompt": "y"}, {"name": "other"}],
)
def test_a_folder_of_another_fit_is_refused(pipe, fitted, small, changes):
    with pytest.raises(S4SError, match=r"nfe~3.json is there, of another pipeline") as error:
        s4s.fit_pipeline(pipe, nfe=3, out=fitted[1], **(CALL | changes))
    assert len(str(error.value).splitlines()) == 1


def test_other_weights_are_another_fit(pipe, fitted, small):
    weight = pipe.unet.conv_in.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight += 1e-3 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    try:
        with pytest.raises(S4SError, match="is there, of another pipeline"):
            s4s.fit_pipeline(pipe, nfe=3, out=fitted[1], **CALL)
    finally:
        with torch.no_grad():
            weight.copy_(kept)


@pytest.mark.suite
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_an_interrupted_fit_goes_on(pipe, fitted, small, tmp_path, share):
    """To the same solver, bit for bit; what was done is not done again."""
    scheduler, _, calls = fitted
    before, done, rest = {**vars(pipe)}, [], []
    handle = watched(pipe, done, stop_at=int(share * len(calls)))
    with pytest.raises(KeyboardInterrupt):
        s4s.fit_pipeline(pipe, nfe=[3, 4], out=tmp_path / "out", **CALL)
    handle.remove()
    assert vars(pipe) == before
    handle = watched(pipe, rest)
    found = s4s.fit_pipeline(pipe, nfe=[3, 4], out=tmp_path / "out", **CALL)
    handle.remove()
    assert [t.digest() for t in found.tableaux.values()] == [t.digest() for t in scheduler.tableaux.values()]
    # what is asked of the pipeline at first, and the last comparison, are asked again
    assert len(rest) < len(calls) and len(done) + len(rest) < 1.6 * len(calls)


@pytest.mark.suite
def test_the_price_is_near_what_is_asked(pipe, fitted, monkeypatch):
    asked, close = [], pipeline_fit.LivePipeline.close
    monkeypatch.setattr(pipeline_plan, "DEFAULT", replace(SMALLEST, train=4, iterations=6))
    monkeypatch.setattr(pipeline_fit.LivePipeline, "close", lambda self: asked.append(self.asked) or close(self))
    plan = pipeline_plan.DEFAULT
    s4s.fit_pipeline(pipe, nfe=4, **(CALL | {"distilled": False}))
    assert 1 / 1.5 < plan.evaluations([4]) / asked[-1] < 1.5


def test_a_budget_chooses_the_plan():
    for each in (1e-3, 0.02, 0.3):
        for budget in ("10min", "2 h", 100, "90s"):
            try:
                plan = pipeline_plan.chosen([4, 5], None, budget, each)
            except S4SError as error:
                assert "the smallest fit takes about" in str(error) and "evaluations of" in str(error)
                assert pipeline_plan.PLANS[0].evaluations([4, 5]) * each > pipeline_plan.seconds_of(budget)
            else:
                assert plan.evaluations([4, 5]) * each <= pipeline_plan.seconds_of(budget)
    sizes = [plan.evaluations([5]) for plan in pipeline_plan.PLANS]
    assert sizes == sorted(sizes)
    assert pipeline_plan.chosen([5], 7, None, 1.0).train == 7


@pytest.mark.parametrize(
    "budget", ["soon", "-3min", 0, True, "10 parsecs", "5ms", "5 hs", "", "1e3", "..5s", ".s", "nan", float("nan")]
)
def test_wrong_budgets_are_refused(budget):
    with pytest.raises(S4SError, match="budget") as error:
        pipeline_plan.chosen([5], None, budget, 1.0)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("given", "message"), [
    ({"nfe": 0}, "nfe"), ({"nfe": []}, "nfe"), ({"nfe": "4"}, "nfe"), ({"nfe": [4, True]}, "nfe"), ({"nfe": 65}, "nfe"),
    ({"nfe": 3, "pairs": 1}, "pairs"), ({"nfe": 3, "pairs": 2.5}, "pairs"), ({"nfe": 3, "budget": "1s"}, "smallest fit takes"),
    ({"nfe": 3, "steps": 4}, "takes no steps"),
])  # fmt: skip
def test_wrong_arguments_are_refused(pipe, given, message):
    with pytest.raises(S4SError, match=message) as error:
        s4s.fit_pipeline(pipe, **CALL, **given)
    assert len(str(error.value).splitlines()) == 1


def compared(learned, own, classical):
    rms = {name: np.asarray(values, dtype=float) for name, values in {LEARNED: learned, OWN: own, CLASSICAL: classical}.items()}
    return Comparison(5, 10, rms, rms, {}, {LEARNED: "the learned solver", OWN: "DDIM", CLASSICAL: "UniPC"}, False)


def test_verdicts():
    win = compared([0.1, 0.2, 0.1], [0.3, 0.5, 0.4], [0.2, 0.31, 0.2])
    assert win.better() == LEARNED and "nearer to the full run: 3.00 times nearer than DDIM" in win.verdict()
    loss = compared([0.3, 0.5, 0.4], [0.1, 0.2, 0.1], [0.2, 0.3, 0.2])
    assert loss.better() == OWN and "does not win: DDIM is nearer" in loss.verdict()
    tie = compared([0.1, 0.4, 0.2], [0.2, 0.3, 0.21], [0.9, 0.9, 0.9])
    assert tie.better() is None and "the learned solver and DDIM cannot be told apart" in tie.verdict()
    one = compared([0.1], [0.2], [0.3])
    assert one.better() is None and "(10 passes)" in one.verdict()
    same = compared([0.1, 0.1], [0.1, 0.1], [0.1, 0.1])
    assert same.better() is None
    broken = compared([0.1, 0.2], [np.nan, np.inf], [0.3, 0.45])
    assert broken.better() == LEARNED and "nan" not in broken.verdict()


def test_psnr_by_hand():
    full = torch.zeros(2, 3, 4, 4)
    rows = full + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)
    assert np.allclose(pipeline_comparison._psnr(rows, full), [20.0, 40.0], atol=1e-4)


@pytest.mark.parametrize("frames", [False, True])
def test_the_grid(tmp_path, frames):
    shape = (2, 5, 3, 8, 16) if frames else (2, 3, 8, 16)
    pictures = {name: torch.zeros(shape) for name in (FULL, LEARNED, OWN)}
    draw_grid(pictures, tmp_path / "a.png")
    gap, line = pipeline_comparison.GAP, pipeline_comparison.LINE
    assert Image.open(tmp_path / "a.png").size == (2 * 256 + gap, 3 * (128 + line + gap) - gap)
    with pytest.raises(S4SError, match="is no picture"):
        draw_grid({FULL: torch.zeros(2, 7, 8, 8)}, tmp_path / "b.png")


class Consistency(s4s.Denoiser):
    """Of two pictures, each the negative of the other; its estimate is one of them at any level."""

    name, shape, s_min, s_max, device = "consistency", (64,), 0.01, 50.0, torch.device("cpu")

    def __call__(self, y, s, condition=None):
        picture = torch.linspace(-1, 1, 64)
        return torch.tanh(40 * y @ picture / 64)[:, None] * picture


def taught(denoiser, rows=4):
    y_T = s4s.initial_noise(denoiser, sample_seeds("val", rows))
    condition = denoiser.conditions(sample_seeds("val", rows))
    runs = [s4s.solver("dpmpp", s4s.levels("logsnr", n, denoiser), order=min(2, n)) for n in (4, 8, 20)]
    many = s4s.sample(denoiser, y_T, runs[2], condition)
    check_teaches(denoiser, y_T, condition, many, *runs[:2], rows)


def test_distilled_networks_are_refused():
    with pytest.raises(S4SError, match="was distilled to few steps") as error:
        taught(Consistency())
    assert len(str(error.value).splitlines()) == 1


def test_diffusion_models_are_not_taken_for_distilled(mixture, digits):
    taught(mixture)
    taught(digits)


def test_random_networks_are_not_taken_for_distilled(pipe):
    denoiser = s4s.from_pipeline(pipe, prompts=PROMPTS, guidance_scale=5.0)
    taught(denoiser)
    denoiser.close()


def test_same_start_moves_kappa_with_the_first_level(digits):
    """The first input of the network stays as large, and its derivative is that of differences."""
    base = s4s.solver("dpmpp", s4s.levels("logsnr", 4, digits), order=2)
    parameters = Parameters(make_family("lms", base, digits.path), base, True, False, digits.path)
    values = 0.05 * torch.randn(parameters.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha = digits.path.alpha_of_s
    moved = parameters.tableau(values)
    assert moved.kappa != pytest.approx(base.kappa, rel=1e-6)
    first = [float(t.kappa * alpha(t.eval_levels[0])) for t in (base, moved)]
    assert first[1] == pytest.approx(first[0], rel=1e-9)
    free = parameters.free(frozenset({"theta", "xi", "delta"}))
    lin = parameters.linearise(values, free)
    assert lin.kappa.abs().max() > 0
    for k, i in enumerate(free.tolist()):
        step = torch.zeros_like(values)
        step[i] = 1e-5
        difference = (float(parameters.tableau(values + step).kappa) - float(parameters.tableau(values - step).kappa)) / 2e-5
        assert float(lin.kappa[k]) == pytest.approx(difference, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("model", ["digits", "mixture"])
def test_differences_of_rows_of_one_level(request, monkeypatch, model):
    """They agree with the usual ones, and with forward mode."""
    denoiser = request.getfixturevalue(model)
    base = s4s.solver("dpmpp", s4s.levels("logsnr", 4, denoiser), order=2)
    parameters = Parameters(make_family("lms", base, denoiser.path), base, True)
    lin = parameters.linearise(parameters.zeros(), parameters.free(frozenset({"theta", "xi", "delta"})))
    y = s4s.initial_noise(denoiser, range(3))

    def tangents(mode="differences"):
        return run_with_tangents(denoiser, y, lin, Counter(), 64, mode, denoiser.conditions(range(3)))[1][-1]

    usual = tangents()
    exact = tangents("forward") if model == "mixture" else usual  # torch has none for the layout of this network
    monkeypatch.setattr(denoiser, "one_level", True, raising=False)
    one = tangents()
    assert not torch.equal(one, usual)
    for found in (one, usual):
        assert (found - exact).norm() < 0.02 * exact.norm()
