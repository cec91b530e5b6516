"""Networks that were distilled to few steps: a teacher of many steps has nothing to teach for them. Found by measuring."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.models.denoiser import Denoiser
from s4s.sampling import sample
from s4s.tableau import Tableau

TOWARDS = 0.2  # cosine between what doubling the steps changes and what many steps change
SAMPLE_LIKE = 0.25  # variance of first estimates over that of final samples; 0.01 to 0.04 for digits and patches-latent
DENOISES = 0.35  # squared error at a level as large as the samples, against that of the noise
REMEDY = (
    "its network was distilled to few steps (LCM, Lightning, Turbo and the like), and a teacher of many steps has nothing to "
    "teach there; use it with its own scheduler, or fit the model that it was distilled from (without its LoRA)"
)


@torch.no_grad()
def check_teaches(
    denoiser: Denoiser, y_T: Tensor, condition: Tensor | None, many: Tensor, few: Tableau, double: Tableau, rows: int
) -> None:
    """Refuse a model whose teacher of many steps leads elsewhere than few steps do.

    Two things tell. Doubling a few steps must lead towards what many steps give. And at full noise a diffusion model knows
    nothing of the sample, so that its estimate D(y_T) is nearly the same for any noise, where the condition is; one of a
    distilled model is a whole sample already, and varies as final samples do. That says something of a network only that does
    denoise: with noise as large as the samples, its error is well below what scaling alone (Wiener's 1/2) would leave.

    Args:
        y_T: initial noise [B, *shape], B at least 2. many: final samples of the teacher from it.
        few, double: a solver with few evaluations, and with twice as many.
        rows: states at a time through the network.
    Raises:
        S4SError: which of the two it is.
    """
    few_steps, twice = (sample(denoiser, y_T, tableau, condition, rows) for tableau in (few, double))
    change, wanted = (twice - few_steps).flatten().double(), (many - few_steps).flatten().double()
    if wanted.norm() > 1e-6 * many.norm():
        towards = float(change @ wanted / (change.norm() * wanted.norm()).clamp_min(1e-30))
        if towards < TOWARDS:
            raise S4SError(
                f"model {denoiser.name}: {double.nfe} steps instead of {few.nfe} do not lead towards what many give (cosine "
                f"{towards:.2f}): {REMEDY}"
            )
    if _error(denoiser, many, condition, rows) > DENOISES:
        return
    alike = None if condition is None else condition[:1].expand(len(condition), *condition.shape[1:])
    variance = _variance(_asked(denoiser, y_T, denoiser.s_max, alike, rows)) / _variance(many)
    if variance > SAMPLE_LIKE:
        raise S4SError(
            f"model {denoiser.name}: its first estimate from pure noise varies as whole samples do ({variance:.2f} of their "
            f"variance): {REMEDY}"
        )


def _error(denoiser: Denoiser, samples: Tensor, condition: Tensor | None, rows: int) -> float:
    """Mean squared error of D on samples with noise of their own size, over the square of that size."""
    level = float(samples.std().clamp(denoiser.s_min, denoiser.s_max))
    noise = torch.randn(samples.shape, generator=torch.Generator().manual_seed(0)).to(samples)
    found = _asked(denoiser, samples + level * noise, level, condition, rows)
    return float((found - samples).double().square().mean() / level**2)


def _asked(denoiser: Denoiser, y: Tensor, s: float, condition: Tensor | None, rows: int) -> Tensor:
    conditions = [None] * len(y) if condition is None else condition.split(rows)
    return torch.cat([denoiser(some, s, own) for some, own in zip(y.split(rows), conditions, strict=False)])


def _variance(rows: Tensor) -> float:
    """Over the rows, mean of all components."""
    return float((rows.double() - rows.double().mean(0)).square().mean().clamp_min(1e-30))
