"""Small folders as diffusers' save_pretrained writes them, and Stable Diffusion in a single file.

python -m tests.builders.pipelines stable_diffusion folder
"""

import json
import sys
from functools import partial
from pathlib import Path

import diffusers
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.builders.weights import fill, weights_of

GOLDEN = Path(__file__).parents[1] / "golden/latent_diffusion.json"
CAPTIONS = [f"a photo of {what} {where}" for what in ("a cat", "two dogs", "the sea", "bread") for where in "abcdefghij"]
BLOCKS = dict(block_out_channels=(32, 64), layers_per_block=1, sample_size=8)
PIXELS = dict(
    down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"), in_channels=3,
    out_channels=3, attention_head_dim=8, **BLOCKS,
)  # fmt: skip
ATTENTION = dict(
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=16, attention_head_dim=2, in_channels=4, out_channels=4,
)  # fmt: skip
DIT = dict(num_attention_heads=2, attention_head_dim=8, in_channels=3, num_layers=1, sample_size=8, norm_num_groups=8)
TEXT = dict(
    hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=600,
    max_position_embeddings=12, bos_token_id=598, eos_token_id=599, pad_token_id=599,
)  # fmt: skip
MMDIT = dict(
    sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
    caption_projection_dim=16, joint_attention_dim=40, pooled_projection_dim=20, pos_embed_max_size=8,
)  # fmt: skip
PIXART = dict(
    in_channels=4, out_channels=8, num_layers=1, attention_head_dim=8, num_attention_heads=3, cross_attention_dim=24,
    caption_channels=40, norm_num_groups=8,
)  # fmt: skip


def pixel_unet(**options):
    """A UNet2DModel of pixels."""
    return fill(diffusers.UNet2DModel(**PIXELS, **options))


def dit(**options):
    """A class-conditional transformer; 4 classes, and one that stands for none."""
    return fill(diffusers.DiTTransformer2DModel(**{**DIT, "num_embeds_ada_norm": 4, **options}))


def autoencoder(**options):
    """SD's kind of autoencoder, with 4 latent channels and half the size."""
    types = dict(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
    return fill(diffusers.AutoencoderKL(block_out_channels=(32, 64), latent_channels=4, sample_size=16, **types, **options))


def tokenizer():
    """CLIP's byte-pair encoding with bytes and their ends of words alone."""
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(letters + [f"{letter}</w>" for letter in letters])}
    vocabulary.update({"<|startoftext|>": 598, "<|endoftext|>": 599})
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=12)


def scheduler(kind="DDIMScheduler", **options):
    """SD's noise schedule."""
    known = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    return getattr(diffusers, kind)(**({} if kind.startswith("Flow") else known), **options)


def stable_diffusion():
    """The whole pipeline, small."""
    return diffusers.StableDiffusionPipeline(
        unet=fill(diffusers.UNet2DConditionModel(**BLOCKS, **ATTENTION)), vae=autoencoder(), tokenizer=tokenizer(),
        text_encoder=clip(), safety_checker=None, feature_extractor=None,
        scheduler=scheduler(set_alpha_to_one=False, steps_offset=1), requires_safety_checker=False,
    )  # fmt: skip


def clip(projection=None):
    """CLIP's text encoder, with a projection of this width or without one."""
    if projection is None:
        return fill(CLIPTextModel(CLIPTextConfig(**TEXT)))
    return fill(CLIPTextModelWithProjection(CLIPTextConfig(**TEXT, projection_dim=projection)))


