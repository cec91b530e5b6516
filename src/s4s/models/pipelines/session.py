"""A pipeline's own `__call__` at work in a thread, answering one question (x, t) after the other."""

from __future__ import annotations

import copy
import inspect
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.models.pipelines.probe_scheduler import ProbeScheduler

ALIKE = 1e-2  # by which a state may differ from what was handed over; pipelines may keep it in half precision


@dataclass(frozen=True)
class _Modes:
    """What torch keeps for each thread, and the pipeline's must have as the one that asks."""

    grad: bool
    autocast: bool
    autocast_type: torch.dtype
    device: str

    @classmethod
    def of_this_thread(cls, device: str) -> _Modes:
        grad = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        return cls(grad, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device), device)

    def take(self) -> None:
        torch.set_grad_enabled(self.grad)
        torch.set_autocast_enabled(self.device, self.autocast)
        torch.set_autocast_dtype(self.device, self.autocast_type)


@dataclass(frozen=True)
class _Answer:
    """The guided output for a state, and that state as the scheduler was given it."""

    output: Tensor
    sample: Tensor


@dataclass(frozen=True)
class _Question:
    """A state to ask about at a time, or, where it is the last, the sample that the pipeline ends with."""

    x: Tensor | None
    time: Tensor | None
    modes: _Modes | None
    last: bool = False


