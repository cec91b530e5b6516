"""Denoisers of live pipelines: equality with the pipeline's own runs, prompts, sessions, refusals."""

import copy
import gc
import pickle
import signal
import threading
import warnings
from functools import cache

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import s4s
from s4s import S4SError
from s4s.export import S4SScheduler
from s4s.models.pipelines import live
from s4s.models.pipelines.prompts import PromptsInTurn
from s4s.models.seeds import sample_seeds
from tests.builders import by_hand as reference
from tests.builders import pipelines as builder
from tests.builders.chosen import often

PROMPTS = ["a cat", "a dog in the sea", "bread", "a house"]
GUIDED = {
    "stable_diffusion": {"guidance_scale": 5.0},
    "stable_diffusion_xl": {"guidance_scale": 5.0, "height": 16, "width": 16},
    "stable_diffusion_3": {"guidance_scale": 4.0, "height": 16, "width": 16},
    "pixart_sigma": {"guidance_scale": 4.5, "height": 16, "width": 16, "use_resolution_binning": False, "clean_caption": False},
}
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
OWN = {
    "DDIMScheduler": {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
    "EulerDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {},
    "HeunDiscreteScheduler": {},
    "PNDMScheduler": {"skip_prk_steps": True},
    "EulerAncestralDiscreteScheduler": {},
    "DDPMScheduler": {"clip_sample": False},
}


def ddpm(**options):
    return diffusers.DDPMPipeline(builder.pixel_unet(**options), builder.scheduler("DDPMScheduler"))


def dit():
    network = builder.dit(in_channels=4, out_channels=8, num_embeds_ada_norm=1000)  # the pipeline's own number of no class
    return diffusers.DiTPipeline(network, builder.autoencoder(), builder.scheduler(set_alpha_to_one=False, steps_offset=1))


def close(a, b, tolerance=1e-5):
    """Relative to the largest."""
    return bool((a - b).abs().max() <= tolerance * b.abs().max())


@pytest.fixture(scope="module")
def pipes():
    """Each pipeline, made once."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = {**builder.OF_TEXT, "ddpm": ddpm, "dit": dit}[kind]()
            made[kind].set_progress_bar_config(disable=True)
        return made[kind]

    return of


@pytest.fixture(scope="module")
def denoisers(pipes):
    """A denoiser of each, made once."""
    made = {}

    def of(kind):
        if kind not in made:
            given = {"ddpm": {}, "dit": {"prompts": [1, 3, 2], "guidance_scale": 4.0}}.get(kind)
            given = {"prompts": PROMPTS, **GUIDED[kind]} if given is None else given
            made[kind] = s4s.from_pipeline(pipes(kind), **given)
        return made[kind]

    yield of
    for denoiser in made.values():
        denoiser.close()


@pytest.fixture
def sd(pipes):
    """A pipeline of Stable Diffusion that a test may break: own settings, shared networks."""
    return diffusers.StableDiffusionPipeline(**pipes("stable_diffusion").components, requires_safety_checker=False)


@pytest.fixture(scope="module")
def by_hand(pipes):
    """What each is held against, made once."""

    @cache
    def of(kind):
        prompts, guidance = (PROMPTS, GUIDED[kind]["guidance_scale"]) if kind in GUIDED else (None, 1.0)
        return reference.denoiser(pipes(kind), prompts, guidance)

    return of


def states(denoiser, rows=2):
    y = torch.randn(rows, *denoiser.shape, generator=torch.Generator().manual_seed(1)) * 2
    return y, torch.tensor([0.7, 3.0])[torch.arange(rows) % 2].double(), torch.arange(rows) % 3


@pytest.mark.parametrize("kind", often([*GUIDED, "ddpm"], "stable_diffusion", "stable_diffusion_3", "ddpm"))
def test_it_is_the_denoiser_of_the_network(by_hand, denoisers, kind):
    denoiser, expected = denoisers(kind), by_hand(kind)
    y, s, condition = states(denoiser, 4)
    own = None if kind == "ddpm" else condition
    assert denoiser.shape == expected.shape and denoiser.passes == expected.passes
    assert (denoiser.s_min, denoiser.s_max) == (expected.s_min, expected.s_max)
    assert close(denoiser(y, s, own), expected(y, s, own))
    assert close(denoiser(y, 1.3, own), expected(y, 1.3, own))
    assert denoiser(y.double(), s, own).dtype == torch.float64


def test_classes_are_prompts(denoisers, pipes):
    """DiT's guidance takes the first half of a doubled batch; the network is asked as the pipeline asks it."""
    denoiser, network = denoisers("dit"), pipes("dit").transformer
    y, s, condition = states(denoiser, 3)
    x, t = denoiser.path.from_ys(y, s)
    labels = torch.tensor([1, 3, 2])
    null = torch.full((3,), 1000)
    assert denoiser.passes == 2
    with torch.no_grad():
        both = network(torch.cat([x, x]), t.float().repeat(2), class_labels=torch.cat([labels, null])).sample[:, :4]
    given, none = both.chunk(2)
    expected = y - s.view(-1, 1, 1, 1).float() * (none + 4.0 * (given - none))
    assert close(denoiser(y, s, condition), expected)


@pytest.mark.parametrize("kind", often(GUIDED, "stable_diffusion", "stable_diffusion_3"))
def test_sampling_is_the_schedulers_run_in_the_pipeline(denoisers, pipes, kind):
    denoiser, pipe = denoisers(kind), pipes(kind)
    own, condition = pipe.scheduler, torch.tensor([0, 1, 2])
    tableau = s4s.solver("dpmpp", s4s.levels("logsnr", 3, denoiser), order=2)
    y = s4s.initial_noise(denoiser, range(3))
    expected = s4s.sample(denoiser, y, tableau, condition)
    latents = y / denoiser.s_max
    pipe.scheduler = S4SScheduler.from_tableau(tableau, own)
    attachment = pipe.scheduler.attach(*[pipe.transformer] if kind == "stable_diffusion_3" else [])
    try:
        options = {"num_inference_steps": 3, "latents": latents.clone(), **GUIDED[kind]}
        found = pipe(PROMPTS[:3], output_type="latent", **options).images
        images = pipe(PROMPTS[:3], output_type="pt", **options | {"latents": latents.clone()}).images
    finally:
        pipe.scheduler = own
        attachment.remove()
    assert close(found, expected)
    assert (denoiser.decode(expected) / 2 + 0.5 - images).abs().max() < 1e-4


def own_run(pipe, prompts, noise, steps, **call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"generator": torch.Generator().manual_seed(0), "output_type": "latent", **call}
        return pipe(prompts, num_inference_steps=steps, latents=noise.clone(), **options).images


@pytest.mark.parametrize("kind", often(OWN, "EulerDiscreteScheduler", "PNDMScheduler"))
def test_the_own_schedulers_run_is_the_pipelines(sd, kind):
    """One row at a time, so that what is drawn is the same for each."""
    sd.scheduler = getattr(diffusers, kind)(**BETAS, **OWN[kind])
    sd.set_progress_bar_config(disable=True)
    call = GUIDED["stable_diffusion"]
    denoiser = s4s.from_pipeline(sd, prompts=PROMPTS, **call)
    noise = torch.randn(2, *denoiser.shape, generator=torch.Generator().manual_seed(3))
    expected = torch.cat([own_run(sd, PROMPTS[i], noise[i : i + 1], 3, **call) for i in range(2)])
    assert close(denoiser.run_own_scheduler(noise, torch.tensor([0, 1]), 3), expected)
    denoiser.close()


@pytest.mark.parametrize("shift", [{"shift": 3.0}, {"use_dynamic_shifting": True}])
def test_the_own_run_of_flow_matching_has_its_shift(pipes, shift):
    pipe = diffusers.StableDiffusion3Pipeline(**pipes("stable_diffusion_3").components)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = builder.scheduler("FlowMatchEulerDiscreteScheduler", **shift)
    call = GUIDED["stable_diffusion_3"] | ({"mu": 0.9} if "shift" not in shift else {})
    denoiser = s4s.from_pipeline(pipe, prompts=PROMPTS, **call)
    noise = torch.randn(2, *denoiser.shape, generator=torch.Generator().manual_seed(3))
    expected = own_run(pipe, PROMPTS[:2], noise, 3, **call)
    assert close(denoiser.run_own_scheduler(noise, torch.tensor([0, 1]), 3), expected)
    denoiser.close()


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3"])
def test_gradients_are_those_through_the_network(by_hand, denoisers, kind):
    found = []
    for denoiser in (denoisers(kind), by_hand(kind)):
        y, s, condition = states(denoiser, 3)
        y, s = y.requires_grad_(), torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
        output = denoiser(y, s, condition)
        found.append(torch.autograd.grad((output * y.detach().cos()).sum(), [y, s]))
    assert all(close(a, b, 1e-4) for a, b in zip(*found, strict=True))


def test_each_row_has_the_gradient_of_its_own_level(by_hand, denoisers):
    """Rows of one level go together through the pipeline, and yet differ in what their levels do."""
    found = []
    for denoiser in (denoisers("stable_diffusion"), by_hand("stable_diffusion")):
        y, _, condition = states(denoiser, 3)
        s = torch.tensor([1.1, 1.1, 2.0], dtype=torch.float64, requires_grad=True)
        found.append(torch.autograd.grad(denoiser(y, s, condition).square().sum(), s)[0])
    assert close(*found, 1e-4)


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3"])
def test_tangents_are_those_through_the_network(by_hand, denoisers, kind):
    found = []
    for denoiser in (denoisers(kind), by_hand(kind)):
        y, _, condition = states(denoiser, 3)
        s = torch.tensor([1.1, 1.1, 2.0], dtype=torch.float64)
        with torch.autograd.forward_ad.dual_level(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            dual = torch.autograd.forward_ad.make_dual
            output = denoiser(dual(y, y.cos()), dual(s, torch.tensor([0.3, -0.2, 0.1]).double()), condition)
            found.append(torch.autograd.forward_ad.unpack_dual(output).tangent)
    assert close(*found, 1e-4)


def test_the_callers_modes_are_those_of_the_pipeline(by_hand, denoisers):
    denoiser, expected = denoisers("stable_diffusion"), by_hand("stable_diffusion")
    y, s, condition = states(denoiser)
    with torch.inference_mode():
        denoiser.close()  # so that a run begins in this mode
        inside = denoiser(y * 1, s, condition)
    assert close(inside, expected(y, s, condition))
    assert denoiser(y.requires_grad_(), s, condition).requires_grad  # and goes on with gradients
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough, rough_expected = denoiser(y, s, condition), expected(y, s, condition)
    assert close(rough, rough_expected, 2e-2)
    with torch.no_grad():
        assert not close(rough, expected(y, s, condition), 1e-4)
        assert close(denoiser(y, s, condition), expected(y, s, condition))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(0, 500), st.sampled_from(["train", "val", "test"]))
def test_prompts_go_round_and_splits_share_none(count, first, split):
    turns, size = PromptsInTurn(count), 150
    seeds = {name: sample_seeds(name, size, first) for name in ("train", "val", "test")}
    numbers = {name: turns.of_seeds(of) for name, of in seeds.items()}
    assert all(bool(((found >= 0) & (found < count)).all()) for found in numbers.values())
    alone = torch.cat([turns.of_seeds(seeds[split][i : i + 1]) for i in range(0, size, 17)])
    assert alone.tolist() == numbers[split][::17].tolist()
    sets = [set(found.tolist()) for found in numbers.values()]
    assert count < 4 or sum(map(len, sets)) == count == len(set.union(*sets))
    assert count >= 4 or all(len(found) == count for found in sets)
    assert set(turns.of_seeds(range(count)).tolist()) == set(range(count))  # seeds of no split


def test_one_prompt_is_that_of_all(denoisers, sd):
    call = GUIDED["stable_diffusion"]
    denoiser = s4s.from_pipeline(sd, prompts="bread", **call)
    y, s, _ = states(denoiser)
    assert denoiser.conditions(range(3)).tolist() == [0, 0, 0] and denoiser.call.count == 1
    expected = denoisers("stable_diffusion")(y, s, torch.tensor([2, 2]))
    assert close(denoiser(y, s), expected) and close(denoiser(y, s, torch.tensor([0, 0])), expected)
    with pytest.raises(S4SError, match="below 1"):
        denoiser(y, s, torch.tensor([0, 1]))
    denoiser.close()


def test_arguments_of_each_prompt_go_with_it(sd, denoisers):
    """Lists of negative prompts, and embeddings in the place of prompts."""
    call, negative = {"guidance_scale": 5.0}, ["ugly", "", "a sea", "x"]
    listed = s4s.from_pipeline(sd, prompts=PROMPTS, negative_prompt=negative, **call)
    y, s, condition = states(listed, 4)
    for n in (1,):
        alone = s4s.from_pipeline(sd, prompts=PROMPTS[n], negative_prompt=negative[n], **call)
        rows = condition == n
        assert close(listed(y, s, condition)[rows], alone(y[rows], s[rows]))
        alone.close()
    assert not close(listed(y, s, condition), denoisers("stable_diffusion")(y, s, condition), 1e-3)
    with torch.inference_mode():  # as some cache them
        encoded = [sd.encode_prompt(texts, "cpu", 1, False)[0] for texts in (PROMPTS, negative)]
    embedded = s4s.from_pipeline(sd, prompt_embeds=encoded[0], negative_prompt_embeds=encoded[1], **call)
    assert embedded.call.count == 4 and embedded.conditions(range(5)).tolist() == [0, 1, 2, 3, 0]
    with torch.inference_mode():
        embedded(y, s, condition)
    sd.unet.requires_grad_(True)  # as diffusers loads it
    found = embedded(y.requires_grad_(), s, condition)
    torch.autograd.grad(found.sum(), y)
    assert close(found, listed(y, s, condition)) and found.requires_grad
    for denoiser in (listed, embedded):
        denoiser.close()


IMAGE = torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompts": PROMPTS, "negative_prompt": ["a", "b", "c"]}, "negative_prompt has 3 .*4 prompts"),
        ({"prompts": "a", "negative_prompt": ["a", "b", "c"]}, "negative_prompt has 3 .*1 prompts"),
        ({"prompts": PROMPTS, "negative_prompt_embeds": torch.zeros(3, 12, 16)}, "has 3 rows for 4 prompts"),
        ({"prompts": PROMPTS, "guidance": 3.0}, "takes no guidance; it takes .*guidance_scale"),
        ({"prompts": PROMPTS, "generator": torch.Generator()}, "generator cannot be given"),
        ({"prompts": PROMPTS, "latents": IMAGE}, "latents cannot be given"),
        ({"prompts": PROMPTS, "eta": 0.5}, "asks its scheduler's step for eta, which a solver of fixed coefficients has not"),
        ({"prompts": PROMPTS, "num_inference_steps": 20}, "num_inference_steps cannot be given"),
        ({"prompts": PROMPTS, "sigmas": [1.0]}, "sigmas cannot be given"),
        ({"prompts": PROMPTS, "num_images_per_prompt": 2}, "num_images_per_prompt cannot be given"),
        ({"prompts": PROMPTS, "callback_on_step_end": print}, "callback_on_step_end cannot be given"),
        ({"prompts": PROMPTS, "prompt": "a"}, "prompt cannot be given"),
        ({"prompts": 3}, "prompts must be a text"),
        ({"prompts": [1, 2]}, "prompts must be a text"),
        ({"prompts": []}, "prompts must be a text"),
        ({"prompts": {"a": 1}}, "prompts must be a text"),
        ({"prompts": ["a", None]}, "prompts must be a text"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(sd, given, message):
    with pytest.raises(S4SError, match=message) as error:
        s4s.from_pipeline(sd, **given)
    assert len(str(error.value).splitlines()) == 1 and threads() == []


def threads():
    """Those of sessions."""
    return [thread for thread in threading.enumerate() if thread is not threading.main_thread() and "_work" in thread.name]


@pytest.fixture(autouse=True)
def _no_session_of_others():
    """The runs of denoisers of other tests end before a test that counts threads, and none is left after it without its own."""
    close_all()
    assert threads() == [], "of a test before this one, in whatever module"
    yield
    close_all()
    assert threads() == []


def close_all():
    for denoiser in [thing for thing in gc.get_objects() if type(thing) is live.LivePipeline and "_lock" in vars(thing)]:
        denoiser.close()


@pytest.mark.parametrize(("kept", "begun"), [(live.KEPT, 3), (5, 6)])
def test_runs_are_kept_while_their_rows_are_few(monkeypatch, sd, kept, begun):
    """Asked in turn, three batches of 2 rows begin three runs, or one at each change where only 5 rows are kept."""
    monkeypatch.setattr(live, "KEPT", kept)
    denoiser = s4s.from_pipeline(sd, prompts=PROMPTS, guidance_scale=5.0)
    denoiser.close()
    y, before, runs = states(denoiser)[0], denoiser.asked, [torch.tensor(pair) for pair in ([0, 1], [1, 2], [2, 3])]
    first, again = ([denoiser(y, 1.3, condition) for condition in runs] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert sum(map(len, denoiser._sessions)) <= kept and denoiser.asked - before == 2 * 2 * len(runs) + 2 * begun
    denoiser.close()


def test_rows_do_not_depend_on_batch_order_and_history(denoisers):
    """Prompts in many orders, and mixed levels."""
    denoiser = denoisers("stable_diffusion")
    y, _, _ = states(denoiser, 11)
    s = torch.tensor([0.5, 2.0, 0.5, 7.0, 2.0, 2.0, 0.5, 9.0, 2.0, 0.5, 0.5]).double()
    condition = torch.tensor([3, 1, 0, 2, 2, 1, 3, 0, 0, 1, 2])
    alone = torch.cat([denoiser(y[i : i + 1], s[i], condition[i : i + 1]) for i in range(11)])
    assert close(denoiser(y, s, condition), alone)
    for seed in range(6):
        order = torch.randperm(11, generator=torch.Generator().manual_seed(seed))[: 3 + seed]
        assert close(denoiser(y[order], s[order], condition[order]), alone[order])
    again = torch.cat([denoiser(y[i : i + 1], s[i], condition[i : i + 1]) for i in reversed(range(11))]).flip(0)
    assert torch.equal(again, alone)


def test_a_run_that_is_used_up_is_followed_by_another(sd):
    denoiser = s4s.from_pipeline(sd, prompts=PROMPTS)
    y, s, condition = states(denoiser, 1)
    denoiser.close()
    denoiser._sessions[0,] = denoiser.session((0,), steps=5)
    before = denoiser.asked
    found = [denoiser(y, s, condition) for _ in range(9)]
    assert all(torch.equal(one, found[0]) for one in found) and denoiser.asked - before == 9 + 1
    denoiser.close()
    assert threads() == []


class Broken(Exception):
    pass


def test_errors_of_the_network_come_out_and_the_denoiser_works_again(sd):
    denoiser = s4s.from_pipeline(sd, prompts=PROMPTS)
    y, s, condition = states(denoiser)
    expected = denoiser(y, s, condition)

    def fail(*_):
        raise Broken("in the network")

    for close_first in (False, True):  # in the middle of a run, and at the beginning of one
        handle = sd.unet.register_forward_pre_hook(fail)
        if close_first:
            denoiser.close()
        with pytest.raises(Broken, match="in the network"):
            denoiser(y, s, condition)
        handle.remove()
        assert torch.equal(denoiser(y, s, condition), expected)
    denoiser.close()
    assert threads() == []


def test_what_the_pipeline_refuses_comes_out_as_it_says_it(sd):
    with pytest.raises(ValueError, match="has to be in"):
        s4s.from_pipeline(sd, prompts=PROMPTS, callback_on_step_end_tensor_inputs=["noise"])
    with pytest.raises(ValueError, match="Provide either `prompt` or `prompt_embeds`"):
        s4s.from_pipeline(sd)
    assert threads() == []


def test_a_dropped_denoiser_ends_its_runs(sd):
    denoiser = s4s.from_pipeline(sd, prompts=PROMPTS)
    denoiser(*states(denoiser, 3))
    assert threads()
    del denoiser
    gc.collect()
    assert threads() == []


def test_two_denoisers_of_a_pipeline_at_once(sd):
    guided, plain = (s4s.from_pipeline(sd, prompts=PROMPTS, guidance_scale=scale) for scale in (5.0, 1.0))
    y, s, condition = states(guided, 3)
    alone = [guided(y, s, condition)]
    guided.close()
    alone.append(plain(y, s, condition))
    for _ in range(2):
        assert torch.equal(guided(y, s, condition), alone[0]) and torch.equal(plain(y, s, condition), alone[1])
    assert (guided.passes, plain.passes) == (2, 1)
    guided.close()
    plain.close()


def test_two_threads_may_ask(denoisers):
    denoiser = denoisers("stable_diffusion")
    y, s, condition = states(denoiser, 6)
    expected, found, failed = denoiser(y, s, condition).detach(), {}, []

    def ask(which):
        try:
            with torch.set_grad_enabled(which % 2 == 0):
                for i in range(6):
                    output = denoiser(y[i : i + 1].requires_grad_(which % 2 == 0), s[i], condition[i : i + 1])
                    assert output.requires_grad == (which % 2 == 0)
                    found[which, i] = output.detach()
        except BaseException as error:
            failed.append(error)

    asking = [threading.Thread(target=ask, args=(which,)) for which in range(3)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(60)
    assert not failed and len(found) == 18
    assert all(close(output, expected[i : i + 1]) for (_, i), output in found.items())


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_copy_is_refused_in_a_line(denoisers, copied):
    with pytest.raises(S4SError, match=r"cannot be copied .* from_pipeline") as error:
        copied(denoisers("stable_diffusion"))
    assert len(str(error.value).splitlines()) == 1


def pag(pipes):
    parts = {name: part for name, part in pipes("stable_diffusion").components.items() if part is not None}
    return diffusers.StableDiffusionPAGPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False, pag_applied_layers=["down"]
    )


def state_of(pipe):
    """What a run may change."""
    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for net in networks for part in net.modules()]
    return (
        {**vars(pipe)}, {**pipe.unet.attn_processors}, hooks, [part.training for part in networks],
        torch.random.get_rng_state().tolist(), str(pipe.scheduler.__dict__), diffusers.logging.get_verbosity(),
    )  # fmt: skip


def test_attention_processors_are_there_for_a_question_only(pipes):
    """Two runs of a pipeline that changes them, ended in the order in which they began."""
    pipe = pag(pipes)
    before = state_of(pipe)
    denoiser = s4s.from_pipeline(pipe, prompts=PROMPTS, guidance_scale=5.0, pag_scale=3.0)
    y, s, _ = states(denoiser, 1)
    assert denoiser.passes == 3
    first = denoiser(y, s, torch.tensor([0]))
    other = denoiser(y, s, torch.tensor([1]))
    assert state_of(pipe) == before
    denoiser._sessions.popitem(last=False)[1].close()
    assert torch.equal(denoiser(y, s, torch.tensor([1])), other) and torch.equal(denoiser(y, s, torch.tensor([0])), first)
    denoiser.decode(y)
    handle = pipe.unet.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        denoiser(y, s, torch.tensor([0]))
    handle.remove()
    denoiser.close()
    assert state_of(pipe) == before and threads() == []


@pytest.fixture
def control_c():
    """Heard in a program in the background too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# a denoiser's first questions, of runs at their beginning and later
@pytest.mark.parametrize("call", often([2, 9, 40], 9))
def test_an_interrupt_leaves_the_pipeline_as_it_was(pipes, control_c, call):
    """Control-C while the asking thread waits for an answer."""
    pipe, calls = pag(pipes), []
    before = state_of(pipe)

    def interrupt(*_):
        calls.append(1)
        if len(calls) == call:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    handle = pipe.unet.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        denoiser = s4s.from_pipeline(pipe, prompts=PROMPTS, guidance_scale=5.0, pag_scale=3.0)
        for _ in range(40):
            denoiser(*states(denoiser, 3))
    handle.remove()
    if call == 40:
        expected = denoiser(*states(denoiser, 3))
        denoiser.close()
        assert close(denoiser(*states(denoiser, 3)), expected)
        denoiser.close()
    assert state_of(pipe) == before and threads() == []


def test_embeddings_of_inference_mode_have_gradients_without_guidance(sd):
    with torch.inference_mode():
        encoded = sd.encode_prompt(PROMPTS, "cpu", 1, False)[0]
    sd.unet.requires_grad_(True)
    denoiser = s4s.from_pipeline(sd, prompt_embeds=encoded, guidance_scale=1.0)
    y, s, condition = states(denoiser)
    torch.autograd.grad(denoiser(y.requires_grad_(), s, condition).sum(), y)
    denoiser.close()


def test_a_network_with_memory_is_refused(sd):
    """One that adds a little of what it gave before, as caches and momentum do."""
    given = []

    def remember(module, args, output):
        mixed = 0.9 * output[0] + 0.1 * given[-1] if given and given[-1].shape == output[0].shape else output[0]
        given.append(output[0])
        return (mixed,)

    handle = sd.unet.register_forward_hook(remember)
    try:
        with pytest.raises(S4SError, match="another output for the same state and time later in a run") as error:
            s4s.from_pipeline(sd, prompts=PROMPTS, guidance_scale=5.0)
    finally:
        handle.remove()
    assert len(str(error.value).splitlines()) == 1 and threads() == []


def test_a_control_that_ends_is_refused_and_named(pipes):
    sd = pipes("stable_diffusion")
    controls = builder.fill(diffusers.ControlNetModel.from_unet(sd.unet, conditioning_embedding_out_channels=(16, 32)))
    pipe = diffusers.StableDiffusionControlNetPipeline(**sd.components, controlnet=controls, requires_safety_checker=False)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    denoiser = s4s.from_pipeline(pipe, prompts=PROMPTS, image=image, guidance_scale=5.0)
    y, s, condition = states(denoiser, 2)
    plain = s4s.from_pipeline(sd, prompts=PROMPTS, guidance_scale=5.0)
    assert not close(denoiser(y, s, condition), plain(y, s, condition), 1e-3) and denoiser.passes == 2
    denoiser.close()
    plain.close()
    with pytest.raises(S4SError, match="control_guidance_end may do that; leave it out"):
        s4s.from_pipeline(pipe, prompts=PROMPTS, image=image, control_guidance_end=0.5)
    assert threads() == []


def test_states_that_the_pipeline_changes_are_refused(pipes):
    """Inpainting with a network of four channels keeps what is not masked, after each step."""
    pipe = diffusers.StableDiffusionInpaintPipeline(**pipes("stable_diffusion").components, requires_safety_checker=False)
    image, mask = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    with pytest.raises(S4SError, match="changes the state between steps") as error:
        s4s.from_pipeline(pipe, prompts="a", image=image, mask_image=mask, height=16, width=16, strength=1.0)
    assert len(str(error.value).splitlines()) == 1 and threads() == []


def test_pipelines_for_which_nothing_can_be_learned(sd):
    sd.unet.down_blocks[0].drop = torch.nn.Dropout(0.5).train()
    try:
        with pytest.raises(S4SError, match=r"unet .* draws dropout \(1 layers\); call pipe.unet.eval\(\)"):
            s4s.from_pipeline(sd, prompts="a")
    finally:
        del sd.unet.down_blocks[0].drop
    sd.scheduler = diffusers.LCMScheduler(**BETAS)
    with pytest.raises(S4SError, match="LCM"):
        s4s.from_pipeline(sd, prompts="a")
    sd.scheduler = None
    with pytest.raises(S4SError, match="has no scheduler whose steps could be learned"):
        s4s.from_pipeline(sd, prompts="a")
    for thing in (sd.unet, "a/folder", None, object()):
        with pytest.raises(S4SError, match="must be a pipeline of diffusers"):
            s4s.from_pipeline(thing)
    assert threads() == []


def test_a_cache_is_refused(pipes):
    pipe = pipes("stable_diffusion_3")
    pipe.transformer.is_cache_enabled = True
    try:
        with pytest.raises(S4SError, match=r"keeps results from one step.*call pipe.transformer.disable_cache\(\)"):
            s4s.from_pipeline(pipe, prompts="a")
    finally:
        del pipe.transformer.is_cache_enabled


def test_weights_that_are_not_finite_are_named(pipes):
    pipe = ddpm()
    with torch.no_grad():
        next(pipe.unet.parameters()).fill_(float("nan"))
    with pytest.raises(S4SError, match=r"output at noise level .* is not finite"):
        s4s.from_pipeline(pipe)
    assert threads() == []


@pytest.mark.parametrize("given", [{"prompts": ["a"]}, {"prompts": [0.5]}, {}, {"prompts": [True]}])
def test_classes_are_whole_numbers(pipes, given):
    with pytest.raises(S4SError, match=r"number of a class|needs classes"):
        s4s.from_pipeline(pipes("dit"), **given)
    with pytest.raises(S4SError, match="takes no prompts"):
        s4s.from_pipeline(ddpm(), prompts="a cat")