def t5():
    """T5's tokenizer with letters alone, and its encoder."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in "▁abcdefghijklmnopqrstuvwxyz")]
    config = T5Config(vocab_size=len(pieces), d_model=40, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return T5Tokenizer(vocab=pieces, extra_ids=0), fill(T5EncoderModel(config))


def stable_diffusion_xl():
    """Two CLIP encoders; sizes and pooled text beside the time."""
    unet = diffusers.UNet2DConditionModel(**BLOCKS, **{**ATTENTION, "cross_attention_dim": 32},
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=12 + 6 * 4,
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        unet=fill(unet), vae=autoencoder(), tokenizer=tokenizer(), tokenizer_2=tokenizer(), text_encoder=clip(),
        text_encoder_2=clip(12), scheduler=scheduler(set_alpha_to_one=False, steps_offset=1), add_watermarker=False,
    )  # fmt: skip


def stable_diffusion_3():
    """A flow-matching transformer with two CLIP encoders and T5."""
    tokenizer_3, text_encoder_3 = t5()
    return diffusers.StableDiffusion3Pipeline(
        transformer=fill(diffusers.SD3Transformer2DModel(**MMDIT)), vae=autoencoder(shift_factor=0.0), tokenizer=tokenizer(),
        tokenizer_2=tokenizer(), tokenizer_3=tokenizer_3, text_encoder=clip(8), text_encoder_2=clip(12),
        text_encoder_3=text_encoder_3, scheduler=scheduler("FlowMatchEulerDiscreteScheduler", shift=3.0),
    )  # fmt: skip


def pixart(pipeline, **sizes):
    """A diffusion transformer with T5 and its mask, and a learned variance."""
    tokenizer_t5, text_encoder = t5()
    return getattr(diffusers, pipeline)(
        transformer=fill(diffusers.PixArtTransformer2DModel(**PIXART, **sizes)), vae=autoencoder(), tokenizer=tokenizer_t5,
        text_encoder=text_encoder, scheduler=scheduler(set_alpha_to_one=False, steps_offset=1),
    )  # fmt: skip


def write(kind: str, folder: Path) -> dict:
    """One folder, and the YAML that describes it."""
    folder = Path(folder)
    values = {"name": kind, "kind": "diffusers", "path": str(folder)}
    if kind in OF_TEXT:
        OF_TEXT[kind]().save_pretrained(folder)
        (folder.parent / "captions.txt").write_text("\n".join(CAPTIONS))
        call = {"guidance_scale": 7.5, **(UNCHANGED if kind.startswith("pixart") else {})}
        return {**values, "kind": "pipeline", "prompts": {"path": str(folder.parent / "captions.txt")}, "call": call}
    if kind == "pixel_pipeline":
        diffusers.DDPMPipeline(pixel_unet(), scheduler("DDPMScheduler", prediction_type="v_prediction")).save_pretrained(folder)
        return values
    if kind == "classes":
        pixel_unet(num_class_embeds=5).save_pretrained(folder)
        scheduler(prediction_type="sample").save_pretrained(folder / "scheduler")
        return {**values, "classes": 4, "guidance": 1.5}
    if kind == "flow_transformer":
        dit().save_pretrained(folder)
        scheduler("FlowMatchEulerDiscreteScheduler", shift=3.0).save_pretrained(folder / "scheduler")
        return {**values, "classes": 4}
    assert kind == "learned_variance"
    dit(out_channels=6).save_pretrained(folder)
    scheduler().save_pretrained(folder.parent / "elsewhere")
    return {**values, "classes": 4, "guidance": 4.0, "scheduler": str(folder.parent / "elsewhere")}


OF_TEXT = {
    "stable_diffusion": stable_diffusion,
    "stable_diffusion_xl": stable_diffusion_xl,
    "stable_diffusion_3": stable_diffusion_3,
    "pixart_alpha": partial(pixart, "PixArtAlphaPipeline", sample_size=128, patch_size=16),  # at 128 it is given sizes
    "pixart_sigma": partial(pixart, "PixArtSigmaPipeline", sample_size=8, patch_size=2),
}
UNCHANGED = {"use_resolution_binning": False, "clean_caption": False}  # sizes and prompts, as tests give them
KINDS = (*OF_TEXT, "pixel_pipeline", "classes", "flow_transformer", "learned_variance")


def write_single_file(path: Path) -> dict:
    """Stable Diffusion in one file with the original's names of tensors, and the YAML that describes it."""
    path, folder = Path(path), Path(path).parent / "configuration"
    pipe = stable_diffusion()
    pipe.save_pretrained(folder)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    (path.parent / "captions.txt").write_text("\n".join(CAPTIONS))
    state = {
        name: weights_of(name, shape) for name, shape in json.loads(GOLDEN.read_text())["stable_diffusion"]["keys"].items()
    }
    prefix = "cond_stage_model.transformer.text_model."
    state |= {prefix + name: tensor for name, tensor in pipe.text_encoder.state_dict().items()}
    torch.save({"state_dict": state, "global_step": 1}, path)
    values = {"name": "single_file", "kind": "pipeline", "path": str(path), "config": str(folder)}
    return {**values, "prompts": {"path": str(path.parent / "captions.txt")}, "call": {"guidance_scale": 7.5}}


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
