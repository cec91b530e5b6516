"""Text to image, classes and pictures of nothing in particular."""

from functools import partial

import diffusers
import transformers

from tests.builders import pipelines
from tests.builders.pipelines import clip, scheduler, t5, tokenizer
from tests.builders.tiny_pipelines.case import Case
from tests.builders.tiny_pipelines.parts import PROMPTS, autoencoder, flow, language, letters, network, smooth
from tests.builders.weights import fill

SIZE = dict(height=16, width=16)
SHORT = dict(max_sequence_length=16)
NONE = dict(negative_prompt="bad")
ROPE = dict(attention_head_dim=8, num_attention_heads=2, axes_dims_rope=(2, 2, 4))
SHIFTING = dict(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)


def known(build, *denoisers, **options):
    """A pipeline of the other builders."""
    made = build(**options)
    for name in ("unet", "transformer"):
        if hasattr(made, name):
            smooth(getattr(made, name))
    return made


def stable_diffusion(**options):
    """With another prediction."""
    made = known(pipelines.stable_diffusion)
    made.scheduler = scheduler(set_alpha_to_one=False, steps_offset=1, **options)
    return made


def flux(**options):
    """CLIP's pooled text, T5, and guidance as an input where the network takes it."""
    tokenizer_2, text_encoder_2 = t5()
    transformer = network("FluxTransformer2DModel", in_channels=16, num_layers=1, num_single_layers=1, joint_attention_dim=40,
        pooled_projection_dim=16, **ROPE, **options)  # fmt: skip
    return diffusers.FluxPipeline(flow(shift=3.0, **SHIFTING), autoencoder(shift_factor=0.1), clip(), tokenizer(), text_encoder_2,
        tokenizer_2, transformer)  # fmt: skip


def chroma():
    """Flux without guidance as an input, with modulations from a small network, and T5's mask."""
    tokenizer_t5, text_encoder = t5()
    transformer = network("ChromaTransformer2DModel", in_channels=16, num_layers=1, num_single_layers=1, joint_attention_dim=40,
        approximator_num_channels=16, approximator_hidden_dim=16, approximator_layers=2, **ROPE)  # fmt: skip
    return diffusers.ChromaPipeline(flow(), autoencoder(shift_factor=0.1), text_encoder, tokenizer_t5, transformer)


def autoencoder_flux2():
    """Latents are patches, each channel brought to its scale."""
    types = dict(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
    return fill(diffusers.AutoencoderKLFlux2(block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, sample_size=16, **types))


def flux2():
    """Mistral's hidden layers beside one another, and guidance as an input."""
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1)
    vision = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4)
    config = transformers.Mistral3Config(text_config=dict(model_type="mistral", head_dim=8, vocab_size=320, **sizes),
        vision_config=dict(model_type="pixtral", head_dim=4, **vision))  # fmt: skip
    return diffusers.Flux2Pipeline(flow(**SHIFTING), autoencoder_flux2(), fill(transformers.Mistral3ForConditionalGeneration(config)),
        letters(), transformer_flux2())  # fmt: skip


def transformer_flux2(**options):
    """One double and one single block."""
    return network("Flux2Transformer2DModel", in_channels=16, num_layers=1, num_single_layers=1, joint_attention_dim=48,
        attention_head_dim=8, num_attention_heads=2, axes_dims_rope=(2, 2, 2, 2), timestep_guidance_channels=32, **options)  # fmt: skip


def flux2_klein():
    """Qwen 3 and ordinary guidance."""
    text_encoder = language("Qwen3ForCausalLM", num_hidden_layers=3)
    return diffusers.Flux2KleinPipeline(
        flow(**SHIFTING), autoencoder_flux2(), text_encoder, letters(), transformer_flux2(guidance_embeds=False)
    )


def qwen_vl(**options):
    """Qwen 2.5 that could also see."""
    vision = dict(depth=1, hidden_size=8, intermediate_size=8, num_heads=2, out_hidden_size=16, patch_size=4)
    rope = dict(rope_type="default", mrope_section=[1, 1, 2], rope_theta=10000.0)
    text = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=320, rope_parameters=rope, **options)  # fmt: skip
    return fill(transformers.Qwen2_5_VLForConditionalGeneration(transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)))


def autoencoder_qwen(kind="AutoencoderKLQwenImage"):
    """Of videos, with a scale for each channel."""
    return fill(getattr(diffusers, kind)(base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.0, 2.0, 1.5, 0.5]))  # fmt: skip


def qwen_image():
    """Texts of their own length with a mask; the guided velocity is brought to the conditional one's norm."""
    transformer = network("QwenImageTransformer2DModel", in_channels=16, out_channels=4, num_layers=2, joint_attention_dim=16, **ROPE)
    return diffusers.QwenImagePipeline(flow(shift_terminal=0.02, time_shift_type="exponential", **SHIFTING), autoencoder_qwen(),
        qwen_vl(), letters(), transformer)  # fmt: skip


