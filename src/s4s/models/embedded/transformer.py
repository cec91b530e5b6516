"""A small diffusion transformer (Peebles & Xie 2023, arXiv 2212.09748): blocks moved by noise level and class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s4s.models.embedded.noise_embedding import NoiseEmbedding


class Block(nn.Module):
    """Attention and a two-layer network; the embedding scales and shifts what goes in, scales what comes out (adaLN-Zero)."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        parts = self.modulation(embedding)[:, None].chunk(6, dim=2)
        x = x + parts[2] * self._attention(self.norm(x) * (1 + parts[0]) + parts[1])
        change: Tensor = parts[5] * self.mlp(self.norm(x) * (1 + parts[3]) + parts[4])
        return x + change

    def _attention(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        output: Tensor = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width))
        return output


class Transformer(nn.Module):
    """Raw network F(x; c_noise, class_labels): x [B, channels, side, side], c_noise [1] or [B], labels [B] -> like x.

    Args:
        classes: their number; label `classes` is the unconditional one.
        side, patch: pixels along an image and along a token.
    """

    def __init__(
        self,
        classes: int,
        channels: int = 1,
        side: int = 8,
        patch: int = 2,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.patch = patch
        self.noise = NoiseEmbedding(width)
        self.labels = nn.Embedding(classes + 1, width)
        self.entry = nn.Linear(channels * patch**2, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.exit = nn.Linear(width, channels * patch**2)
        for layer in (self.modulation, self.exit):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, c_noise: Tensor, class_labels: Tensor) -> Tensor:
        embedding = F.silu(self.noise(c_noise) + self.labels(class_labels))
        tokens = self.entry(F.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)) + self.positions
        for block in self.blocks:
            tokens = block(tokens, embedding)
        scale, shift = self.modulation(embedding)[:, None].chunk(2, dim=2)
        output = self.exit(self.norm(tokens) * (1 + scale) + shift).transpose(1, 2)
        coarse = x.shape[2] // self.patch
        return F.pixel_shuffle(output.reshape(len(x), -1, coarse, coarse), self.patch)
