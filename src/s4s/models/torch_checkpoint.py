"""Reads checkpoints that `torch.save` or safetensors wrote, without running anything of them."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.modules.module import register_module_buffer_registration_hook, register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from s4s.errors import S4SError, one_line
from s4s.files.bounded import MB, VOCABULARY, check_safetensors, checked_zip, json_bytes
from s4s.files.pickle_check import TENSORS, check_pickle
from s4s.models.description import WeightFile
from s4s.models.model_files import check_file
from s4s.models.weight_formats import CHECKPOINT, OLD_CHECKPOINT, SAFETENSORS, instead_of, of_file


class _Lightning:
    """Stands for the callbacks that Lightning's checkpoints name; it can do nothing."""


INERT: list[Any] = [
    (_Lightning, f"{package}.callbacks.{module}.ModelCheckpoint")
    for package in ("pytorch_lightning", "lightning.pytorch")
    for module in ("model_checkpoint", "checkpoint")
]
# what tensors by name and plain containers are made by
CALLS = {
    *("collections.OrderedDict", "torch.Size", "torch.device", "torch._utils._rebuild_parameter"),
    *("torch._utils._rebuild_parameter_with_state", *TENSORS),
}
SETS = {"collections.OrderedDict"}  # of these a state
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
PICKLE_BYTES = 32 * MB  # of the names and shapes in a file; 2 000 tensors take 300 000
OLD_PICKLES = 5  # before the tensors in files of torch before 1.6
OVERLAP = 4  # times its bytes that the tensors of a file may have together, tied weights counted each time

NUMBERS, MOST_TENSORS = 1 << 26, 20_000  # of a network, whatever its weights; Stable Diffusion's has 700 tensors, XL's 1 700


def read_checkpoint(weights: WeightFile, old: bool = False) -> dict[str, Tensor]:
    """Tensors by name, on the CPU: those of its `state_dict` if the file has one.

    Args:
        old: whether to read files of torch before 1.6 too, into memory.
    Raises:
        S4SError: if the file is missing, damaged or no checkpoint, or asks for anything but tensors and plain containers.
    """
    path = check_file(weights)
    try:
        if path.suffix == ".safetensors":
            check_safetensors(path)
            return load_file(path)
        with path.open("rb") as file:
            zipped = not old or of_file(path) != OLD_CHECKPOINT
            if zipped:
                zipfile.ZipFile(file)  # those of torch before 1.6 are none, and would be read into memory
            check_content(file, path)
        with torch.serialization.safe_globals(INERT):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except S4SError:
        raise
    except Exception as error:  # damaged bytes can raise anything
        wanted = SAFETENSORS if path.suffix == ".safetensors" else CHECKPOINT
        if known := instead_of(path, wanted, *([OLD_CHECKPOINT] if old else [])):
            raise S4SError(f"{path}: not a checkpoint of torch, or damaged{known}") from None
        raise refusal(error, path, "checkpoint", "file of weights") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise S4SError(f"{path}: holds no tensors by name")
    found = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    check_together(found, path.stat().st_size, path)
    return found


def refusal(error: Exception, where: str | Path, kind: str, what: str) -> S4SError:
    """What to say of a file that torch.load(weights_only=True) did not read: a damaged one, or one that asks for code."""
    if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return S4SError(
            f"{where}: refused: it asks for {asked[1]}, which a {what} has no need of. Nothing in it was executed; "
            "get the file again from its publisher"
        )
    return S4SError(f"{where}: not a {kind} of torch, or damaged ({one_line(error, 200)}); get the file again")


def load_content(content: bytes, where: str | Path, what: str) -> Any:
    """What `torch.save` wrote, from the bytes of a small file, on the CPU; `what` the file is, in words.

    Raises:
        S4SError: if it is damaged, asks for more than tensors and plain containers, or takes more than its size explains.
    """
    try:
        check_content(io.BytesIO(content), where)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except S4SError:
        raise
    except Exception as error:  # damaged bytes can raise anything
        raise refusal(error, where, "file", what) from None


