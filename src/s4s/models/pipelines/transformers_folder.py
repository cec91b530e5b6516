"""Tokenizers and text encoders in the folders of a pipeline, which transformers reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from s4s.errors import S4SError, one_line
from s4s.models.network_weights import check_loaded
from s4s.models.torch_checkpoint import check_network, check_sizes, weights_in
from s4s.models.weight_formats import check_has_weights

STEMS = ("model", "pytorch_model")  # of transformers' files of weights, .safetensors and .bin


def read_settings_of(known: Any, folder: Path) -> Any:
    """A tokenizer, processor or scheduler: what has settings and no weights."""
    check_sizes(folder)
    try:
        return known.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a damaged file does to transformers
        raise S4SError(f"{folder}: cannot be read: {one_line(error)}") from error


def read_model(known: Any, folder: Path, dtype: torch.dtype, variant: str | None = None) -> Any:
    """A network of transformers with all its weights, on the CPU; of those in `dtype` some layers stay in float32.

    Raises:
        S4SError: if they are not all there, or cannot be read.
    """
    check_has_weights(folder, *STEMS, variant=variant)
    check_sizes(folder)
    options = {"variant": variant} if variant else {}
    try:
        config = known.config_class.from_pretrained(folder, local_files_only=True)
        check_network(lambda: known(config), weights_in(folder), folder)
        model, info = known.from_pretrained(folder, local_files_only=True, dtype=dtype, output_loading_info=True, **options)
    except S4SError:
        raise
    except Exception as error:  # whatever a damaged file does to transformers
        raise S4SError(f"{folder}: cannot be read: {one_line(error)}") from error
    check_loaded(model, info, folder)
    return model.eval().requires_grad_(False)
