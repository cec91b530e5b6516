"""Prompts as the condition: those of a file, and which sample has which.

In the comparison, of n prompts the test samples take those from the first on, in order, and at most three quarters of them;
teacher pairs and searches take the others, so that no solver is fitted on a prompt that it is tested on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.files.bounded import CAPTIONS, LINES, check_size, json_bytes, read_text
from s4s.models.description import WeightFile
from s4s.models.model_files import check_file
from s4s.models.seeds import index_of, split_of

SHARES = {"train": (0, 2), "search": (0, 2), "val": (2, 3), "test": (3, 4)}  # quarters of the prompts, where they go round
OFFSETS = {"train": 0, "search": 0, "val": 1}


def read_prompts(file: WeightFile) -> list[str]:
    """Captions: lines of a text file, or of COCO's captions_*.json the first one of each image, by the number of the image.

    Raises:
        S4SError: if the file is missing, no such file or empty.
    """
    with suppress(OSError):  # if it is not there, check_file says how to get it
        check_size(file.path, CAPTIONS.bytes if file.path.suffix == ".json" else LINES)
    path = check_file(file)
    try:
        if path.suffix != ".json":
            prompts = [line.strip() for line in read_text(path, LINES).splitlines() if line.strip()]
        else:
            first: dict[int, tuple[int, str]] = {}
            for entry in json.loads(json_bytes(path, CAPTIONS))["annotations"]:
                own = (int(entry["id"]), str(entry["caption"]).strip())
                first[int(entry["image_id"])] = min(first.get(int(entry["image_id"]), own), own)
            prompts = [first[image][1] for image in sorted(first)]
    except S4SError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise S4SError(f"{path}: neither lines of text nor COCO captions ({type(error).__name__}: {error})") from error
    if len(prompts) < 4:
        raise S4SError(f"{path}: {len(prompts)} prompts; at least 4 are needed")
    return prompts


def prompt_numbers(seeds: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """The prompt of each sample, int64 [n], of `count` prompts.

    Raises:
        S4SError: if there are too few prompts.
    """
    index, splits = index_of(seeds), split_of(seeds)
    test = 3 * count // 4
    numbers = index.copy()
    for split, offset in OFFSETS.items():
        numbers[splits == split] = count - 1 - offset - 2 * index[splits == split]
    wrong = np.where(splits == "test", numbers >= test, numbers < test)
    if wrong.any():
        split, used = splits[wrong][0], int(index[wrong].max()) + 1
        part = f"{test} of them for tests" if split == "test" else f"{(count - test) // 2} each for training and validation"
        raise S4SError(f"{count} prompts are too few for {used} samples of {split}: there are {part}; give more prompts")
    return numbers


class Prompts(Protocol):
    """Which of `count` prompts each sample has."""

    count: int

    def of_seeds(self, seeds: Sequence[int] | np.ndarray) -> Tensor:
        """The numbers of samples' prompts, int64 [n]."""


class PromptsOfTheirOwn:
    """Each sample has a prompt of its own, as `prompt_numbers` shares them out: what the comparison's samples have."""

    def __init__(self, count: int):
        self.count = count

    def of_seeds(self, seeds: Sequence[int] | np.ndarray) -> Tensor:
        return torch.from_numpy(prompt_numbers(seeds, self.count))


class PromptsInTurn:
    """Numbers of prompts, over which the samples go round.

    Of four prompts and more, training takes the first half, validation the third quarter and tests the last, so that a solver
    is checked on prompts that it was not fitted on. Seeds of no split go round over all.
    """

    def __init__(self, count: int):
        self.count = count

    def of_seeds(self, seeds: Sequence[int] | np.ndarray) -> Tensor:
        index, splits = index_of(seeds), split_of(seeds)
        numbers = index % self.count
        if self.count >= 4:
            for split, (first, last) in SHARES.items():
                start, stop = (self.count * quarter // 4 for quarter in (first, last))
                numbers = np.where(splits == split, start + index % (stop - start), numbers)
        return torch.from_numpy(numbers)
