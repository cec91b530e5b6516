"""What a model must be and do, checked before it is first used: its attributes, and what it gives for two rows at two levels.

A model of one's own that changes its input, keeps its output buffer, or looks at the other rows of a batch gives wrong samples
without an error. So every model, whoever made it, is asked five times for two rows, once in a process (`check_denoiser`), and
before a fit that needs gradients once more (`check_gradients`). These calls belong to no result: they are not counted among its
evaluations, and the states of torch's random generators are afterwards as they were.
"""

from __future__ import annotations

import math
import numbers
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from s4s.errors import S4SError, one_line, shortened
from s4s.models.denoiser import Denoiser
from s4s.models.description import NAME
from s4s.models.paths import Path
from s4s.models.seeds import sample_seeds

LOWEST, HIGHEST = 1e-6, 1e6  # levels; at the highest the rounding of float32 comes near data of scale 1
DATA = 0.5  # scale of what stands for data; EDM's sigma_data
REPEATED = 1e-3  # of the largest output; kernels of GPUs may round otherwise at each call
LEVELS = 0.1  # of a state; a network may round otherwise where it has one level for all rows
STEP, SLOPE = 0.1, 0.25  # of differences, against the level; how far off a gradient may be, in any precision

# those of one's own, and those that `Denoiser` has already
ATTRIBUTES = ("name", "shape", "s_min", "s_max", "device", "dtype", "path", "guidance", "passes", "block", "conditions")

_checked: WeakValueDictionary[int, Denoiser] = WeakValueDictionary()
_differentiable: WeakValueDictionary[tuple[int, bool], Denoiser] = WeakValueDictionary()


def check_denoiser(denoiser: Denoiser, condition: Tensor | None = None) -> None:
    """Refuse a model whose samples would be wrong; the second time it costs nothing.

    Asked for are: attributes as `Denoiser` has them; a tensor of its own, shaped, typed and placed like y, finite at s_max and
    s_min, the same for the same row whatever the other rows are, and for a level each, s [B], as for one; y left as it was.

    Args:
        condition: what the model is about to be called with, [B, ...]; its first and last row are used.
    Raises:
        S4SError: what is wrong with the model, and what to do.
    """
    if _checked.get(id(denoiser)) is denoiser:
        return
    check_attributes(denoiser)
    _check_conditions(denoiser)
    with _as_it_was(denoiser), torch.no_grad():
        _check_outputs(_Calls(denoiser, condition))
    _checked[id(denoiser)] = denoiser


def take_as_checked(denoiser: Denoiser, gradients: bool = True) -> None:
    """Leave out `check_denoiser`, and `check_gradients` if so said, for a model that was checked another way."""
    _checked[id(denoiser)] = denoiser
    if gradients:
        _differentiable[id(denoiser), False] = _differentiable[id(denoiser), True] = denoiser


def check_attributes(denoiser: Denoiser) -> None:
    """Refuse a model whose attributes are absent or not what `Denoiser` says of them; it is not called.

    Raises:
        S4SError: which attribute, and what it must be.
    """
    kind = type(denoiser).__name__
    if absent := [name for name in ATTRIBUTES if not hasattr(denoiser, name)]:
        what = f"a {kind} has no attribute {absent[0]}; a model is an s4s.Denoiser with name, shape, s_min, s_max and device"
        raise S4SError(f"{what} (s4s.models.predicting.PredictingDenoiser makes one of a network)")
    if not (isinstance(denoiser.name, str) and re.search(NAME, denoiser.name)):
        raise S4SError(
            f"model {shortened(repr(denoiser.name))}: its name must consist of letters, digits, '_', '.' and '-' and begin "
            "with a letter or digit, since results are filed under it"
        )
    check_range(denoiser)
    wanted: dict[str, tuple[bool, str]] = {
        "shape": (_is_shape(denoiser.shape), "a tuple of whole numbers above 0, the shape of one state without the batch"),
        "device": (isinstance(denoiser.device, torch.device), "a torch.device"),
        "dtype": (
            denoiser.dtype in (torch.float32, torch.float64),
            "torch.float32 or torch.float64, also for a network in less",
        ),
        "path": (isinstance(denoiser.path, Path), "one of s4s.models.paths"),
        "guidance": (_is_number(denoiser.guidance), "a finite number"),
        "passes": (_is_count(denoiser.passes), "a whole number above 0"),
        "block": (_is_count(denoiser.block), "a whole number above 0"),
    }
    for name, (right, allowed) in wanted.items():
        if not right:
            given = shortened(repr(getattr(denoiser, name)))
            raise S4SError(f"model {denoiser.name}: its {name} must be {allowed}, not {given}")


