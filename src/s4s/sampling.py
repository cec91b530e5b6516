"""Runs a tableau on a denoiser: the one sampling loop of the project, used for sampling, teaching and fitting alike."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from s4s.errors import S4SError, must_be
from s4s.jobs.progress_bar import progress
from s4s.models.denoiser import Denoiser
from s4s.models.denoiser_check import check_attributes, check_denoiser
from s4s.tableau import Tableau

Callback = Callable[[int, Tensor, Tensor], None]
Denoise = Callable[[Tensor, "Tensor | float", "Tensor | None"], Tensor]  # a Denoiser, or what is called like one


def initial_noise(denoiser: Denoiser, seeds: Sequence[int] | np.ndarray, level: float | None = None) -> Tensor:
    """Initial noise y_T: the level times unit noise, [len(seeds), *shape]; row i depends on seeds[i] alone.

    The level is that of the solver's first evaluation point, by default s_max.

    Each row has a counter-based generator (Philox) keyed by its whole 64-bit seed. torch's CPU generator
    would use the low 32 bits only, so that seeds of different splits could collide.

    Raises:
        S4SError: if `seeds` is no list of whole numbers, or the model's attributes are not what `Denoiser` says.
    """
    check_attributes(denoiser)
    try:
        keys = [operator.index(seed) for seed in seeds]
    except TypeError:
        keys = [-1]
    possible = not isinstance(seeds, bytes) and min(keys, default=0) >= 0
    must_be("seeds", seeds, possible, "a list of whole numbers of at least 0, one for each sample, such as range(16)")
    noise = np.empty((len(keys), *denoiser.shape), dtype=np.float32)
    for row, key in zip(noise, keys, strict=True):
        np.random.Generator(np.random.Philox(key=key)).standard_normal(out=row, dtype=np.float32)
    return (torch.from_numpy(noise) * (denoiser.s_max if level is None else level)).to(denoiser.device, denoiser.dtype)


def run(
    denoiser: Denoise,
    y: Tensor,
    tableau: Tableau,
    condition: Tensor | None = None,
    callback: Callback | None = None,
    recompute: bool = False,
    parallel: bool = False,
) -> Tensor:
    """Carry states y [B, *shape] from the first level of `tableau` to its last; differentiable.

    `callback(n, y_n, D_n)` is called after each evaluation. With `recompute` the activations inside the denoiser are not kept
    for the gradient but computed again, so that the peak of memory is that of one evaluation, and a forward with its backward
    pass costs one evaluation more. With `parallel` a group of nodes is one call of the denoiser, on the rows of all of them.
    """
    eval_levels = tableau.eval_levels.unbind() if tableau.eval_levels.requires_grad else tableau.eval_levels.tolist()
    steps = Steps(tableau)
    for group in (parallel and tableau.groups) or [(n,) for n in range(tableau.nfe)]:
        states = [y]
        while len(states) < len(group):
            states.append(steps.ahead(states))
        scaled = group[0] == 0 and (isinstance(tableau.kappa, Tensor) or tableau.kappa != 1)
        argument, level, rows = y * tableau.kappa if scaled else y, eval_levels[group[0]], condition
        if len(group) > 1:
            argument = torch.cat([argument, *states[1:]])
            level = tableau.eval_levels[list(group)].to(y).repeat_interleave(len(y))
            rows = None if condition is None else torch.cat([condition] * len(group))
        if recompute:
            output = checkpoint(denoiser, argument, level, rows, use_reentrant=False)
        else:
            output = denoiser(argument, level, rows)
        if output.shape != argument.shape or any(output[: len(y)].is_set_to(kept) for kept in steps.outputs.values()):
            name = getattr(denoiser, "name", "of this function")
            shapes = f"has shape {list(output.shape)} for y {list(argument.shape)}"
            what = shapes if output.shape != argument.shape else "is that of an earlier call"
            raise S4SError(
                f"model {name}: its output of evaluation {steps.n + 1} {what}; return a state for each row, output.clone()"
            )
        for n, state, own in zip(group, states, output.chunk(len(group)), strict=True):
            if callback is not None:
                callback(n, state, own)
            y = steps.next_state(state, own)
    return y


class Steps:
    """What a tableau makes of states and outputs, one evaluation after the other; a schedule of memory as well as of sums.

    A state or output is kept until the last row of the tableau that weighs it.
    """

    def __init__(self, tableau: Tableau):
        tableau.require_one_output()
        self.weights_a, self.weights_b = _weights(tableau.A), _weights(tableau.B)
        self.last_a, self.last_b = _last_uses(self.weights_a), _last_uses(self.weights_b)
        self.states: dict[int, Tensor] = {}
        self.outputs: dict[int, Tensor] = {}
        self.n = 0

    def next_state(self, y: Tensor, output: Tensor) -> Tensor:
        """y_{n+1} from y_n and D_n, both [B, *shape]; n counts the calls."""
        n, states, outputs = self.n, self.states, self.outputs
        states[n], outputs[n] = y, output
        result = self._row(n, states)
        for kept, last in ((states, self.last_a), (outputs, self.last_b)):
            for j in [j for j in kept if last.get(j, -1) <= n]:
                del kept[j]
        self.n += 1
        return result

    def ahead(self, states: Sequence[Tensor]) -> Tensor:
        """y_{n+k} from the first k states of a group, y_n ... y_{n+k-1}, before they are evaluated; no step is made."""
        return self._row(self.n + len(states) - 1, {**self.states, **dict(enumerate(states, self.n))})

    def _row(self, n: int, states: Mapping[int, Tensor]) -> Tensor:
        """y_{n+1} from states and the outputs so far."""
        terms = [(weight, states[j]) for j, weight in self.weights_a[n]]
        # what is not there yet belongs to the same group: its weight is 0
        terms += [(weight, self.outputs[j]) for j, weight in self.weights_b[n] if j in self.outputs]
        return _weighted_sum(terms, states[n])


def sample(
    denoiser: Denoiser,
    y_T: Tensor,
    tableau: Tableau,
    condition: Tensor | None = None,
    batch_size: int | None = None,
    callback: Callback | None = None,
    show_progress: bool | tqdm[NoReturn] = False,
    fill: bool = False,
    parallel: bool = False,
) -> Tensor:
    """Sample without gradients, in batches of at most `batch_size` rows.

    Args:
        y_T: initial noise at level tableau.levels[0], [B, *shape].
        condition: passed to the denoiser, [B, ...].
        callback: see `run`; called for each batch.
        show_progress: draw a progress bar over the evaluations of rows, or go on with one.
        fill: fill the last batch up with copies of its last row. A network computes a row in the same way, to the bit, only in
            batches of the same size; so rows then do not depend on how many others there are.
        parallel: evaluate nodes that do not see each other's outputs, the tableau's groups, in one call on as many times the
            rows: faster where the device is not full, and the same but for rounding.
    Returns:
        y_0 at level tableau.levels[-1], [B, *shape], on the denoiser's device.
    Raises:
        S4SError: if the model is not what it should be (`check_denoiser`), or y_T, condition or batch_size do not fit.
    """
    check_attributes(denoiser)
    must_be("y_T", y_T, isinstance(y_T, Tensor), "a tensor, such as initial_noise gives")
    must_be("tableau", tableau, isinstance(tableau, Tableau), "an s4s.Tableau, such as Tableau.load and s4s.solver give")
    whole = batch_size is None or isinstance(batch_size, int)
    must_be("batch_size", batch_size, whole, "a whole number, or None for all rows at once")
    check_denoiser(denoiser, condition)
    if y_T.ndim != len(denoiser.shape) + 1 or tuple(y_T.shape[1:]) != tuple(denoiser.shape):
        raise S4SError(f"y_T must have shape [B, {', '.join(map(str, denoiser.shape))}], got {list(y_T.shape)}")
    if batch_size is not None and batch_size < 1:
        raise S4SError(f"batch_size must be at least 1, got {batch_size}")
    if condition is not None and len(condition) != len(y_T):
        raise S4SError(f"condition must have a row for each of the {len(y_T)} rows of y_T, got {len(condition)}")
    y_T = y_T.to(denoiser.device, denoiser.dtype)
    size = batch_size or max(1, len(y_T))
    result = torch.empty_like(y_T)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        bar = show_progress or None
        if show_progress is True:
            bar = stack.enter_context(progress(total=len(y_T) * tableau.nfe, desc="sample", unit="evaluation"))
        for start in range(0, len(y_T), size):
            batch = y_T[start : start + size]
            rows = len(batch)
            own = None if condition is None else condition[start : start + size]
            if fill and rows < size:
                batch, own = filled(batch, size), None if own is None else filled(own, size)
            result[start : start + rows] = run(denoiser, batch, tableau, own, _watched(callback, bar, rows), parallel=parallel)[
                :rows
            ]
    return result


def filled(rows: Tensor, size: int) -> Tensor:
    """Rows [n, ...] with copies of the last one up to `size` of them."""
    return torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])


def _watched(callback: Callback | None, bar: Any, rows: int) -> Callback | None:
    """A callback that sees the first `rows` rows only, and moves the bar."""

    def step(n: int, y: Tensor, output: Tensor) -> None:
        if callback is not None:
            callback(n, y[:rows], output[:rows])
        if bar is not None:
            bar.update(rows)

    return None if callback is None and bar is None else step


_Row = list[tuple[int, "float | Tensor"]]


def _weights(table: Tensor) -> list[_Row]:
    """The terms of each row: Python floats with zeros left out, or 0-dim tensors where gradients are wanted."""
    if table.requires_grad:
        return [list(enumerate(row[: n + 1].unbind())) for n, row in enumerate(table)]
    return [[(j, weight) for j, weight in enumerate(row[: n + 1]) if weight] for n, row in enumerate(table.tolist())]


def _last_uses(rows: list[_Row]) -> dict[int, int]:
    return {j: n for n, row in enumerate(rows) for j, _ in row}


def _weighted_sum(terms: list[tuple[float | Tensor, Tensor]], like: Tensor) -> Tensor:
    """Sum of weight x tensor in the tensors' own dtype."""
    if not terms:
        return torch.zeros_like(like)
    weight, tensor = terms[0]
    total: Tensor = tensor * weight
    for weight, tensor in terms[1:]:
        total = total + tensor * weight if isinstance(weight, Tensor) else total.add_(tensor, alpha=weight)
    return total
