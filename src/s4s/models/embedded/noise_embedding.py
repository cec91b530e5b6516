"""How the embedded networks are conditioned on the noise level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class NoiseEmbedding(nn.Module):
    """Sines and cosines of c_noise at geometric frequencies, then two layers: c_noise [1] or [B] -> [1 or B, size]."""

    def __init__(self, size: int):
        super().__init__()
        self.frequencies: Tensor
        frequencies = torch.empty(size // 2)
        if not frequencies.is_meta:  # for functions of tensors without memory torch imports packages for a second
            frequencies = torch.exp(torch.linspace(math.log(0.5), math.log(16.0), size // 2))
        self.register_buffer("frequencies", frequencies)
        self.layers = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU())

    def forward(self, c_noise: Tensor) -> Tensor:
        phase = c_noise[:, None] * self.frequencies
        embedding: Tensor = self.layers(torch.cat([phase.cos(), phase.sin()], dim=1))
        return embedding
