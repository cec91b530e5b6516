"""Text to video."""

from functools import partial

import diffusers

from tests.builders.tiny_pipelines.case import Case
from tests.builders.tiny_pipelines.parts import PROMPTS, network, t5
from tests.builders.weights import fill

SIZE = dict(height=32, width=32, num_frames=5, max_sequence_length=16)


def wan(two=False):
    """Frames by T5; with two, a second transformer takes over where little noise is left."""
    tokenizer, text_encoder = t5()
    vae = fill(diffusers.AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1))
    transformers = [
        network("WanTransformer3DModel", gain, patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, text_dim=40,
            freq_dim=32, ffn_dim=32, num_layers=1, rope_max_seq_len=32)
        for gain in ((1.0, 0.5) if two else (1.0,))
    ]  # fmt: skip
    noise = diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return diffusers.WanPipeline(tokenizer, text_encoder, vae, noise, *transformers, boundary_ratio=0.875 if two else None)


def cogvideox():
    """Predicts velocities, and begins where no signal is left."""
    tokenizer, text_encoder = t5()
    transformer = network("CogVideoXTransformer3DModel", num_attention_heads=2, attention_head_dim=16, in_channels=4,
        out_channels=4, time_embed_dim=8, text_embed_dim=40, num_layers=1, sample_width=4, sample_height=4, sample_frames=5,
        patch_size=2, max_text_seq_length=16)  # fmt: skip
    vae = fill(diffusers.AutoencoderKLCogVideoX(block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1,
        norm_num_groups=2, temporal_compression_ratio=4,
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4))  # fmt: skip
    noise = diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=3.0,
        timestep_spacing="trailing")  # fmt: skip
    return diffusers.CogVideoXPipeline(tokenizer, text_encoder, vae, transformer, noise)


CASES = {
    "wan": Case(wan, dict(guidance_scale=5.0, **SIZE), PROMPTS),
    "wan_two_transformers": Case(partial(wan, two=True), dict(guidance_scale=4.0, guidance_scale_2=3.0, **SIZE), PROMPTS),
    "cogvideox": Case(cogvideox, dict(guidance_scale=6.0, **SIZE), PROMPTS),
}
