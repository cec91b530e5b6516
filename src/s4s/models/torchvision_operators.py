"""Lets torchvision's Python part, which clean-fid and lpips import, load beside a CPU-only torch."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec

import torch


def declare_missing_operators() -> None:
    """Declare torchvision's compiled operators if they cannot be loaded: a build for CUDA beside a CPU-only torch.

    Call it before the first import of torchvision. Networks and transforms need no more than the declarations.
    """
    if "torchvision" in sys.modules or _compiled_operators_load():
        return
    for operator, signature in [
        ("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
        ("qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ]:
        try:
            torch.library.define(f"torchvision::{operator}", signature)
        except RuntimeError:
            return  # declared before


def _compiled_operators_load() -> bool:
    """Whether torchvision's library loads; it must be tried first, as loading it after a declaration aborts Python.

    Torchvision's own import then finds the library loaded.
    """
    package = find_spec("torchvision")
    library = PathFinder.find_spec("_C", package.submodule_search_locations) if package else None
    if library is None or library.origin is None:
        return False
    try:
        torch.ops.load_library(library.origin)
    except OSError:
        return False
    return True
