"""Lets torchvision load beside a CPU-only torch, whoever imports it: clean-fid, lpips, diffusers, or a user's own module."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType


class TorchvisionFinder:
    """Finds torchvision for `import`, so that missing operators are declared just before its Python part runs.

    `import s4s` puts it on sys.meta_path. It imports nothing itself before torchvision is imported.
    """

    @classmethod
    def install(cls) -> None:
        """Put it first on sys.meta_path, once."""
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """What the ordinary finder says of torchvision, with another loader; None for every other module."""
        spec = PathFinder.find_spec(name, path, target) if name == "torchvision" else None
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        declare_missing_operators(module.__path__)
        super().exec_module(module)


def declare_missing_operators(folders: Sequence[str]) -> None:
    """Declare torchvision's compiled operators if they cannot be loaded: a build for CUDA beside a CPU-only torch.

    Networks and transforms need no more than the declarations.

    Args:
        folders: where torchvision's files are.
    """
    import torch

    if _compiled_operators_load(folders):
        return
    for operator, signature in [
        ("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
        ("qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ]:
        try:
            torch.library.define(f"torchvision::{operator}", signature)
        except RuntimeError:
            return  # declared before


def _compiled_operators_load(folders: Sequence[str]) -> bool:
    """Whether torchvision's library loads; it must be tried first, as loading it after a declaration aborts Python.

    Torchvision's own import then finds the library loaded.
    """
    import torch

    library = PathFinder.find_spec("_C", folders)
    if library is None or library.origin is None:
        return False
    try:
        torch.ops.load_library(library.origin)
    except OSError:
        return False
    return True
