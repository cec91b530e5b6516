"""A small classifier of images. One trained copy gives the features of FID, another the perceptual distance of fits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 8  # pixels of what the last two convolutions see


class Classifier(nn.Module):
    """Images [B, channels, side, side] in [-1, 1] -> `features` [B, n_features] and class logits [B, classes].

    Larger images are halved to 8x8 first, each time after a convolution.
    """

    def __init__(
        self,
        classes: int = 10,
        width: int = 32,
        n_features: int = 32,
        dropout: float = 0.3,
        channels: int = 1,
        side: int = SIDE,
    ):
        super().__init__()
        self.stem = nn.ModuleList()
        while side > SIDE:
            self.stem.append(nn.Conv2d(channels, width // 2, 3, padding=1))
            channels, side = width // 2, side // 2
        self.conv_1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.hidden = nn.Linear(2 * width * 4, n_features)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_features, classes)

    def activations(self, images: Tensor) -> tuple[Tensor, ...]:
        """What each layer sees, the finest first, [B, channels, H, W] each; the features come last, [B, n_features, 1, 1]."""
        layers = []
        for convolution in self.stem:
            layers.append(F.relu(convolution(images)))
            images = F.max_pool2d(layers[-1], 2)
        fine = F.relu(self.conv_1(images))
        coarse = F.relu(self.conv_2(F.max_pool2d(fine, 2)))
        hidden = F.silu(self.hidden(self.dropout(F.max_pool2d(coarse, 2).flatten(1))))
        return *layers, fine, coarse, hidden[:, :, None, None]

    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer, [B, n_features]."""
        return self.activations(images)[-1].flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.dropout(self.features(images)))
        return scores