class Session:
    """One run of a pipeline, from its first evaluation, of noise of its own, until it is closed.

    The pipeline itself is left alone: a shallow copy runs, which has the same networks but a scheduler and settings of its own.
    The run ends as the pipeline ends it, so that what it changed for a run is put back. Attention processors, which some change
    for a run, are there only while a question is answered: runs of one pipeline take turns. The thread of the run changes them,
    for Ctrl-C, which may come at any place of the thread that asks, never comes there.

    Args:
        pipe: the pipeline.
        arguments: of its `__call__`.
        config: what its scheduler's config says, as S4SScheduler would have it.
        rows: samples that it is for; some pipelines step copies of them, one for each half of guidance.
        time: the time of the first evaluation.
    Attributes:
        sample: the pipeline's own first state, [copies * rows, *shape]; output: of its network for it.
        left: evaluations that can still be asked for.
        over: whether it has ended.
        watched: whether states are compared with what was handed over, for which a GPU is waited for.
    Raises:
        Exception: what the pipeline raises, as it is.
    """

    def __init__(self, pipe: Any, arguments: Mapping[str, Any], config: Mapping[str, Any], rows: int, time: float):
        self._questions: queue.SimpleQueue[_Question] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._time = torch.tensor(time, dtype=torch.float32)
        self._handed: Tensor | None = None
        self.over = self._begun = False
        self.watched = False
        self._probe = ProbeScheduler(self, config)
        own = copy.copy(pipe)
        own.scheduler = self._probe
        own.set_progress_bar_config(disable=True)
        call = inspect.unwrap(type(pipe).__call__)  # without torch.no_grad
        self._thread = threading.Thread(target=self._work, args=(call, own, dict(arguments)), daemon=True)
        self._pipe, self._inside, self._outside = pipe, _Processors(), _processors_of(pipe)
        try:
            self._begin(rows)
        except BaseException:
            self.close()
            raise

    def _begin(self, rows: int) -> None:
        devices = [*range(torch.cuda.device_count())] if torch.cuda.is_initialized() else []
        with torch.random.fork_rng(devices):  # what a pipeline draws by itself is the same in each of its sessions
            torch.manual_seed(0)
            first = self._wait(self._thread.start)
        if not isinstance(first, _Answer):
            raise S4SError(
                f"a {type(self._pipe).__name__} ended without asking its scheduler for a step, so nothing can be learned of "
                "its network; give the pipeline that runs the network"
            )
        self.output, self.sample = first.output, first.sample
        self.copies, rest = divmod(len(self.sample), rows)
        if rest or not self.copies or (self.copies > 1 and not _alike(self.sample, self.copies)):
            raise S4SError(
                f"a {type(self._pipe).__name__} steps {len(self.sample)} states for {rows} samples; its network cannot be "
                "asked for single ones"
            )
        self.left = (self._probe.num_inference_steps or 1) - 1
        self._time = self._time.to(self.sample.device)

    def _work(self, call: Any, pipe: Any, arguments: dict[str, Any]) -> None:
        result: Any = None
        try:
            try:
                with torch.no_grad():
                    result = call(pipe, **arguments)
            finally:
                self.over = True
                self._leave()
        except BaseException as error:
            result = error
        self._answers.put(result)

    def _leave(self) -> None:
        """The networks have again the attention processors that they had outside of this run.

        Whether it has any of its own is asked up to the first evaluation; the question takes milliseconds.
        """
        if not self._begun or self._inside:
            inside = _processors_of(self._pipe)
            if inside != self._outside:
                self._inside = inside
                _put(self._outside)
        self._begun = True

    def _enter(self) -> None:
        """The networks have the attention processors of this run, if it has any of its own."""
        if self._inside:
            self._outside = _processors_of(self._pipe)
            _put(self._inside)

    def times(self) -> Iterator[Tensor]:
        """For the scheduler: the time of each question."""
        while not self.over:
            yield self._time

    def answer(self, output: Tensor, sample: Tensor) -> Tensor:
        """For the scheduler: hand the output over and wait for the next question."""
        if self.over:
            return sample
        if (handed := self._handed) is not None and handed is not sample and _changed(handed, sample, self.watched):
            raise S4SError(
                "this pipeline changes the state between steps (as inpainting with a mask does), so its network is no function "
                "of state and time; use one whose network takes the mask or image"
            )
        self._leave()
        self._answers.put(_Answer(output, sample))
        question = self._questions.get()
        self._enter()
        if question.last:
            self.over = True
            torch.set_grad_enabled(False)
        elif question.modes is not None:
            question.modes.take()
        if question.time is not None:
            self._time = _own(question.time)
        state = sample if question.x is None else _own(question.x).to(sample.dtype)
        self._handed = state
        return state

    def __call__(self, x: Tensor, t: Tensor, whole: bool = False) -> Tensor:
        """The guided output for x [rows, *shape] at time t, a scalar; the whole has a learned variance after it.

        Raises:
            Exception: what the pipeline raises, as it is.
        """
        self.left -= 1
        rows = len(x)
        if self.copies > 1:
            x = x.repeat(self.copies, *[1] * (x.ndim - 1))
        answer = self._ask(_Question(x, t, _Modes.of_this_thread(x.device.type)))
        if not isinstance(answer, _Answer):
            raise S4SError("a pipeline ended its run before all of its steps were made, so it cannot be asked")
        output = answer.output[:rows]
        return output if whole else output[:, : x.shape[1]]  # what follows is a learned variance

    def finish(self, sample: Tensor | None = None) -> Any:
        """End the run, with `sample` as its result where one is given; what the pipeline returns."""
        if sample is not None and self.copies > 1:
            sample = sample.repeat(self.copies, *[1] * (sample.ndim - 1))
        result = self._ask(_Question(sample, None, None, last=True))
        self._thread.join()
        return result

    def close(self) -> None:
        """End the run, whatever comes out of it."""
        self._questions.put(_Question(None, None, None, last=True))
        if self._thread.ident is not None:
            self._thread.join()
        self.over = True

    def _ask(self, question: _Question) -> Any:
        if self.over:
            raise S4SError("this run of a pipeline is over")
        return self._wait(partial(self._questions.put, question))

    def _wait(self, begin: Callable[[], None]) -> Any:
        try:
            begin()
            answer = self._answers.get()
        except BaseException:  # Ctrl-C: what still comes is of no use
            self.close()
            raise
        if isinstance(answer, BaseException):
            self._thread.join()
            raise answer
        return answer


_Processors = list[tuple[Any, dict[str, Any]]]  # networks, and their attention processors by name


def _processors_of(pipe: Any) -> _Processors:
    networks = [part for part in pipe.components.values() if hasattr(part, "set_attn_processor")]
    return [(network, {**network.attn_processors}) for network in networks]


def _put(processors: _Processors) -> None:
    for network, own in processors:
        network.set_attn_processor({**own})  # which empties what it is given


def _alike(states: Tensor, copies: int) -> bool:
    first, *others = states.chunk(copies)
    return all(torch.equal(first, other) for other in others)


def _own(value: Tensor) -> Tensor:
    """A tensor that may be differentiated through, in a thread that is not in inference mode."""
    return value.clone() if value.is_inference() else value


def _changed(handed: Tensor, sample: Tensor, watched: bool) -> bool:
    """Whether a state came back as another one; only by its shape, if not watched."""
    if handed.shape != sample.shape or not watched:
        return handed.shape != sample.shape
    with torch.no_grad():
        return bool((handed - sample).abs().max() > ALIKE * handed.abs().max())
