"""The checkpoints of NVlabs/edm: `kind: edm`."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from s4s.errors import S4SError, one_line
from s4s.models.conditions import ClassLabels
from s4s.models.description import EDMModel
from s4s.models.edm.denoiser import EDMDenoiser, EDMPreconditioning, VEPreconditioning, VPPreconditioning
from s4s.models.edm.networks import NETWORKS
from s4s.models.edm.pickle_reader import read_network, state_dict
from s4s.models.network_weights import fill
from s4s.models.paths import Path
from s4s.models.torch_checkpoint import check_together, without_memory


class _Recorded(BaseModel):
    """Arguments that all preconditioned networks record; those of the network itself are the extra ones."""

    model_config = ConfigDict(extra="allow")

    img_resolution: int
    img_channels: int
    label_dim: int = 0
    use_fp16: bool = False
    sigma_min: float | None = None
    sigma_max: float | None = None
    model_type: str = "SongUNet"


class _EDM(_Recorded):
    sigma_data: float = 0.5
    model_type: str = "DhariwalUNet"

    def preconditioning(self) -> EDMPreconditioning:
        return EDMPreconditioning(self.sigma_data)


class _VP(_Recorded):
    beta_d: float = 19.9
    beta_min: float = 0.1
    M: int = 1000
    epsilon_t: float = 1e-5

    def preconditioning(self) -> VPPreconditioning:
        return VPPreconditioning(self.beta_d, self.beta_min, self.M)


class _VE(_Recorded):
    def preconditioning(self) -> VEPreconditioning:
        return VEPreconditioning()


RECORDED: dict[str, type[Any]] = {"EDMPrecond": _EDM, "VPPrecond": _VP, "VEPrecond": _VE}


def load_denoiser(model: EDMModel, device: torch.device) -> EDMDenoiser:
    """The averaged network of a published pickle, in our own modules.

    Raises:
        S4SError: if the file cannot be read, asks for anything but weights, or holds another network than ours.
    """
    network = read_network(model)
    try:
        arguments = _arguments(network.class_name, network.state.get("_init_kwargs"))
        found, size = state_dict(network), model.path.stat().st_size
        check_together(found, size, "its weights")
        with without_memory(size, 2 * len(found) + 1000):
            raw = _network(arguments)
        weights = {key.removeprefix("model."): value.float() for key, value in found.items()}
        fill(raw, weights, assign=True)
    except (S4SError, RuntimeError) as error:
        raise S4SError(f"{model.path}: not a network that s4s knows: {one_line(error, 600)}") from None
    raw = raw.to(device).eval().requires_grad_(False)
    shape = (arguments.img_channels, arguments.img_resolution, arguments.img_resolution)
    labels = ClassLabels(arguments.label_dim) if arguments.label_dim else None
    return EDMDenoiser(
        raw,
        arguments.preconditioning(),
        name=model.name,
        shape=shape,
        s_min=model.s_min,
        s_max=model.s_max,
        conditioning=labels,
    )


def outline(model: EDMModel) -> tuple[float, float, Path]:
    """s_min, s_max and the path."""
    return model.s_min, model.s_max, EDMDenoiser.path


def _arguments(class_name: str, recorded: Any) -> Any:
    if class_name == "Precond":  # of training/networks_edm2.py
        raise S4SError("it is of EDM2 (NVlabs/edm2), whose networks are others; bring it with `kind: python`")
    if class_name not in RECORDED:
        raise S4SError(f"preconditioning {class_name!r}; known: {', '.join(RECORDED)}")
    try:
        arguments = TypeAdapter(RECORDED[class_name]).validate_python(recorded)
        if arguments.model_type not in NETWORKS:
            raise S4SError(f"network {arguments.model_type!r}; known: {', '.join(NETWORKS)}")
        _network_arguments(arguments)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise S4SError(f"recorded argument {key}: {problem['msg']}") from None
    return arguments


def _network_arguments(arguments: Any) -> dict[str, Any]:
    channels = arguments.img_channels
    own = {"img_resolution": arguments.img_resolution, "in_channels": channels, "out_channels": channels}
    values = {**(arguments.model_extra or {}), **own, "label_dim": arguments.label_dim}
    return NETWORKS[arguments.model_type].arguments(**values).model_dump()


def _network(arguments: Any) -> torch.nn.Module:
    return NETWORKS[arguments.model_type](**_network_arguments(arguments))
