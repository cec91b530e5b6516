"""The 1,797 handwritten digits that scikit-learn carries (UCI optical recognition of handwritten digits)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

HELD_OUT = 500
SPLIT_SEED = 20250225


class Digits(NamedTuple):
    """Images [n, 1, 8, 8] in [-1, 1] and labels [n] of the training and of the held-out part."""

    train: Tensor
    train_labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor


def load_digits() -> Digits:
    """1,297 training and 500 held-out digits, stratified by class; the split never changes.

    The denoiser and the classifier see the training part only; FID and accuracy are measured against the held-out part.
    """
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    data = load()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(data.target)
    train, held_out = train_test_split(range(len(labels)), test_size=HELD_OUT, stratify=data.target, random_state=SPLIT_SEED)
    return Digits(images[train], labels[train], images[held_out], labels[held_out])
