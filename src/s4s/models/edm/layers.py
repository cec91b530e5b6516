"""Layers of the U-Nets that NVlabs/edm publishes, with the names of their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def blur(taps: Sequence[float]) -> Tensor:
    """The separable resampling filter, [1, 1, n, n], of sum 1."""
    line = torch.tensor(taps, dtype=torch.float32)
    return (torch.outer(line, line) / line.sum() ** 2)[None, None]


def resample(x: Tensor, kernel: Tensor, direction: str, padding: int) -> Tensor:
    """Twice ("up") or half ("down") the size of x [B, C, H, W], each channel filtered with `kernel`."""
    channels = x.shape[1]
    per_channel = kernel.to(x.dtype).expand(channels, 1, -1, -1)
    if direction == "up":
        return F.conv_transpose2d(x, 4 * per_channel, stride=2, padding=padding, groups=channels)
    return F.conv2d(x, per_channel, stride=2, padding=padding, groups=channels)


class Resampling(nn.Module):
    """Resampling alone."""

    resample_filter: Tensor

    def __init__(self, direction: str, taps: Sequence[float]):
        super().__init__()
        self.direction = direction
        self.register_buffer("resample_filter", blur(taps))

    def forward(self, x: Tensor) -> Tensor:
        return resample(x, self.resample_filter, self.direction, (self.resample_filter.shape[-1] - 1) // 2)


class Convolution(nn.Conv2d):
    """A convolution that keeps the size, behind a resampling if `direction` says so.

    With `filter_last` it is the other way round, and the border is padded once, before both.
    """

    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        direction: str | None = None,
        taps: Sequence[float] = (1, 1),
        filter_last: bool = False,
    ):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self.direction, self.filter_last = direction, filter_last
        if direction:
            self.register_buffer("resample_filter", blur(taps))

    def forward(self, x: Tensor) -> Tensor:
        if not self.direction:
            return super().forward(x)
        border = (self.resample_filter.shape[-1] - 1) // 2
        if self.filter_last:
            padding = self.kernel_size[0] // 2 + border
            return resample(F.conv2d(x, self.weight, self.bias, padding=padding), self.resample_filter, self.direction, 0)
        return super().forward(resample(x, self.resample_filter, self.direction, border))


def group_norm(channels: int, eps: float) -> nn.GroupNorm:
    """Groups of at least 4 channels, at most 32 of them."""
    return nn.GroupNorm(min(32, channels // 4), channels, eps)


class Block(nn.Module):
    """Two convolutions with the embedding between them, a shortcut, and self-attention with `heads` heads if there are any.

    Args:
        adaptive: the embedding scales and shifts (ADM); else it is added (DDPM++, NCSN++).
        scale: factor on the sum with a shortcut.
        project: put a 1x1 convolution on the shortcut of a resampling block even if the channels stay the same.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        *,
        heads: int = 0,
        direction: str | None = None,
        taps: Sequence[float] = (1, 1),
        adaptive: bool,
        scale: float,
        eps: float,
        project: bool,
    ):
        super().__init__()
        self.inputs, self.outputs, self.heads, self.adaptive, self.scale = inputs, outputs, heads, adaptive, scale
        self.norm0 = group_norm(inputs, eps)
        self.conv0 = Convolution(inputs, outputs, 3, direction, taps)
        self.affine = nn.Linear(embedding, outputs * (2 if adaptive else 1))
        self.norm1 = group_norm(outputs, eps)
        self.conv1 = Convolution(outputs, outputs, 3)
        self.skip: nn.Module | None = None
        if inputs != outputs or (direction and project):
            self.skip = Convolution(inputs, outputs, 1, direction, taps)
        elif direction:
            self.skip = Resampling(direction, taps)
        if heads:
            self.norm2 = group_norm(outputs, eps)
            self.qkv = Convolution(outputs, 3 * outputs, 1)
            self.proj = Convolution(outputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h: Tensor = self.conv0(F.silu(self.norm0(x)))
        change = self.affine(embedding)[:, :, None, None]
        if self.adaptive:
            factor, shift = change.chunk(2, dim=1)
            h = shift + self.norm1(h) * (factor + 1)
        else:
            h = self.norm1(h + change)
        shortcut = x if self.skip is None else self.skip(x)
        h = self.scale * (self.conv1(F.silu(h)) + shortcut)
        return self.scale * (h + self._attention(h)) if self.heads else h

    def _attention(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        shape = (batch, self.heads, channels // self.heads, 3, height * width)
        q, k, v = self.qkv(self.norm2(x)).reshape(shape).permute(3, 0, 1, 4, 2)  # each [B, heads, pixels, channels a head]
        output: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x.shape))
        return output


class FourierFeatures(nn.Module):
    """Random frequencies of NCSN++'s noise embedding; they are part of the weights."""

    freqs: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("freqs", 16 * torch.randn(channels // 2))

    def forward(self, c_noise: Tensor) -> Tensor:
        phase = c_noise[:, None] * (2 * math.pi * self.freqs)
        return torch.cat([phase.sin(), phase.cos()], dim=1)


def positional(c_noise: Tensor, channels: int, last: int) -> tuple[Tensor, Tensor]:
    """Sines and cosines [B, channels/2] of c_noise [B] at the frequencies 10000^(-i/last)."""
    exponents = torch.arange(channels // 2, dtype=torch.float32, device=c_noise.device) / last
    phase = c_noise[:, None] * torch.pow(torch.tensor(1e-4, device=c_noise.device), exponents)
    return phase.sin(), phase.cos()
