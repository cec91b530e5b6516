"""What the configs of diffusers' own schedulers, and a tableau's meta, say of a network, as settings of S4SScheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s4s.errors import S4SError
from s4s.models.pipelines.scheduler_config import OF_TABLE, ours, path_of_betas, understood
from s4s.models.provenance import describes, part
from s4s.tableau import Tableau

FLOW = {"path_type": "flow", "use_flow_sigmas": True}
OF_KIND: dict[str, dict[str, Any]] = {
    "vp": {}, "flow": FLOW, "edm": {"path_type": "edm"}, "cosine": {"path_type": "cosine"}
}  # fmt: skip
TAKEN = {
    "vp": (*OF_TABLE, "prediction_type"),
    "flow": ("num_train_timesteps", "prediction_type", "invert_sigmas"),
    "edm": ("sigma_data", "prediction_type"),
    "cosine": ("prediction_type",),
}
STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
KNOWN_BETAS: tuple[dict[str, Any], ...] = (
    STABLE_DIFFUSION,
    {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},  # DDPM, DiT, PixArt
    {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195},  # latent diffusion: faces, bedrooms, ImageNet
    {"beta_schedule": "squaredcos_cap_v2"},
    {**STABLE_DIFFUSION, "rescale_betas_zero_snr": True},  # NoobAI's v-prediction; CogVideoX 5B
    {**STABLE_DIFFUSION, "rescale_betas_zero_snr": True, "snr_shift_scale": 3.0},  # CogVideoX 2B
)


def translated(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that one of diffusers' own schedulers stands for; none for a config of S4SScheduler.

    Raises:
        S4SError: if its noise schedule is not supported.
    """
    if ours(config) or not config:
        return {}
    kind, config = understood(config)
    taken = {key: config[key] for key in TAKEN[kind] if key in config}
    if kind == "cosine" or (kind == "edm" and config.get("timestep_type") == "continuous"):  # EDM's own say where steps begin
        taken |= {f"s_{end}": config.get(f"sigma_{end}") for end in ("min", "max")}
    return {**OF_KIND[kind], **taken}


def config_of_tableau(tableau: Tableau, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for the network that a tableau says it was made for; none of `given` but these where it says nothing.

    Raises:
        S4SError: if neither says what the network is.
    """
    about = part(tableau, "parametrisation")
    named = {
        "flow": ("prediction",),
        "flow_inverted": ("prediction",),
        "edm": ("sigma_data",),
        "vp_cosine": ("offset", "prediction"),
        "vp_discrete": ("prediction", "times"),
    }
    path = str(about.get("path"))
    whole = path in named and all(key in about for key in named[path])
    predicted = str(about.get("prediction", "edm"))  # whatever was written there
    prediction = {"flow": "flow_prediction", "edm": "epsilon"}.get(predicted, predicted)
    if whole and path in ("flow", "flow_inverted"):
        return {**FLOW, "prediction_type": prediction, "invert_sigmas": path == "flow_inverted"}
    if whole and path == "edm":
        return {"path_type": "edm", "sigma_data": about["sigma_data"], "prediction_type": prediction}
    if whole and path == "vp_cosine" and about["offset"] == 0:
        return {"path_type": "cosine", "prediction_type": prediction}
    if whole and path == "vp_discrete":
        for betas in KNOWN_BETAS:
            known_path = path_of_betas(about["times"], **betas)
            if describes(about, {**known_path.description(), "prediction": about["prediction"]}):
                return {**betas, "num_train_timesteps": about["times"], "prediction_type": about["prediction"]}
    if given:
        return {}
    known = f"a path {path} that is none of the usual ones" if about else "nothing of its network"
    raise S4SError(
        f"the tableau says {known}; pass the scheduler that the pipeline has: from_tableau(file, like=pipe.scheduler), or "
        "s4s export diffusers --like FOLDER"
    )
