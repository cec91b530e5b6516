"""What the embedded models are: data, network, what it predicts on which path, and how long it is trained. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Recipe:
    """One denoiser.

    Attributes:
        dataset: name in DATASETS.
        network: its class, and `options` of it.
        prediction: what the network gives: EDM's mixture of noise and data, or that of a PredictingDenoiser on `path`.
        times: the network's time at t = 1, with a path.
        sigma_data: standard deviation of states, with EDM's preconditioning.
        log_s: mean and standard deviation of ln s in training. EDM's are -1.2 and 1.2.
        classes: number of classes, if it is conditioned on them; in a tenth of the training it is given none.
        autoencoder: whether states are latents of the autoencoder beside it.
        turned: whether the networks of scores and of fits tell rotations apart, since the images have no classes.
        steps, batch, learning_rate, dropout: of the training.
    """

    dataset: str
    network: Literal["UNet", "Transformer", "MLP"]
    options: dict[str, Any]
    shape: tuple[int, ...]
    prediction: Literal["edm", "v_prediction", "flow"] = "edm"
    path: Literal["edm", "vp_linear", "flow"] = "edm"
    times: float = 1.0
    sigma_data: float = 1.0
    log_s: tuple[float, float] = (-0.8, 1.4)
    s_min: float = 0.002
    s_max: float = 80.0
    classes: int | None = None
    autoencoder: bool = False
    turned: bool = False
    steps: int = 5000
    batch: int = 128
    learning_rate: float = 2e-3
    dropout: float = 0.05

    def record(self) -> dict[str, Any]:
        """What is written beside the weights."""
        return asdict(self)


RECIPES = {
    # at 8x8 the shape of a digit is decided at higher levels than EDM's
    "digits": Recipe(
        "digits", "UNet", {"channels": 1, "width": 24, "embedding": 64}, (1, 8, 8), sigma_data=0.75,
    ),
    "digits-cond": Recipe(
        "digits", "Transformer", {"classes": 10, "width": 64, "depth": 4}, (1, 8, 8), prediction="v_prediction",
        path="vp_linear", times=4.0, s_min=0.01, classes=10, steps=6000, learning_rate=1e-3, dropout=0.1,
    ),
    "patches-latent": Recipe(
        "patches", "UNet", {"channels": 4, "width": 32, "embedding": 64}, (4, 8, 8), prediction="flow", path="flow", times=4.0,
        autoencoder=True, turned=True, steps=8000,
    ),
    "tabular": Recipe(
        "breast_cancer", "MLP", {"features": 30, "width": 128, "depth": 3}, (30,), steps=4000, dropout=0.2, learning_rate=1e-3,
    ),
}  # fmt: skip

# the files that training an embedded model makes; digits-cond is scored with the networks of digits
EMBEDDED_FILES = {
    "digits": ["denoiser.safetensors", "classifier.safetensors", "perceptual.safetensors"],
    "digits-cond": ["denoiser.safetensors"],
    "patches-latent": [
        "denoiser.safetensors", "autoencoder.safetensors", "classifier.safetensors", "perceptual.safetensors",
    ],
    "tabular": ["denoiser.safetensors", "held_out.npz"],
    "mixture": ["denoiser.safetensors", "held_out.npz"],
}  # fmt: skip
