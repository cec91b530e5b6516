"""The real data behind the embedded models, all of it carried by scikit-learn; the splits never change.

Networks see the training part only; Fréchet distance and accuracy are measured against the held-out part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from s4s.errors import S4SError

SPLIT_SEED = 20250225
HELD_OUT_DIGITS, HELD_OUT_TUMOURS = 500, 200
PATCH, TILE, STRIDE = 32, 64, 4  # pixels


class RealData(NamedTuple):
    """States [n, *shape] and labels [n] of the training and of the held-out part."""

    train: Tensor
    train_labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor


def digits() -> RealData:
    """1,797 handwritten digits (UCI optical recognition of handwritten digits), [n, 1, 8, 8] in [-1, 1], with ten classes.

    500 of them are held out, stratified by class.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
    return _split(images, data.target, HELD_OUT_DIGITS)


def breast_cancer() -> RealData:
    """569 tumours of 30 measurements each (UCI breast cancer Wisconsin, diagnostic), [n, 30], with two classes.

    200 of them are held out, stratified by class. Measurements are in units of the training part's standard deviations,
    from its means.
    """
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    parts = _split(torch.tensor(data.data), data.target, HELD_OUT_TUMOURS)
    mean, deviation = parts.train.mean(0), parts.train.std(0)
    scaled = [((rows - mean) / deviation).float() for rows in (parts.train, parts.held_out)]
    return parts._replace(train=scaled[0], held_out=scaled[1])


def patches() -> RealData:
    """Colour patches of the two photographs (of a temple and of a flower), [n, 3, 32, 32] in [-1, 1].

    A photograph is cut into tiles of 64 x 64 pixels. Of each two by two of them one is held out; patches lie inside tiles, so
    that held-out pixels are never seen. Labels tell the photographs apart.
    """
    from sklearn.datasets import load_sample_image

    found: dict[bool, list[tuple[Tensor, int]]] = {False: [], True: []}
    for number, name in enumerate(["china.jpg", "flower.jpg"]):
        photograph = torch.from_numpy(np.array(load_sample_image(name))).permute(2, 0, 1) / 127.5 - 1
        rows, columns = photograph.shape[1] // TILE, photograph.shape[2] // TILE
        for row in range(rows):
            for column in range(columns):
                tile = photograph[:, row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
                held_out = (row % 2) * 2 + column % 2 == (row // 2 + column // 2) % 4
                cut = tile.unfold(1, PATCH, STRIDE).unfold(2, PATCH, STRIDE).permute(1, 2, 0, 3, 4).flatten(0, 1)
                found[held_out].append((cut, number))
    parts = []
    for held_out in (False, True):
        images, labels = zip(*found[held_out], strict=True)
        parts += [torch.cat(images), torch.tensor(labels).repeat_interleave(len(images[0]))]
    return RealData(*parts)


DATASETS: dict[str, Callable[[], RealData]] = {"digits": digits, "patches": patches, "breast_cancer": breast_cancer}


def load_dataset(name: str) -> RealData:
    """A data set by its name.

    Raises:
        S4SError: if there is none of that name.
    """
    if name not in DATASETS:
        raise S4SError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]()


def turned(data: RealData) -> RealData:
    """Images in all four rotations; labels tell label and rotation apart. What a network learns of images without classes.

    (Gidaris, Singh & Komodakis 2018, arXiv 1803.07728.)
    """

    def turn(images: Tensor, labels: Tensor) -> list[Tensor]:
        turns = range(4)
        return [torch.cat([images.rot90(k, (2, 3)) for k in turns]), torch.cat([4 * labels + k for k in turns])]

    return RealData(*turn(data.train, data.train_labels), *turn(data.held_out, data.held_out_labels))


def _split(states: Tensor, target: np.ndarray, held_out_count: int) -> RealData:
    from sklearn.model_selection import train_test_split

    labels = torch.tensor(target)
    train, held_out = train_test_split(range(len(labels)), test_size=held_out_count, stratify=target, random_state=SPLIT_SEED)
    return RealData(states[train], labels[train], states[held_out], labels[held_out])
