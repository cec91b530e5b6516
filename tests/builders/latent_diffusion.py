"""Small checkpoints as Lightning writes them for CompVis/latent-diffusion, with the original's own names of tensors.

    python -m tests.builders.latent_diffusion conditional tiny.ckpt

The names and shapes are in tests/golden/latent_diffusion.json, which tests/latent_diffusion_golden.py takes from the original.
"""

import json
import sys
from pathlib import Path
from types import ModuleType

import torch

from tests.builders.weights import weights_of

GOLDEN = Path(__file__).parents[1] / "golden/latent_diffusion.json"
STAGE = {
    "embed_dim": 3, "n_embed": 16,
    "ddconfig": dict(z_channels=3, resolution=16, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 2], num_res_blocks=1),
}  # fmt: skip
UNET = dict(image_size=8, in_channels=3, out_channels=3, model_channels=32, channel_mult=[1, 2], num_res_blocks=1)
TINY = {
    "unconditional": {**UNET, "attention_resolutions": [2], "num_head_channels": 16},
    "conditional": {
        **UNET, "attention_resolutions": [1, 2], "num_heads": 1, "use_spatial_transformer": True, "context_dim": 8,
    },
}  # fmt: skip
CLASSES = 4


def state_dict(kind: str) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors; where there are averaged weights, the others are different ones."""
    state = {"betas": torch.linspace(0.1, 0.2, 3), "model_ema.decay": torch.tensor(0.9999)}
    for name, shape in json.loads(GOLDEN.read_text())["tiny"][kind]["keys"].items():
        state[name] = weights_of(name, shape)
        if kind == "unconditional" and name.startswith("model."):
            state["model_ema." + name.removeprefix("model.").replace(".", "")] = state[name]
            state[name] = -state[name]
    return state


def write(kind: str, path: Path) -> Path:
    """A checkpoint with the callbacks that Lightning keeps."""
    callback = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning.callbacks.model_checkpoint"})
    module = ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = callback
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", module.__name__]
    sys.modules.update({name: ModuleType(name) for name in names[:2]} | {names[2]: module})
    try:
        content = {"epoch": 1, "global_step": 7, "callbacks": {callback: {"best_model_score": torch.tensor(0.1)}}}
        torch.save({**content, "state_dict": state_dict(kind)}, path)
    finally:
        for name in names:
            del sys.modules[name]
    return Path(path)


def description(kind: str, path: Path, **changes) -> dict:
    """The YAML of a checkpoint."""
    guided = {"classes": CLASSES, "guidance": 2.0} if kind == "conditional" else {}
    values = {"name": kind, "kind": "latent_diffusion", "path": str(path), "linear_start": 0.0015, "linear_end": 0.0195}
    return {**values, "unet": TINY[kind], "first_stage": STAGE, **guided, **changes}


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