def check_range(model: Any) -> None:
    """Refuse a range of noise levels, s_min and s_max of a model or its outline, that nothing can be sampled over."""
    s_min: Any = getattr(model, "s_min", None)
    s_max: Any = getattr(model, "s_max", None)
    if not (_is_number(s_min) and _is_number(s_max) and LOWEST <= s_min < s_max <= HIGHEST):
        raise S4SError(
            f"model {getattr(model, 'name', type(model).__name__)}: s_min and s_max are {s_min!r} and {s_max!r}; they must be "
            f"numbers with {LOWEST:g} <= s_min < s_max <= {HIGHEST:g}"
        )


def check_gradients(denoiser: Denoiser, condition: Tensor | None, by_level: bool) -> None:
    """Refuse a model through which gradients do not pass, or wrong ones: against differences of its outputs at a middle level.

    Args:
        condition: as for `check_denoiser`. by_level: whether derivatives by s are needed too.
    Raises:
        S4SError: what is wrong with the model, and what to do.
    """
    key = (id(denoiser), by_level)
    if _differentiable.get(key) is denoiser:
        return
    calls = _Calls(denoiser, condition)
    middle = math.sqrt(denoiser.s_min * denoiser.s_max)
    y, direction = calls.states(middle, 0), calls.noise[2:4].sign()
    with _as_it_was(denoiser), torch.no_grad():
        h = STEP * middle
        slope = (calls(y + h * direction, middle) - calls(y - h * direction, middle)) / (2 * h)
        level_slope = (calls(y, 1.1 * middle) - calls(y, middle / 1.1)) if by_level else torch.zeros_like(y)
    with _as_it_was(denoiser), torch.enable_grad():
        leaf = y.clone().requires_grad_()
        level = torch.tensor(middle, dtype=torch.float64, requires_grad=by_level)
        output = calls(leaf, level)
        if not output.requires_grad:
            calls.refuse(f"its output has no gradient by its input; {_LET_PASS}")
        try:
            by_y, *rest = torch.autograd.grad((output * slope).sum(), [leaf, level][: 1 + by_level], allow_unused=True)
        except RuntimeError as error:
            calls.refuse(f"no gradients pass through it ({one_line(error)}); {_LET_PASS}", error)
    expected = slope.double().square().sum().item()
    found = 0.0 if by_y is None else (by_y.double() * direction).sum().item()
    if not math.isfinite(found) or abs(found - expected) > SLOPE * expected + 1e-6 * slope.numel():
        calls.refuse(
            f"its gradient by its input is not the slope of its output ({found:.3g} for {expected:.3g} along a direction at "
            f"noise level {middle:.3g}); {_LET_PASS}"
        )
    moves = level_slope.abs().max() > REPEATED * y.abs().max()
    if by_level and moves and (rest[0] is None or rest[0] == 0):
        calls.refuse(
            f"its output has no gradient by the noise level s; compute with s as a tensor, without float(s); {_LET_PASS}"
        )
    _differentiable[key] = denoiser


_LET_PASS = (
    "leave out torch.no_grad, torch.inference_mode and detach() where it calls its network, "
    "or fit without gradients: optimiser gauss_newton with radius 0"
)


