"""The score networks of galaxies in the package galaxygrad (Sampson et al. 2024, arXiv 2401.07313): `kind: galaxygrad`.

A network sees x and t/t_1 as two channels, in patches of 4x4 pixels, and gives the score of x_t on the path with beta(t) = 1,
t in [0, 10]. With n the noise, the score is -n/sigma, sigma = (1 - exp(-t))^(1/2). A state is 10 ln(1 + flux of a pixel).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from s4s.errors import S4SError
from s4s.files.arrays import split_arrays
from s4s.files.bounded import read_bytes
from s4s.models.description import GalaxygradModel
from s4s.models.model_files import check_file
from s4s.models.network_weights import fill
from s4s.models.paths import VPLinear
from s4s.models.predicting import PredictingDenoiser

MOST_BYTES = 1 << 26  # of a file; the largest of the six has 8 million
SCALE = 0.1  # of the logarithm: a state is ln(1 + flux) / SCALE
SOFTENING = 0.05  # flux above black up to which the picture is linear


class Mixer(nn.Module):
    """A block that mixes between patches, then between channels (MLP-Mixer, arXiv 2105.01601); y [B, channels, patches]."""

    def __init__(self, patches: int, channels: int, patch_width: int, channel_width: int):
        super().__init__()
        self.patch_mixer = nn.ModuleList([nn.Linear(patches, patch_width), nn.Linear(patch_width, patches)])
        self.channel_mixer = nn.ModuleList([nn.Linear(channels, channel_width), nn.Linear(channel_width, channels)])
        self.norm1, self.norm2 = nn.LayerNorm((channels, patches)), nn.LayerNorm((patches, channels))

    def forward(self, y: Tensor) -> Tensor:
        y = y + _through(self.patch_mixer, self.norm1(y))
        y = y.transpose(1, 2).contiguous()
        return (y + _through(self.channel_mixer, self.norm2(y))).transpose(1, 2).contiguous()


def _through(layers: nn.ModuleList, y: Tensor) -> Tensor:
    out: Tensor = layers[1](relu(layers[0](y), inplace=True))
    return out


class ScoreNetwork(nn.Module):
    """The noise in x [B, 1, size, size] at times t [B]; parameters are in the order of the file."""

    def __init__(self, size: int, channels: int, patch: int, widths: Sequence[tuple[int, int]], t_1: float):
        super().__init__()
        patches = (size // patch) ** 2
        self.conv_in = nn.Conv2d(2, channels, patch, patch)
        self.conv_out = nn.ConvTranspose2d(channels, 1, patch, patch)
        self.blocks = nn.ModuleList(Mixer(patches, channels, *width) for width in widths)
        self.norm = nn.LayerNorm((channels, patches))
        self.t_1 = t_1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        told = (t / self.t_1)[:, None, None, None].expand_as(x)
        y = self.conv_in(torch.cat([x, told], 1))
        grid = y.shape[-2:]
        y = y.flatten(2)
        for block in self.blocks:
            y = block(y)
        score = self.conv_out(self.norm(y).unflatten(2, grid))
        noise: Tensor = -(-torch.expm1(-t)).sqrt()[:, None, None, None] * score
        return noise


def load_denoiser(model: GalaxygradModel, device: torch.device) -> PredictingDenoiser:
    """The network in the file, whose shapes say how large its pictures are.

    Raises:
        S4SError: if the file cannot be read or is not that of such a network.
    """
    path = check_file(model)
    network = read_network(read_bytes(path, MOST_BYTES), str(path)).to(device).eval().requires_grad_(False)
    size = int(network.norm.normalized_shape[1] ** 0.5) * network.conv_in.kernel_size[0]
    s_min, s_max, gaussian, _ = outline(model)
    white = math.asinh((model.white - model.black) / SOFTENING)

    def picture(y: Tensor) -> Tensor:
        light = torch.asinh((torch.expm1(SCALE * y) - model.black) / SOFTENING) / white
        return light.clamp(0, 1) * 2 - 1

    return PredictingDenoiser(
        network, gaussian, "epsilon", name=model.name, shape=(1, size, size), s_min=s_min, s_max=s_max, device=device,
        decoder=picture, decode_batch=model.block,
    )  # fmt: skip


def outline(model: GalaxygradModel) -> tuple[float, float, VPLinear, dict[str, Any]]:
    """s_min, s_max, the path and the parametrisation."""
    path = VPLinear(1.0, 1.0)
    return model.s_min, model.s_max, path, {**path.description(), "prediction": "epsilon"}


def read_network(content: bytes, where: str) -> ScoreNetwork:
    """The network that equinox has written, one array after another in the order of its fields.

    Its transposed convolution has input channels second, and kernels turned by half a circle.

    Raises:
        S4SError: if they are not the arrays of such a network.
    """
    found = split_arrays(content, where)
    blocks, rest = divmod(len(found) - 7, 12)
    try:
        last = found.pop()
        channels, _, patch, _ = found[0].shape
        firsts = found[4 : 4 + 12 * blocks : 4]  # the first layers of mixers, of patches and channels in turn
        side = math.isqrt(firsts[0].shape[1])
        widths = [(firsts[3 * n].shape[0], firsts[3 * n + 1].shape[0]) for n in range(blocks)]
        time = float(last)
    except (ValueError, IndexError, TypeError):
        rest = 1
    if rest or blocks < 1 or not 0 < time < math.inf:
        raise S4SError(f"{where}: {len(found) + 1} arrays, but not those of a score network of galaxygrad")
    with torch.device("meta"):
        network = ScoreNetwork(side * patch, channels, patch, widths, time)
    names = [name for name, _ in network.named_parameters()]
    try:
        fill(network, dict(zip(names, map(_tensor, names, found), strict=True)), assign=True)
    except S4SError as error:
        raise S4SError(f"{where}: not a score network of galaxygrad: {error}") from None
    return network


def _tensor(name: str, array: np.ndarray) -> Tensor:
    values = torch.from_numpy(array.astype(np.float32))
    if name == "conv_out.weight" and values.ndim == 4:
        return values.transpose(0, 1).flip(2, 3)
    return values.flatten() if name in ("conv_in.bias", "conv_out.bias") else values
