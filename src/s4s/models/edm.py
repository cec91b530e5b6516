"""EDM's preconditioning of a raw network (Karras et al. 2022, arXiv 2206.00364, table 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s4s.models.denoiser import Denoiser, as_column


class EDMDenoiser(Denoiser):
    """D(y; s) = c_skip y + c_out F(c_in y; ln(s)/4), with F the raw network and sigma_data the data's scale.

    A scalar s stays one number for the whole batch, so that the network embeds it once.
    """

    def __init__(self, network: nn.Module, name: str, shape: tuple[int, ...], s_min: float, s_max: float, sigma_data: float):
        self.network = network
        self.name = name
        self.shape = tuple(shape)
        self.s_min = s_min
        self.s_max = s_max
        self.sigma_data = sigma_data
        self.device = next(network.parameters()).device

    def __call__(self, y: Tensor, s: Tensor | float, condition: Tensor | None = None) -> Tensor:
        s = as_column(s, y)
        total = s**2 + self.sigma_data**2
        c_skip = self.sigma_data**2 / total
        c_out = s * self.sigma_data * total.rsqrt()
        c_in = total.rsqrt()
        return c_skip * y + c_out * self.network(c_in * y, s.flatten().log() / 4)


def edm_loss(denoiser: EDMDenoiser, images: Tensor, s: Tensor, noise: Tensor) -> Tensor:
    """EDM's weighted denoising loss, a scalar; images and noise [B, *shape], s [B]."""
    column = as_column(s, images)
    weight = (column**2 + denoiser.sigma_data**2) / (column * denoiser.sigma_data) ** 2
    return torch.mean(weight * (denoiser(images + column * noise, s) - images) ** 2)
