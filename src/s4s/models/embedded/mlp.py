"""A network of vectors without any structure: residual layers, moved by the noise level."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from s4s.models.embedded.noise_embedding import NoiseEmbedding


class ResidualLayer(nn.Module):
    """Two linear layers; the noise level scales and shifts what lies between them."""

    def __init__(self, width: int, embedding: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.last = nn.Linear(width, width), nn.Linear(width, width)
        self.affine = nn.Linear(embedding, 2 * width)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.affine(embedding).chunk(2, dim=1)
        change: Tensor = self.last(self.dropout(F.silu(self.first(self.norm(x)) * (1 + scale) + shift)))
        return x + change


class MLP(nn.Module):
    """Raw network F(x; c_noise): x [B, features], c_noise [1] or [B] -> [B, features]."""

    def __init__(self, features: int, width: int = 128, depth: int = 3, embedding: int = 64, dropout: float = 0.0):
        super().__init__()
        self.noise = NoiseEmbedding(embedding)
        self.entry = nn.Linear(features, width)
        self.layers = nn.ModuleList(ResidualLayer(width, embedding, dropout) for _ in range(depth))
        self.exit = nn.Linear(width, features)
        nn.init.zeros_(self.exit.weight)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        embedding, h = self.noise(c_noise), self.entry(x)
        for layer in self.layers:
            h = layer(h, embedding)
        output: Tensor = self.exit(F.silu(h))
        return output
