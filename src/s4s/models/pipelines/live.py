"""A denoiser of any live pipeline of diffusers: the pipeline's own `__call__`, asked through its scheduler's place."""

from __future__ import annotations

import copy
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from inspect import signature
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from torch.autograd import forward_ad
from transformers.utils import logging as transformers_logging

from s4s.errors import S4SError
from s4s.models.description import NAME
from s4s.models.pipelines.live_check import check_pipe, measure
from s4s.models.pipelines.pipeline_call import PipelineCall
from s4s.models.pipelines.prompts import Prompts, PromptsInTurn
from s4s.models.pipelines.scheduler_config import noise_of
from s4s.models.pipelines.session import Session
from s4s.models.predicting import PredictingDenoiser, difference_step

STEPS = 1000  # of a session: so many evaluations can be asked for
KEPT, CALLS_KEPT = 128, 16  # rows of all sessions at a time, each with its prompt's embeddings: at most, and in whole calls
ROWS = 8  # states in one call of the network, by default
_LOCKS: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()


class _Set(BaseException):
    """A pipeline has set its scheduler's times, which is all that was wanted of it."""


def from_pipeline(pipe: Any, *, prompts: Any = None, name: str | None = None, **call: Any) -> LivePipeline:
    """A denoiser of a pipeline as it is: its networks, adapters, guidance, sizes, device and precision.

    Nothing about the pipeline is changed. It is asked some 20 times for a row to learn the shape of its states, and whether
    its network is a function of state and time that treats rows alike.

    Args:
        pipe: a pipeline of diffusers that calls its scheduler's `step`.
        prompts: one text or several (numbers of classes for pipelines with classes), over which samples go round; None where
            `call` has embeddings, or the pipeline takes no text.
        name: what results are filed under; by default that of the pipeline.
        call: everything else that `pipe(...)` is to be called with: guidance_scale, height, a control image, ...
    Returns:
        The denoiser. Conditions are numbers of prompts, [n]. `decode` is the pipeline's own: images in [-1, 1], [n, 3, H, W],
        frames, [n, F, 3, H, W], or what else it makes. `passes` is what one evaluation costs, with all halves of guidance.
    Raises:
        S4SError: if nothing can be learned for such a pipeline, and why.
        Exception: what the pipeline itself raises, as it is.
    """
    check_pipe(pipe)
    denoiser = LivePipeline(pipe, PipelineCall(pipe, prompts, call), name or _name_of(pipe))
    try:
        measure(denoiser)
    except BaseException:
        denoiser.close()
        raise
    return denoiser


