"""A denoiser in lower precision, or compiled."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.models.denoiser import Denoiser


class Accelerated(Denoiser):
    """The same model with its network in `precision` (autocast) or compiled; states stay in the model's own type.

    Args:
        denoiser: the model.
        precision: of matrix products and convolutions: float32, bfloat16 or float16.
        compile: use torch.compile; on a GPU with CUDA graphs, which pay where launching kernels takes longer than running them
            (small states). The first calls at each new batch size take seconds to minutes.
    """

    def __init__(self, denoiser: Denoiser, precision: str = "float32", compile: bool = False):
        for name in ("name", "shape", "s_min", "s_max", "device", "dtype", "path", "difference_step", "one_level"):
            setattr(self, name, getattr(denoiser, name))
        self.inner, self.precision = denoiser, getattr(torch, precision)
        self.graphs = compile and self.device.type == "cuda"
        mode = "reduce-overhead" if self.graphs else "default"
        self.call = torch.compile(denoiser.__call__, mode=mode) if compile else denoiser

    def __call__(self, y: Tensor, s: Tensor | float, condition: Tensor | None = None) -> Tensor:
        s = torch.as_tensor(s, dtype=y.dtype, device=y.device)  # a number would be compiled in
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            output = self.call(y, s, condition)
        output = output.to(y.dtype)
        return output.clone() if self.graphs else output  # the next run of a CUDA graph overwrites its output

    def decode(self, y_0: Tensor) -> Tensor:
        return self.inner.decode(y_0)


def accelerated(denoiser: Denoiser, precision: str = "float32", compile: bool = False) -> Denoiser:
    """`denoiser` itself where nothing is to change, else an `Accelerated` one."""
    return Accelerated(denoiser, precision, compile) if compile or precision != "float32" else denoiser
