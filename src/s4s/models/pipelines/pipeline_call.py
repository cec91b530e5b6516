"""How a pipeline is called for some of its prompts: which argument has a value for each row, and which is for all."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from s4s.errors import S4SError, must_be

PROMPT = re.compile(r"(negative_)?prompt(_\d)?")  # texts: a list of as many as there are rows
EMBEDDED = re.compile(r"(?!ip_adapter).*(embeds|attention_mask|embeds_mask)(_\d)?")  # tensors with a row for each prompt
IMAGES = re.compile(r"(control_|mask_|condition_)?(image|video)|class_labels")
OURS = {  # arguments that are not the caller's, and why
    "prompt": "texts are given as prompts",
    "generator": "noise comes from the seeds of samples",
    "num_inference_steps": "solvers have numbers of steps of their own",
    "timesteps": "solvers have times of their own",
    "sigmas": "solvers have levels of their own",
    "latents": "noise comes from the seeds of samples",
    "output_type": "states are decoded by denoiser.decode",
    "return_dict": "states are decoded by denoiser.decode",
    "callback_on_step_end": "a learned solver has no steps yet",
    "num_images_per_prompt": "each sample is a row of its own",
    "num_videos_per_prompt": "each sample is a row of its own",
}


class PipelineCall:
    """The arguments of `pipe(...)` for rows of prompts.

    Args:
        pipe: the pipeline.
        prompts: one text or several, or classes, over which samples go round; None for a pipeline without.
        given: what else it is called with. A list of as many values as there are prompts has one for each, where the argument
            is a prompt's, an image or an embedding; a tensor of embeddings has a row for each.
    Attributes:
        count: number of prompts, 1 where there are none.
    Raises:
        S4SError: if an argument is not the pipeline's, or not the caller's.
    """

    def __init__(self, pipe: Any, prompts: Any, given: Mapping[str, Any]):
        self.name = type(pipe).__name__
        self.parameters = inspect.signature(type(pipe).__call__).parameters
        if ours := [name for name in given if name in OURS]:
            raise S4SError(f"{ours[0]} cannot be given with a pipeline: {OURS[ours[0]]}; leave it out")
        if unknown := [name for name in given if name not in self.parameters]:
            known = ", ".join(name for name in self.parameters if name not in ("self", *OURS))
            raise S4SError(f"a {self.name} takes no {unknown[0]}; it takes {known}")
        rows = [name for name in ("prompt", "class_labels", "batch_size") if name in self.parameters]
        self.rows_in = rows[0] if rows else None
        if prompts is not None and self.rows_in in (None, "batch_size"):
            raise S4SError(f"a {self.name} takes no prompts; leave them out")
        self.prompts = None if prompts is None else self._listed(prompts)
        self.given = dict(given)
        embedded = self._embedded()
        self.texts = bool(self.prompts) or embedded > 0
        self.count = len(self.prompts) if self.prompts else max(1, embedded)
        if self.prompts is None and self.rows_in == "class_labels" and "class_labels" not in given:
            raise S4SError(f"a {self.name} needs classes; give their numbers as prompts, such as prompts=[1, 207]")

    def _listed(self, prompts: Any) -> list[Any]:
        listed = [prompts] if isinstance(prompts, str | int) else list(prompts) if isinstance(prompts, Sequence) else []
        kind = int if self.rows_in == "class_labels" else str
        words = "a number of a class, or a list of such" if kind is int else "a text, or a list of texts"
        must_be(
            "prompts",
            prompts,
            bool(listed) and all(type(prompt) is not bool and isinstance(prompt, kind) for prompt in listed),
            words,
        )
        return listed

    def _embedded(self) -> int:
        """The number of prompts whose embeddings are given; 0 for none."""
        counts = {
            name: len(value)
            for name, value in self.given.items()
            if EMBEDDED.fullmatch(name) and name.startswith("prompt") and isinstance(value, Tensor | list)
        }
        if len({*counts.values()}) > 1:
            raise S4SError(f"embeddings of different numbers of prompts: {counts}")
        return next(iter(counts.values()), 0)

    def guidance(self) -> float:
        """The scale of guidance that a solver's file names: the one given, else the pipeline's own; 1 for none."""
        for name in ("true_cfg_scale", "guidance_scale"):
            if name in self.given or (name in self.parameters and name == "guidance_scale"):
                value = self.given.get(name, self.parameters[name].default)
                return float(value) if isinstance(value, int | float) else 1.0
        return 1.0

    def arguments(self, numbers: Sequence[int], steps: int, output_type: str = "latent") -> dict[str, Any]:
        """For rows of prompts with these numbers. What a pipeline draws by itself is the same for each row."""
        rows = len(numbers)
        made = {name: self._for_rows(name, value, numbers) for name, value in self.given.items()}
        if self.prompts is not None and self.rows_in is not None:
            chosen = [self.prompts[n] for n in numbers]
            made[self.rows_in] = chosen[0] if rows == 1 and self.rows_in == "prompt" else chosen
        elif self.rows_in == "batch_size":
            made["batch_size"] = rows
        elif not self.texts:
            made |= {name: rows for name in ("num_images_per_prompt", "num_videos_per_prompt") if name in self.parameters}
        if "num_inference_steps" in self.parameters:
            made["num_inference_steps"] = steps
        if "output_type" in self.parameters:
            made["output_type"] = output_type
        if "generator" in self.parameters:
            generators = [torch.Generator().manual_seed(0) for _ in numbers]
            made["generator"] = generators if rows > 1 else generators[0]
        return made

    def _for_rows(self, name: str, value: Any, numbers: Sequence[int]) -> Any:
        rows = len(numbers)
        if PROMPT.fullmatch(name) and isinstance(value, str):
            return value if rows == 1 else [value] * rows
        if PROMPT.fullmatch(name) and isinstance(value, list | tuple):
            self._check_rows(name, len(value))
            chosen = [value[n if len(value) > 1 else 0] for n in numbers]
            return chosen[0] if rows == 1 else chosen
        if EMBEDDED.fullmatch(name) and isinstance(value, Tensor | list):
            self._check_rows(name, len(value))
            rows_of = [n if len(value) > 1 else 0 for n in numbers]
            return value[rows_of] if isinstance(value, Tensor) else [value[n] for n in rows_of]
        if IMAGES.fullmatch(name) and self.count > 1 and isinstance(value, list | tuple) and len(value) == self.count:
            return value[numbers[0]] if rows == 1 else [value[n] for n in numbers]
        return value

    def _check_rows(self, name: str, found: int) -> None:
        if found not in (1, self.count):
            raise S4SError(f"{name} has {found} rows for {self.count} prompts; give one for each, or one for all")
