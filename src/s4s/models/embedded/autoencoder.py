"""A small KL autoencoder (Rombach et al. 2022, arXiv 2112.10752): colour images and latents of a quarter of their side."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvolutionBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm_1, self.norm_2 = nn.GroupNorm(4, channels), nn.GroupNorm(4, channels)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + self.conv_2(F.silu(self.norm_2(self.conv_1(F.silu(self.norm_1(x))))))
        return output


class Autoencoder(nn.Module):
    """Images [B, 3, 4 h, 4 w] in [-1, 1] to latents [B, latent, h, w], and back.

    Args:
        latent, width: channels of latents, and of what is as fine as the images.
        scale: what latents are multiplied with, to be of unit standard deviation.
    """

    def __init__(self, latent: int = 4, width: int = 16, scale: float = 1.0):
        super().__init__()
        self.scale = scale
        wide, widest = 2 * width, 4 * width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), ConvolutionBlock(width),
            nn.Conv2d(width, wide, 3, padding=1, stride=2), ConvolutionBlock(wide),
            nn.Conv2d(wide, widest, 3, padding=1, stride=2), ConvolutionBlock(widest),
            nn.GroupNorm(4, widest), nn.SiLU(), nn.Conv2d(widest, 2 * latent, 3, padding=1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, widest, 3, padding=1), ConvolutionBlock(widest), ConvolutionBlock(widest),
            nn.Upsample(scale_factor=2), nn.Conv2d(widest, wide, 3, padding=1), ConvolutionBlock(wide),
            nn.Upsample(scale_factor=2), nn.Conv2d(wide, width, 3, padding=1), ConvolutionBlock(width),
            nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1),
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of each latent, [B, latent, h, w] both."""
        mean, log_variance = self.encoder(images.contiguous(memory_format=torch.channels_last)).chunk(2, dim=1)
        return self.scale * mean, log_variance.clamp(-20, 10) + 2 * math.log(self.scale)

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, 4 h, 4 w] of latents [B, latent, h, w]."""
        images: Tensor = self.decoder((latents / self.scale).contiguous(memory_format=torch.channels_last))
        return images.contiguous()