def check_content(file: IO[bytes], where: str | Path) -> None:
    """Refuse a file of torch.save whose tensors or containers would take far more than the file's size explains.

    Raises:
        S4SError, UnpicklingError, BadZipFile, ...: if they would, or it is damaged; for `refusal`.
    """
    size, start = file.seek(0, 2), file.seek(0)
    if file.read(2) != b"PK":
        file.seek(start)
        for _ in range(OLD_PICKLES):
            check_pickle(file, size, CALLS, SETS)
        return
    archive = checked_zip(file, where)  # torch.save compresses nothing
    for record in archive.infolist():
        if record.filename.lower().endswith("data.pkl"):
            if record.file_size > PICKLE_BYTES:
                raise zipfile.BadZipFile("far more names and shapes than a network has")
            check_pickle(io.BytesIO(archive.read(record)), size, CALLS, SETS)


def check_together(tensors: dict[str, Tensor], size: int, where: str | Path) -> None:
    """Refuse tensors that have far more numbers than the file of so many bytes: views of the same few.

    Raises:
        S4SError: if they do.
    """
    if sum(value.numel() * value.element_size() for value in tensors.values()) > OVERLAP * size:
        raise S4SError(f"{where}: more than {OVERLAP} times as many bytes in its tensors as in the file; get the file again")


def check_sizes(folder: Path, files: Iterable[Path] | None = None) -> None:
    """Refuse a folder of diffusers or transformers with a file that their readers would spend far too much on.

    Args:
        files: those of its files that are read, if not all.
    Raises:
        S4SError: if there is one, or a file of weights is damaged or asks for code.
    """
    for path in files or (folder.iterdir() if folder.is_dir() else ()):
        try:
            if path.suffix == ".json":
                json_bytes(path, VOCABULARY)
            elif path.suffix == ".safetensors":
                check_safetensors(path)
            elif path.suffix in PICKLED:
                with path.open("rb") as file:
                    check_content(file, path)
        except S4SError:
            raise
        except Exception as error:
            raise refusal(error, path, "file", "file of weights") from None


def weights_in(folder: Path) -> int:
    """Bytes of the weights in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", *PICKLED))


def check_network(make: Callable[[], Any], size: int, where: str | Path) -> None:
    """Refuse a network far larger than its weights, before anything is allocated: it is made once without memory.

    Args:
        size: bytes of the weights.
    Raises:
        S4SError: if it is; what else `make` raises is left to who makes it in earnest.
    """
    try:
        with without_memory(size):
            make()
    except S4SError as error:
        raise S4SError(f"{where}: refused: {error}") from None
    except Exception:  # what else is wrong with its settings is said by who makes it in earnest
        return


class _Unfilled(TorchFunctionMode):
    """Leaves out initial values, which tensors without memory have not: for them torch would import packages for a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        if func in (torch.randn, torch.rand):
            return torch.empty(*args, **kwargs)
        if func.__name__ in ("mul", "__mul__", "__rmul__") and not isinstance(args[1], Tensor):
            return args[0]
        return func(*args, **kwargs)


@contextmanager
def without_memory(size: int, most: int = MOST_TENSORS) -> Iterator[None]:
    """Networks that are made within have no values, and at most so many tensors and what weights of `size` bytes explain.

    Raises:
        S4SError: at the first tensor that is beyond it.
    """
    numbers, tensors = max(NUMBERS, 2 * size), 0

    def count(module: Any, name: str, tensor: Tensor | None) -> None:
        nonlocal numbers, tensors
        if tensor is not None:
            numbers, tensors = numbers - tensor.numel(), tensors + 1
            if numbers < 0 or tensors > most:
                raise S4SError(
                    f"its settings are those of a network far larger than its weights of {size:,} bytes; correct them"
                )

    hooks = (register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count))
    try:
        with torch.device("meta"), _Unfilled():
            yield
    finally:
        for hook in hooks:
            hook.remove()


def averaged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint without a second set of weights: those that sample better replace the others."""
    names = {key: "model_ema." + key.removeprefix("model.").replace(".", "") for key in state if key.startswith("model.")}
    return {key: state.get(names.get(key, key), value) for key, value in state.items() if not key.startswith("model_ema.")}
