"""Text as the condition: which sample has which prompt, and embeddings computed once and kept in HDF5.

Of n prompts the test samples take those from the first on, in order, and at most three quarters of them; teacher pairs and
searches take the others, so that no solver is fitted on a prompt that it is tested on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s4s.errors import DamagedFile, S4SError, one_line
from s4s.files.atomic import atomic_path
from s4s.files.bounded import CAPTIONS, LINES, check_size, json_bytes, read_text
from s4s.files.hdf5_check import open_checked
from s4s.files.hdf5_seal import sealed_file
from s4s.jobs.progress_bar import progress
from s4s.models.description import WeightFile
from s4s.models.model_files import check_file
from s4s.models.seeds import index_of, split_of

NULL = -1  # number of the empty prompt
REMEMBERED = 512  # prompts whose embeddings EncodedRows keeps
TOGETHER = 64  # prompts that are encoded or stored in one go
Encode = Callable[[list[str]], dict[str, Tensor]]  # texts to what a network is called with, [n, ...] each
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


class Prompts:
    """A model's conditioning on prompts.

    Args:
        count: number of prompts.
        rows: what the network is called with, [n, ...] each, for prompts with these numbers, NULL for the empty one.
    """

    def __init__(self, count: int, rows: Callable[[list[int]], dict[str, Tensor]]):
        self.count, self.rows = count, rows

    def of_seeds(self, seeds: Sequence[int] | np.ndarray) -> Tensor:
        return torch.from_numpy(prompt_numbers(seeds, self.count))

    def arguments(self, condition: Tensor | None, rows: int) -> dict[str, Tensor]:
        numbers = [NULL] * rows if condition is None else condition.tolist()
        if len(numbers) != rows or not all(isinstance(n, int) and NULL <= n < self.count for n in numbers):
            raise S4SError(f"condition must hold {rows} numbers of prompts below {self.count}")
        return self.rows(numbers)


class EncodedRows:
    """Embeddings from a text encoder, each computed once while it is remembered."""

    def __init__(self, prompts: list[str], encode: Encode):
        self.prompts, self.encode = prompts, encode
        self.known: dict[int, dict[str, Tensor]] = {}

    def __call__(self, numbers: list[int]) -> dict[str, Tensor]:
        if len(self.known) > REMEMBERED:
            self.known.clear()
        missing = sorted({*numbers} - {*self.known})
        for start in range(0, len(missing), TOGETHER):
            part = missing[start : start + TOGETHER]
            rows = {name: values.cpu() for name, values in self.encode(_texts(self.prompts, part)).items()}
            self.known.update((number, {name: rows[name][i] for name in rows}) for i, number in enumerate(part))
        return {name: torch.stack([self.known[number][name] for number in numbers]) for name in self.known[numbers[0]]}


class StoredRows:
    """Embeddings from a file that `store_embeddings` wrote for these prompts.

    Raises:
        S4SError: if it is no such file, or one of other prompts.
    """

    def __init__(self, path: Path, prompts: list[str]):
        self.path = path
        try:
            self.file = open_checked(path)
            fingerprint, numbers, self.stored = self.file.attrs["prompts"], self.file["number"][:], self.file["embedding"]
            self.row = {int(number): row for row, number in enumerate(numbers)}
        except (OSError, KeyError, TypeError, ValueError) as error:  # S4SError is a ValueError
            raise DamagedFile(path, f"not a file of text embeddings ({one_line(error)}); make it again") from error
        if fingerprint != _fingerprint(prompts):
            raise S4SError(f"{path}: embeddings of other prompts; make them again")

    def __call__(self, numbers: list[int]) -> dict[str, Tensor]:
        if absent := {*numbers} - {*self.row}:
            raise S4SError(f"{self.path}: has no embedding of prompt {min(absent)}; make the file again")
        wanted = np.array([self.row[number] for number in numbers])
        rows, back = np.unique(wanted, return_inverse=True)
        try:
            return {name: torch.from_numpy(values[rows][back]) for name, values in self.stored.items()}
        except OSError as error:
            raise DamagedFile(self.path, f"these text embeddings are damaged ({one_line(error)}); make them again") from error


def store_embeddings(prompts: list[str], numbers: Sequence[int], encode: Encode, path: str | Path) -> None:
    """Write the embeddings of these prompts and of the empty one: `number` [n], `embedding/NAME` [n, ...]."""
    wanted = [NULL, *sorted({*numbers} - {NULL})]
    with atomic_path(path) as temporary, sealed_file(temporary) as file:
        file.attrs.update(kind="text-embeddings", prompts=_fingerprint(prompts))
        file.create_dataset("number", data=np.array(wanted), chunks=(len(wanted),), fletcher32=True)
        group = file.create_group("embedding")
        with progress(total=len(wanted), desc="text embeddings", unit="prompt") as bar:
            for start in range(0, len(wanted), TOGETHER):
                part = wanted[start : start + TOGETHER]
                for name, tensor in encode(_texts(prompts, part)).items():
                    values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
                    if start == 0:
                        shape = (len(wanted), *values.shape[1:])
                        group.create_dataset(name, shape, values.dtype, chunks=(1, *values.shape[1:]), fletcher32=True)
                    group[name][start : start + len(part)] = values
                bar.update(len(part))


def _texts(prompts: list[str], numbers: list[int]) -> list[str]:
    return ["" if number == NULL else prompts[number] for number in numbers]


def _fingerprint(prompts: list[str]) -> str:
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()