class _Calls:
    """Calls of a denoiser on two rows, each with what it gives checked; `outputs` has all so far, with copies of them."""

    def __init__(self, denoiser: Denoiser, condition: Tensor | None):
        self.denoiser = denoiser
        self.condition = None if condition is None or not len(condition) else torch.cat([condition[:1], condition[-1:]])
        noise = torch.randn(5, *denoiser.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        self.noise = noise.to(denoiser.device, denoiser.dtype)
        self.outputs: list[tuple[Tensor, Tensor]] = []

    def states(self, s: float, first: int) -> Tensor:
        """Two states as they are at a level, [2, *shape]."""
        return self.noise[first : first + 2] * math.hypot(DATA, s)

    def refuse(self, what: str, error: Exception | None = None) -> NoReturn:
        raise S4SError(f"model {self.denoiser.name}: {what}") from error

    def __call__(self, y: Tensor, s: Tensor | float) -> Tensor:
        given = y.detach().clone(), None if self.condition is None else self.condition.clone()
        at = (
            "a level for each row"
            if isinstance(s, Tensor) and s.ndim
            else f"noise level {float(torch.as_tensor(s).detach()):.3g}"
        )
        try:
            output = self.denoiser(y, s, self.condition)
            self._check(y, output, at)
            if not torch.equal(y, given[0]) or not (given[1] is None or torch.equal(self.condition, given[1])):  # type: ignore[arg-type]
                self.refuse("it changes its input in place; compute with a copy, y.clone()")
            for earlier, copy in self.outputs:
                if _share(earlier, output) or not torch.equal(earlier, copy):
                    self.refuse("its output of one call changes with the next; return output.clone()")
        except (S4SError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever another's code may do
            last = [frame for frame in traceback.extract_tb(error.__traceback__) if "/torch/" not in frame.filename][-1]
            where = f"{last.filename}:{last.lineno}"
            self.refuse(f"called with y {list(y.shape)} at {at}: {type(error).__name__}: {one_line(error)} ({where})", error)
        self.outputs.append((output, output.detach().clone()))
        return output

    def _check(self, y: Tensor, output: Any, at: str) -> None:
        if not isinstance(output, Tensor):
            self.refuse(f"its output is a {type(output).__name__}, not a tensor; return the denoised states alone")
        if output.shape != y.shape:
            self.refuse(f"its output at {at} has shape {list(output.shape)} for y {list(y.shape)}; return a state for each row")
        if output.dtype != y.dtype:
            self.refuse(f"its output is {output.dtype}, its states are {y.dtype}; return output.to(y.dtype)")
        if output.device != y.device:
            self.refuse(f"its output is on {output.device}, its states are on {y.device}; return output.to(y.device)")
        if _share(output, y):
            self.refuse("its output lies in the memory of its input; return output.clone()")
        if not bool(output.isfinite().all()):
            self.refuse(
                f"its output at {at} is not finite; look for nan in its weights, for a precision that is too low (float16) "
                f"and whether it is made for noise levels from {self.denoiser.s_min:g} to {self.denoiser.s_max:g}"
            )


def _check_outputs(calls: _Calls) -> None:
    """Five calls: at s_max, at s_min, at s_max with another row 1 and with another row 0, and with a level for each row."""
    s_max, s_min = float(calls.denoiser.s_max), float(calls.denoiser.s_min)
    high, low, others = calls.states(s_max, 0), calls.states(s_min, 2), calls.states(s_max, 3)
    at_high, at_low = calls(high, s_max), calls(low, s_min)
    for kept, batch in ((0, torch.stack([high[0], others[1]])), (1, torch.stack([others[0], high[1]]))):
        if difference := _differ(calls(batch, s_max)[kept], at_high[kept]):
            _check_repeated(calls, high, s_max, at_high)
            calls.refuse(
                f"a row of its output depends on the other rows, by {difference:.3g}; call network.eval() (batch norm) "
                "or compute each row alone"
            )
    both, levels = torch.stack([high[0], low[1]]), torch.tensor([s_max, s_min], dtype=high.dtype, device=high.device)
    mixed = calls(both, levels)
    for y, found, expected in ((high[0], mixed[0], at_high[0]), (low[1], mixed[1], at_low[1])):
        if (found - expected).square().mean() > LEVELS**2 * y.square().mean():
            _check_repeated(calls, both, levels, mixed)
            calls.refuse(
                "with a noise level for each row, s [B], its output is not that of each level alone; reshape s to "
                "[B, 1, ...] (s4s.models.denoiser.as_column), and give each row its own"
            )


def _check_repeated(calls: _Calls, y: Tensor, s: Tensor | float, output: Tensor) -> None:
    """That the same call gives the same again, three times, for what is random may be the same once by chance.

    It is asked where something is wrong already, to say the right thing.
    """
    for _ in range(3):
        if difference := _differ(calls(y, s), output):
            calls.refuse(
                f"its output is another for the same input, by {difference:.3g}; call network.eval(), draw no random numbers"
            )


def _check_conditions(denoiser: Denoiser) -> None:
    """Conditions of some seeds: one for each, that of a seed whatever the others are."""
    seeds = sample_seeds("test", 3)
    try:
        found, fewer = denoiser.conditions(seeds), denoiser.conditions(seeds[1:])
    except S4SError:
        raise
    except Exception as error:  # whatever another's code may do
        what = f"conditions(seeds): {type(error).__name__}: {one_line(error)}"
        raise S4SError(f"model {denoiser.name}: {what}") from error
    if found is None and fewer is None:
        return
    if not (isinstance(found, Tensor) and isinstance(fewer, Tensor)):
        kind = type(fewer if isinstance(found, Tensor) else found).__name__
        raise S4SError(f"model {denoiser.name}: conditions(seeds) returns a {kind}; it must return a tensor, or None")
    if found.ndim < 1 or fewer.ndim < 1 or (len(found), len(fewer)) != (3, 2) or not torch.equal(found[1:], fewer):
        raise S4SError(
            f"model {denoiser.name}: conditions(seeds) must return a row for each seed, [n, ...], which depends on it alone"
        )


@contextmanager
def _as_it_was(denoiser: Denoiser) -> Iterator[None]:
    """The states of torch's generators are kept; a compiled network runs as it is written: it is compiled for other sizes."""
    devices = [denoiser.device] if denoiser.device.type == "cuda" else []
    stance = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else None
    with torch.random.fork_rng(devices):
        if stance is None:
            yield
        else:
            with stance:
                yield


def _share(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors lie in the same memory."""
    place = a.untyped_storage().data_ptr()
    return place != 0 and place == b.untyped_storage().data_ptr()


def _differ(a: Tensor, b: Tensor) -> float:
    """The largest difference where it is more than rounding, else 0."""
    difference = (a - b).abs().max().item()
    return difference if difference > REPEATED * b.abs().max().item() else 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) > 0


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple | list) and len(shape) > 0 and all(_is_count(size) for size in shape)