def z_image():
    """Lists of texts of their own length; velocities with the other sign."""
    transformer = network("ZImageTransformer2DModel", in_channels=4, dim=16, n_layers=1, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, cap_feat_dim=16, axes_dims=[2, 2, 4], axes_lens=[64, 64, 64])  # fmt: skip
    return diffusers.ZImagePipeline(flow(shift=3.0), autoencoder(shift_factor=0.1), language("Qwen3Model"), letters(), transformer)


def autoencoder_dc():
    """Deep compression: blocks without attention."""
    return fill(diffusers.AutoencoderDC(latent_channels=4, attention_head_dim=4, encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ())))  # fmt: skip


def sana(pipeline=diffusers.SanaPipeline, **options):
    """Linear attention, Gemma 2 and its mask."""
    transformer = network("SanaTransformer2DModel", in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8,
        num_layers=2, num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=8)  # fmt: skip
    return pipeline(tokenizer=letters(), text_encoder=language("Gemma2Model"), vae=autoencoder_dc(), transformer=transformer,
        scheduler=flow(shift=3.0), **options)  # fmt: skip


def lumina():
    """Time runs from 0 for noise to 1 for data; half of the channels are guided alone."""
    transformer = network("LuminaNextDiT2DModel", sample_size=8, in_channels=4, hidden_size=16, num_layers=1, num_attention_heads=2,
        num_kv_heads=1, multiple_of=16, cross_attention_dim=16)  # fmt: skip
    return diffusers.LuminaPipeline(transformer, flow(), autoencoder(), language("GemmaModel"), letters())


def lumina2():
    """Time runs the other way; the guided velocity keeps its norm."""
    transformer = network("Lumina2Transformer2DModel", sample_size=8, in_channels=4, hidden_size=16, num_layers=1,
        num_refiner_layers=1, num_attention_heads=2, num_kv_heads=1, multiple_of=16, cap_feat_dim=16, axes_dim_rope=(2, 2, 4),
        axes_lens=(300, 64, 64))  # fmt: skip
    return diffusers.Lumina2Pipeline(transformer, flow(**SHIFTING), autoencoder(shift_factor=0.1), language("Gemma2Model"), letters())


def hidream():
    """Experts, and four text encoders with Llama's layers one by one."""
    transformer = network("HiDreamImageTransformer2DModel", patch_size=2, in_channels=4, out_channels=4, num_layers=1,
        num_single_layers=1, attention_head_dim=8, num_attention_heads=2, caption_channels=[40, 16], text_emb_dim=20,
        axes_dims_rope=(4, 2, 2), max_resolution=(8, 8), llama_layers=[0, 1], force_inference_output=True)  # fmt: skip
    tokenizer_3, text_encoder_3 = t5()
    return diffusers.HiDreamImagePipeline(flow(shift=3.0), autoencoder(shift_factor=0.1), clip(8), tokenizer(), clip(12), tokenizer(),
        text_encoder_3, tokenizer_3, language("LlamaForCausalLM", attn_implementation="eager"), letters(), transformer)  # fmt: skip


def aura_flow():
    """A T5 of many languages, and registers."""
    tokenizer_t5, _ = t5()
    config = transformers.UMT5Config(vocab_size=29, d_model=40, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformer = network("AuraFlowTransformer2DModel", sample_size=8, num_mmdit_layers=1, num_single_dit_layers=1,
        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=40, caption_projection_dim=16, pos_embed_max_size=16)  # fmt: skip
    return diffusers.AuraFlowPipeline(tokenizer_t5, fill(transformers.UMT5EncoderModel(config)), autoencoder(), transformer, flow(shift=1.73))


def cogview3():
    """Velocity on a schedule without signal at its end."""
    tokenizer_t5, text_encoder = t5()
    transformer = network("CogView3PlusTransformer2DModel", in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, text_embed_dim=40, time_embed_dim=32, condition_dim=8, pos_embed_max_size=8, sample_size=8)  # fmt: skip
    known = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        rescale_betas_zero_snr=True, snr_shift_scale=4.0, timestep_spacing="linspace", set_alpha_to_one=True)  # fmt: skip
    return diffusers.CogView3PlusPipeline(tokenizer_t5, text_encoder, autoencoder(), transformer, diffusers.CogVideoXDDIMScheduler(**known))


