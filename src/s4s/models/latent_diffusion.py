"""The checkpoints of CompVis/latent-diffusion (Rombach et al. 2022, arXiv 2112.10752), in diffusers' modules."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel, UNet2DModel, VQModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor, nn

from s4s.errors import S4SError, one_line
from s4s.models.conditions import ClassLabels
from s4s.models.description import FirstStage, LatentDiffusionModel, LatentUNet
from s4s.models.network_weights import fill
from s4s.models.paths import VPDiscrete
from s4s.models.predicting import PredictingDenoiser
from s4s.models.torch_checkpoint import averaged, check_network, read_checkpoint
from s4s.models.weight_formats import LATENT_DIFFUSION, by_names

UNET, FIRST_STAGE, CLASSES = (
    "model.diffusion_model.",
    "first_stage_model.",
    "cond_stage_model.embedding.",
)


def load_denoiser(model: LatentDiffusionModel, device: torch.device) -> PredictingDenoiser:
    """The averaged network if the checkpoint has one, its first stage as the decoder, and class embeddings.

    Raises:
        S4SError: if a file cannot be read or does not fit the configuration.
    """
    state = read_checkpoint(model)
    stage_state = read_checkpoint(model.first_stage_weights) if model.first_stage_weights else state
    dtype, size = getattr(torch, model.precision), model.path.stat().st_size
    check_network(lambda: empty_unet(model.unet), size, model.path)
    stage_file = model.first_stage_weights or model
    check_network(lambda: empty_first_stage(model.first_stage), stage_file.path.stat().st_size, stage_file.path)
    try:
        unet = _filled(empty_unet(model.unet), unet_weights(state, model.unet))
        stage = _filled(empty_first_stage(model.first_stage), first_stage_weights(stage_state, model.first_stage))
        embedding = _class_embedding(state, model)
    except (S4SError, RuntimeError, KeyError, AttributeError) as error:
        misfit = f"{model.path}: does not fit `unet` and `first_stage` of model {model.name}: {one_line(error, 600)}"
        raise S4SError(misfit + by_names(state, LATENT_DIFFUSION)) from None
    for network in (unet, stage):
        nn.Module.to(network, device, dtype)  # diffusers' own warns

    def predict(x: Tensor, t: Tensor, **arguments: Tensor) -> Tensor:
        output: Tensor = unet(x, t, **arguments).sample
        return output

    def decoder(latents: Tensor) -> Tensor:
        images: Tensor = stage.decode(latents.to(dtype) / model.scale_factor).sample
        return images.clamp(-1, 1)

    s_min, s_max, path, _ = outline(model)
    labels = None
    if model.classes is not None and embedding is not None:
        labels = ClassLabels(model.classes, argument="encoder_hidden_states", embedding=embedding.to(device, dtype))
    return PredictingDenoiser(
        predict, path, "epsilon", name=model.name, shape=(model.unet.in_channels, model.unet.image_size, model.unet.image_size),
        s_min=s_min, s_max=s_max, device=device, weights=dtype, conditioning=labels, guidance=model.guidance,
        decoder=decoder, decode_batch=model.decode_batch,
    )  # fmt: skip


def outline(model: LatentDiffusionModel) -> tuple[float, float, VPDiscrete, dict[str, Any]]:
    """s_min, s_max, the path and the parametrisation."""
    path = VPDiscrete.scaled_linear(model.linear_start, model.linear_end, model.timesteps)
    first, last = path.s_of_t(torch.tensor([0.0, model.timesteps - 1.0], dtype=torch.float64)).tolist()
    return model.s_min or first, model.s_max or last, path, {**path.description(), "prediction": "epsilon"}


def empty_unet(c: LatentUNet) -> UNet2DModel | UNet2DConditionModel:
    """diffusers' network of a published configuration."""
    attends = [2**level in c.attention_resolutions for level in range(len(c.channel_mult))]
    plain, attending = ("", "CrossAttn") if c.use_spatial_transformer else ("", "Attn")
    kinds = [attending if attend else plain for attend in attends]
    options: dict[str, Any] = dict(
        sample_size=c.image_size,
        in_channels=c.in_channels,
        out_channels=c.out_channels,
        layers_per_block=c.num_res_blocks,
        block_out_channels=[c.model_channels * multiplier for multiplier in c.channel_mult],
        down_block_types=[f"{kind}DownBlock2D" for kind in kinds],
        up_block_types=[f"{kind}UpBlock2D" for kind in reversed(kinds)],
    )
    if not c.use_spatial_transformer:
        return UNet2DModel(**options, downsample_padding=1, attention_head_dim=_head_channels(c))
    return UNet2DConditionModel(
        **options,
        cross_attention_dim=c.context_dim,
        attention_head_dim=c.num_heads,  # diffusers' name for the number of heads
        transformer_layers_per_block=c.transformer_depth,
    )


