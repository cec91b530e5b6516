"""Float32 arithmetic that is the same on every processor."""

from __future__ import annotations

import struct
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class SinglePrecision(TorchFunctionMode):
    """Each operation on float32 tensors is done in float64 and rounded once, scalars before it.

    Roots, powers, exponentials and logarithms of float32 differ in the last bit between processors. Published loops form
    schedules of them where digits cancel, so that the last bit shows.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        wide = {name: _wide(value) for name, value in (kwargs or {}).items()}
        if func is torch.linspace:
            wide["dtype"] = torch.float64
        found = func(*map(_wide, args), **wide)
        return found.float() if isinstance(found, Tensor) and found.dtype == torch.float64 else found


def _wide(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.dtype == torch.float32 else value
    return struct.unpack("f", struct.pack("f", value))[0] if isinstance(value, float) else value
