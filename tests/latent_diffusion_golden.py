"""Writes tests/golden/latent_diffusion.json with the original code.

    git clone https://github.com/CompVis/latent-diffusion && python -m tests.latent_diffusion_golden --ldm latent-diffusion

It needs einops, omegaconf and tqdm. Its modules are used but for two that import further packages: the class embedding and the
vector quantisation, which is the nearest entry of the codebook.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import yaml

from tests.builders import latent_diffusion as builder
from tests.builders.weights import weights_of

FULL = {"lsun_bedrooms": "models/ldm/lsun_beds256/config.yaml", "imagenet256": "configs/latent-diffusion/cin256-v2.yaml"}
TIMES = [0, 300, 700, 999]


class Original(torch.nn.Module):
    """The parts of the original's LatentDiffusion that have weights, under its names."""

    def __init__(self, unet: dict, stage: dict, classes: int):
        super().__init__()
        from ldm.modules.diffusionmodules.model import Decoder, Encoder
        from ldm.modules.diffusionmodules.openaimodel import UNetModel

        d = {"attn_resolutions": [], "double_z": False, "dropout": 0.0, **stage["ddconfig"]}
        self.model = torch.nn.Module()
        self.model.diffusion_model = UNetModel(**unet)
        self.first_stage_model = torch.nn.Module()
        self.first_stage_model.encoder, self.first_stage_model.decoder = Encoder(**d), Decoder(**d)
        self.first_stage_model.quantize = torch.nn.Module()
        self.first_stage_model.quantize.embedding = torch.nn.Embedding(stage["n_embed"], stage["embed_dim"])
        self.first_stage_model.quant_conv = torch.nn.Conv2d(d["z_channels"], stage["embed_dim"], 1)
        self.first_stage_model.post_quant_conv = torch.nn.Conv2d(stage["embed_dim"], d["z_channels"], 1)
        if unet.get("context_dim"):
            self.cond_stage_model = torch.nn.Module()
            self.cond_stage_model.embedding = torch.nn.Embedding(classes + 1, unet["context_dim"])

    def keys(self) -> dict:
        return {name: list(tensor.shape) for name, tensor in self.state_dict().items()}

    def predict(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        context = None
        if hasattr(self, "cond_stage_model"):
            context = self.cond_stage_model.embedding(labels)[:, None]
        return self.model.diffusion_model(x, t, context=context)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        stage = self.first_stage_model
        rows = latents.permute(0, 2, 3, 1)
        nearest = torch.cdist(rows.flatten(0, 2), stage.quantize.embedding.weight).argmin(1)
        quantised = stage.quantize.embedding.weight[nearest].reshape(rows.shape).permute(0, 3, 1, 2)
        return stage.decoder(stage.post_quant_conv(quantised))


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, t and labels that both sides are run on; the last label is the unconditional one."""
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return x, torch.tensor(TIMES), torch.tensor([0, 3, 1, builder.CLASSES])


# the architecture of tests/builders/pipelines.py in the original's terms
SD_UNET = dict(
    image_size=8, in_channels=4, out_channels=4, model_channels=32, channel_mult=[1, 2], num_res_blocks=1,
    attention_resolutions=[1], num_heads=2, use_spatial_transformer=True, transformer_depth=1, context_dim=16, legacy=False,
)  # fmt: skip
SD_VAE = dict(
    double_z=True, z_channels=4, resolution=16, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 2], num_res_blocks=1,
    attn_resolutions=[], dropout=0.0,
)  # fmt: skip


def stable_diffusion() -> dict:
    """Names, shapes and outputs of the UNet and the autoencoder of Stable Diffusion, small."""
    from ldm.modules.diffusionmodules.model import Decoder, Encoder
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    whole = torch.nn.Module()
    whole.model = torch.nn.Module()
    whole.model.diffusion_model = UNetModel(**SD_UNET)
    whole.first_stage_model = stage = torch.nn.Module()
    stage.encoder, stage.decoder = Encoder(**SD_VAE), Decoder(**SD_VAE)
    stage.quant_conv, stage.post_quant_conv = torch.nn.Conv2d(8, 8, 1), torch.nn.Conv2d(4, 4, 1)
    keys = {name: list(tensor.shape) for name, tensor in whole.state_dict().items()}
    whole.load_state_dict({name: weights_of(name, shape) for name, shape in keys.items()})
    x, t, context = sd_inputs()
    with torch.inference_mode():
        predicted = whole.eval().model.diffusion_model(x, t, context=context)
        decoded = stage.decoder(stage.post_quant_conv(x[:1] / 0.18215))
    return {"keys": keys, "predicted": rounded(predicted), "decoded": rounded(decoded)}


def sd_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, t and text embeddings."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 4, 8, 8, generator=generator), torch.tensor(TIMES), torch.randn(4, 12, 16, generator=generator)


def rounded(tensor: torch.Tensor) -> list[float]:
    return [float(f"{value:.8g}") for value in tensor.flatten().tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ldm", required=True, help="checkout of CompVis/latent-diffusion")
    folder = Path(parser.parse_args().ldm)
    sys.path.insert(0, str(folder))
    golden: dict = {"tiny": {}, "full": {}}
    for kind, unet in builder.TINY.items():
        original = Original(unet, builder.STAGE, builder.CLASSES).eval().requires_grad_(False)
        original.load_state_dict({name: weights_of(name, shape) for name, shape in original.keys().items()})
        x, t, labels = inputs()
        golden["tiny"][kind] = {
            "keys": original.keys(),
            "predicted": rounded(original.predict(x, t, labels)),
            "decoded": rounded(original.decode(x[:1])),
        }
    golden["stable_diffusion"] = stable_diffusion()
    for name, config in FULL.items():
        parameters = yaml.safe_load((folder / config).read_text())["model"]["params"]
        stage = parameters["first_stage_config"]["params"]
        with torch.device("meta"):
            original = Original(parameters["unet_config"]["params"], stage, 1000)
        golden["full"][name] = original.keys()
    builder.GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
