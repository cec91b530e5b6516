"""What the config of one of diffusers' schedulers says of the network that it was made for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import diffusers

from s4s.errors import S4SError

Kind = Literal["vp", "flow", "edm"]
# in the names of diffusers' schedulers for networks that were distilled: consistency models and their kin
DISTILLED = ("LCM", "TCD", "CMStochastic", "Consistency", "SCM", "FlowMap", "PiFlow", "DMD")


def understood(config: Mapping[str, Any]) -> tuple[Kind, dict[str, Any]]:
    """The kind of noise path, and the config with the class's own defaults for what it leaves out.

    Args:
        config: of scheduler_config.json, or a scheduler's `config`, which has no name in `_class_name`.
    Raises:
        S4SError: if the noise schedule is not supported.
    """
    if ours(config):
        return known_kind(config.get("path_type", "vp")), dict(config)
    name = str(config.get("_class_name", ""))
    if any(part in name for part in DISTILLED) or (not name and "original_inference_steps" in config):
        raise S4SError(
            f"a {name or 'scheduler with original_inference_steps'} is not supported: its network was distilled to jump to the "
            "data (a consistency model or the like), so it follows no ODE that a solver here could take steps of; take the "
            "model that it was distilled from"
        )
    config = {**_defaults(name), **config}
    unsupported = [key for key in ("rescale_betas_zero_snr", "invert_sigmas") if config.get(key)]
    if config.get("snr_shift_scale", 1.0) not in (None, 1.0):
        unsupported.append("snr_shift_scale")
    if (config.get("timestep_type"), config.get("prediction_type")) == ("continuous", "v_prediction"):
        unsupported.append("timestep_type continuous")
    if unsupported:
        raise S4SError(f"the noise schedule of this {name} is not supported: it has {' and '.join(unsupported)}")
    betas = "beta_schedule" in config or config.get("trained_betas") is not None
    if name.startswith("FlowMatch") or (not name and "base_shift" in config):
        return "flow", {**config, "prediction_type": "flow_prediction"}
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        if (prediction := config.get("prediction_type")) not in ("flow_prediction", "sample"):
            raise S4SError(
                f"a {name or 'scheduler'} with use_flow_sigmas and prediction_type {prediction} is not supported; "
                "flow_prediction and sample are"
            )
        return "flow", config
    if name.startswith("EDM") or (not name and "sigma_schedule" in config):
        if config.get("prediction_type", "epsilon") != "epsilon":
            what = f"an {name or 'EDM scheduler'} with prediction_type {config['prediction_type']}"
            raise S4SError(f"{what} is not supported; epsilon is")
        return "edm", config
    if not betas:
        whose = f"a {name}" if name else "a scheduler whose config does not name it (pass the scheduler, or its file)"
        raise S4SError(f"the noise schedule of {whose} is not supported: no betas")
    return "vp", config


def known_kind(path_type: Any) -> Kind:
    """What S4SScheduler's path_type may be.

    Raises:
        S4SError: if it is none of these.
    """
    if path_type not in ("vp", "flow", "edm"):
        raise S4SError(f"path_type must be vp, flow or edm, got {path_type!r}")
    kind: Kind = path_type
    return kind


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


class Noise:  # TEMPORARY
    pass


def noise_of(config):
    import torch

    from s4s.models.paths import FlowMatching, VPDiscrete

    kind, config = understood(config)
    n = Noise()
    n.kind = kind
    named = config.get("prediction_type", "epsilon")
    n.prediction = "flow" if named == "flow_prediction" else named
    if kind == "flow":
        n.s_min, n.s_max, n.path, n.times = 0.002, 999.0, FlowMatching(), config.get("num_train_timesteps", 1000)
        return n
    n.path = VPDiscrete(diffusers.DDPMScheduler.from_config(config).betas)
    n.s_min, n.s_max = n.path.s_of_t(torch.tensor([0.0, n.path.times - 1.0], dtype=torch.float64)).tolist()
    n.times = 1
    return n
