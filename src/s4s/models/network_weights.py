"""Tensors by name into a network; none may be missing, besides, or of another shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from s4s.errors import S4SError
from s4s.models.weight_formats import misfit


def fill(network: nn.Module, weights: Mapping[str, Tensor], **options: Any) -> None:
    """`load_state_dict` with these options.

    Raises:
        S4SError: which tensors do not fit, and what else the file may be.
    """
    own = network.state_dict()
    misshapen = [
        f"{name}: {list(weights[name].shape)}, not {list(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    problem = misfit(type(network).__name__, own, weights, misshapen)
    if problem is not None:
        raise S4SError(problem)
    network.load_state_dict(weights, **options)


def check_loaded(network: nn.Module, info: Mapping[str, Any], folder: Path) -> None:
    """What diffusers' and transformers' `from_pretrained` leaves as it was drawn at random, with a warning alone.

    Args:
        info: what they say with output_loading_info; buffers and tied weights that need not be there are not in it.
        folder: where the network was read from.
    Raises:
        S4SError: as `fill`.
    """
    own = {*network.state_dict()}
    names = (own - {*info["missing_keys"]}) | {*info["unexpected_keys"]}
    misshapen = [str(entry[0] if isinstance(entry, tuple) else entry) for entry in info.get("mismatched_keys") or ()]
    problem = misfit(type(network).__name__, own | {*info["missing_keys"]}, names, misshapen)
    if problem is not None:
        raise S4SError(f"{folder}: {problem}")
