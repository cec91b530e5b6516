"""Reads the pickles of NVlabs/edm without running anything of them.

Such a pickle carries the source code of its networks and asks for it to be executed. Here only tensors, numbers, texts and
plain containers are rebuilt; an object of a recorded class becomes its name and state; its source code is dropped unread. Every
other name that the pickle asks for is refused.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s4s.errors import S4SError, one_line, shortened
from s4s.files.bounded import check_parts, members_of
from s4s.files.pickle_check import check_pickle
from s4s.models.description import WeightFile
from s4s.models.model_files import checked_bytes
from s4s.models.torch_checkpoint import check_content
from s4s.models.weight_formats import PICKLE, instead_of

PARTS = 500_000  # of what is read, what is shared counted as often as it is met; published files have some 20 000
STORAGES = 5_000  # torch takes 0.3 ms for each
CONTAINERS = tuple(f"torch.nn.modules.container.{name}" for name in ("ModuleDict", "ModuleList", "Sequential"))


class Recorded:
    """An object that the pickle describes: the name of its class and its state. It can do nothing."""

    class_name = ""

    def __init__(self, class_name: str, state: dict[str, Any]):
        self.class_name, self.state = class_name, state

    def __setstate__(self, state: Any) -> None:  # of containers of torch.nn, which pickle makes empty first
        self.state = _dictionary(state)


class _Easy(dict[str, Any]):
    """dnnlib's dictionary; the attribute access that gives it its name is not needed."""

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a dictionary with a state")


class _NumpyType:
    def __init__(self, code: str, *_: Any):
        if not isinstance(code, str) or code not in ("f8", "f4", "i8", "i4", "b1"):
            raise pickle.UnpicklingError(f"numpy type {shortened(str(code)) if isinstance(code, str) else type(code)}")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass  # byte order and alignment; the byte order of all published files is this one


class _Function:
    """What stands for a function that the pickle names; calling it is all that the pickle can do with it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function with a state")


def _dictionary(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise pickle.UnpicklingError(f"{type(value).__name__} where a dictionary should be")
    return value


def _recorded(meta: Any) -> Recorded:
    meta = _dictionary(meta)
    name = meta.get("class_name")
    return Recorded(name if isinstance(name, str) else type(name).__name__, _dictionary(meta.get("state")))


def _scalar(kind: Any, content: Any) -> float | int | bool:
    value: float | int | bool = np.frombuffer(content, dtype=f"<{kind.code}").item()
    return value


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    content = storage._untyped_storage
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))  # set_ would make room for it
    if max(last + 1, math.prod(size)) * storage.dtype.itemsize > content.nbytes():
        raise pickle.UnpicklingError(f"a tensor of size {tuple(size)} from {content.nbytes()} bytes")
    return torch.empty(0, dtype=storage.dtype).set_(content, offset, size, stride)


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, modules: Collection[str], named: Collection[str]):
        super().__init__(io.BytesIO(content))
        self.left, self.storages = len(content), 0
        self.known: dict[str, Any] = {
            "builtins.set": set,
            "collections.OrderedDict": OrderedDict,
            "dnnlib.util.EasyDict": _Easy,
            "torch_utils.persistence._reconstruct_persistent_obj": _Function(_recorded),
            "torch._utils._rebuild_tensor_v2": _Function(_tensor),
            "torch._utils._rebuild_parameter": _Function(lambda data, *_: data),
            "torch.storage._load_from_bytes": _Function(self._storage),
            "numpy.dtype": _NumpyType,
            "numpy.core.multiarray.scalar": _Function(_scalar),
            "numpy._core.multiarray.scalar": _Function(_scalar),
        }
        for name in modules:
            self.known[name] = type(name, (_Container,), {"class_name": name.rpartition(".")[2]})
        for name in named:
            self.known[name] = Recorded(name, {})

    def find_class(self, module: str, name: str) -> Any:
        if (found := self.known.get(f"{module}.{name}")) is None:
            raise _Refused(f"it asks for {shortened(f'{module}.{name}')}")
        return found

    def _storage(self, content: bytes) -> Any:
        """A storage that torch wrote in its old format; torch reads it without running anything."""
        self.left, self.storages = self.left - len(content), self.storages + 1
        if self.left < 0 or self.storages > STORAGES or content[:2] == b"PK":
            raise pickle.UnpicklingError("tensors that are larger than the file")
        check_content(io.BytesIO(content), "its tensors")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


class _Container(Recorded):
    def __init__(self) -> None:
        self.state = {}


class _Refused(pickle.UnpicklingError):
    pass


def read_network(weights: WeightFile) -> Recorded:
    """The averaged network ("ema") of a published pickle.

    Raises:
        S4SError: if the file is missing, damaged or no such pickle, asks for anything but weights and recorded arguments, or
            would take far more to read than its size explains.
    """
    data = read_recorded(checked_bytes(weights), weights.path, "pickle of NVlabs/edm")
    network = data.get("ema") if isinstance(data, dict) else None
    if not isinstance(network, Recorded):
        raise S4SError(
            f"{weights.path}: not a pickle of NVlabs/edm: it holds no network under 'ema'{instead_of(weights.path, PICKLE)}"
        )
    return network


def read_recorded(
    content: bytes, path: str | Path, kind: str, modules: Collection[str] = (), named: Collection[str] = ()
) -> Any:
    """What a pickle of recorded objects holds.

    Args:
        content: of the file at `path`. kind: what it should be, in words.
        modules: torch's modules that it may hold besides containers; they become their state.
        named: functions that it may name; each becomes a `Recorded` of that name, which can do nothing.
    Raises:
        S4SError: if it is damaged or no such pickle, asks for anything else, or would take far more to read than its size
            explains.
    """
    modules = {*CONTAINERS, *modules}
    try:
        check_pickle(io.BytesIO(content), len(content), None, {"collections.OrderedDict", "numpy.dtype", *modules})
        data = _Unpickler(content, modules, named).load()
    except _Refused as error:
        raise S4SError(
            f"{path}: refused: {error}, which a file of weights has no need of. Nothing in it was executed. "
            "Do not open it with other programs; get the file again from its publisher"
        ) from None
    except Exception as error:  # whatever a damaged file does to pickle and torch
        if known := instead_of(Path(path), PICKLE):
            raise S4SError(f"{path}: not a {kind}, or damaged{known}") from None
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise S4SError(f"{path}: not a {kind}, or damaged ({reason}); get the file again from its publisher") from None
    check_parts(data, path, _members, PARTS)
    return data


def _members(part: Any) -> Iterable[Any] | None:
    return (part.state,) if isinstance(part, Recorded) else members_of(part)


def state_dict(network: Recorded) -> dict[str, Tensor]:
    """Parameters and buffers of a recorded network and of the modules within it, by their names.

    Raises:
        S4SError: if it is no network.
    """
    found: dict[str, Tensor] = {}
    pending = [("", network)]
    while pending:
        prefix, module = pending.pop()
        for kind in ("_parameters", "_buffers", "_modules"):
            entries = module.state.get(kind, {}) if isinstance(module, Recorded) else None
            if not isinstance(entries, dict):
                raise S4SError(f"no network: {prefix or 'it'} holds no modules and tensors")
            for name, value in entries.items():
                if kind == "_modules" and value is not None:
                    pending.append((f"{prefix}{name}.", value))
                elif isinstance(value, Tensor):
                    found[f"{prefix}{name}"] = value
    return found
