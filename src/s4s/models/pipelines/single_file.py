"""The networks of a pipeline in a single file, whose tensors have the original's names; as a folder of configurations says.

Names are translated by diffusers' own functions. Every tensor of a network must be there and no other, as in `network_weights`.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from torch import Tensor, nn

from s4s.errors import S4SError, one_line
from s4s.models.description import WeightFile
from s4s.models.network_weights import fill
from s4s.models.pipelines.diffusers_folder import LOCAL
from s4s.models.torch_checkpoint import averaged, check_network, check_sizes, read_checkpoint
from s4s.models.weight_formats import by_names, names_in, pipeline_of

OPEN_CLIP = ("cond_stage_model.model.", "conditioner.embedders.1.model.")  # other names than transformers has
T5 = "text_encoders.t5xxl.transformer."
# component: where its tensors are in the files of some pipeline
PREFIXES = {
    "unet": ("model.diffusion_model.",),
    "transformer": ("model.diffusion_model.", "joint_blocks.", "double_blocks."),
    "vae": ("first_stage_model.",),
    "text_encoder": (
        "cond_stage_model.transformer.", OPEN_CLIP[0], "conditioner.embedders.0.transformer.",
        "text_encoders.clip_l.transformer.",
    ),
    "text_encoder_2": (OPEN_CLIP[1], "text_encoders.clip_g.transformer.", T5),
    "text_encoder_3": (T5,),
}  # fmt: skip


class SingleFile:
    """Reads a file of weights, .safetensors, .ckpt or .pt, old ones of torch too, and makes networks of it.

    Args:
        pipeline: the class of diffusers that the folder of configurations is of.
        sha256: what the file must have; by default what it had when it was first used.
    Raises:
        S4SError: if it cannot be read, or is not of that pipeline.
    """

    def __init__(self, path: Path, pipeline: str, config: Path, sha256: str | None = None):
        self.path, self.config = path, config
        if names := names_in(path):
            self._check(names, pipeline)  # before gigabytes are read
        self.state = averaged(read_checkpoint(WeightFile(path=path, sha256=sha256), old=True))
        self._check([*self.state], pipeline)

    def _check(self, names: list[str], pipeline: str) -> None:
        if (found := pipeline_of(names)) is None:
            raise S4SError(f"{self.path}: not a whole pipeline in a single file{by_names(names)}")
        if found != pipeline:
            raise S4SError(
                f"{self.path}: its tensors are those of a {found}, but {self.config} has the configurations of a {pipeline}; "
                f"name the folder of a {found}"
            )

    def prefix(self, component: str) -> str | None:
        """Where the tensors of a component are; None if they are not in the file."""
        known = PREFIXES.get(component, ())
        return next((prefix for prefix in known if any(name.startswith(prefix) for name in self.state)), None)

    def network(self, component: str, known: Any, dtype: torch.dtype) -> nn.Module:
        """A component, of the class `known`, on the CPU.

        Raises:
            S4SError: if the tensors do not fit its configuration.
        """
        folder = self.config / component
        check_sizes(folder)
        try:
            network: nn.Module = self._made(known, folder)
            of_diffusers = isinstance(network, diffusers.ModelMixin)
            fill(network, self._translated(network) if of_diffusers else self._text(network, component))
        except Exception as error:  # whatever wrong settings do to diffusers
            raise S4SError(f"{self.path}: does not fit the configuration in {folder}: {one_line(error, 600)}") from error
        kept = getattr(network, "_keep_in_fp32_modules", None) or () if dtype == torch.float16 else ()  # they overflow
        for name, parameter in network.named_parameters():
            if not {*kept} & {*name.split(".")}:
                parameter.data = parameter.data.to(dtype)
        for buffer in network.buffers():
            if buffer.is_floating_point() and not kept:
                buffer.data = buffer.data.to(dtype)
        return network.eval().requires_grad_(False)

    def _made(self, known: Any, folder: Path) -> Any:
        if issubclass(known, diffusers.ModelMixin):
            config, make = known.load_config(folder, **LOCAL), known.from_config
        else:
            config, make = known.config_class.from_pretrained(folder, **LOCAL), known
        check_network(lambda: make(config), self.path.stat().st_size, folder)
        return make(config)

    def _translated(self, network: Any) -> dict[str, Tensor]:
        """The tensors of a network of diffusers, with its names for them."""
        known: dict[str, Any] = SINGLE_FILE_LOADABLE_CLASSES
        translate = known[type(network).__name__]["checkpoint_mapping_fn"]
        given = {"checkpoint": dict(self.state), "config": dict(network.config)}  # some take out what they have read
        taken = inspect.signature(translate).parameters
        found: dict[str, Tensor] = translate(**{name: value for name, value in given.items() if name in taken})
        return found

    def _text(self, network: nn.Module, component: str) -> dict[str, Tensor]:
        """The tensors of a text encoder, with transformers' names for them."""
        prefix, own = self.prefix(component) or "", network.state_dict()
        found: dict[str, Tensor]
        if prefix in OPEN_CLIP:
            found = convert_open_clip_checkpoint(network, self.state, prefix)
        else:
            found = {name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)}
        if not hasattr(network, "text_model"):
            found = {name.removeprefix("text_model."): value for name, value in found.items()}
        absent, unknown = {*own} - {*found}, {*found} - {*own}
        for name in absent & {"text_projection.weight"}:  # of Stable Diffusion 3's first encoder
            found[name] = torch.eye(len(own[name]))
        for name in absent & {"encoder.embed_tokens.weight"} if "shared.weight" in found else ():  # it is tied
            found[name] = found["shared.weight"]
        for name in unknown:
            if name.endswith("position_ids"):  # a table of 0, 1, 2, ... in files of old versions of transformers
                del found[name]
        return found
