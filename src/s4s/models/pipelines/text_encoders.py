"""Prompts to what a network is called with, by the text encoders of a pipeline's folder and diffusers' own encode_prompt."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from s4s.errors import S4SError, one_line
from s4s.models.network_weights import check_loaded
from s4s.models.pipelines.prompts import Encode
from s4s.models.torch_checkpoint import check_network, check_sizes, weights_in
from s4s.models.weight_formats import check_has_weights

# pipeline: which of the tensors that its encode_prompt returns the network takes, and what it calls them
RETURNED = {
    "StableDiffusionPipeline": {"encoder_hidden_states": 0},
    "StableDiffusionXLPipeline": {"encoder_hidden_states": 0, "text_embeds": 2},
    "StableDiffusion3Pipeline": {"encoder_hidden_states": 0, "pooled_projections": 2},
    "PixArtAlphaPipeline": {"encoder_hidden_states": 0, "encoder_attention_mask": 1},
    "PixArtSigmaPipeline": {"encoder_hidden_states": 0, "encoder_attention_mask": 1},
}
PARTS = ("tokenizer", "text_encoder")
STEMS = ("model", "pytorch_model")  # of transformers' files of weights, .safetensors and .bin


def read_encoder(folder: Path, index: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Encode:
    """The text encoders of a pipeline's folder, of which `index` is the model_index.json.

    Raises:
        S4SError: if the pipeline is not one of RETURNED, or a part cannot be read.
    """
    parts = {
        name: read_part(folder / name, value[1], device, dtype)
        for name, value in index.items()
        if name.startswith(PARTS) and isinstance(value, list) and value[1]
    }
    return encoder(index["_class_name"], {**index, **parts}, device)


def read_part(folder: Path, kind: str, device: torch.device, dtype: torch.dtype) -> Any:
    """A tokenizer or text encoder of transformers.

    Raises:
        S4SError: if `kind` is no such class, or the folder cannot be read.
    """
    known: Any = getattr(transformers, kind, None)
    tokenizer = isinstance(known, type) and issubclass(known, transformers.PreTrainedTokenizerBase)
    if not tokenizer and not (isinstance(known, type) and issubclass(known, transformers.PreTrainedModel)):
        raise S4SError(f"{folder}: {kind!r} is no tokenizer or text encoder of transformers {transformers.__version__}")
    return read_settings_of(known, folder) if tokenizer else read_model(known, folder, dtype).to(device)


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


def check_pipeline(index: dict[str, Any]) -> None:
    """Refuse a pipeline whose text encoders are not read, or that was saved without one, by its model_index.json alone.

    Raises:
        S4SError: which is absent, or which pipelines are read.
    """
    there = [name for name, value in index.items() if isinstance(value, list) and value[-1]]
    _check_parts(index["_class_name"], there)


def _check_parts(kind: str, there: Collection[str]) -> None:
    if kind not in RETURNED:
        raise S4SError(f"the text encoders of a {kind} are not supported; prompts work with {', '.join(RETURNED)}")
    parameters = inspect.signature(getattr(diffusers, kind)).parameters
    needed = [name for name in parameters if name.startswith(PARTS) and parameters[name].default is inspect.Parameter.empty]
    if absent := [name for name in needed if name not in there]:
        raise S4SError(
            f"the text encoders of a {kind} need the folder of its {absent[0]} too; this one was saved without: get "
            f"{' and '.join(absent)} from its publisher, and let model_index.json name them"
        )


def encoder(kind: str, values: dict[str, Any], device: torch.device) -> Encode:
    """Texts to named tensors [n, ...], from the parts and settings of a pipeline of this kind that its text encoders need."""
    given = {name: value for name, value in values.items() if not isinstance(value, list)}
    _check_parts(kind, given)
    pipeline = getattr(diffusers, kind)
    taken = inspect.signature(pipeline).parameters
    given = {name: value for name, value in given.items() if name in taken}
    nothing = {name: None for name, parameter in taken.items() if parameter.default is parameter.empty}
    pipe = pipeline(**{**nothing, **given, **({"requires_safety_checker": False} if "safety_checker" in taken else {})})
    options = inspect.signature(pipeline.encode_prompt).parameters
    unused = {name: None for name in ("prompt_2", "prompt_3") if name in options}
    zeros_for_none = "force_zeros_for_empty_prompt" in taken and pipe.config.force_zeros_for_empty_prompt

    @torch.inference_mode()
    def encode(texts: list[str]) -> dict[str, Tensor]:
        returned = pipe.encode_prompt(
            texts, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False, **unused
        )
        rows = {name: returned[place] for name, place in RETURNED[kind].items()}
        if zeros_for_none:
            for row in rows.values():
                row[[text == "" for text in texts]] = 0
        return rows

    return encode