def cogview4():
    """A flow with GLM."""
    transformer = network("CogView4Transformer2DModel", in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, text_embed_dim=16, time_embed_dim=32, condition_dim=8, pos_embed_max_size=8, sample_size=8,
        rope_axes_dim=(8, 8))  # fmt: skip
    shift = dict(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear")
    return diffusers.CogView4Pipeline(letters("left"), language("GlmModel"), autoencoder(), transformer, flow(**shift))


def dit():
    """Classes, and a learned variance that is thrown away."""
    transformer = smooth(pipelines.dit(in_channels=4, out_channels=8, num_embeds_ada_norm=1000))
    return diffusers.DiTPipeline(transformer, autoencoder(), scheduler())


def ddpm(pipeline, kind):
    """Pixels of nothing in particular."""
    return pipeline(smooth(pipelines.pixel_unet()), scheduler(kind))


TEXT = dict(prompts=PROMPTS)
CASES: dict[str, Case] = {
    "stable_diffusion": Case(partial(known, pipelines.stable_diffusion), dict(guidance_scale=7.5, **SIZE, **NONE), PROMPTS),
    "stable_diffusion_v": Case(partial(stable_diffusion, prediction_type="v_prediction"), dict(guidance_scale=5.0, **SIZE), PROMPTS),
    "stable_diffusion_rescaled": Case(
        partial(stable_diffusion, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"),
        dict(guidance_scale=5.0, guidance_rescale=0.7, **SIZE), PROMPTS,
    ),
    "stable_diffusion_xl": Case(partial(known, pipelines.stable_diffusion_xl), dict(guidance_scale=5.0, **SIZE, **NONE), PROMPTS),
    "stable_diffusion_xl_rescaled": Case(
        partial(known, pipelines.stable_diffusion_xl), dict(guidance_scale=5.0, guidance_rescale=0.5, **SIZE), PROMPTS
    ),
    "stable_diffusion_3": Case(partial(known, pipelines.stable_diffusion_3), dict(guidance_scale=7.0, **SIZE, **SHORT), PROMPTS),
    "flux": Case(partial(flux, guidance_embeds=True), dict(guidance_scale=3.5, **SIZE, **SHORT), PROMPTS),
    "flux_true_guidance": Case(
        partial(flux, guidance_embeds=True), dict(guidance_scale=3.5, true_cfg_scale=2.5, **NONE, **SIZE, **SHORT), PROMPTS
    ),
    "chroma": Case(chroma, dict(guidance_scale=5.0, **NONE, **SIZE, **SHORT), PROMPTS),
    "flux2": Case(flux2, dict(guidance_scale=4.0, text_encoder_out_layers=(1, 2, 3), max_sequence_length=48, **SIZE), PROMPTS),
    "flux2_klein": Case(flux2_klein, dict(guidance_scale=4.0, text_encoder_out_layers=(1, 2, 3), max_sequence_length=48, **SIZE), PROMPTS),
    "qwen_image": Case(qwen_image, dict(true_cfg_scale=4.0, **NONE, **SIZE), PROMPTS),
    "z_image": Case(z_image, dict(guidance_scale=4.0, max_sequence_length=48, **NONE, **SIZE), PROMPTS),
    "sana": Case(sana, dict(guidance_scale=4.5, complex_human_instruction=None, use_resolution_binning=False, **SIZE, **SHORT), PROMPTS),
    "lumina": Case(lumina, dict(guidance_scale=4.0, clean_caption=False, **SIZE), PROMPTS),
    "lumina2": Case(lumina2, dict(guidance_scale=4.0, system_prompt="draw", max_sequence_length=64, **NONE, **SIZE), PROMPTS),
    "hidream": Case(hidream, dict(guidance_scale=5.0, max_sequence_length=12, **NONE, **SIZE), PROMPTS),
    "aura_flow": Case(aura_flow, dict(guidance_scale=3.5, **NONE, **SIZE, **SHORT), PROMPTS),
    "cogview3": Case(cogview3, dict(guidance_scale=5.0, **NONE, **SIZE, **SHORT), PROMPTS),
    "cogview4": Case(cogview4, dict(guidance_scale=5.0, **NONE, **SIZE, **SHORT), PROMPTS),
    "pixart_alpha": Case(
        partial(known, pipelines.OF_TEXT["pixart_alpha"]),
        dict(guidance_scale=4.5, use_resolution_binning=False, clean_caption=False, **SHORT), PROMPTS,
    ),
    "pixart_sigma": Case(
        partial(known, pipelines.OF_TEXT["pixart_sigma"]),
        dict(guidance_scale=4.5, use_resolution_binning=False, clean_caption=False, **SIZE, **SHORT), PROMPTS,
    ),
    "dit": Case(dit, dict(guidance_scale=4.0), [1, 7, 3]),
    "ddpm": Case(partial(ddpm, diffusers.DDPMPipeline, "DDPMScheduler"), {}),
    "ddim": Case(partial(ddpm, diffusers.DDIMPipeline, "DDIMScheduler"), {}),
}  # fmt: skip
