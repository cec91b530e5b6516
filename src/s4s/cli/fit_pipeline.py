"""s4s fit of a pipeline of diffusers, from its folder or a single file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from s4s.cli.checks import check_folder
from s4s.errors import S4SError
from s4s.models.weight_formats import CHECKPOINTS

OF_PIPELINES = ("prompts", "guidance", "size", "dtype", "device", "variant", "lora", "config_folder", "budget")
OF_MODELS = ("solver", "config", "val", "distance", "pairs")
MOST = 1000  # evaluations


def is_pipeline(model: str) -> bool:
    """Whether the argument is the folder, the file or owner/name of a pipeline; else it is a model's name or its YAML file."""
    path = Path(model).expanduser()
    if path.suffix.lower() in (".yaml", ".yml"):
        return False
    return path.suffix.lower() in CHECKPOINTS or (path / "model_index.json").is_file() or "/" in model


def check_options(given: Iterable[str], pipeline: bool) -> None:
    """Refuse options of the other form of the command.

    Raises:
        S4SError: which one, and what it belongs to.
    """
    others = OF_MODELS if pipeline else OF_PIPELINES
    if wrong := [name for name in given if name in others]:
        own = ", ".join(_option(name) for name in (OF_PIPELINES if pipeline else OF_MODELS))
        forms = ("a model of config/models", "a pipeline (a folder with model_index.json, or a single file)")
        raise S4SError(f"{_option(wrong[0])} belongs to {forms[not pipeline]}; {forms[pipeline]} takes {own}")


def numbers(given: Sequence[str]) -> list[int]:
    """Numbers of evaluations, each once and sorted, of texts such as 5, 4-8 and 4,6.

    Raises:
        S4SError: if one is no such text.
    """
    found: set[int] = set()
    for part in (part.strip() for text in given for part in text.split(",")):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= MOST:
            raise S4SError(f"--nfe {part}: must be a number from 1 to {MOST}, a range such as 4-8, or a list such as 4,6")
        found.update(range(first, last + 1))
    return sorted(found)


def size(text: str) -> dict[str, int]:
    """Height and width in pixels, of 512 or 512x768.

    Raises:
        S4SError: if it is no such text.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text.lower(), re.ASCII)
    if match is None:
        raise S4SError(f"--size {text}: must be one number of pixels, such as 512, or height x width, such as 512x768")
    return {"height": int(match[1]), "width": int(match[2] or match[1])}


def fit_of_pipeline(
    path: str,
    nfe: list[int],
    out: Path,
    *,
    prompts: Path | None,
    guidance: float | None,
    pixels: dict[str, int],
    dtype: str,
    device: str,
    variant: str | None,
    lora: Sequence[Path],
    config_folder: Path | None,
    pairs: int | None,
    budget: str | None,
) -> None:
    """Load the pipeline, and learn a solver for each number of evaluations.

    Raises:
        S4SError: what `load_pipeline` and `fit_pipeline` refuse.
    """
    check_folder("--out", out)
    texts = None if prompts is None else _prompts(prompts)
    from s4s.export import pipeline_fit
    from s4s.models.pipelines.loading import load_pipeline

    call: dict[str, Any] = {**({} if guidance is None else {"guidance_scale": guidance}), **pixels}
    pipe = load_pipeline(path, dtype=dtype, device=device, variant=variant, config=config_folder, lora=lora)
    pipeline_fit.fit_pipeline(pipe, nfe=nfe, prompts=texts, pairs=pairs, budget=budget, out=out, **call)


def _prompts(path: Path) -> list[str]:
    """Those of a file, which may be another at each command."""
    from s4s.files.checksum import file_digest
    from s4s.models.description import WeightFile
    from s4s.models.pipelines.prompts import read_prompts

    if not path.is_file():
        raise S4SError(f"--prompts {path}: no such file; one prompt a line, or COCO's captions")
    return read_prompts(WeightFile(path=path, sha256=file_digest(path)))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
