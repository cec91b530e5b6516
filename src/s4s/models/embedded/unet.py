"""A U-Net with two resolutions: large enough for states of 8x8, small enough to sample thousands a second on one core."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s4s.models.embedded.noise_embedding import NoiseEmbedding


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; the noise level scales and shifts what lies between them."""

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float):
        super().__init__()
        self.norm_1 = nn.GroupNorm(4, inputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.affine = nn.Linear(embedding, 2 * outputs)
        self.norm_2 = nn.GroupNorm(4, outputs)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.affine(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_1(F.silu(self.norm_1(x)))
        h = F.silu(self.norm_2(h) * (1 + scale) + shift)
        output: Tensor = self.skip(x) + self.conv_2(self.dropout(h))
        return output


class Attention(nn.Module):
    """Self-attention over the pixels of one image."""

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(4, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = self.qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(batch, height * width, 3, self.heads, -1)
        q, k, v = tokens.permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v).permute(0, 2, 1, 3).reshape(batch, height, width, channels)
        output: Tensor = x + self.out(h.permute(0, 3, 1, 2))
        return output


class UNet(nn.Module):
    """Raw network F(x; c_noise): x [B, channels, H, W] with H and W even, c_noise [1] or [B] -> [B, channels, H, W]."""

    memory_format = torch.channels_last  # about 1.5 times as fast on a CPU

    def __init__(self, channels: int = 1, width: int = 16, embedding: int = 64, dropout: float = 0.0):
        super().__init__()
        wide = 2 * width
        self.noise = NoiseEmbedding(embedding)
        self.entry = nn.Conv2d(channels, width, 3, padding=1)
        self.down_1 = ResidualBlock(width, width, embedding, dropout)
        self.down_2 = ResidualBlock(width, wide, embedding, dropout)
        self.middle_1 = ResidualBlock(wide, wide, embedding, dropout)
        self.attention = Attention(wide)
        self.middle_2 = ResidualBlock(wide, wide, embedding, dropout)
        self.up_2 = ResidualBlock(2 * wide, wide, embedding, dropout)
        self.up_1 = ResidualBlock(wide + width, width, embedding, dropout)
        self.exit = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.exit.weight)
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        embedding = self.noise(c_noise)
        fine = self.down_1(self.entry(x.contiguous(memory_format=self.memory_format)), embedding)
        coarse = self.down_2(F.avg_pool2d(fine, 2), embedding)
        h = self.middle_2(self.attention(self.middle_1(coarse, embedding)), embedding)
        h = self.up_2(torch.cat([h, coarse], dim=1), embedding)
        h = self.up_1(torch.cat([F.interpolate(h, scale_factor=2), fine], dim=1), embedding)
        output: Tensor = self.exit(F.silu(h))
        return output.contiguous()
