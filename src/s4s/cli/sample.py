"""s4s sample: run a solver on a model."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s4s.cli.checks import check_file_name
from s4s.errors import S4SError, needed_for

if TYPE_CHECKING:
    from torch import Tensor

FORMS = (".png", ".npy", ".h5")
TILE, GAP = 64, 2  # pixels that a small image is enlarged to, and between images


def sample(
    model: Annotated[str, typer.Argument(help="The model: a name in config/models, or a path of its YAML file.")],
    tableau: Annotated[Path, typer.Argument(help="The solver's file, such as my-solver/nfe~5.json.")],
    out: Annotated[
        Path,
        typer.Option(help="A .png with all images, an .npy array, or an .h5 file; what is there is replaced."),
    ],
    count: Annotated[int, typer.Option(help="Number of samples.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Another seed is other noise.", min=0)] = 0,
    threads: Annotated[int, typer.Option(help="Of the CPU; 0 for all.", min=0)] = 0,
) -> None:
    """Sample a model with a solver, on a GPU of this machine or its CPU.

    The noise is that of the comparison's test with the same sampling seed. An .npy file holds what the model decodes to: images
    in -1 ... 1, [count, channels, height, width]. An .h5 file holds the states with their seeds; an interrupted one goes on.

    Example: `s4s sample digits my-solver/nfe~5.json --out digits.png --count 64`
    """
    from s4s.jobs.script import use_device

    check_file_name("--out", out, FORMS)
    device = use_device(threads or os.cpu_count() or 1)
    import numpy as np
    import torch

    from s4s import sampling
    from s4s.files.atomic import atomic_path
    from s4s.files.plain_text import in_one_line
    from s4s.models.load import load_model
    from s4s.models.model_files import identity
    from s4s.models.provenance import check, guidance
    from s4s.models.seeds import sample_seeds
    from s4s.tableau import Tableau

    solver, denoiser = Tableau.load(tableau), load_model(model, device)
    check(solver, denoiser, f"model {denoiser.name}")
    if (fitted := solver.meta.get("model", denoiser.name)) != denoiser.name:
        print(f"note: this solver was made for model {in_one_line(fitted)}, not for {denoiser.name}", file=sys.stderr)
    if (scale := guidance(solver)) not in (None, denoiser.guidance):
        print(f"note: this solver was fitted with guidance {scale:g}, but the model has {denoiser.guidance:g}", file=sys.stderr)
    seeds, form = sample_seeds("test", count, seed), out.suffix.lower()
    if form == ".h5":
        with needed_for("an .h5 file"):
            from s4s.learning.draw import draw_samples
        draw_samples(denoiser, solver, {f"test~{seed}": seeds}, denoiser.block, out, identity(model))
        return
    if form == ".png":
        _check_images(denoiser.decode(torch.zeros(1, *denoiser.shape, dtype=denoiser.dtype, device=device)), denoiser.name)
    y_T, condition = sampling.initial_noise(denoiser, seeds, float(solver.levels[0])), denoiser.conditions(seeds)
    y_0 = sampling.sample(denoiser, y_T, solver, condition, denoiser.block, show_progress=True, fill=True)
    decoded = denoiser.decode(y_0).cpu()
    with atomic_path(out) as path, path.open("wb") as file:
        if form == ".npy":
            np.save(file, decoded.numpy())
        else:
            _picture(decoded).save(file, "png")


def _check_images(decoded: Tensor, model: str) -> None:
    if decoded.ndim != 4 or decoded.shape[1] not in (1, 3):
        raise S4SError(f"what model {model} samples, {list(decoded.shape[1:])}, is no image; give --out a name in .npy or .h5")


def _picture(images: Tensor) -> Any:
    """One picture of all images [n, 1 or 3, height, width] in [-1, 1], row by row; small ones are enlarged."""
    import torch
    from PIL import Image

    from s4s.metrics.image_features import eight_bit

    times, columns = max(1, TILE // images.shape[-1]), math.ceil(math.sqrt(len(images)))
    large = eight_bit(images).repeat_interleave(times, 2).repeat_interleave(times, 3)
    tiles = torch.nn.functional.pad(large, (0, GAP, 0, GAP), value=255)
    _, channels, height, width = tiles.shape
    rows = math.ceil(len(tiles) / columns)
    blank = tiles.new_full((rows * columns - len(tiles), channels, height, width), 255)
    grid = torch.cat([tiles, blank]).view(rows, columns, channels, height, width)
    return Image.fromarray(grid.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels).numpy())
