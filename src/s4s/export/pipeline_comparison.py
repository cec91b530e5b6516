"""Whether a learned solver is better than what a pipeline has, on prompts and noise that no fit has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.files.rows import Split
from s4s.learning.losses import Distance
from s4s.metrics.global_error import distances
from s4s.models.pipelines.live import LivePipeline
from s4s.sampling import sample
from s4s.tableau import Tableau

FULL, LEARNED, OWN, CLASSICAL = "full run", "learned", "own scheduler", "best classical"
CLEARLY = 2.0  # standard errors of a mean difference
SHOWN, TILE, GAP, LINE = 4, 256, 4, 16  # pictures in a row, their largest side, and pixels between; of a line of text


@dataclass(frozen=True)
class Comparison:
    """Of solvers with as many evaluations, by name: how far each sample is from that of the full run.

    Attributes:
        nfe, passes: evaluations of a sample, and passes through the network.
        rms: of final states, root mean square [n] each; psnr: of what is decoded, dB [n] each; lpips: [n] each, where
            there are weights.
        names: what the solvers are, in words.
        seen: the prompts of the samples were in the fit too.
    """

    nfe: int
    passes: int
    rms: Mapping[str, np.ndarray]
    psnr: Mapping[str, np.ndarray]
    lpips: Mapping[str, np.ndarray]
    names: Mapping[str, str]
    seen: bool

    def better(self) -> str | None:
        """The solver that is clearly nearest to the full run, by the paired differences; None if two cannot be told apart."""
        error = self._errors()
        best = min((name for name in error if name != LEARNED), key=error.__getitem__)
        if math.inf in (error[best], error[LEARNED]):
            return None if error[best] == error[LEARNED] else min((LEARNED, best), key=error.__getitem__)
        difference = self.rms[best] - self.rms[LEARNED]
        deviation = difference.std(ddof=1) / math.sqrt(len(difference)) if len(difference) > 1 else math.inf
        if abs(difference.mean()) <= CLEARLY * deviation:
            return None
        return LEARNED if difference.mean() > 0 else best

    def _errors(self) -> dict[str, float]:
        """Of each solver, the mean; infinite where a sample is not finite."""
        means = {name: float(values.mean()) for name, values in self.rms.items()}
        return {name: mean if math.isfinite(mean) else math.inf for name, mean in means.items()}

    def verdict(self) -> str:
        """One sentence."""
        error = self._errors()
        others = {name: value for name, value in error.items() if name != LEARNED}
        best, winner = min(others, key=others.__getitem__), self.better()
        where = f"At {self.nfe} evaluations ({self.passes} passes)"
        if winner == LEARNED:
            times = "; ".join(
                f"{value / error[LEARNED]:.2f} times nearer than {self.names[name]}" for name, value in others.items()
            )
            return f"{where} the learned solver is nearer to the full run: {times}."
        if winner is None:
            return (
                f"{where} the learned solver and {self.names[best]} cannot be told apart "
                f"({error[LEARNED]:.3g} and {error[best]:.3g} from the full run)."
            )
        return (
            f"{where} the learned solver does not win: {self.names[best]} is nearer to the full run ({error[best]:.3g}, "
            f"learned {error[LEARNED]:.3g}); use that one, or fit with a larger budget."
        )

    def as_json(self) -> dict[str, Any]:
        """For a solver's meta and card."""
        measures = {"rms": self.rms, "psnr": self.psnr, "lpips": self.lpips}
        return {
            "samples": len(self.rms[LEARNED]), "passes": self.passes, "prompts_seen": self.seen, "names": dict(self.names),
            **{
                name: {solver: round(float(values.mean()), 6) for solver, values in found.items()}
                for name, found in measures.items() if found
            },
            "verdict": self.verdict(),
        }  # fmt: skip


@torch.no_grad()
def compare(
    denoiser: LivePipeline,
    full: Split,
    decoded_full: Tensor,
    learned: Tableau,
    classical: Tableau,
    names: Mapping[str, str],
    perceptual: Distance | None,
) -> tuple[Comparison, dict[str, Tensor]]:
    """Run all three and hold them against the full run.

    Args:
        full: pairs of the teacher whose noise no fit has seen; decoded_full: what they are decoded to.
        names: of OWN and CLASSICAL in words.
        perceptual: LPIPS, where its weights are there.
    Returns:
        The comparison, and what the first few samples are decoded to, by solver.
    """
    y_T = torch.as_tensor(full.y_T).to(denoiser.device)
    condition = None if full.condition is None else torch.as_tensor(full.condition)
    states = {
        LEARNED: sample(denoiser, y_T, learned, condition, denoiser.rows),
        OWN: denoiser.run_own_scheduler(y_T / denoiser.s_max, condition, learned.nfe),
        CLASSICAL: sample(denoiser, y_T, classical, condition, denoiser.rows),
    }
    decoded = {FULL: decoded_full, **{name: denoiser.decode(rows).cpu() for name, rows in states.items()}}
    rms = {name: distances(rows.cpu().numpy(), full.y_0) for name, rows in states.items()}
    psnr = {name: _psnr(rows, decoded[FULL]) for name, rows in decoded.items() if name != FULL}
    lpips = {}
    if perceptual is not None and decoded[FULL].ndim == 4:
        lpips = {name: _lpips(perceptual, rows, decoded[FULL]) for name, rows in decoded.items() if name != FULL}
    seen = denoiser.call.texts and denoiser.call.count < 4
    words = {LEARNED: "the learned solver", **names}
    found = Comparison(learned.nfe, learned.nfe * denoiser.passes, rms, psnr, lpips, words, seen)
    return found, {name: rows[:SHOWN] for name, rows in decoded.items()}


def _psnr(rows: Tensor, full: Tensor) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of values in [-1, 1], [n]."""
    error = (rows.double() - full.double()).flatten(1).square().mean(1)
    return (10 * torch.log10(4 / error.clamp_min(1e-12))).numpy()


def _lpips(distance: Distance, rows: Tensor, full: Tensor) -> np.ndarray:
    found = [
        float(distance.between(distance.blocks(a[None]), distance.blocks(b[None]))) for a, b in zip(rows, full, strict=True)
    ]
    return np.array(found)


def draw_grid(pictures: Mapping[str, Tensor], file: str | Path) -> None:
    """One PNG: a row for each solver, a column for each sample; of frames the middle one.

    Raises:
        S4SError: if what was decoded is no picture.
    """
    from PIL import Image, ImageDraw

    from s4s.files.atomic import atomic_path

    tiles = {name: [_tile(rows[i]) for i in range(len(rows))] for name, rows in pictures.items()}
    first = next(iter(tiles.values()))[0]
    width, height = first.size
    columns = max(len(row) for row in tiles.values())
    size = (columns * (width + GAP) - GAP, len(tiles) * (height + LINE + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    for i, (name, row) in enumerate(tiles.items()):
        top = i * (height + LINE + GAP)
        ImageDraw.Draw(sheet).text((2, top + 2), name, fill="black")
        for j, tile in enumerate(row):
            sheet.paste(tile, (j * (width + GAP), top + LINE))
    with atomic_path(file) as temporary:
        sheet.save(temporary, "png")


def _tile(decoded: Tensor) -> Any:
    from PIL import Image

    image = decoded[len(decoded) // 2] if decoded.ndim == 4 else decoded
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise S4SError(f"what is decoded, {list(decoded.shape)}, is no picture")
    values = ((image.float().expand(3, -1, -1) + 1) * 127.5).round().clamp(0, 255).byte()
    picture = Image.fromarray(values.movedim(0, -1).numpy())
    scale = TILE / max(picture.size)
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), resampling)
