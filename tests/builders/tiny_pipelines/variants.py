"""Videos and sound, and the ways in which people change a pipeline: controls, pictures to start from, adapters, precisions."""

from functools import partial

import diffusers
import numpy as np
import transformers
from PIL import Image

from tests.builders import pipelines
from tests.builders.pipelines import clip, scheduler, tokenizer
from tests.builders.tiny_pipelines.case import Case
from tests.builders.tiny_pipelines.images import NONE, SHIFTING, SHORT, autoencoder_wan
from tests.builders.tiny_pipelines.parts import PROMPTS, autoencoder, flow, language, letters, network, smooth, t5
from tests.builders.weights import fill, weights_of

FILM = dict(height=32, width=32, num_frames=5)
START = dict(template="<|im_start|>{}", crop_start=1)


def wan(**options):
    """A flow in UniPC's coordinates; with `boundary_ratio` a second transformer for the lower half of the noise levels."""
    tokenizer_t5, text_encoder = t5()
    sizes = dict(in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, num_layers=1, text_dim=40, freq_dim=32,
        ffn_dim=32, rope_max_seq_len=32)  # fmt: skip
    high, low = (network("WanTransformer3DModel", gain, **sizes) for gain in (1.0, 0.8))
    noise = diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return diffusers.WanPipeline(tokenizer_t5, text_encoder, autoencoder_wan(), noise, high, low if options else None, **options)


def ltx():
    """Tokens of frames, with T5 and its mask."""
    tokenizer_t5, text_encoder = t5()
    transformer = network("LTXVideoTransformer3DModel", in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=12,
        cross_attention_dim=24, num_layers=1, caption_channels=40)  # fmt: skip
    down = dict(down_block_types=("LTXVideoDownBlock3D",) * 3, downsample_type=("conv",) * 3, layers_per_block=(1,) * 4)
    up = dict(decoder_layers_per_block=(1,) * 4, decoder_spatio_temporal_scaling=(True,) * 3, decoder_inject_noise=(False,) * 4)
    sizes = dict(latent_channels=8, block_out_channels=(8,) * 3, decoder_block_out_channels=(8,) * 3, spatio_temporal_scaling=(True,) * 3)
    ae = fill(diffusers.AutoencoderKLLTXVideo(**sizes, **down, **up, upsample_residual=(False,) * 3, upsample_factor=(1,) * 3))
    return diffusers.LTXPipeline(flow(**SHIFTING), ae, text_encoder, tokenizer_t5, transformer)


def cogvideox():
    """Velocity on a shifted schedule without signal at its end."""
    tokenizer_t5, text_encoder = t5()
    transformer = network("CogVideoXTransformer3DModel", num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4,
        time_embed_dim=16, text_embed_dim=40, num_layers=1, sample_width=4, sample_height=4, sample_frames=5, max_text_seq_length=16)  # fmt: skip
    blocks = dict(down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4)
    ae = diffusers.AutoencoderKLCogVideoX(block_out_channels=(8,) * 4, latent_channels=4, layers_per_block=1, norm_num_groups=4, **blocks)
    noise = diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=3.0,
        timestep_spacing="trailing")  # fmt: skip
    return diffusers.CogVideoXPipeline(tokenizer_t5, text_encoder, fill(ae), transformer, noise)


def hunyuan_video():
    """Llama's tokens behind a template, CLIP's pooled text, and guidance as an input."""
    transformer = network("HunyuanVideoTransformer3DModel", in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8,
        num_layers=1, num_single_layers=1, num_refiner_layers=1, text_embed_dim=16, pooled_projection_dim=16, rope_axes_dim=(2, 2, 4))  # fmt: skip
    blocks = dict(down_block_types=("HunyuanVideoDownBlock3D",) * 4, up_block_types=("HunyuanVideoUpBlock3D",) * 4)
    ae = diffusers.AutoencoderKLHunyuanVideo(latent_channels=4, block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=4, **blocks)
    long = transformers.CLIPTextModel(transformers.CLIPTextConfig(**{**pipelines.TEXT, "max_position_embeddings": 77}))
    return diffusers.HunyuanVideoPipeline(language("LlamaModel", num_hidden_layers=3), letters(), transformer, fill(ae), flow(shift=7.0),
        fill(long), tokenizer())  # fmt: skip


def mochi():
    """Time runs from 0 for noise to 1 for data."""
    tokenizer_t5, text_encoder = t5()
    transformer = network("MochiTransformer3DModel", num_attention_heads=2, attention_head_dim=8, num_layers=2, pooled_projection_dim=16,
        in_channels=12, text_embed_dim=40, time_embed_dim=16, max_sequence_length=16)  # fmt: skip
    ae = diffusers.AutoencoderKLMochi(encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4, layers_per_block=(1,) * 5)
    return diffusers.MochiPipeline(flow(invert_sigmas=True), fill(ae), text_encoder, tokenizer_t5, transformer)


def seeing():
    """What CLIP sees of a picture, and what scales pictures for it."""
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=224, patch_size=56)
    return fill(transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(projection_dim=16, **sizes)))


def picture(name="a picture", size=16):
    """Of smooth colours."""
    values = np.kron(weights_of(name, (4, 4, 3)).numpy() * 7, np.ones((size // 4, size // 4, 1)))
    return Image.fromarray((255 / (1 + np.exp(-3 * values))).astype(np.uint8))


def svd():
    """From a picture; more guidance for later frames, on EDM's preconditioning."""
    unet = network("UNetSpatioTemporalConditionModel", block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"), num_attention_heads=2, num_frames=2,
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24)  # fmt: skip
    ae = diffusers.AutoencoderKLTemporalDecoder(down_block_types=("DownEncoderBlock2D",) * 2, block_out_channels=(32, 32))
    noise = diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
        timestep_type="continuous", timestep_spacing="leading", steps_offset=1, sigma_min=0.002, sigma_max=700.0, use_karras_sigmas=True)  # fmt: skip
    return diffusers.StableVideoDiffusionPipeline(fill(ae), seeing(), unet, noise, transformers.CLIPImageProcessor())


CASES: dict[str, Case] = {
    "wan": Case(wan, dict(guidance_scale=5.0, **NONE, **FILM, **SHORT), PROMPTS),
    "wan22": Case(
        partial(wan, boundary_ratio=0.6), dict(guidance_scale=4.0, guidance_scale_2=3.0, **NONE, **FILM, **SHORT), PROMPTS
    ),
    "ltx": Case(ltx, dict(guidance_scale=3.0, **NONE, height=128, width=128, num_frames=9, **SHORT), PROMPTS),
    "cogvideox": Case(cogvideox, dict(guidance_scale=6.0, **NONE, **FILM, **SHORT), PROMPTS),
    "hunyuan_video": Case(hunyuan_video, dict(guidance_scale=6.0, prompt_template=START, **FILM, **SHORT), PROMPTS),
    "mochi": Case(mochi, dict(guidance_scale=4.5, height=32, width=32, num_frames=7, **NONE, **SHORT), PROMPTS),
    "svd": Case(svd, dict(image=picture(), height=8, width=8, num_frames=2, max_guidance_scale=3.0)),
}  # fmt: skip
