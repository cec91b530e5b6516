"""What runs in ComfyUI's Python: the node S4S Solver, loaded by its loader, on its own classes of models and samplers.

    python tests/comfyui_program.py COMFYUI FOLDER

FOLDER has custom_nodes/s4s and models/s4s, as `s4s export comfyui` writes them, and a file cases.json: for each case a kind of
model, the solver's file, and start_at_step. Writes FOLDER/found.safetensors with the sample of each, drawn from unit noise in
noise.safetensors, and prints what the node refused.
"""

import asyncio
import json
import sys
from pathlib import Path

checkout, folder = sys.argv[1], Path(sys.argv[2])
sys.path[:0] = [checkout, str(Path(__file__).parent / "builders")]
sys.argv = ["main.py", "--cpu", "--base-directory", str(folder)]

import s4s  # noqa: E402, F401, I001  # lets torchvision load beside a CPU-only torch
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.model_base  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.supported_models_base  # noqa: E402
import nodes  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from small_network import SmallNetwork  # noqa: E402


def model(kind: str) -> comfy.model_patcher.ModelPatcher:
    """A model of this ModelType, as its loaders make them, with the small network for its diffusion model."""

    class Network(SmallNetwork):
        dtype = torch.float32

        def forward(self, x, t, **others):
            return super().forward(x, t)

    config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True, "in_channels": 4})
    config.sampling_settings = {"beta_schedule": "linear", "sigma_data": 0.5} if kind == "EDM" else {"beta_schedule": "linear"}
    made = comfy.model_base.BaseModel(config, comfy.model_base.ModelType[kind])
    made.diffusion_model = Network()
    return comfy.model_patcher.ModelPatcher(made, torch.device("cpu"), torch.device("cpu"))


def main() -> None:
    assert asyncio.run(nodes.load_custom_node(str(folder / "custom_nodes/s4s")))
    node = nodes.NODE_CLASS_MAPPINGS["S4SSolver"]
    noise, found = load_file(folder / "noise.safetensors")["noise"], {}
    for name, (kind, file, start_at_step) in json.loads((folder / "cases.json").read_text()).items():
        patcher = model(kind)
        try:
            sampler, sigmas = node.execute(patcher, file, start_at_step).args
        except Exception as error:
            print(f"refused {name}: {error}")
            continue
        nothing = [[torch.zeros(1, 1, 8), {}]]
        latent = torch.full_like(noise, 0.1) if start_at_step else torch.zeros_like(noise)
        found[name] = comfy.sample.sample_custom(
            patcher, noise, 1.0, sampler, sigmas, nothing, nothing, latent, disable_pbar=True, seed=0
        ).contiguous()
    save_file(found, folder / "found.safetensors")


main()
