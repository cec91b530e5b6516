"""Whether the network of a live pipeline is a function of state and time, found by asking; and what one evaluation costs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from s4s.errors import S4SError, must_be, one_line
from s4s.models.denoiser_check import take_as_checked

if TYPE_CHECKING:
    from s4s.models.pipelines.live import LivePipeline

ASKED_AGAIN = 9  # evaluations of the run in which the same is asked again
SAME = {torch.float32: 1e-3, torch.float64: 1e-3}  # of the largest output; in half precision
SAME_IN_HALF = 3e-2
DATA = 0.5  # scale of what stands for data

log = logging.getLogger(__name__)


def check_pipe(pipe: Any) -> None:
    """Refuse what is no pipeline with a scheduler that can be replaced, or keeps results from step to step.

    Raises:
        S4SError: what it is, and what to give instead.
    """
    must_be("from_pipeline's first argument", pipe, isinstance(pipe, DiffusionPipeline), "a pipeline of diffusers")
    kind = type(pipe).__name__
    if not hasattr(getattr(pipe, "scheduler", None), "step"):
        inner = [name for name, part in pipe.components.items() if hasattr(part, "scheduler")]
        instead = f"give one of its own pipelines, pipe.{inner[0]}" if inner else "its network runs in no steps of a scheduler"
        raise S4SError(f"a {kind} has no scheduler whose steps could be learned; {instead}")
    networks = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    for name, network in networks.items():
        if getattr(network, "is_cache_enabled", False):
            raise S4SError(
                f"the {name} of this {kind} keeps results from one step for the next, so its output is no function of state "
                f"and time; call pipe.{name}.disable_cache() for the fit, and do without it where the solver is used"
            )
        if training := [part for part in network.modules() if isinstance(part, nn.Dropout) and part.training and part.p > 0]:
            raise S4SError(f"the {name} of this {kind} draws dropout ({len(training)} layers); call pipe.{name}.eval()")


def measure(denoiser: LivePipeline) -> None:
    """Ask for some rows, and set `rows` and `passes`; the denoiser then counts as checked.

    Raises:
        S4SError: what of the pipeline is no function of state and time, and what to do.
    """
    states = _states(denoiser)
    _check_function(denoiser, states)
    _set_rows(denoiser, states)
    denoiser.passes = _passes(denoiser, states[0])
    take_as_checked(denoiser, gradients=False)


def _states(denoiser: LivePipeline) -> list[tuple[Tensor, float]]:
    """Pairs of states and their levels: in the middle, near it, highest, lowest."""
    middle = min(max(1.0, 2 * denoiser.s_min), denoiser.s_max / 2)
    noise = torch.randn(2, 2, *denoiser.shape, generator=torch.Generator().manual_seed(0)).to(denoiser.device)
    levels = [middle, 0.97 * middle, denoiser.s_max, denoiser.s_min]
    return [(DATA * noise[0] + s * noise[1], s) for s in levels]


def _check_function(denoiser: LivePipeline, states: list[tuple[Tensor, float]]) -> None:
    """The same state and time again, later in a run and after others: the same output."""
    key = (0,)
    denoiser.close()
    run = denoiser._sessions[key] = denoiser.session(key, steps=ASKED_AGAIN)
    run.watched = True
    first_time = torch.tensor(denoiser._first_time(), dtype=torch.float32, device=denoiser.device)

    def ask(n: int) -> Tensor:
        y, s = states[n]
        return denoiser(y[:1], s)

    with torch.no_grad():
        found = [(n, ask(n)) for n in (0, 1)]
        again = [run(run.sample[:1], first_time)]
        found += [(n, ask(n)) for n in (1, 3, 0)]
        again.append(run(run.sample[:1], first_time))
        highest = ask(2)
    denoiser.close()
    for n, output in [*found, (2, highest)]:
        if not bool(output.isfinite().all()):
            raise S4SError(
                f"model {denoiser.name}: its output at noise level {states[n][1]:.3g} is not finite; take another precision "
                "(float16 overflows in some networks; bfloat16 does not), or look for nan in its weights"
            )
    first = run.output[:1, : again[0].shape[1]]
    pairs = [(found[0][1], found[4][1]), (found[1][1], found[2][1]), *((first, later) for later in again)]
    if any(_differ(denoiser, a, b) for a, b in pairs):
        _refuse(denoiser)


def _refuse(denoiser: LivePipeline) -> None:
    marks = ("_start", "_end", "trunc", "momentum", "skip", "interval")
    suspects = [name for name in denoiser.call.given if any(mark in name for mark in marks)]
    what = (
        "caches between steps, controls or guidance that begin or end at a step, momentum in the guidance and random numbers "
        "do that; switch them off for the fit and where the solver is used"
    )
    if suspects:
        what = f"{' and '.join(suspects)} may do that; leave it out"
    raise S4SError(
        f"model {denoiser.name}: its network gives another output for the same state and time later in a run, so no solver of "
        f"fixed coefficients belongs to it; {what}"
    )


def _set_rows(denoiser: LivePipeline, states: list[tuple[Tensor, float]]) -> None:
    """One row a call, where a pipeline takes no more or does not treat the rows of a batch alike."""
    (y, s), condition = states[0], torch.tensor([0, 1 % denoiser.call.count])
    try:
        with torch.no_grad():
            both = denoiser(y, s, condition)
    except S4SError as error:
        reason: str = one_line(error)
    except Exception as error:  # whatever a pipeline that takes one prompt does with two
        reason = f"{type(error).__name__}: {one_line(error)}"
    else:
        with torch.no_grad():
            alone = [denoiser(y[i : i + 1], s, condition[i : i + 1]) for i in range(2)]
        if not any(_differ(denoiser, both[i : i + 1], alone[i]) for i in range(2)):
            return
        reason = "a row of a batch is not what it is alone"
    log.info("model %s: one row at a time (%s)", denoiser.name, reason)
    denoiser.rows = 1
    denoiser.close()


def _differ(denoiser: LivePipeline, a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() > SAME.get(denoiser.weights, SAME_IN_HALF) * b.abs().max())


def _passes(denoiser: LivePipeline, state: tuple[Tensor, float]) -> int:
    """Rows of the network that runs last, for one row of an evaluation."""
    calls: list[tuple[nn.Module, int]] = []

    def watching(network: nn.Module) -> Callable[..., None]:
        def watch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            batches = [value for value in (*args, *kwargs.values()) if isinstance(value, list) or _is_batch(value)]
            calls.append((network, len(batches[0]) if batches else 1))

        return watch

    networks = [part for part in denoiser.pipe.components.values() if isinstance(part, nn.Module)]
    handles = [network.register_forward_pre_hook(watching(network), with_kwargs=True) for network in networks]
    try:
        with torch.no_grad():
            denoiser(state[0][:1], state[1])
            calls.clear()  # of the beginning of a run
            denoiser(state[0][:1], state[1])
    finally:
        for handle in handles:
            handle.remove()
    if not calls:  # a network that is no component
        return 1
    return max(1, sum(rows for network, rows in calls if network is calls[-1][0]))


def _is_batch(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 1