def empty_first_stage(c: FirstStage) -> VQModel:
    """diffusers' autoencoder of a published configuration."""
    d = c.ddconfig
    return VQModel(
        in_channels=d.in_channels, out_channels=d.out_ch, latent_channels=d.z_channels, sample_size=d.resolution,
        down_block_types=["DownEncoderBlock2D"] * len(d.ch_mult), up_block_types=["UpDecoderBlock2D"] * len(d.ch_mult),
        block_out_channels=[d.ch * multiplier for multiplier in d.ch_mult], layers_per_block=d.num_res_blocks,
        num_vq_embeddings=c.n_embed, vq_embed_dim=c.embed_dim,
    )  # fmt: skip


def unet_weights(state: dict[str, Tensor], c: LatentUNet) -> dict[str, Tensor]:
    """The network's weights under diffusers' names; the averaged ones where the checkpoint has them."""
    own = {key: value for key, value in averaged(state).items() if key.startswith(UNET)}
    converted = convert_ldm_unet_checkpoint(own, {"layers_per_block": c.num_res_blocks})
    return converted if c.use_spatial_transformer else _separate_attention(converted, c)


def first_stage_weights(state: dict[str, Tensor], c: FirstStage) -> dict[str, Tensor]:
    """The autoencoder's weights under diffusers' names."""
    prefix = FIRST_STAGE if any(key.startswith(FIRST_STAGE) for key in state) else ""
    own = {key: value for key, value in state.items() if key.startswith(prefix)}
    blocks = [""] * len(c.ddconfig.ch_mult)
    converted = convert_ldm_vae_checkpoint(own, {"down_block_types": blocks, "up_block_types": blocks})
    return {**converted, "quantize.embedding.weight": own[f"{prefix}quantize.embedding.weight"]}


def _head_channels(c: LatentUNet) -> int:
    if c.num_head_channels is None:
        raise S4SError("unet: a network without spatial transformers needs num_head_channels")
    return c.num_head_channels


def _separate_attention(weights: dict[str, Tensor], c: LatentUNet) -> dict[str, Tensor]:
    """The original's joint projection, [heads x 3 x channels a head, ...], as three of diffusers'."""
    found = {}
    for key, value in weights.items():
        if ".qkv." in key:
            parts = value.reshape(-1, 3, _head_channels(c), *value.shape[1:]).unbind(1)
            for name, part in zip(("to_q", "to_k", "to_v"), parts, strict=True):
                found[key.replace("qkv", name)] = part.reshape(len(value) // 3, *value.shape[1:2])
        elif ".attentions." in key:
            name = key.replace(".norm.", ".group_norm.").replace("proj_out", "to_out.0")
            found[name] = value.squeeze(-1) if value.ndim == 3 else value
        else:
            found[key] = value
    return found


def _class_embedding(state: dict[str, Tensor], model: LatentDiffusionModel) -> nn.Module | None:
    """Labels [B] to [B, 1, context_dim]; the row after the last class is the unconditional one."""
    if model.classes is None:
        return None
    weight = state[f"{CLASSES}weight"]
    if len(weight) < model.classes + (model.guidance != 1):
        raise KeyError(f"{len(weight)} class embeddings, too few for {model.classes} classes and guidance")
    return nn.Sequential(nn.Embedding.from_pretrained(weight), nn.Unflatten(1, (1, -1)))


def _filled(network: Any, weights: dict[str, Tensor]) -> Any:
    fill(network, weights)
    return network.eval().requires_grad_(False)
