"""Training of the embedded models: the denoiser, the autoencoder of latent ones, and the networks of scores and of fits."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s4s.jobs.progress_bar import progress
from s4s.models.denoiser import Denoiser, as_column
from s4s.models.embedded.autoencoder import Autoencoder
from s4s.models.embedded.classifier import Classifier
from s4s.models.embedded.datasets import RealData
from s4s.models.embedded.mixture import IndependentMixture
from s4s.models.embedded.recipes import Recipe
from s4s.models.embedded.weights import NETWORKS, assemble

UNCONDITIONAL = 0.1  # share of the training in which a conditional network sees the label of no class (Ho & Salimans 2022)
KL_WEIGHT = 1e-4  # of a latent's divergence from unit noise, against the error of a pixel


def descend(
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


def _learning_rate(step: int, steps: int, peak: float) -> float:
    warm_up = min(1.0, (step + 1) / 200)
    return peak * warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))


def denoising_loss(
    denoiser: Denoiser, recipe: Recipe, states: Tensor, s: Tensor, noise: Tensor, condition: Tensor | None = None
) -> Tensor:
    """Mean squared error of what the network itself gives, from the error of D; states and noise [B, *shape], s [B].

    With D = c_skip y + c_out F, an error of F is that of D over c_out. For EDM that is its own weighted loss (Karras et al.
    2022, arXiv 2206.00364); v prediction on a variance-preserving path has c_out^2 = s^2/(1 + s^2), flow c_out = t = s/(1 + s).
    """
    column = as_column(s, states)
    c_out = {
        "edm": column * recipe.sigma_data * (column**2 + recipe.sigma_data**2).rsqrt(),
        "v_prediction": column * (1 + column**2).rsqrt(),
        "flow": column / (1 + column),
    }[recipe.prediction]
    return torch.mean(((denoiser(states + column * noise, s, condition) - states) / c_out) ** 2)


def _levels(recipe: Recipe, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Noise levels of a training, [count]."""
    mean, deviation = recipe.log_s
    return torch.exp(mean + deviation * torch.randn(count, generator=generator)).clamp(recipe.s_min, recipe.s_max)


