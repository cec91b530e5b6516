"""Small checkpoints with the structure that NVlabs/edm's code writes, made without that code.

    python -m tests.builders.edm tiny.pkl

tests/edm_golden.py, which runs the original code, checks that both kinds of file ask for the same names.
"""

import pickle
import sys
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from s4s.models.edm.networks import NETWORKS
from tests.builders.weights import fill

# the published configurations of the code's --arch, and the resolutions and label counts of its data
ARCHITECTURES = {
    "ddpmpp": dict(
        model_type="SongUNet", embedding_type="positional", encoder_type="standard", decoder_type="standard",
        channel_mult_noise=1, resample_filter=[1, 1],
    ),
    "ncsnpp": dict(
        model_type="SongUNet", embedding_type="fourier", encoder_type="residual", decoder_type="standard",
        channel_mult_noise=2, resample_filter=[1, 3, 3, 1],
    ),
    "adm": dict(model_type="DhariwalUNet"),
}  # fmt: skip
SONG = dict(model_channels=128, augment_dim=9)
FULL = {
    "edm-cifar10-32x32-uncond-vp": ("EDMPrecond", "ddpmpp", dict(img_resolution=32, channel_mult=[2, 2, 2], **SONG)),
    "edm-cifar10-32x32-uncond-ve": ("EDMPrecond", "ncsnpp", dict(img_resolution=32, channel_mult=[2, 2, 2], **SONG)),
    "edm-ffhq-64x64-uncond-vp": ("EDMPrecond", "ddpmpp", dict(img_resolution=64, channel_mult=[1, 2, 2, 2], **SONG)),
    "edm-afhqv2-64x64-uncond-vp": ("EDMPrecond", "ddpmpp", dict(img_resolution=64, channel_mult=[1, 2, 2, 2], **SONG)),
    "edm-imagenet-64x64-cond-adm": (
        "EDMPrecond",
        "adm",
        dict(img_resolution=64, label_dim=1000, model_channels=192, channel_mult=[1, 2, 3, 4], dropout=0.1, use_fp16=True),
    ),
}
TINY_SONG = dict(img_resolution=8, model_channels=8, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[4], augment_dim=9)
TINY_ADM = dict(
    img_resolution=8,
    model_channels=64,
    channel_mult=[1, 2],
    channel_mult_emb=1,
    num_blocks=1,
    attn_resolutions=[4],
    label_dim=4,
)
TINY = {
    "edm-ddpmpp": ("EDMPrecond", "ddpmpp", {**TINY_SONG}),
    "vp-ddpmpp": ("VPPrecond", "ddpmpp", {**TINY_SONG}),
    "edm-ddpmpp-cond": ("EDMPrecond", "ddpmpp", {**TINY_SONG, "label_dim": 3}),
    "ve-ncsnpp": ("VEPrecond", "ncsnpp", {**TINY_SONG}),
    "edm-adm": ("EDMPrecond", "adm", {**TINY_ADM}),
}


def recorded(preconditioning: str, architecture: str, changes: dict) -> dict:
    """The arguments that the original constructor of a preconditioned network records."""
    return {"img_channels": 3, "label_dim": 0, "use_fp16": False, **ARCHITECTURES[architecture], **changes}


def raw_network(preconditioning: str, architecture: str, changes: dict) -> torch.nn.Module:
    """Our network of a configuration, its weights not set."""
    arguments = recorded(preconditioning, architecture, changes)
    channels = arguments.pop("img_channels")
    del arguments["use_fp16"]
    return NETWORKS[arguments.pop("model_type")](**arguments, in_channels=channels, out_channels=channels)


class EasyDict(dict):
    """Pickled under the name of dnnlib's."""


EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the source code of a pickle was about to run")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
SOURCE = "import os\nraise SystemExit('source code of a pickle was run')\n"


class Persistent:
    """Pickled as an object of a persistent class."""

    def __init__(self, class_name, state):
        self.class_name, self.state = class_name, state

    def __reduce__(self):
        meta = dict(type="class", version=6, module_src=SOURCE, class_name=self.class_name, state=self.state)
        return _reconstruct_persistent_obj, (meta,), None


def _state(module, arguments=None):
    """__dict__ of a torch module, with its children as the original classes; numpy numbers where the code leaves some."""
    state = {
        "training": False,
        "_parameters": OrderedDict(module._parameters),
        "_buffers": OrderedDict(module._buffers),
        "_non_persistent_buffers_set": set(),
        "_forward_hooks": OrderedDict(),
        "_modules": OrderedDict((name, _object(child)) for name, child in module._modules.items()),
    }
    if arguments is not None:
        state.update(_init_args=(), _init_kwargs=arguments, skip_scale=np.sqrt(0.5))
    return state


def _object(module):
    if module is None:
        return None
    if isinstance(module, torch.nn.ModuleDict):
        container = torch.nn.ModuleDict()
        container.__dict__.update(_state(module))
        return container
    return Persistent(type(module).__name__, _state(module, {}))


@contextmanager
def _modules():
    """Modules that pickle finds the recorded names in."""
    made = {name: ModuleType(name) for name in ("dnnlib", "dnnlib.util", "torch_utils", "torch_utils.persistence")}
    made["dnnlib.util"].EasyDict = EasyDict
    made["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    yield
    for name, module in before.items():
        sys.modules.pop(name)
        if module is not None:
            sys.modules[name] = module


def dump(data, path: Path) -> Path:
    """Pickle with the recorded names in place."""
    with _modules(), Path(path).open("wb") as file:
        pickle.dump(data, file, protocol=4)
    return Path(path)


def checkpoint(preconditioning: str, architecture: str, changes: dict, arguments: dict | None = None) -> dict:
    """What a training snapshot holds, with weights by name; `arguments` beside the recorded ones."""
    raw = fill(raw_network(preconditioning, architecture, changes), "model.")
    kwargs = {**recorded(preconditioning, architecture, changes), **(arguments or {})}
    state = {"training": False, "_parameters": OrderedDict(), "_buffers": OrderedDict(), "_init_args": ()}
    state.update(_init_kwargs=kwargs, _modules=OrderedDict(model=_object(raw)))
    loss = Persistent("EDMLoss", {"P_mean": -1.2, "_init_args": (), "_init_kwargs": {}})
    return {
        "ema": Persistent(preconditioning, state),
        "loss_fn": loss,
        "augment_pipe": None,
        "dataset_kwargs": EasyDict(path="x"),
    }


def write(name: str, path: Path) -> Path:
    """One of the TINY checkpoints."""
    return dump(checkpoint(*TINY[name]), path)


def names_asked_for(path: Path) -> list[str]:
    """Names of classes and functions that a pickle asks for."""
    found = set()

    class Names(pickle.Unpickler):
        def find_class(self, module, name):
            found.add(f"{module}.{name}")
            return type(name, (dict,), {"__init__": lambda self, *_: None, "__setstate__": lambda self, state: None})

    with Path(path).open("rb") as file:
        Names(file).load()
    return sorted(found)


if __name__ == "__main__":
    write("edm-ddpmpp", Path(sys.argv[1]))
