"""The networks that DyWeight's and EPD's samplers were fitted for, as their loops see them.

Both grew out of zju-pi/diff-sampler, whose names of data sets they kept. Their loops work on states x = y at noise levels, on
pixels and on latents alike, but for flow matching, where x = (1 - t) y and levels are times t. There the network is fed x
itself, whatever time it is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch

from s4s.errors import S4SError
from s4s.export.zoo.log_alpha import log_alpha_at, log_alphas
from s4s.export.zoo.transcript import Feed
from s4s.models.load import Outline
from s4s.models.paths import PURE_NOISE, VE, FlowMatching, Path, VPDiscrete

PIXELS = 0.002, 80.0
# of each data set: the model in config/models, and the levels of the network
DATASETS = {
    "cifar10": ("cifar10", *PIXELS), "ffhq": ("ffhq", *PIXELS), "afhqv2": ("afhqv2", *PIXELS),
    "imagenet64": ("imagenet64", *PIXELS), "lsun_bedroom_ldm": ("lsun_bedrooms", 0.038759, 83.8225),
    "ms_coco": ("sd15", 0.0291675, 14.6146),
}  # fmt: skip


class Network(Protocol):
    """A network as their loops see it.

    Attributes:
        sigma_min, sigma_max: the levels between which schedules run.
        s_max: the noise level of y_0.
    """

    sigma_min: float
    sigma_max: float
    s_max: float

    def start(self, t: float) -> float:
        """The loop's first state, at its level t, as a multiple of y_0."""

    def level(self, t: float) -> float:
        """Noise level s of a state at their level t."""

    def feed(self, told: float, gain: float) -> Feed:
        """Of an evaluation that is told `told`, whose noise estimate (flow: velocity) times `gain` is the direction."""


class Pixels:
    """EDM's networks: told the noise level and fed y."""

    def __init__(self, model: Outline):
        self.sigma_min, self.sigma_max = PIXELS
        self.s_max = model.s_max

    def start(self, t: float) -> float:
        return t / self.s_max

    def level(self, t: float) -> float:
        return t

    def feed(self, told: float, gain: float) -> Feed:
        return Feed(told, 1.0, gain / told, gain / told)


class Latents:
    """Networks of latent diffusion, told the time k, a real number, of a table whose ln alpha is interpolated linearly.

    Here ln s is: the same time is then another level s~, and the state that is fed, x/sqrt(1 + t^2), another multiple of y.
    """

    def __init__(self, model: Outline):
        self.path: VPDiscrete = model.path
        self.log_alpha = log_alphas(self.path)
        self.sigma_min, self.sigma_max = self.sigma(1e-3), self.sigma(1.0)
        self.s_max = model.s_max

    def start(self, t: float) -> float:
        return t / self.s_max

    def sigma(self, share: float) -> float:
        """Noise level at a share of the time, that of entry k being (k + 1)/T."""
        k = torch.tensor(share * len(self.log_alpha) - 1, dtype=torch.float64)
        return float(torch.expm1(-2 * log_alpha_at(self.log_alpha, k)).sqrt())

    def time(self, sigma: float) -> float:
        """The time k at which the noise level is sigma; beyond the table the first or last piece goes on."""
        log_alpha = torch.tensor(-math.log1p(sigma**2) / 2, dtype=torch.float64)
        above = int(torch.searchsorted(-self.log_alpha, -log_alpha))
        left = min(max(above - 1, 0), len(self.log_alpha) - 2)
        first, second = self.log_alpha[left : left + 2]
        return left + float((log_alpha - first) / (second - first))

    def level(self, t: float) -> float:
        return t

    def feed(self, told: float, gain: float) -> Feed:
        level = float(self.path.s_of_t(torch.tensor(self.time(told), dtype=torch.float64)))
        return Feed(level, math.sqrt((1 + level**2) / (1 + told**2)), gain / level, gain / level)


class Flow:
    """Networks of rectified flow, told the time and fed x = (1 - t) y."""

    def __init__(self, model: Outline):
        self.sigma_min, self.sigma_max, self.s_max = 0.0, 1.0, model.s_max

    def start(self, t: float) -> float:
        return 1 / self.s_max

    def level(self, t: float) -> float:
        return t / (1 - t) if t < 1 else self.s_max

    def feed(self, told: float, gain: float) -> Feed:
        if told > 1:
            raise S4SError(
                f"it tells the network the time {told:.4g}, beyond the path's last, 1, where all is noise; no tableau can"
            )
        level = told / (1 - told) if told < 1 else PURE_NOISE
        return Feed(level, 1 + level, gain / level, gain / told)


KINDS: dict[str, tuple[type[Path], Callable[[Outline], Network], str | None]] = {
    "edm": (VE, Pixels, None),
    "ldm": (VPDiscrete, Latents, "epsilon"),
    "flow": (FlowMatching, Flow, "flow"),
}


class Fitted(NamedTuple):
    """What a file says that it was fitted for.

    Attributes:
        dataset: in the repository's words. network: the same in ours. guidance: scale, None for none.
    """

    dataset: str
    network: str
    guidance: float | None

    def meta(self) -> dict[str, Any]:
        """The same, as a tableau's meta says it."""
        guided = {} if self.guidance is None else {"guidance": self.guidance}
        return {"fitted_for": self.network, "dataset": self.dataset, **guided}


def network_of(fitted: Fitted, kind: str, model: Outline, guidance: float | None) -> Network:
    """The network that a solver was fitted for, as far as can be told that of `model`.

    Args:
        kind: one of KINDS.
        guidance: with which the model is used, None where nobody said.
    Raises:
        S4SError: if it is another one, or the guidance is another.
    """
    path, network, prediction = KINDS[kind]
    told_levels = kind == "edm" and model.parametrisation.get("path", "edm") == "edm"  # whatever path its schedules count in
    name, lowest, highest = DATASETS[fitted.dataset]
    if kind == "flow":
        name, lowest, highest = fitted.network, model.s_min, model.s_max
    whose = f"it was fitted for {fitted.network}"
    if not (told_levels or type(model.path) is path) or model.parametrisation.get("prediction", prediction) != prediction:
        has = model.parametrisation.get("prediction")
        predicts = f" and predicts {has}" if has else ""
        raise S4SError(f"{whose}, on the path {path.kind}; model {model.name} is on {model.path.kind}{predicts}")
    if model.name != name and model.name in {other for other, *_ in DATASETS.values()}:
        raise S4SError(f"{whose}, not for {model.name}; take that model, or a solver for this one")
    if abs(model.s_min / lowest - 1) > 1e-3 or abs(model.s_max / highest - 1) > 1e-3:
        raise S4SError(
            f"{whose}, with noise levels {highest:.6g} to {lowest:.6g}; model {model.name} covers {model.s_max:.6g} to "
            f"{model.s_min:.6g}"
        )
    if guidance is not None and guidance != (fitted.guidance if fitted.guidance is not None else 1.0):
        raise S4SError(f"{whose} with guidance {fitted.guidance or 'none'}, not {guidance:g}; use that")
    return network(model)
