"""Training of the embedded models: EDM's loss for the denoiser, cross-entropy for the feature network."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s4s.models.classifier import Classifier
from s4s.models.digits import Digits
from s4s.models.edm import EDMDenoiser, EDMPreconditioning, edm_loss
from s4s.models.unet import UNet
from s4s.progress import progress

S_MIN, S_MAX = 0.002, 80.0  # EDM's range of noise levels
LOG_S_MEAN, LOG_S_STD = -0.8, 1.4  # EDM's -1.2, 1.2, shifted up: at 8x8 the shape of a digit is decided at higher levels
SIGMA_DATA = 0.75  # standard deviation of the digits in [-1, 1]


def _learning_rate(step: int, steps: int, peak: float) -> float:
    warm_up = min(1.0, (step + 1) / 200)
    return peak * warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))


def _descend(
    parameters: list[nn.Parameter],
    loss_of_step: Callable[[int], Tensor],
    steps: int,
    peak: float,
    after_step: Callable[[], None],
    label: str,
) -> float:
    """Run AdamW with warm-up and cosine decay; return the seconds it took."""
    optimiser = torch.optim.AdamW(parameters, lr=peak, weight_decay=1e-3)
    start = time.perf_counter()
    with progress(total=steps, desc=label, unit="step") as bar:
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = _learning_rate(step, steps, peak)
            loss = loss_of_step(step)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            after_step()
            bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
            bar.update()
    return time.perf_counter() - start


def _denoiser(network: UNet) -> EDMDenoiser:
    return EDMDenoiser(network, EDMPreconditioning(SIGMA_DATA), name="digits", shape=(1, 8, 8), s_min=S_MIN, s_max=S_MAX)


def train_denoiser(digits: Digits, steps: int, batch: int = 128, seed: int = 0, width: int = 24) -> tuple[EDMDenoiser, dict]:
    """Train the U-Net on the training digits; return the averaged (EMA) denoiser and what to record about it."""
    torch.manual_seed(seed)
    settings = {"channels": 1, "width": width, "embedding": 64}
    network = UNet(**settings, dropout=0.05)
    denoiser = _denoiser(network)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    half_life = 0.03 * steps
    decay = 0.5 ** (1 / half_life)

    def loss_of_step(_: int) -> Tensor:
        images = digits.train[torch.randint(len(digits.train), (batch,))]
        s = torch.exp(LOG_S_MEAN + LOG_S_STD * torch.randn(batch))
        return edm_loss(denoiser, images, s, torch.randn_like(images), SIGMA_DATA)

    @torch.no_grad()
    def update_average() -> None:
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)

    seconds = _descend(list(network.parameters()), loss_of_step, steps, 2e-3, update_average, "train denoiser")
    averaged = _denoiser(average)
    generator = torch.Generator().manual_seed(1)
    losses = {}
    with torch.no_grad():
        for part, images in [("train", digits.train), ("held_out", digits.held_out)]:
            repeated = images.repeat(8, 1, 1, 1)
            s = torch.exp(LOG_S_MEAN + LOG_S_STD * torch.randn(len(repeated), generator=generator))
            noise = torch.randn(repeated.shape, generator=generator)
            losses[part] = edm_loss(averaged, repeated, s, noise, SIGMA_DATA).item()
    record = {
        "network": settings,
        "s_min": S_MIN,
        "s_max": S_MAX,
        "sigma_data": SIGMA_DATA,
        "shape": [1, 8, 8],
        "steps": steps,
        "batch": batch,
        "seed": seed,
        "loss": losses,
        "seconds": round(seconds),
    }
    return averaged, record


def train_classifier(digits: Digits, steps: int, batch: int = 128, seed: int = 0) -> tuple[Classifier, dict]:
    """Train the feature network on the training digits with a little noise; its accuracy is that on the held-out digits."""
    torch.manual_seed(seed)
    settings = {"classes": 10, "width": 32, "n_features": 32}
    network = Classifier(**settings)

    def loss_of_step(_: int) -> Tensor:
        rows = torch.randint(len(digits.train), (batch,))
        images = digits.train[rows] + 0.1 * torch.randn(batch, 1, 8, 8)
        return F.cross_entropy(network(images), digits.train_labels[rows], label_smoothing=0.05)

    seconds = _descend(list(network.parameters()), loss_of_step, steps, 2e-3, lambda: None, "train classifier")
    network.eval().requires_grad_(False)
    accuracy = (network(digits.held_out).argmax(1) == digits.held_out_labels).float().mean().item()
    return network, {
        "network": settings,
        "steps": steps,
        "batch": batch,
        "seed": seed,
        "held_out_accuracy": accuracy,
        "seconds": round(seconds),
    }
