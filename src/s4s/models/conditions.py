"""What conditional models are conditioned on in the comparison: numbers of classes or of prompts, made from samples' seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from s4s.errors import S4SError
from s4s.models.seeds import index_of


class Conditioning(Protocol):
    """Turns a condition [B] or [B, ...] into what a network is called with."""

    def of_seeds(self, seeds: Sequence[int] | np.ndarray) -> Tensor:
        """The conditions of samples, int64 [n]."""

    def arguments(self, condition: Tensor | None, rows: int) -> dict[str, Tensor]:
        """Keyword arguments of the network for a batch of `rows`; the unconditional ones if `condition` is None."""


class ClassLabels:
    """Class-conditional models.

    Over the samples of a split the classes come in one fixed random order, again and again: each class is equally often there
    when the number of samples is a multiple of the number of classes, and any first samples are of different classes.

    Args:
        classes: their number.
        null: label of the unconditional branch, by default `classes`.
        argument: what the network calls it.
        embedding: turns labels [B] into the argument, if the network does not do so.
    """

    def __init__(
        self, classes: int, null: int | None = None, argument: str = "class_labels", embedding: nn.Module | None = None
    ):
        self.classes, self.null = classes, classes if null is None else null
        self.argument, self.embedding = argument, embedding
        self.order = torch.from_numpy(np.random.Generator(np.random.Philox(key=0)).permutation(classes))

    def of_seeds(self, seeds: Sequence[int] | np.ndarray) -> Tensor:
        return self.order[torch.from_numpy(index_of(seeds) % self.classes)]

    def arguments(self, condition: Tensor | None, rows: int) -> dict[str, Tensor]:
        labels = torch.full((rows,), self.null) if condition is None else condition
        if labels.shape != (rows,) or labels.is_floating_point():
            raise S4SError(f"condition must hold {rows} class labels, whole numbers below {self.classes}")
        if condition is not None and not bool(((labels >= 0) & (labels < max(self.classes, self.null + 1))).all()):
            raise S4SError(f"class labels must lie between 0 and {self.classes - 1}")
        if self.embedding is not None:
            labels = self.embedding(labels.to(next(self.embedding.parameters()).device))
        return {self.argument: labels}