def train_denoiser(
    name: str, recipe: Recipe, data: RealData, steps: int | None = None, seed: int = 0
) -> tuple[nn.Module, dict[str, Any]]:
    """Train a denoiser's network on the training states; return the averaged (EMA) network and what to record about it.

    Args:
        data: states and labels; latents, for a model of latents.
        steps: instead of the recipe's.
    """
    torch.manual_seed(seed)
    steps, batch = steps or recipe.steps, recipe.batch
    network = NETWORKS[recipe.network](**recipe.options, dropout=recipe.dropout)
    denoiser = assemble(network, recipe.record(), name)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    half_life = 0.03 * steps
    decay = 0.5 ** (1 / half_life)

    def loss_of_step(_: int) -> Tensor:
        rows = torch.randint(len(data.train), (batch,))
        states, condition = data.train[rows], None
        if recipe.classes is not None:
            condition = torch.where(torch.rand(batch) < UNCONDITIONAL, recipe.classes, data.train_labels[rows])
        return denoising_loss(denoiser, recipe, states, _levels(recipe, batch), torch.randn_like(states), condition)

    @torch.no_grad()
    def update_average() -> None:
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)

    seconds = descend(
        list(network.parameters()), loss_of_step, steps, recipe.learning_rate, update_average, f"train {name}'s denoiser"
    )
    averaged = assemble(average, recipe.record(), name)
    generator = torch.Generator().manual_seed(1)
    losses = {}
    with torch.no_grad():
        for part, states, labels in [
            ("train", data.train, data.train_labels), ("held_out", data.held_out, data.held_out_labels)
        ]:  # fmt: skip
            total = 0.0
            for _ in range(passes := max(1, 8192 // len(states))):
                s = _levels(recipe, len(states), generator)
                noise = torch.randn(states.shape, generator=generator)
                rows = zip(states.split(1024), s.split(1024), noise.split(1024), labels.split(1024), strict=True)
                for x, level, n, label in rows:
                    condition = label if recipe.classes is not None else None
                    total += denoising_loss(averaged, recipe, x, level, n, condition).item() * len(x) / len(states) / passes
            losses[part] = total
    return average, {**recipe.record(), "steps": steps, "seed": seed, "loss": losses, "seconds": round(seconds)}


def train_classifier(
    name: str, data: RealData, options: dict[str, Any], steps: int, batch: int = 128, seed: int = 0
) -> tuple[Classifier, dict[str, Any]]:
    """Train a feature network on the training images with a little noise; its accuracy is that on the held-out images."""
    torch.manual_seed(seed)
    network = Classifier(**options)

    def loss_of_step(_: int) -> Tensor:
        rows = torch.randint(len(data.train), (batch,))
        images = data.train[rows] + 0.1 * torch.randn(batch, *data.train.shape[1:])
        return F.cross_entropy(network(images), data.train_labels[rows], label_smoothing=0.05)

    seconds = descend(list(network.parameters()), loss_of_step, steps, 2e-3, lambda: None, f"train {name}")
    network.eval().requires_grad_(False)
    found = torch.cat([network(images).argmax(1) for images in data.held_out.split(256)])
    accuracy = (found == data.held_out_labels).float().mean().item()
    return network, {
        "network": options,
        "steps": steps,
        "batch": batch,
        "seed": seed,
        "held_out_accuracy": accuracy,
        "seconds": round(seconds),
    }


def train_autoencoder(
    data: RealData, options: dict[str, Any], steps: int, batch: int = 64, seed: int = 0
) -> tuple[Autoencoder, dict[str, Any]]:
    """Train an autoencoder on images and their mirror images: absolute error of pixels and a little of the latents' divergence.

    Afterwards its scale brings the training latents to unit standard deviation. The record's error is that of held-out pixels.
    """
    torch.manual_seed(seed)
    network = Autoencoder(**options)

    def loss_of_step(_: int) -> Tensor:
        images = data.train[torch.randint(len(data.train), (batch,))]
        images = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, images.flip(3), images)
        mean, log_variance = network.encode(images)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        latents = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return (network.decode(latents) - images).abs().mean() + KL_WEIGHT * divergence

    seconds = descend(list(network.parameters()), loss_of_step, steps, 2e-3, lambda: None, "train autoencoder")
    network.eval().requires_grad_(False)
    deviation = torch.cat([network.encode(images)[0] for images in data.train.split(256)]).std().item()
    network.scale = 1 / deviation
    errors = [
        (network.decode(network.encode(images)[0]) - images).square().mean((1, 2, 3)) for images in data.held_out.split(256)
    ]
    error = torch.cat(errors).mean().item()
    return network, {
        "network": {**options, "scale": network.scale},
        "steps": steps,
        "batch": batch,
        "seed": seed,
        "held_out_psnr_db": 10 * math.log10(4 / error),
        "seconds": round(seconds),
    }


def train_mixture(data: RealData, components: int = 16, parts: int = 3) -> tuple[IndependentMixture, dict[str, Any]]:
    """An exact denoiser near real data: mixtures of some Gaussians, one for each leading principal component."""
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    projected = PCA(components, random_state=0).fit_transform(data.train.flatten(1).double().numpy())
    fits = [GaussianMixture(parts, random_state=0, reg_covar=1e-4).fit(column[:, None]) for column in projected.T]
    weights = torch.stack([torch.from_numpy(fit.weights_) for fit in fits])
    means = torch.stack([torch.from_numpy(fit.means_[:, 0]) for fit in fits])
    deviations = torch.stack([torch.from_numpy(fit.covariances_[:, 0, 0]).sqrt() for fit in fits])
    return IndependentMixture(weights, means, deviations), {"network": "mixture", "dataset": "digits", "parts": parts}


@torch.no_grad()
def latents_of(data: RealData, network: Autoencoder) -> RealData:
    """Latents of images, and of the training part's mirror images too."""

    def encode(images: Tensor) -> Tensor:
        return torch.cat([network.encode(rows)[0] for rows in images.split(256)])

    train = torch.cat([encode(data.train), encode(data.train.flip(3))])
    return RealData(train, data.train_labels.repeat(2), encode(data.held_out), data.held_out_labels)
