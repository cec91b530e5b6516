"""Distances between final samples, as blocks of residuals: what gradients and Gauss-Newton steps are both made from.

A distance maps images to blocks of numbers; it compares two images by the differences of their blocks.

    root:      d = sum over blocks of ||difference||       (l2, perceptual, features)
    absolute:  d = sum over blocks of |difference|_1       (l1)
    square:    d = sum over blocks of ||difference||^2     (lpips)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.learning.settings import lacks_network

Blocks = list[Tensor]
SMALL = 1e-8  # added to what is under a root, so that its gradient is finite at 0


class LayeredNetwork(Protocol):
    """A network whose `activations` on images are one [B, channels, H, W] a layer."""

    def activations(self, images: Tensor) -> tuple[Tensor, ...]: ...


@dataclass(frozen=True)
class Distance:
    """Images [B, *shape] to blocks [B, k], and how differences of blocks are measured.

    Attributes:
        of_states: it compares states as they are, latent ones without decoding, and its blocks are linear in them.
    """

    blocks: Callable[[Tensor], Blocks]
    kind: Literal["root", "absolute", "square"]
    of_states: bool = False

    def between(self, x: Blocks, y: Blocks) -> Tensor:
        """Distance of each sample, [B]."""
        return torch.stack([self._measure(a - b) for a, b in zip(x, y, strict=True)]).sum(0)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of images x and y, [B, *shape] each -> [B]."""
        return self.between(self.blocks(x), self.blocks(y))

    def _measure(self, difference: Tensor) -> Tensor:
        if self.kind == "absolute":
            return difference.abs().sum(1)
        squared = difference.square().sum(1)
        return squared if self.kind == "square" else (squared + SMALL).sqrt()

    def weights(self, difference: Tensor) -> Tensor:
        """The weights of iteratively reweighted least squares.

        With them the gradient of sum(weights * difference^2)/2 is that of the distance; [B, 1] or [B, k].
        """
        if self.kind == "absolute":
            return 1 / difference.abs().clamp_min(0.1 * difference.abs().mean(1, keepdim=True).clamp_min(SMALL))
        if self.kind == "square":
            return torch.full_like(difference[:, :1], 2.0)
        return (difference.square().sum(1, keepdim=True) + SMALL).rsqrt()


def _pixels(x: Tensor) -> Tensor:
    """So scaled that the norm of a difference is its root-mean-square over components."""
    flat = x.flatten(1)
    return flat / math.sqrt(flat.shape[1])


def _unit(activation: Tensor) -> Tensor:
    """Activations scaled to unit length over channels, as in LPIPS."""
    return activation * (activation.square().sum(1, keepdim=True) + 1e-4).rsqrt()


def _layers(network: LayeredNetwork, x: Tensor) -> Tensor:
    """Unit activations of all layers, averaged over positions and summed over layers by the norm."""
    units = [_unit(activation) for activation in network.activations(x)]
    return torch.cat([unit.flatten(1) / math.sqrt(unit[0, 0].numel()) for unit in units], 1)


l2 = Distance(lambda x: [_pixels(x)], "root", of_states=True)
l1 = Distance(lambda x: [x.flatten(1) / x[0].numel()], "absolute", of_states=True)


def perceptual(network: LayeredNetwork) -> Distance:
    """`l2` plus the root of an LPIPS-like distance in the layers of `network`.

    As in LPIPS (Zhang et al. 2018, arXiv 1801.03924, eq. 1, with unit weights) activations are scaled to unit length
    over channels, and squared differences are averaged over positions and summed over layers.
    """
    return Distance(lambda x: [_pixels(x), _layers(network, x)], "root")


def features(network: LayeredNetwork) -> Distance:
    """Root-mean-square difference in the last layer of `network`."""
    return Distance(lambda x: [_pixels(network.activations(x)[-1])], "root")


def make_distance(name: str, network: LayeredNetwork | None = None) -> Distance:
    """A distance by name: l2, l1; perceptual or features, which need a network. lpips is made by `load_lpips`.

    Raises:
        S4SError: if the name is unknown or its network is missing.
    """
    if problem := lacks_network(name, network is not None):
        raise S4SError(problem)
    if network is not None and name in ("perceptual", "features"):
        return perceptual(network) if name == "perceptual" else features(network)
    simple = {"l2": l2, "l1": l1}
    if name not in simple:
        raise S4SError(f"unknown distance {name!r}; known: l1, l2, lpips, perceptual, features")
    return simple[name]
