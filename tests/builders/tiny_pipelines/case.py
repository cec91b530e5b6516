"""One tiny pipeline, and how it is called."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from diffusers import DiffusionPipeline


class Needed(Exception):
    """A package that a case needs and that is not there."""


@dataclass(frozen=True)
class Case:
    """`make` builds the pipeline in float32 on the CPU; `pipe(prompts, num_inference_steps=2, **call)` runs it.

    prompts: texts or class labels, all different; None where the pipeline takes none, or takes embeddings in `call`.
    apart: why a row of a batch differs from the same row alone; empty where it does not.
    together: whether diffusers' own code can run more than one prompt at a time.
    """

    make: Callable[[], DiffusionPipeline]
    call: dict[str, Any] = field(default_factory=dict)
    prompts: list[str] | list[int] | None = None
    apart: str = ""
    together: bool = True
    needs: str = ""  # a package that it needs and that is no requirement of ours
    fetched: str = ""  # where the pipeline's folder comes from when it is not made here

    @property
    def missing(self) -> bool:
        """Whether the package that it needs is absent."""
        return bool(self.needs) and find_spec(self.needs) is None
