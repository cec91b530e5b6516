"""Between the evaluations of a live pipeline no number is read from a device, and none is copied to it.

A GPU would be waited for. On the CPU the operations that do so are seen by torch's modes, in both threads.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import s4s
from s4s.export import S4SScheduler
from s4s.models.pipelines.session import Session
from tests.builders import pipelines as builder
from tests.builders.chosen import often

READ = {"item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__"}
COPIED = {"tensor", "as_tensor"}
PIPELINES = {"flow": builder.stable_diffusion_3, "table": builder.stable_diffusion}


class Waits:
    """What was read or copied while `noting`."""

    def __init__(self):
        self.noting, self.seen = False, []

    def modes(self):
        waits = self

        class Functions(TorchFunctionMode):
            def __torch_function__(self, function, types, args=(), kwargs=None):
                name = getattr(function, "__name__", "")
                value = args[0] if args and isinstance(args[0], torch.Tensor) else torch.zeros(0, dtype=torch.int64)
                floating = value.is_floating_point() and not (value.ndim == 2 and value.dtype == torch.float64)  # of a tableau
                lists = name == "__getitem__" and isinstance(args[1], list)
                copied = name in COPIED and not isinstance(args[0], torch.Tensor)
                if waits.noting and ((floating and (name in READ or lists)) or copied):
                    waits.seen.append(name)
                return function(*args, **(kwargs or {}))

        class Operations(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                if waits.noting and "_local_scalar_dense" in str(function):
                    waits.seen.append(str(function))
                return function(*args, **(kwargs or {}))

        return Functions(), Operations()


@pytest.fixture
def waits(monkeypatch):
    """Seen in the thread of a pipeline as in this one."""
    found, work = Waits(), Session._work

    def watched(self, *args):
        functions, operations = found.modes()
        with functions, operations:
            work(self, *args)

    monkeypatch.setattr(Session, "_work", watched)
    functions, operations = found.modes()
    with functions, operations:
        yield found


def test_what_waits_is_seen(waits):
    values = torch.arange(3.0)
    waits.noting = True
    for wait in (lambda: float(values[0]), lambda: values[values.argmax()], lambda: values[[2, 0]], lambda: torch.tensor(1.0)):
        waits.seen.clear()
        wait()
        assert waits.seen
    waits.seen.clear()
    values.take(values.argmax())
    assert waits.seen == []


@pytest.mark.parametrize("kind", often(PIPELINES, "flow"))
def test_no_evaluation_of_a_live_pipeline_waits(waits, kind):
    denoiser = s4s.from_pipeline(PIPELINES[kind](), prompts=["a cat", "the sea"], guidance_scale=3.0)
    tableau = s4s.solver("ipndm", s4s.levels("logsnr", 3, denoiser), order=3)
    y_T, condition = s4s.initial_noise(denoiser, range(3)), torch.tensor([0, 1, 0])  # whose rows change places
    s4s.sample(denoiser, y_T, tableau, condition)  # begins the sessions

    def evaluated(n, y, output):
        waits.noting = n < tableau.nfe - 1

    try:
        found = s4s.sample(denoiser, y_T, tableau, condition, callback=evaluated)
    finally:
        denoiser.close()
    assert waits.seen == [] and found.isfinite().all()


@pytest.mark.parametrize("kind", often(PIPELINES, "flow"))
def test_no_step_of_the_scheduler_waits(waits, kind):
    pipe = PIPELINES[kind]()
    denoiser = s4s.from_pipeline(pipe, prompts="a cat")
    denoiser.close()
    tableau = s4s.solver("ipndm", s4s.levels("logsnr", 3, denoiser), order=3)
    pipe.scheduler = scheduler = S4SScheduler.from_tableau(tableau, pipe.scheduler)
    step, steps = scheduler.step, []

    def watched(*args, **kwargs):
        waits.noting = True
        try:
            return step(*args, **kwargs)
        finally:
            steps.append(waits.noting)
            waits.noting = False

    scheduler.step = watched
    pipe("a cat", num_inference_steps=3, output_type="latent")
    assert len(steps) == 3 and waits.seen == []


def test_a_step_is_found_by_where_its_time_lies():
    """Also where two are the same number."""
    scheduler = S4SScheduler(use_flow_sigmas=False)
    scheduler.timesteps = torch.tensor([900.0, 500.0, 500.0, 100.0])
    assert [scheduler.index_for_timestep(t) for t in scheduler.timesteps] == [0, 1, 2, 3]
    assert [scheduler.index_for_timestep(t) for t in scheduler.timesteps[2:]] == [2, 3]
    assert scheduler.index_for_timestep(torch.tensor(100.0)) == scheduler.index_for_timestep(101.0) == 3
