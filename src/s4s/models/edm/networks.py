"""The U-Nets that NVlabs/edm publishes: DDPM++ and NCSN++ (SongUNet), and ADM (DhariwalUNet).

Modules carry the names that the published weights have. Dropout and the augmentation label, which is zero in sampling, play no
part in the forward pass.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from s4s.models.edm.layers import Block, Convolution, FourierFeatures, group_norm, positional

Count = Annotated[int, Field(ge=0, le=1 << 14)]
Positive = Annotated[int, Field(ge=1, le=1 << 14)]


class Arguments(BaseModel):
    """Constructor arguments that the published files record, within bounds that no sane network leaves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    img_resolution: Positive
    in_channels: Positive
    out_channels: Positive
    label_dim: Count = 0
    augment_dim: Count = 0
    channel_mult_emb: Annotated[int, Field(ge=1, le=64)] = 4
    dropout: float = 0.10
    label_dropout: float = 0.0


Multipliers = Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1, max_length=12)]
Resolutions = Annotated[list[Positive], Field(max_length=12)]
Blocks = Annotated[int, Field(ge=1, le=64)]


class SongArguments(Arguments):
    """Of SongUNet."""

    model_channels: Positive = 128
    channel_mult: Multipliers = [1, 2, 2, 2]
    num_blocks: Blocks = 4
    attn_resolutions: Resolutions = [16]
    embedding_type: Literal["positional", "fourier"] = "positional"
    channel_mult_noise: Annotated[int, Field(ge=1, le=64)] = 1
    encoder_type: Literal["standard", "residual"] = "standard"
    decoder_type: Literal["standard"] = "standard"
    resample_filter: Annotated[list[float], Field(min_length=2, max_length=16)] = [1, 1]


class DhariwalArguments(Arguments):
    """Of DhariwalUNet."""

    model_channels: Positive = 192
    channel_mult: Multipliers = [1, 2, 3, 4]
    num_blocks: Blocks = 3
    attn_resolutions: Resolutions = [32, 16, 8]


