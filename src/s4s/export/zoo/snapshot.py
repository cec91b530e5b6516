"""Reads the files of DyWeight and EPD: pickles of recorded predictors, without running anything of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.files.bounded import read_bytes
from s4s.models.edm.pickle_reader import Recorded, read_recorded

LIMIT = 4 << 20  # bytes of a file; the largest published one has 410 000
MODULES = tuple(f"torch.nn.modules.activation.{name}" for name in ("Sigmoid", "Softmax"))
SAMPLERS = ("dyweight", "epd", "epd_parallel", "ipndm", "euler", "heun", "dpm", "dpmpp", "unipc")  # that a loss may name


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """What is wrong is said of this file."""
    try:
        yield
    except S4SError as error:
        text = str(error)
        raise S4SError(text if text.startswith(f"{path}:") else f"{path}: {text}") from None


def content_of(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        S4SError: if it cannot be read or is too large.
    """
    try:
        return read_bytes(path, LIMIT)
    except OSError as error:
        raise S4SError(f"{path}: cannot read this solver: {error.strerror}") from error


def has_name(path: Path, starts: tuple[bytes, ...], name: bytes) -> bool:
    """Whether a file that begins in one of these ways has a name in it."""
    try:
        content = read_bytes(path, LIMIT)
    except (OSError, S4SError):
        return False
    return content.startswith(starts) and name in content


def snapshot(path: Path, key: str) -> tuple[Recorded, dict[str, Any]]:
    """The predictor under this key of a network-snapshot-*.pkl, and the attributes of its loss; {} where it has none.

    Raises:
        S4SError: if there is none, or as `read_recorded`.
    """
    named = [f"solvers.{name}_sampler" for name in SAMPLERS]
    data = read_recorded(content_of(path), path, "snapshot of a predictor", MODULES, named)
    found = data.get(key) if isinstance(data, dict) else None
    if not isinstance(found, Recorded):
        raise S4SError(f"{path}: not a snapshot of a predictor: it holds none under {key!r}")
    loss = data.get("loss_fn")
    return found, loss.state if isinstance(loss, Recorded) else {}


def table(state: dict[str, Any], kind: str, name: str, shape: tuple[int, ...], where: Path) -> Tensor:
    """A recorded parameter or buffer, float64.

    Raises:
        S4SError: if it is none of this shape, or has a number that is not finite.
    """
    entries = state.get(kind)
    value = entries.get(name) if isinstance(entries, dict) else None
    return numbers(value, name, shape, where)


def numbers(value: Any, name: str, shape: tuple[int, ...], where: Path) -> Tensor:
    """A tensor of these sizes, float64.

    Raises:
        S4SError: if it is none, or has a number that is not finite.
    """
    if not isinstance(value, Tensor) or tuple(value.shape) != shape or not bool(torch.isfinite(value).all()):
        raise S4SError(f"{where}: {name} must be {' x '.join(map(str, shape))} finite numbers; get the file again")
    return value.detach().double()
