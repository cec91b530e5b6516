"""What the config of one of diffusers' schedulers says of the network that it was made for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import diffusers

from s4s.errors import S4SError, one_line, shortened
from s4s.models.paths import EDM, FlowMatching, InvertedFlow, Path, VPCosine, VPDiscrete
from s4s.models.predicting import Prediction

Kind = Literal["vp", "flow", "edm", "cosine"]
ENDLESS = 0.002, 999.0  # noise levels on paths that reach 0 and infinity
BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
OF_TABLE = (*BETAS, "rescale_betas_zero_snr", "snr_shift_scale")
ALMOST_ZERO = 2.0**-24  # alphas_cumprod where all is noise: s = 4096, as diffusers' Euler has it
# in the names of diffusers' schedulers for networks that were distilled: consistency models and their kin
DISTILLED = ("LCM", "TCD", "CMStochastic", "Consistency", "SCM", "FlowMap", "Piflow", "HeliosDMD")
OF_TOKENS = ("Amused", "BlockRefinement", "DiscreteDDIM", "EntropyBound", "VQDiffusion")  # in the names of those for tokens
# what prediction_type stands for on each kind of path
PREDICTIONS: dict[Kind, dict[str, Prediction]] = {
    "vp": {"epsilon": "epsilon", "v_prediction": "v_prediction", "sample": "sample"},
    "flow": {"flow_prediction": "flow", "sample": "sample"},
    "edm": {"epsilon": "edm", "v_prediction": "v_prediction"},
    "cosine": {"epsilon": "edm", "v_prediction": "v_prediction"},
}


@dataclass(frozen=True)
class Noise:
    """How a network's states are noisy, what it predicts and what it is told: all that PredictingDenoiser needs to know.

    Attributes:
        kind: "vp" (a table of betas), "flow" (rectified flow), "edm" (EDM's preconditioning; with sigma_data 1 and v_prediction
            Stable Video Diffusion) or "cosine" (Stable Audio, Dance Diffusion).
        path: the Gaussian path whose states x = alpha y the network is fed.
        prediction: as PredictingDenoiser's.
        times: what the path's time is multiplied with to be the network's.
        s_min, s_max: the range of noise levels. Where the path reaches s = 0 and infinity and the config names no range, a
            usual one.
        sigma_data: the scale of the data in EDM's preconditioning; 1 elsewhere.
    """

    kind: Kind
    path: Path
    prediction: Prediction
    times: float
    s_min: float
    s_max: float
    sigma_data: float = 1.0


def noise_of(config: Mapping[str, Any]) -> Noise:
    """The noise that a network was made for.

    Args:
        config: of scheduler_config.json, or a scheduler's `config`, which has no name in `_class_name`.
    Raises:
        S4SError: if the noise schedule is not supported, or networks on its path do not predict that.
    """
    kind, config = understood(config)
    prediction = _prediction(kind, config)
    if kind == "flow":
        path = InvertedFlow() if config.get("invert_sigmas") else FlowMatching()
        return Noise(kind, path, prediction, config.get("num_train_timesteps", 1000), *ENDLESS)
    if kind == "vp":
        table = path_of_betas(**{key: config[key] for key in OF_TABLE if key in config})
        if prediction == "epsilon" and config.get("rescale_betas_zero_snr"):
            raise S4SError(
                "prediction_type epsilon with rescale_betas_zero_snr is not supported: at the last time all is noise, and to "
                "know it says nothing of the data; set prediction_type to v_prediction, if the network predicts that, or "
                "rescale_betas_zero_snr to false"
            )
        return Noise(kind, table, prediction, 1, *table.ends)
    usual = (0.002, 80.0) if kind == "edm" else ENDLESS
    given = config.get("sigma_min"), config.get("sigma_max")
    first, last = (end if level is None else float(level) for level, end in zip(given, usual, strict=True))
    if kind == "edm":
        sigma_data = float(config.get("sigma_data", 0.5))
        return Noise(kind, EDM(sigma_data), prediction, 1, first, last, sigma_data)
    return Noise(kind, VPCosine(0.0), prediction, 1, first, last)


def _prediction(kind: Kind, config: Mapping[str, Any]) -> Prediction:
    named = config.get("prediction_type", "epsilon")
    named = "sample" if named == "original_sample" else named  # of old versions of diffusers
    if not isinstance(named, str) or named not in PREDICTIONS[kind]:
        known = " or ".join(PREDICTIONS[kind])
        raise S4SError(f"a network on the path {kind} predicts {known}, not {named}; set prediction_type to one of these")
    return PREDICTIONS[kind][named]


def path_of_betas(
    *schedule: Any, rescale_betas_zero_snr: bool = False, snr_shift_scale: float | None = None, **named: Any
) -> VPDiscrete:
    """The path of diffusers' num_train_timesteps, beta_start, beta_end, beta_schedule and trained_betas.

    Args:
        schedule, named: these.
        rescale_betas_zero_snr: whether sqrt(alphas_cumprod) is moved and scaled so that the first stays and the last is 0
            (Lin et al. 2023, arXiv 2305.08891, algorithm 1).
        snr_shift_scale: what alphas_cumprod / (1 - alphas_cumprod) is divided by, before that (CogVideoX, arXiv 2408.06072).
    Raises:
        S4SError: if there is no such schedule.
    """
    try:
        betas = diffusers.DDPMScheduler(*schedule, **named).betas  # type: ignore[attr-defined]
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        # diffusers raises the first for a beta_schedule that it does not know; the others are for values that make no betas
        given = ", ".join(map(str, (*schedule, *named.values())))
        raise S4SError(f"the noise schedule is not supported: {one_line(error, 80)} ({shortened(given)})") from error
    shift = 1.0 if snr_shift_scale is None else snr_shift_scale
    if not isinstance(shift, int | float) or not 0 < shift < math.inf:
        raise S4SError(f"snr_shift_scale must be a positive number, got {shift!r}")
    table = (1 - betas.double()).cumprod(0)
    if shift != 1:
        table = table / (table + shift * (1 - table))
    if table.ndim == 1 and len(table) > 1:  # else it is no table, and refused below
        if rescale_betas_zero_snr:
            roots = table.sqrt()
            table = ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))) ** 2
        if table[-1] == 0:
            table[-1] = min(ALMOST_ZERO, float(table[-2]) / 2)
    return VPDiscrete(alphas_cumprod=table)


def understood(config: Mapping[str, Any]) -> tuple[Kind, dict[str, Any]]:
    """The kind of noise path, and the config with the class's own defaults for what it leaves out.

    Args:
        config: as of `noise_of`.
    Raises:
        S4SError: if the noise schedule is not supported.
    """
    if ours(config):
        span = {f"sigma_{end}": config[f"s_{end}"] for end in ("min", "max") if config.get(f"s_{end}") is not None}
        return known_kind(config.get("path_type", "vp")), {**config, **span}
    name = str(config.get("_class_name", ""))
    if any(part in name for part in DISTILLED) or (not name and "original_inference_steps" in config):
        raise S4SError(
            f"a {name or 'scheduler with original_inference_steps'} is not supported: its network was distilled to jump to the "
            "data (a consistency model or the like), so it follows no ODE that a solver here could take steps of; take the "
            "model that it was distilled from"
        )
    if name.startswith(OF_TOKENS):
        raise S4SError(f"a {name} is not supported: its network works on discrete tokens, not on noise; no solver here fits it")
    config = {**_defaults(name), **config}
    if name == "HeliosScheduler" and config.get("stages", 1) != 1:
        raise S4SError(
            f"a {name} with stages {config['stages']} is not supported: its noise changes in stages of rising resolution; "
            "stages 1 is"
        )
    betas = "beta_schedule" in config or config.get("trained_betas") is not None
    if name.startswith(("FlowMatch", "LTXEuler")) or (not name and "base_shift" in config):
        return "flow", {**config, "prediction_type": "flow_prediction"}
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        if (prediction := config.get("prediction_type")) not in ("flow_prediction", "sample"):
            raise S4SError(
                f"a {name or 'scheduler'} with use_flow_sigmas and prediction_type {prediction} is not supported; "
                "flow_prediction and sample are"
            )
        return "flow", config
    if name == "IPNDMScheduler":  # of Dance Diffusion; its trained_betas are levels
        return "cosine", {**config, "prediction_type": "v_prediction"}
    if name.startswith("Cosine"):
        if config.get("sigma_data", 1.0) != 1:
            raise S4SError(f"a {name} with sigma_data {config['sigma_data']} is not supported; 1 is")
        return "cosine", {"sigma_min": 0.3, "sigma_max": 500.0, "prediction_type": "v_prediction", **config}
    if name.startswith("EDM") or (not name and "sigma_schedule" in config):
        return "edm", config
    if not betas:
        whose = f"a {name}" if name else "a scheduler whose config does not name it (pass the scheduler, or its file)"
        raise S4SError(f"the noise schedule of {whose} is not supported: no betas; take one that has some")
    if (config.get("timestep_type"), config.get("prediction_type")) == ("continuous", "v_prediction"):
        first, last = path_of_betas(**{key: config[key] for key in OF_TABLE if key in config}).ends
        span = {"sigma_min": config.get("sigma_min") or first, "sigma_max": config.get("sigma_max") or last}
        return "edm", {**config, **span, "sigma_data": 1.0}  # told ln(s)/4, as by Euler's scheduler
    return "vp", config


def known_kind(path_type: Any) -> Kind:
    """What S4SScheduler's path_type may be.

    Raises:
        S4SError: if it is none of these.
    """
    if path_type not in get_args(Kind):
        raise S4SError(f"path_type must be vp, flow, edm or cosine, got {path_type!r}")
    return cast(Kind, path_type)


def ours(config: Mapping[str, Any]) -> bool:
    """Whether a config is of S4SScheduler. Another one's that was made from it keeps its path_type, but has a name."""
    name = config.get("_class_name", "")
    return bool(name == "S4SScheduler" or (not name and "path_type" in config))


def _defaults(name: str) -> dict[str, Any]:
    scheduler = getattr(diffusers, name, None) if name else None
    if not (isinstance(scheduler, type) and issubclass(scheduler, diffusers.SchedulerMixin)):
        return {}
    parameters = inspect.signature(scheduler.__init__).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}
