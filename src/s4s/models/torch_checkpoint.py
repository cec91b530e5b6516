"""Reads checkpoints that `torch.save` or safetensors wrote, without running anything of them."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from s4s.errors import S4SError, one_line
from s4s.models.description import WeightFile
from s4s.models.model_files import check_file
from s4s.models.weight_formats import CHECKPOINT, SAFETENSORS, instead_of


class _Lightning:
    """Stands for the callbacks that Lightning's checkpoints name; it can do nothing."""


INERT: list[Any] = [
    (_Lightning, f"{package}.callbacks.{module}.ModelCheckpoint")
    for package in ("pytorch_lightning", "lightning.pytorch")
    for module in ("model_checkpoint", "checkpoint")
]


def read_checkpoint(weights: WeightFile) -> dict[str, Tensor]:
    """Tensors by name, on the CPU: those of its `state_dict` if the file has one.

    Raises:
        S4SError: if the file is missing, damaged or no checkpoint, or asks for anything but tensors and plain containers.
    """
    path = check_file(weights)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _check_archive(path)
        with torch.serialization.safe_globals(INERT):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        wanted = SAFETENSORS if path.suffix == ".safetensors" else CHECKPOINT
        if known := instead_of(path, wanted):
            raise S4SError(f"{path}: not a checkpoint of torch, or damaged{known}") from None
        raise refusal(error, path, "checkpoint", "file of weights") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise S4SError(f"{path}: holds no tensors by name")
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


def refusal(error: Exception, where: str | Path, kind: str, what: str) -> S4SError:
    """What to say of a file that torch.load(weights_only=True) did not read: a damaged one, or one that asks for code."""
    if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return S4SError(
            f"{where}: refused: it asks for {asked[1]}, which a {what} has no need of. Nothing in it was executed; "
            "get the file again from its publisher"
        )
    return S4SError(f"{where}: not a {kind} of torch, or damaged ({one_line(error, 200)}); get the file again")


def _check_archive(path: Path) -> None:
    """torch.save compresses nothing; an archive that does may be far larger than its file."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise zipfile.BadZipFile("it is compressed")
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise zipfile.BadZipFile("its records are larger than the file")