class LivePipeline(PredictingDenoiser):
    """What `from_pipeline` returns.

    Attributes:
        pipe, call: the pipeline, and how it is called.
        asked: states that have gone through the network for it, without guidance's further passes; on_asked: told of each call.
        rows: states in one call of the pipeline at most; 1 where it does not treat the rows of a batch alike.
        one_level: true: rows of different noise levels take calls of their own.
        prompts: which sample has which prompt.
    """

    one_level = True
    prompts: Prompts

    def __init__(self, pipe: Any, call: PipelineCall, name: str):
        own = pipe.scheduler
        self.scheduler_config = {**own.config, "_class_name": type(own).__name__}
        noise = noise_of(self.scheduler_config)
        self.pipe, self.call, self.asked, self.rows = pipe, call, 0, ROWS
        self.on_asked: Callable[[int], Any] | None = None
        self._sessions: OrderedDict[tuple[int, ...], Session] = OrderedDict()
        self._lock = _LOCKS.setdefault(pipe, threading.RLock())
        weakref.finalize(self, _close_all, self._sessions)
        self._noise, self._own = noise, dict[int, Any]()
        super().__init__(
            self._asked_for_none, noise.path, noise.prediction, name=name, shape=(1,), s_min=noise.s_min, s_max=noise.s_max,
            device=torch.device("cpu"), times=noise.times,
        )  # fmt: skip
        self.guidance, self.prompts = call.guidance(), PromptsInTurn(call.count)
        sample = self._session((0,)).sample
        self.shape, self.device, self.weights = tuple(sample.shape[1:]), sample.device, sample.dtype
        self.difference_step = difference_step(sample.dtype)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise S4SError(f"model {self.name}: a denoiser of a live pipeline cannot be copied or stored; call from_pipeline again")

    @staticmethod
    def _asked_for_none(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("a live pipeline is asked through its sessions")

    def conditions(self, seeds: Sequence[int] | np.ndarray) -> Tensor:
        """The number of each sample's prompt, int64 [n]."""
        return self.prompts.of_seeds(seeds)

    def _network(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """A pipeline tells all rows of a step one time, so rows of one time go together."""
        numbers = [0] * len(x) if condition is None else condition.tolist()
        if len(numbers) != len(x) or not all(isinstance(n, int) and 0 <= n < self.call.count for n in numbers):
            raise S4SError(f"condition must hold {len(x)} numbers of prompts below {self.call.count}")
        output = [torch.empty(0)] * len(x)
        for rows in self._together(numbers, t):
            some = x if rows == [*range(len(x))] else torch.stack([x[row] for row in rows])  # a list as index is copied
            found = self._ask(some, t[rows[0]], [numbers[n] for n in rows])
            for n, row in zip(rows, found.unbind(), strict=True):
                output[n] = row
        return torch.stack(output).to(x.dtype)

    def _together(self, numbers: list[int], t: Tensor) -> list[list[int]]:
        """Rows that are asked about in one call, of one time and in the order of their prompts."""
        times: list[Any] = [0] * len(numbers)
        if len(t) > 1 and t.stride(0) != 0:  # else it is one number for all
            plain, tangent = forward_ad.unpack_dual(t) if forward_ad._current_level >= 0 else (t, None)
            times = [*zip(plain.tolist(), [0.0] * len(t) if tangent is None else tangent.tolist(), strict=True)]
            if t.requires_grad:  # each row's own derivative
                times = [*range(len(t))]
        groups: dict[Any, list[int]] = {}
        for n, time in enumerate(times):
            groups.setdefault(time, []).append(n)
        ordered = [sorted(group, key=numbers.__getitem__) for group in groups.values()]
        return [group[i : i + self.rows] for group in ordered for i in range(0, len(group), self.rows)]

    def _ask(self, x: Tensor, t: Tensor, numbers: list[int], whole: bool = False) -> Tensor:
        with self._lock:
            self._count(len(x))
            return self._session(tuple(numbers))(x.to(self.weights), t, whole)

    def _session(self, numbers: tuple[int, ...]) -> Session:
        """The session of these prompts; those that were longest not asked are closed where there are too many rows."""
        kept = self._sessions.get(numbers)
        if kept is not None and (kept.over or not kept.left):
            self._sessions.pop(numbers).close()
            kept = None
        if kept is None:
            kept_rows = min(KEPT, CALLS_KEPT * self.rows)  # fewer where memory is short
            while self._sessions and sum(map(len, self._sessions)) + len(numbers) > kept_rows:
                self._sessions.popitem(last=False)[1].close()
            kept = self._sessions[numbers] = self.session(numbers)
        self._sessions.move_to_end(numbers)
        return kept

    def session(self, numbers: Sequence[int], steps: int = STEPS, output_type: str = "latent") -> Session:
        """A new run of the pipeline for rows of these prompts, which is the caller's to close."""
        with self._lock, _quiet(self.asked > 0):
            self._count(len(numbers))
            arguments = self.call.arguments(numbers, steps, output_type)
            return Session(self.pipe, arguments, self._config(), len(numbers), self._first_time())

    def _count(self, rows: int) -> None:
        self.asked += rows
        if self.on_asked is not None:
            self.on_asked(rows)

    def _config(self) -> dict[str, Any]:
        """What S4SScheduler's config would say: the levels are the scheduler's, not the pipeline's."""
        return {**self.scheduler_config, **({"use_flow_sigmas": True} if self._noise.kind == "flow" else {})}

    def _first_time(self) -> float:
        return float(self.times * self.path.t_of_s(torch.tensor(self.s_max, dtype=torch.float64)))

    def close(self) -> None:
        """End all runs of the pipeline; the next call begins new ones."""
        with self._lock:
            _close_all(self._sessions)

    def decode(self, y_0: Tensor) -> Tensor:
        """Clean states [B, *shape] as the pipeline shows them; see `from_pipeline`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and y_0.requires_grad):
            return torch.cat([self._decoded(rows) for rows in y_0.split(min(self.rows, self.decode_batch))])

    def _decoded(self, y_0: Tensor) -> Tensor:
        with self._lock:
            run = self.session([0] * len(y_0), steps=2, output_type="pt")
            return _shown(run.finish(y_0.to(self.weights))).to(y_0.device, y_0.dtype)

    def own_times(self, steps: int) -> Tensor | None:
        """The times of the pipeline's own scheduler with so many steps, float64; None where it does not have as many."""
        try:
            times: Tensor = self._own_scheduler(steps).timesteps.cpu().double()
        except (ValueError, RuntimeError, IndexError):  # as schedulers say that
            return None
        return times

    def run_own_scheduler(self, noise: Tensor, condition: Tensor | None, steps: int) -> Tensor:
        """Final states [B, *shape] of the pipeline's own scheduler from unit noise [B, *shape].

        It has the times that the pipeline would give it. What it draws itself is the same for each row.
        """
        numbers = [0] * len(noise) if condition is None else condition.tolist()
        return torch.cat([self._own_run(noise[n : n + 1], (numbers[n],), steps) for n in range(len(noise))])

    def _own_scheduler(self, steps: int) -> Any:
        """A copy of the pipeline's own scheduler, as the pipeline sets it for so many steps; its network does not run."""
        if steps not in self._own:
            scheduler = copy.deepcopy(self.pipe.scheduler)
            run = copy.copy(self.pipe)
            run.scheduler = scheduler
            run.set_progress_bar_config(disable=True)
            own = scheduler.set_timesteps

            @wraps(own)
            def set_and_stop(*args: Any, **kwargs: Any) -> None:
                own(*args, **kwargs)
                raise _Set

            scheduler.set_timesteps = set_and_stop
            with self._lock, torch.random.fork_rng(), _quiet(True), suppress(_Set):
                run(**self.call.arguments((0,), steps))
            del scheduler.set_timesteps
            self._own[steps] = scheduler
        return copy.deepcopy(self._own[steps])

    @torch.no_grad()
    def _own_run(self, noise: Tensor, numbers: tuple[int], steps: int) -> Tensor:
        scheduler = self._own_scheduler(steps)
        drawn = {"generator": torch.Generator().manual_seed(0)} if "generator" in signature(scheduler.step).parameters else {}
        x = noise.to(torch.float32) * float(getattr(scheduler, "init_noise_sigma", 1.0))
        for t in scheduler.timesteps:
            fed = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            output = self._ask(fed, t.to(torch.float32), [*numbers], whole=True).to(x.dtype)
            x = scheduler.step(output, t, x, return_dict=False, **drawn)[0]
        return x


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """What pipelines and text encoders warn of at each of their runs (prompts that are too long) is said once."""
    verbosity = [(module, module.get_verbosity()) for module in (diffusers_logging, transformers_logging) if quiet]
    for module, _ in verbosity:
        module.set_verbosity_error()
    try:
        yield
    finally:
        for module, level in verbosity:
            module.set_verbosity(level)


def _close_all(sessions: OrderedDict[tuple[int, ...], Session]) -> None:
    while sessions:
        sessions.popitem()[1].close()


def _shown(result: Any) -> Tensor:
    """What a pipeline returns, as a tensor [B, ...]: images and frames in [-1, 1], channels before heights."""
    first = result[0]
    if isinstance(first, list):
        first = np.stack([np.asarray(item) for item in first]) if not isinstance(first[0], Tensor) else torch.stack(first)
    if isinstance(first, Tensor):
        shown, last = first.float(), False
    else:
        array = np.asarray(first)
        shown, last = torch.from_numpy(array.astype(np.float32)), array.ndim >= 4 and array.shape[-1] in (1, 3, 4)
        if array.dtype == np.uint8:
            shown = shown / 255
    if shown.ndim < 4:  # sound, in its own units
        return shown
    return (shown.movedim(-1, -3) if last else shown) * 2 - 1


def _name_of(pipe: Any) -> str:
    """The last part of where it was loaded from, else its class, as results are filed."""
    place = str(getattr(pipe.config, "_name_or_path", "") or "").rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", place)
    return name if re.search(NAME, name) else type(pipe).__name__
