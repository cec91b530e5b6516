"""Distances d between end points: [B, *shape] x 2 -> [B]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from s4s.errors import S4SError

Distance = Callable[[Tensor, Tensor], Tensor]


class LayeredNetwork(Protocol):
    """A network whose `activations` on images are one [B, channels, H, W] a layer."""

    def activations(self, images: Tensor) -> tuple[Tensor, ...]: ...


def l2(x: Tensor, y: Tensor) -> Tensor:
    """Root of the mean squared difference over a state's components; the global error is its mean over samples."""
    return (x - y).flatten(1).square().mean(1).add(1e-12).sqrt()


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference over a state's components."""
    return (x - y).flatten(1).abs().mean(1)


def perceptual(network: LayeredNetwork) -> Distance:
    """`l2` plus the root of an LPIPS-like distance in the layers of `network`.

    As in LPIPS (Zhang et al. 2018, arXiv 1801.03924, eq. 1, with unit weights) activations are scaled to unit length
    over channels, and squared differences are averaged over positions and summed over layers.
    """

    def unit(activation: Tensor) -> Tensor:
        return activation * (activation.square().sum(1, keepdim=True) + 1e-4).rsqrt()

    def distance(x: Tensor, y: Tensor) -> Tensor:
        layers = zip(network.activations(x), network.activations(y), strict=True)
        squared = [(unit(a) - unit(b)).square().sum(1).flatten(1).mean(1) for a, b in layers]
        return l2(x, y) + (torch.stack(squared).sum(0) + 1e-8).sqrt()

    return distance


def make_distance(name: str, network: LayeredNetwork | None) -> Distance:
    """A distance by name: l2, l1, or perceptual, which needs a network."""
    if name == "perceptual":
        if network is None:
            raise S4SError("distance 'perceptual' needs a perceptual network: name one in the model's file or pass one to fit")
        return perceptual(network)
    simple: dict[str, Distance] = {"l2": l2, "l1": l1}
    if name not in simple:
        raise S4SError(f"unknown distance {name!r}; known: l1, l2, perceptual")
    return simple[name]