class SongUNet(nn.Module):
    """DDPM++ and NCSN++ (Song et al. 2021, arXiv 2011.13456)."""

    arguments = SongArguments

    def __init__(self, **arguments: Any):
        super().__init__()
        a = self.a = SongArguments(**arguments)
        embedding, noise = a.model_channels * a.channel_mult_emb, a.model_channels * a.channel_mult_noise
        self.noise = noise
        if a.embedding_type == "fourier":
            self.map_noise = FourierFeatures(noise)
        self.map_label = nn.Linear(a.label_dim, noise) if a.label_dim else None
        self.map_augment = nn.Linear(a.augment_dim, noise, bias=False) if a.augment_dim else None
        self.map_layer0 = nn.Linear(noise, embedding)
        self.map_layer1 = nn.Linear(embedding, embedding)
        options: dict[str, Any] = dict(
            embedding=embedding, taps=a.resample_filter, adaptive=False, scale=math.sqrt(0.5), eps=1e-6, project=True
        )

        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        channels, aux = a.in_channels, a.in_channels
        skips: list[int] = []
        for level, multiplier in enumerate(a.channel_mult):
            size = a.img_resolution >> level
            name = f"{size}x{size}"
            if level == 0:
                self.enc[f"{name}_conv"] = Convolution(channels, a.model_channels, 3)
                channels = a.model_channels
            else:
                self.enc[f"{name}_down"] = Block(channels, channels, direction="down", **options)
                if a.encoder_type == "residual":
                    self.enc[f"{name}_aux_residual"] = Convolution(
                        aux, channels, 3, "down", a.resample_filter, filter_last=True
                    )
                    aux = channels
            skips.append(channels)
            for i in range(a.num_blocks):
                heads = int(size in a.attn_resolutions)
                self.enc[f"{name}_block{i}"] = Block(channels, a.model_channels * multiplier, heads=heads, **options)
                channels = a.model_channels * multiplier
                skips.append(channels)
        for level in reversed(range(len(a.channel_mult))):
            size, wide = a.img_resolution >> level, a.model_channels * a.channel_mult[level]
            name = f"{size}x{size}"
            if level == len(a.channel_mult) - 1:
                self.dec[f"{name}_in0"] = Block(channels, channels, heads=1, **options)
                self.dec[f"{name}_in1"] = Block(channels, channels, **options)
            else:
                self.dec[f"{name}_up"] = Block(channels, channels, direction="up", **options)
            for i in range(a.num_blocks + 1):
                heads = int(i == a.num_blocks and size in a.attn_resolutions)
                self.dec[f"{name}_block{i}"] = Block(channels + skips.pop(), wide, heads=heads, **options)
                channels = wide
        self.dec[f"{name}_aux_norm"] = group_norm(channels, 1e-6)
        self.dec[f"{name}_aux_conv"] = Convolution(channels, a.out_channels, 3)

    def forward(self, x: Tensor, c_noise: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """F(x; c_noise): x [B, in_channels, H, W], c_noise [1] or [B], class_labels [B] -> [B, out_channels, H, W]."""
        if self.a.embedding_type == "fourier":
            embedding = self.map_noise(c_noise)
        else:
            embedding = torch.cat(positional(c_noise, self.noise, self.noise // 2 - 1), dim=1)
        if self.map_label is not None:
            embedding = embedding + self.map_label(_one_hot(class_labels, self.a.label_dim) * math.sqrt(self.a.label_dim))
        embedding = F.silu(self.map_layer1(F.silu(self.map_layer0(embedding))))
        skips: list[Tensor] = []
        aux = x
        for name, module in self.enc.items():
            if name.endswith("_aux_residual"):
                x = aux = skips[-1] = (x + module(aux)) / math.sqrt(2)
            else:
                x = module(x, embedding) if isinstance(module, Block) else module(x)
                skips.append(x)
        for module in self.dec.values():
            if isinstance(module, Block):
                x = _decode(module, x, skips, embedding)
            else:
                x = F.silu(module(x)) if isinstance(module, nn.GroupNorm) else module(x)
        return x


class DhariwalUNet(nn.Module):
    """ADM (Dhariwal & Nichol 2021, arXiv 2105.05233)."""

    arguments = DhariwalArguments

    def __init__(self, **arguments: Any):
        super().__init__()
        a = self.a = DhariwalArguments(**arguments)
        embedding = a.model_channels * a.channel_mult_emb
        self.map_label = nn.Linear(a.label_dim, embedding, bias=False) if a.label_dim else None
        self.map_augment = nn.Linear(a.augment_dim, a.model_channels, bias=False) if a.augment_dim else None
        self.map_layer0 = nn.Linear(a.model_channels, embedding)
        self.map_layer1 = nn.Linear(embedding, embedding)
        options: dict[str, Any] = dict(embedding=embedding, adaptive=True, scale=1.0, eps=1e-5, project=False)

        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        channels = a.in_channels
        skips: list[int] = []
        for level, multiplier in enumerate(a.channel_mult):
            size, wide = a.img_resolution >> level, a.model_channels * multiplier
            name = f"{size}x{size}"
            if level == 0:
                self.enc[f"{name}_conv"] = Convolution(channels, wide, 3)
                channels = wide
            else:
                self.enc[f"{name}_down"] = Block(channels, channels, direction="down", **options)
            skips.append(channels)
            for i in range(a.num_blocks):
                heads = wide // 64 if size in a.attn_resolutions else 0
                self.enc[f"{name}_block{i}"] = Block(channels, wide, heads=heads, **options)
                channels = wide
                skips.append(channels)
        for level in reversed(range(len(a.channel_mult))):
            size, wide = a.img_resolution >> level, a.model_channels * a.channel_mult[level]
            name = f"{size}x{size}"
            if level == len(a.channel_mult) - 1:
                self.dec[f"{name}_in0"] = Block(channels, channels, heads=channels // 64, **options)
                self.dec[f"{name}_in1"] = Block(channels, channels, **options)
            else:
                self.dec[f"{name}_up"] = Block(channels, channels, direction="up", **options)
            for i in range(a.num_blocks + 1):
                heads = wide // 64 if size in a.attn_resolutions else 0
                self.dec[f"{name}_block{i}"] = Block(channels + skips.pop(), wide, heads=heads, **options)
                channels = wide
        self.out_norm = group_norm(channels, 1e-5)
        self.out_conv = Convolution(channels, a.out_channels, 3)

    def forward(self, x: Tensor, c_noise: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """F(x; c_noise): x [B, in_channels, H, W], c_noise [1] or [B], class_labels [B] -> [B, out_channels, H, W]."""
        sines, cosines = positional(c_noise, self.a.model_channels, self.a.model_channels // 2)
        embedding = self.map_layer1(F.silu(self.map_layer0(torch.cat([cosines, sines], dim=1))))
        if self.map_label is not None:
            embedding = embedding + self.map_label(_one_hot(class_labels, self.a.label_dim))
        embedding = F.silu(embedding)
        skips = []
        for module in self.enc.values():
            x = module(x, embedding) if isinstance(module, Block) else module(x)
            skips.append(x)
        for module in self.dec.values():
            x = _decode(module, x, skips, embedding)
        output: Tensor = self.out_conv(F.silu(self.out_norm(x)))
        return output


def _one_hot(class_labels: Tensor | None, classes: int) -> Tensor:
    """Float rows [B, classes]; zeros, the unconditional label, for labels equal to `classes`; [1, classes] without labels."""
    if class_labels is None:
        class_labels = torch.tensor([classes])
    return F.one_hot(class_labels, classes + 1)[:, :classes].float()


def _decode(block: Any, x: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
    if x.shape[1] != block.inputs:
        x = torch.cat([x, skips.pop()], dim=1)
    output: Tensor = block(x, embedding)
    return output


NETWORKS: dict[str, type[SongUNet | DhariwalUNet]] = {"SongUNet": SongUNet, "DhariwalUNet": DhariwalUNet}
