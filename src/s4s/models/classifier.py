"""A small digit classifier. One trained copy gives the features of FID, another the perceptual distance of fits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Classifier(nn.Module):
    """Images [B, 1, 8, 8] in [-1, 1] -> `features` [B, n_features] and class logits [B, classes]."""

    def __init__(self, classes: int = 10, width: int = 32, n_features: int = 32, dropout: float = 0.3):
        super().__init__()
        self.conv_1 = nn.Conv2d(1, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.hidden = nn.Linear(2 * width * 4, n_features)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_features, classes)

    def activations(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What each layer sees: [B, width, 8, 8], [B, 2 width, 4, 4] and [B, n_features, 1, 1]."""
        fine = F.relu(self.conv_1(images))
        coarse = F.relu(self.conv_2(F.max_pool2d(fine, 2)))
        hidden = F.silu(self.hidden(self.dropout(F.max_pool2d(coarse, 2).flatten(1))))
        return fine, coarse, hidden[:, :, None, None]

    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer, [B, n_features]."""
        return self.activations(images)[-1].flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(images)))
