"""Text to image, classes and pictures of nothing in particular."""

from functools import partial

import diffusers
import torch
import transformers
from diffusers.guiders import AdaptiveProjectedMixGuidance
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

from tests.builders import pipelines
from tests.builders.pipelines import clip, scheduler, tokenizer
from tests.builders.tiny_pipelines.case import Case
from tests.builders.tiny_pipelines.parts import (
    CHAT,
    LANGUAGE,
    PROMPTS,
    autoencoder,
    flow,
    language,
    letters,
    loud,
    network,
    smooth,
    t5,
)
from tests.builders.weights import fill, weights_of

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SIZE = dict(height=16, width=16)
SHORT = dict(max_sequence_length=16)
LARGE = dict(height=64, width=64)  # for pipelines that take any autoencoder to divide by 8
SANA = dict(guidance_scale=4.5, complex_human_instruction=None, use_resolution_binning=False, **LARGE, **SHORT)
NONE = dict(negative_prompt="bad")
ROPE = dict(attention_head_dim=8, num_attention_heads=2, axes_dims_rope=(2, 2, 4))
SHIFTING = dict(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)


def known(build, gain=1.0, noise=None):
    """A pipeline of the other builders, perhaps with another scheduler."""
    made = build()
    if noise is not None:
        made.register_modules(scheduler=noise())
    for name in {"unet", "transformer"} & made.components.keys():
        smooth(getattr(made, name), gain)
    return made


def flux(**options):
    """CLIP's pooled text, T5, and guidance as an input where the network takes it."""
    tokenizer_2, text_encoder_2 = t5()
    transformer = network("FluxTransformer2DModel", in_channels=16, num_layers=1, num_single_layers=1, joint_attention_dim=40,
        pooled_projection_dim=16, **ROPE, **options)  # fmt: skip
    return diffusers.FluxPipeline(flow(shift=3.0, **SHIFTING), autoencoder(shift_factor=0.1), clip(), tokenizer(),
        text_encoder_2, tokenizer_2, transformer)  # fmt: skip


def chroma():
    """Flux without guidance as an input, with modulations from a small network, and T5's mask."""
    tokenizer_t5, text_encoder = t5()
    transformer = network("ChromaTransformer2DModel", 0.3, in_channels=16, num_layers=1, num_single_layers=1,
        joint_attention_dim=40, approximator_num_channels=16, approximator_hidden_dim=16, approximator_layers=2,
        **ROPE)  # fmt: skip
    return diffusers.ChromaPipeline(flow(), autoencoder(shift_factor=0.1), text_encoder, tokenizer_t5, transformer)


def autoencoder_flux2():
    """Latents are patches, each channel brought to its scale."""
    types = dict(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
    return fill(
        diffusers.AutoencoderKLFlux2(block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, sample_size=16, **types)
    )


def flux2():
    """Mistral's hidden layers beside one another, and guidance as an input."""
    return diffusers.Flux2Pipeline(
        flow(**SHIFTING), autoencoder_flux2(), mistral("Mistral3ForConditionalGeneration"), letters(), transformer_flux2()
    )


def mistral(kind):
    """Mistral 3 that could also see."""
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1)
    vision = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4)
    config = transformers.Mistral3Config(text_config=dict(model_type="mistral", head_dim=8, vocab_size=320, **sizes),
        vision_config=dict(model_type="pixtral", head_dim=4, **vision))  # fmt: skip
    return loud(fill(getattr(transformers, kind)(config)))


def transformer_flux2(**options):
    """One double and one single block."""
    return network("Flux2Transformer2DModel", in_channels=16, num_layers=1, num_single_layers=1, joint_attention_dim=48,
        attention_head_dim=8, num_attention_heads=2, axes_dims_rope=(2, 2, 2, 2), timestep_guidance_channels=32,
        **options)  # fmt: skip


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
    return loud(
        fill(
            transformers.Qwen2_5_VLForConditionalGeneration(
                transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
            )
        )
    )


def autoencoder_qwen(kind="AutoencoderKLQwenImage"):
    """Of videos, with a scale for each channel."""
    return fill(getattr(diffusers, kind)(base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.0, 2.0, 1.5, 0.5]))  # fmt: skip


# What pipelines put around a prompt, as their attributes; and what is dropped of it, counted in Qwen's tokens.
TEMPLATES = dict(prompt_template_encode="<|im_start|>{}", prompt_template="<|im_start|>{}", prompt_template_encode_start_idx=0,
system_prompt="",
    user_prompt_begin_id=0, prompt_template_encode_prefix="", prompt_template_encode_suffix="\n",
    prompt_template_encode_num_suffix_tokens=1, tokenizer_max_length=24)  # fmt: skip


def bare(pipe):
    """A pipeline without its template, which would be most of the tokens. A saved pipeline has it again."""
    for name, value in TEMPLATES.items():
        if hasattr(pipe, name):
            setattr(pipe, name, value)
    return pipe


def qwen_image():
    """Texts of their own length with a mask; the guided velocity is brought to the conditional one's norm."""
    transformer = network(
        "QwenImageTransformer2DModel", in_channels=16, out_channels=4, num_layers=2, joint_attention_dim=16, **ROPE
    )
    return bare(diffusers.QwenImagePipeline(flow(shift_terminal=0.02, time_shift_type="exponential", **SHIFTING),
        autoencoder_qwen(), qwen_vl(), letters(), transformer))  # fmt: skip


def z_image():
    """Lists of texts of their own length; velocities with the other sign."""
    transformer = network("ZImageTransformer2DModel", in_channels=4, dim=16, n_layers=1, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, cap_feat_dim=16, axes_dims=[2, 2, 4], axes_lens=[512, 64, 64])  # fmt: skip
    return diffusers.ZImagePipeline(
        flow(shift=3.0), autoencoder(shift_factor=0.1), language("Qwen3Model"), letters(), transformer
    )


def autoencoder_dc():
    """Deep compression: blocks without attention."""
    return fill(diffusers.AutoencoderDC(latent_channels=4, attention_head_dim=4, encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4, encoder_layers_per_block=(1,) * 4, decoder_layers_per_block=(1,) * 4,
        encoder_qkv_multiscales=((),) * 4, decoder_qkv_multiscales=((),) * 4))  # fmt: skip


def sana(pipeline=diffusers.SanaPipeline, noise=flow, **options):
    """Linear attention, Gemma 2 and its mask."""
    transformer = network("SanaTransformer2DModel", in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8,
        num_layers=2, num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=8)  # fmt: skip
    return pipeline(tokenizer=letters(start=True), text_encoder=language("Gemma2Model"), vae=autoencoder_dc(),
        transformer=transformer, scheduler=noise(), **options)  # fmt: skip


def lumina():
    """Time runs from 0 for noise to 1 for data; half of the channels are guided alone."""
    transformer = network("LuminaNextDiT2DModel", 0.5, sample_size=8, in_channels=4, hidden_size=16, num_layers=1,
        num_attention_heads=2, num_kv_heads=1, multiple_of=16, cross_attention_dim=16)  # fmt: skip
    return diffusers.LuminaPipeline(transformer, flow(), autoencoder(blocks=4), language("GemmaModel"), letters(start=True))


def lumina2():
    """Time runs the other way; the guided velocity keeps its norm."""
    transformer = network("Lumina2Transformer2DModel", sample_size=8, in_channels=4, hidden_size=16, num_layers=1,
        num_refiner_layers=1, num_attention_heads=2, num_kv_heads=1, multiple_of=16, cap_feat_dim=16, axes_dim_rope=(2, 2, 4),
        axes_lens=(300, 64, 64))  # fmt: skip
    return diffusers.Lumina2Pipeline(
        transformer, flow(**SHIFTING), autoencoder(blocks=4, shift_factor=0.1), language("Gemma2Model"), letters(start=True)
    )


def hidream():
    """Experts, and four text encoders with Llama's layers one by one."""
    transformer = network("HiDreamImageTransformer2DModel", patch_size=2, in_channels=4, out_channels=4, num_layers=1,
        num_single_layers=1, attention_head_dim=8, num_attention_heads=2, caption_channels=[40, 16], text_emb_dim=20,
        axes_dims_rope=(4, 2, 2), max_resolution=(8, 8), llama_layers=[0, 1], force_inference_output=True)  # fmt: skip
    tokenizer_3, text_encoder_3 = t5()
    made = diffusers.HiDreamImagePipeline(flow(shift=3.0), autoencoder(shift_factor=0.1), clip(8), tokenizer(), clip(12),
        tokenizer(), text_encoder_3, tokenizer_3, language("LlamaForCausalLM", attn_implementation="eager"),
        letters(start=True), transformer)  # fmt: skip
    made.default_sample_size = 8  # every size is brought to about this one
    return made


def aura_flow():
    """A T5 of many languages, and registers."""
    tokenizer_t5, _ = t5()
    config = transformers.UMT5Config(vocab_size=29, d_model=40, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformer = network("AuraFlowTransformer2DModel", sample_size=8, num_mmdit_layers=1, num_single_dit_layers=1,
        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=40, caption_projection_dim=16,
        pos_embed_max_size=16)  # fmt: skip
    with torch.no_grad():
        for block in transformer.joint_transformer_blocks:
            block.attn.add_v_proj.weight *= 6.0  # or the text is not heard
    return diffusers.AuraFlowPipeline(
        tokenizer_t5, loud(fill(transformers.UMT5EncoderModel(config))), autoencoder(), transformer, flow(shift=1.73)
    )


def cogview3():
    """Velocity on a schedule without signal at its end."""
    tokenizer_t5, text_encoder = t5()
    transformer = network("CogView3PlusTransformer2DModel", in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, text_embed_dim=40, time_embed_dim=32, condition_dim=8, pos_embed_max_size=8,
        sample_size=8)  # fmt: skip
    known = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        rescale_betas_zero_snr=True, snr_shift_scale=4.0, timestep_spacing="linspace", set_alpha_to_one=True)  # fmt: skip
    return diffusers.CogView3PlusPipeline(
        tokenizer_t5, text_encoder, autoencoder(), transformer, diffusers.CogVideoXDDIMScheduler(**known)
    )


def cogview4():
    """A flow with GLM."""
    transformer = network("CogView4Transformer2DModel", in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, text_embed_dim=16, time_embed_dim=32, condition_dim=8, pos_embed_max_size=8, sample_size=8,
        rope_axes_dim=(8, 8))  # fmt: skip
    shift = dict(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear")
    return diffusers.CogView4Pipeline(
        letters("left", start=True), language("GlmModel"), autoencoder(), transformer, flow(**shift)
    )


def dit():
    """Classes, and a learned variance that is thrown away."""
    transformer = smooth(pipelines.dit(in_channels=4, out_channels=8, num_embeds_ada_norm=1000))
    return diffusers.DiTPipeline(transformer, autoencoder(), scheduler())


def ddpm(pipeline, kind):
    """Pixels of nothing in particular."""
    return pipeline(smooth(pipelines.pixel_unet()), scheduler(kind))


def autoencoder_wan(**options):
    """Of videos, with a scale for each channel."""
    return fill(diffusers.AutoencoderKLWan(base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.0, 2.0, 1.5, 0.5], **options))  # fmt: skip


def movq():
    """Kandinsky's autoencoder, whose decoder also sees the latents."""
    return fill(diffusers.VQModel(block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",
        "AttnDownEncoderBlock2D"), up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"), latent_channels=4,
            vq_embed_dim=4, num_vq_embeddings=16,
        norm_type="spatial"))  # fmt: skip


def hunyuan_dit(pipeline=diffusers.HunyuanDiTPipeline, **options):
    """Bert and T5 beside one another, and a learned variance."""
    tokenizer_2, text_encoder_2 = t5()
    words = {
        word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *[f"##{i}" for i in LETTERS]])
    }
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=len(words))
    transformer = network("HunyuanDiT2DModel", num_attention_heads=2, attention_head_dim=8, in_channels=4, patch_size=2,
        sample_size=8, hidden_size=16, num_layers=2, cross_attention_dim=16, cross_attention_dim_t5=40,
        pooled_projection_dim=16)  # fmt: skip
    return pipeline(autoencoder(), fill(transformers.BertModel(transformers.BertConfig(**sizes))),
        transformers.BertTokenizer(vocab=words), transformer, scheduler("DDPMScheduler", prediction_type="v_prediction"), None,
            None, False,
        text_encoder_2, tokenizer_2, **options)  # fmt: skip


def hunyuan_image(**options):
    """Qwen for what is said and ByT5 for what is written; guidance as an object with a memory."""
    transformer = network("HunyuanImageTransformer2DModel", in_channels=4, out_channels=4, num_attention_heads=2,
        attention_head_dim=8, num_layers=1, num_single_layers=1, num_refiner_layers=1, text_embed_dim=16, text_embed_2_dim=16,
        rope_axes_dim=(4, 4), **options)  # fmt: skip
    ae = fill(diffusers.AutoencoderKLHunyuanImage(in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32),
        layers_per_block=1, spatial_compression_ratio=2, sample_size=16, scaling_factor=0.75))  # fmt: skip
    guider = None if options.get("guidance_embeds") else AdaptiveProjectedMixGuidance(guidance_scale=3.5)
    return bare(diffusers.HunyuanImagePipeline(flow(shift=4.0), ae, qwen_vl(), letters(), byt5(), transformers.ByT5Tokenizer(),
        transformer, guider=guider))  # fmt: skip


def kandinsky2():
    """The decoder, which is told of a picture's embedding alone."""
    unet = network("UNet2DConditionModel", in_channels=4, out_channels=8, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        cross_attention_dim=16, attention_head_dim=8, encoder_hid_dim=12, encoder_hid_dim_type="image_proj",
        addition_embed_type="image", resnet_time_scale_shift="scale_shift")  # fmt: skip
    return diffusers.KandinskyV22Pipeline(unet, scheduler("DDPMScheduler", variance_type="learned_range"), movq())


def kandinsky3():
    """T5's mask in a large UNet."""
    tokenizer_t5, text_encoder = t5()
    unet = network("Kandinsky3UNet", in_channels=4, time_embedding_dim=8, groups=2, attention_head_dim=4, layers_per_block=2,
        block_out_channels=(8, 16, 32, 64), cross_attention_dim=8, encoder_hid_dim=40)  # fmt: skip
    return diffusers.Kandinsky3Pipeline(tokenizer_t5, text_encoder, unet, scheduler("DDPMScheduler"), movq())


def kandinsky5():
    """A transformer of videos with one frame."""
    transformer = network("Kandinsky5Transformer3DModel", 0.4, in_visual_dim=4, out_visual_dim=4, in_text_dim=16,
        in_text_dim2=16, time_dim=16, model_dim=16, ff_dim=32, num_text_blocks=1, num_visual_blocks=1, axes_dims=(2, 2,
        4))  # fmt: skip
    long = transformers.CLIPTextModel(transformers.CLIPTextConfig(**{**pipelines.TEXT, "max_position_embeddings": 77}))
    made = diffusers.Kandinsky5T2IPipeline(
        transformer, autoencoder(blocks=4), qwen_vl(), letters(), fill(long), tokenizer(), flow(shift=3.0)
    )
    made.resolutions = [(64, 64)]  # the nearest of these is taken
    return bare(made)


def cascade(**options):
    """Wuerstchen's third generation: a prior of small maps; pooled text and pictures."""
    sizes = dict(in_channels=4, out_channels=4, timestep_ratio_embedding_dim=16, conditioning_dim=16, block_out_channels=(16,
        16), num_attention_heads=(2, 2), down_num_layers_per_block=(1, 1), up_num_layers_per_block=(1, 1), dropout=(0.0, 0.0),
        clip_text_pooled_in_channels=12, switch_level=(False,))  # fmt: skip
    return network("StableCascadeUNet", **{**sizes, **options})


def cascade_prior():
    """The first stage: what the picture is."""
    prior = cascade(clip_text_in_channels=16, clip_image_in_channels=12)
    return diffusers.StableCascadePriorPipeline(
        tokenizer(), clip(12), prior, diffusers.DDPMWuerstchenScheduler(), resolution_multiple=2
    )


def latent_diffusion():
    """The first text to image of latent diffusion, with its own Bert."""
    bert = LDMBertModel(LDMBertConfig(vocab_size=600, encoder_layers=1, encoder_ffn_dim=16, encoder_attention_heads=2,
    d_model=16,
        max_position_embeddings=77, pad_token_id=0))  # fmt: skip
    unet = network("UNet2DConditionModel", **pipelines.BLOCKS, **pipelines.ATTENTION)
    return diffusers.LDMTextToImagePipeline(autoencoder(), fill(bert), tokenizer(), unet, scheduler())


def omnigen():
    """One transformer for text and pictures."""
    transformer = network("OmniGenTransformer2DModel", in_channels=4, hidden_size=16, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=32, num_layers=1, pad_token_id=256, vocab_size=320,
        max_position_embeddings=1024, original_max_position_embeddings=1024, pos_embed_max_size=16, time_step_dim=32,
        rope_scaling=dict(long_factor=[1.0] * 4, short_factor=[1.0] * 4, type="su"))  # fmt: skip
    return diffusers.OmniGenPipeline(
        transformer, flow(invert_sigmas=True, num_train_timesteps=1), autoencoder(blocks=4), letters("left")
    )


def bria():
    """Flux with T5 alone."""
    tokenizer_t5, text_encoder = t5()
    transformer = network("BriaTransformer2DModel", in_channels=16, num_layers=1, num_single_layers=1, joint_attention_dim=40,
        **{**ROPE, "axes_dims_rope": [2, 2, 4]})  # fmt: skip
    return diffusers.BriaPipeline(transformer, flow(**SHIFTING), autoencoder(shift_factor=0.0), text_encoder, tokenizer_t5)


def bria_fibo():
    """Every layer of a language model goes to a layer of the network."""
    text_encoder = language("SmolLM3ForCausalLM", vocab_size=128001)
    transformer = network("BriaFiboTransformer2DModel", in_channels=4, num_layers=1, num_single_layers=1,
        joint_attention_dim=32, text_encoder_dim=16, **{**ROPE, "axes_dims_rope": [2, 2, 4]})  # fmt: skip
    return diffusers.BriaFiboPipeline(transformer, flow(**SHIFTING), autoencoder_wan(), text_encoder, letters())


def ovis():
    """Flux with Qwen 3."""
    transformer = network("OvisImageTransformer2DModel", in_channels=16, out_channels=16, num_layers=1, num_single_layers=1,
        joint_attention_dim=16, **ROPE)  # fmt: skip
    parts = (autoencoder(shift_factor=0.1), language("Qwen3Model"), letters(), transformer)
    return bare(diffusers.OvisImagePipeline(flow(**SHIFTING), *parts))


def longcat():
    """Flux with Qwen 2.5, and guidance that keeps the norm of each patch."""
    transformer = network("LongCatImageTransformer2DModel", in_channels=64, num_layers=1, num_single_layers=1,
        joint_attention_dim=16, pooled_projection_dim=16, **{**ROPE, "axes_dims_rope": [2, 2, 4]})  # fmt: skip
    parts = (autoencoder(16, shift_factor=0.1), qwen_vl(), letters(), letters(), transformer)
    return bare(diffusers.LongCatImagePipeline(flow(**SHIFTING), *parts))


class AsWritten:
    """What PRX does to a text beforehand, without ftfy: nothing."""

    def clean_text(self, text):
        return text


def prx():
    """Photoroom's transformer with the encoder of T5 Gemma."""
    config = transformers.T5GemmaModuleConfig(**{**LANGUAGE, "layer_types": ["full_attention"] * 2, "dropout_rate": 0.0})
    transformer = network("PRXTransformer2DModel", in_channels=4, context_in_dim=16, hidden_size=16, mlp_ratio=2.0,
        num_heads=2, depth=1, axes_dim=[4, 4])  # fmt: skip
    text_encoder = fill(transformers.models.t5gemma.modeling_t5gemma.T5GemmaEncoder(config))
    made = diffusers.PRXPipeline(
        transformer, flow(shift=3.0), loud(text_encoder), letters(start=True), autoencoder(shift_factor=0.1)
    )
    made.text_preprocessor = AsWritten()
    return made


class Everything(torch.nn.Module):
    """A safety checker that has nothing against anything."""

    device = torch.device("cpu")
    dtype = torch.float32

    def check_text_safety(self, text):
        return True

    def check_video_safety(self, video):
        return video


def cosmos2():
    """EDM's scales of the noise inside the pipeline, over a flow."""
    tokenizer_t5, text_encoder = t5()
    transformer = network("CosmosTransformer3DModel", in_channels=4, out_channels=4, num_attention_heads=2,
        attention_head_dim=16, num_layers=1, mlp_ratio=2, text_embed_dim=40, adaln_lora_dim=4, max_size=(4, 16, 16),
        extra_pos_embed_type=None)  # fmt: skip
    return diffusers.Cosmos2TextToImagePipeline(text_encoder, tokenizer_t5, transformer, autoencoder_wan(),
        flow(use_karras_sigmas=True), safety_checker=Everything())  # fmt: skip


def pixel_if():
    """Pixels with T5; the network also says how much noise to add."""
    tokenizer_t5, text_encoder = t5()
    unet = network("UNet2DConditionModel", in_channels=3, out_channels=6, block_out_channels=(32, 64), layers_per_block=1,
        sample_size=8, down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        cross_attention_dim=16, attention_head_dim=8, encoder_hid_dim=40, addition_embed_type="text",
        addition_embed_type_num_heads=2, act_fn="gelu", resnet_time_scale_shift="scale_shift",
        class_embed_type=None)  # fmt: skip
    return diffusers.IFPipeline(tokenizer_t5, text_encoder, unet, diffusers.DDPMScheduler(variance_type="learned_range",
        beta_schedule="squaredcos_cap_v2", thresholding=True), None, None, None, False)  # fmt: skip


def ernie():
    """Mistral 3, and one transformer of a single stream."""
    text_encoder = mistral("Mistral3Model")
    transformer = network("ErnieImageTransformer2DModel", hidden_size=16, num_attention_heads=2, num_layers=2,
        ffn_hidden_size=32, in_channels=16, out_channels=16, text_in_dim=16, rope_axes_dim=(2, 2, 4))  # fmt: skip
    return diffusers.ErnieImagePipeline(transformer, autoencoder_flux2(), text_encoder, letters(), flow(shift=3.0))


def qwen3_vl(kind="Qwen3VLForConditionalGeneration", layers=3, **options):
    """Qwen 3 that could also see."""
    vision = dict(depth=1, hidden_size=8, intermediate_size=8, num_heads=2, out_hidden_size=16, patch_size=4,
        deepstack_visual_indexes=[0], num_position_embeddings=16)  # fmt: skip
    rope = dict(rope_type="default", mrope_section=[2, 1, 1], rope_theta=10000.0, mrope_interleaved=True)
    text = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, vocab_size=320, rope_parameters=rope, **options)  # fmt: skip
    return loud(fill(getattr(transformers, kind)(transformers.Qwen3VLConfig(text_config=text, vision_config=vision))))


def krea2():
    """Several layers of Qwen 3 mixed by the network itself."""
    transformer = network("Krea2Transformer2DModel", 0.5, in_channels=16, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=32, timestep_embed_dim=32, text_hidden_dim=16,
        num_text_layers=2, text_num_attention_heads=2, text_num_key_value_heads=2, text_intermediate_size=32,
        num_layerwise_text_blocks=1, num_refiner_text_blocks=1, axes_dims_rope=(2, 2, 4))  # fmt: skip
    return bare(diffusers.Krea2Pipeline(flow(**SHIFTING), autoencoder_qwen(), qwen3_vl("Qwen3VLModel"), letters(), transformer,
        text_encoder_select_layers=(1, 2)))  # fmt: skip


def nucleus():
    """Experts over Qwen 3."""
    transformer = network("NucleusMoEImageTransformer2DModel", in_channels=16, out_channels=4, num_layers=2,
        joint_attention_dim=16, num_experts=2, moe_intermediate_dim=16, capacity_factors=[2.0, 2.0], mlp_ratio=2.0,
        **ROPE)  # fmt: skip
    return diffusers.NucleusMoEImagePipeline(transformer, flow(**SHIFTING), autoencoder_qwen(), qwen3_vl(layers=8), letters())


def ideogram4():
    """One network with text and another without it; its own times, and guidance that changes with the step."""
    sizes = dict(in_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=2, intermediate_size=32, adaln_dim=16,
        llm_features_dim=208, mrope_section=(2, 1, 1))  # fmt: skip
    without = smooth(fill(diffusers.Ideogram4Transformer2DModel(**sizes), "without."), 0.3)
    return diffusers.Ideogram4Pipeline(flow(), autoencoder_flux2(), qwen3_vl("Qwen3VLModel", 36), letters(),
        network("Ideogram4Transformer2DModel", 0.3, **sizes), without)  # fmt: skip


def pag(pipeline, build, layers):
    """Guidance by a network whose attention sees nothing but its own place."""
    made = known(build)
    parts = {
        name: part
        for name, part in made.components.items()
        if name not in ("safety_checker", "feature_extractor", "image_encoder")
    }
    more = (
        dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
        if "safety_checker" in made.components
        else {}
    )
    return getattr(diffusers, pipeline)(**parts, **more, pag_applied_layers=layers)


def cascade_decoder():
    """The second stage: the prior's map made larger."""
    decoder = cascade(effnet_in_channels=4, patch_size=2, clip_seq=1)
    vqgan = fill(PaellaVQModel(levels=2, bottleneck_blocks=1, embed_dim=8, latent_channels=4, num_vq_embeddings=16))
    return diffusers.StableCascadeDecoderPipeline(
        decoder, tokenizer(), clip(12), diffusers.DDPMWuerstchenScheduler(), vqgan, 2.0
    )


def unconditional_latent_diffusion():
    """Latents of nothing in particular; they end as pixels."""
    unet = network("UNet2DModel", in_channels=4, out_channels=4, down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2, **pipelines.BLOCKS)  # fmt: skip
    return diffusers.LDMPipeline(movq(), unet, scheduler())


def glm_image():
    """A map of tokens that a language model wrote before, here given, and ByT5 for what is written."""
    transformer = network("GlmImageTransformer2DModel", in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, text_embed_dim=16, time_embed_dim=16, condition_dim=8,
        prior_vq_quantizer_codebook_size=16)  # fmt: skip
    shift = dict(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear")
    return diffusers.GlmImagePipeline(
        transformers.ByT5Tokenizer(),
        None,
        byt5(),
        None,
        autoencoder(latents_mean=[0.0] * 4, latents_std=[1.0] * 4),
        transformer,
        flow(**shift),
    )


def byt5():
    """T5 over bytes."""
    sizes = dict(vocab_size=384, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return loud(fill(transformers.T5EncoderModel(transformers.T5Config(**sizes))))


def prx_pixel():
    """Pixels by a bottleneck; the pipeline turns the picture that the network names into a velocity."""
    transformer = network("PRXTransformer2DModel", in_channels=3, context_in_dim=16, hidden_size=16, mlp_ratio=2.0,
        num_heads=2, depth=1, axes_dim=[4, 4], bottleneck_size=8)  # fmt: skip
    return diffusers.PRXPixelPipeline(transformer, flow(shift=3.0), language("Qwen3Model"), letters(start=True), 16, 24, 2.0)


def kandinsky2_prior():
    """From text to the embedding of a picture, which is one vector."""
    prior = network(
        "PriorTransformer", num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=12, num_embeddings=77
    )
    sizes = dict(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
        projection_dim=12,
    )
    seeing = fill(transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**sizes)))
    config = transformers.CLIPTextConfig(
        **{**pipelines.TEXT, "max_position_embeddings": 77, "hidden_size": 12, "projection_dim": 12}
    )
    reading = tokenizer()
    reading.model_max_length = 77
    noise = diffusers.UnCLIPScheduler(
        variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=5.0
    )
    return diffusers.KandinskyV22PriorPipeline(prior, seeing, fill(transformers.CLIPTextModelWithProjection(config)), reading,
        noise, transformers.CLIPImageProcessor(crop_size=8, size=dict(shortest_edge=8)))  # fmt: skip


def qwen_image_2_1():
    """Qwen 3's hidden states before its last norm; latents are not patched."""
    transformer = network("QwenImage21Transformer2DModel", in_channels=4, out_channels=4, num_layers=1, context_in_dim=16,
        mlp_ratio=2, **ROPE)  # fmt: skip
    ae = fill(diffusers.AutoencoderKLQwenImage21(base_dim=8, decoder_base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1,
        temperal_downsample=[False], latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.0, 2.0, 1.5, 0.5]))  # fmt: skip
    reads = transformers.Qwen3VLProcessor(transformers.Qwen2VLImageProcessor(), letters(), transformers.Qwen3VLVideoProcessor(),
        chat_template=CHAT)  # fmt: skip
    return diffusers.QwenImage21Pipeline(flow(**SHIFTING), ae, qwen3_vl(), reads, transformer)


FILLED = "what fills a shorter text up is read"
SD, XL, SD3 = pipelines.stable_diffusion, pipelines.stable_diffusion_xl, pipelines.stable_diffusion_3
ALPHA, SIGMA = pipelines.OF_TEXT["pixart_alpha"], pipelines.OF_TEXT["pixart_sigma"]
BETAS = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
LEADING = dict(set_alpha_to_one=False, steps_offset=1)
PAG = dict(pag_scale=1.5)
TEXT = weights_of("a text", (1, 6, 16)) * 4
EMBEDS = weights_of("a picture", (1, 12)) * 3
CASES: dict[str, Case] = {
    "stable_diffusion": Case(partial(known, SD), dict(guidance_scale=7.5, **SIZE), PROMPTS),
    "stable_diffusion_pndm": Case(
        partial(known, SD, noise=partial(diffusers.PNDMScheduler, skip_prk_steps=True, steps_offset=1, **BETAS)),
        dict(guidance_scale=7.5, **SIZE), PROMPTS
    ),
    "stable_diffusion_v": Case(
        partial(known, SD, noise=partial(scheduler, prediction_type="v_prediction", **LEADING)), dict(guidance_scale=5.0,
        **SIZE), PROMPTS
    ),
    "stable_diffusion_rescaled": Case(
        partial(known, SD, noise=partial(scheduler, prediction_type="v_prediction", rescale_betas_zero_snr=True,
        timestep_spacing="trailing")), dict(guidance_scale=5.0, guidance_rescale=0.7, **SIZE), PROMPTS,
    ),
    "stable_diffusion_x0": Case(
        partial(known, SD, noise=partial(scheduler, prediction_type="sample", **LEADING)), dict(guidance_scale=3.0, **SIZE),
        PROMPTS
    ),
    "stable_diffusion_dpm": Case(
        partial(known, SD, noise=partial(diffusers.DPMSolverMultistepScheduler, use_karras_sigmas=True, **BETAS)),
        dict(guidance_scale=7.5, **SIZE), PROMPTS
    ),
    "stable_diffusion_xl": Case(partial(known, XL), dict(guidance_scale=5.0, **NONE, **SIZE), PROMPTS),
    "stable_diffusion_xl_rescaled": Case(
        partial(known, XL), dict(guidance_scale=5.0, guidance_rescale=0.5, **SIZE), PROMPTS
    ),
    "stable_diffusion_xl_euler": Case(
        partial(known, XL, noise=partial(diffusers.EulerDiscreteScheduler, steps_offset=1, timestep_spacing="leading",
        **BETAS)), dict(guidance_scale=5.0, **SIZE), PROMPTS,
    ),
    "stable_diffusion_xl_edm": Case(
        partial(known, XL, noise=partial(diffusers.EDMDPMSolverMultistepScheduler, sigma_data=0.5)), dict(guidance_scale=3.0,
        **SIZE), PROMPTS
    ),
    "stable_diffusion_3_layers": Case(
        partial(known, SD3, 0.5), dict(guidance_scale=5.0, skip_guidance_layers=[1], skip_layer_guidance_stop=0.8, **SIZE,
        **SHORT), PROMPTS
    ),
    "stable_diffusion_3": Case(partial(known, SD3, 0.5), dict(guidance_scale=7.0, **SIZE, **SHORT), PROMPTS),
    "flux": Case(partial(flux, guidance_embeds=True), dict(guidance_scale=3.5, **SIZE, **SHORT), PROMPTS),
    "flux_schnell": Case(flux, dict(guidance_scale=0.0, **SIZE, **SHORT), PROMPTS),
    "flux_true_guidance": Case(
        partial(flux, guidance_embeds=True), dict(guidance_scale=3.5, true_cfg_scale=2.5, **NONE, **SIZE, **SHORT), PROMPTS
    ),
    "chroma": Case(chroma, dict(guidance_scale=5.0, **NONE, **SIZE, **SHORT), PROMPTS),
    "flux2": Case(flux2, dict(guidance_scale=4.0, text_encoder_out_layers=(1, 2, 3), max_sequence_length=48, **SIZE), PROMPTS),
    "flux2_klein": Case(flux2_klein, dict(guidance_scale=4.0, text_encoder_out_layers=(1, 2, 3), max_sequence_length=48,
        **SIZE), PROMPTS),
    "qwen_image": Case(qwen_image, dict(true_cfg_scale=4.0, **NONE, **SIZE), PROMPTS),
    "z_image": Case(z_image, dict(guidance_scale=4.0, max_sequence_length=48, **SIZE), PROMPTS),
    "z_image_truncated": Case(
        z_image, dict(guidance_scale=4.0, cfg_normalization=True, cfg_truncation=0.7, max_sequence_length=48, **SIZE), PROMPTS
    ),
    "z_image_turbo": Case(z_image, dict(guidance_scale=0.0, max_sequence_length=48, **SIZE), PROMPTS),
    "sana_dpm": Case(
        partial(sana, noise=partial(diffusers.DPMSolverMultistepScheduler, prediction_type="flow_prediction",
        use_flow_sigmas=True, flow_shift=3.0)), dict(**SANA), PROMPTS,
    ),
    "sana": Case(sana, dict(**SANA), PROMPTS),
    "lumina": Case(lumina, dict(guidance_scale=4.0, clean_caption=False, **LARGE), PROMPTS),
    "lumina2": Case(lumina2, dict(guidance_scale=4.0, system_prompt="draw", max_sequence_length=64, **NONE, **LARGE), PROMPTS),
    "lumina2_truncated": Case(
        lumina2, dict(guidance_scale=4.0, system_prompt="draw", max_sequence_length=64, cfg_trunc_ratio=0.5,
        cfg_normalization=False, **LARGE), PROMPTS
    ),
    "hidream": Case(hidream, dict(guidance_scale=5.0, max_sequence_length=12, **NONE, **SIZE), PROMPTS),
    "aura_flow": Case(aura_flow, dict(guidance_scale=3.5, **NONE, **SIZE, **SHORT), PROMPTS),
    "cogview3": Case(cogview3, dict(guidance_scale=5.0, **NONE, **SIZE, **SHORT), PROMPTS),
    "cogview4": Case(cogview4, dict(guidance_scale=5.0, **NONE, **SIZE, **SHORT), PROMPTS),
    "pixart_alpha": Case(
        partial(known, ALPHA),
        dict(guidance_scale=4.5, use_resolution_binning=False, clean_caption=False, **LARGE, **SHORT), PROMPTS,
    ),
    "pixart_sigma_dpm": Case(
        partial(known, SIGMA, noise=diffusers.DPMSolverMultistepScheduler),
        dict(guidance_scale=4.5, use_resolution_binning=False, clean_caption=False, **SIZE, **SHORT), PROMPTS,
    ),
    "pixart_sigma": Case(
        partial(known, SIGMA),
        dict(guidance_scale=4.5, use_resolution_binning=False, clean_caption=False, **SIZE, **SHORT), PROMPTS,
    ),
    "hunyuan_dit": Case(hunyuan_dit, dict(guidance_scale=5.0, use_resolution_binning=False, **SIZE), PROMPTS),
    "hunyuan_image": Case(hunyuan_image, dict(**SIZE), PROMPTS),
    "hunyuan_image_distilled": Case(
        partial(hunyuan_image, guidance_embeds=True), dict(distilled_guidance_scale=3.25, **SIZE), ["a cat",
        'two dogs by "the sea"', 'bread and "butter"']
    ),
    "kandinsky2": Case(kandinsky2, dict(guidance_scale=4.0, image_embeds=EMBEDS, negative_image_embeds=-EMBEDS, **SIZE)),
    "kandinsky3": Case(kandinsky3, dict(guidance_scale=3.0, **SIZE), PROMPTS, apart=FILLED),
    "kandinsky5": Case(kandinsky5, dict(guidance_scale=3.5, **LARGE), PROMPTS, apart=FILLED),
    "cascade_prior": Case(cascade_prior, dict(guidance_scale=4.0, **SIZE), PROMPTS),
    "cascade_decoder": Case(cascade_decoder, dict(guidance_scale=2.0, image_embeddings=weights_of("a map", (1, 4, 4, 4)) * 7),
        PROMPTS, together=False),
    "unconditional_latent_diffusion": Case(unconditional_latent_diffusion, {}),
    "glm_image": Case(
        glm_image, dict(guidance_scale=1.5, prompt_embeds=TEXT, prior_token_ids=torch.arange(16)[None], **SIZE)
    ),
    "prx_pixel": Case(  # a prompt would need ftfy
        prx_pixel, dict(guidance_scale=4.0, use_resolution_binning=False, prompt_embeds=TEXT, negative_prompt_embeds=-TEXT,
        **SIZE)
    ),
    "kandinsky2_prior": Case(kandinsky2_prior, dict(guidance_scale=4.0, output_type="pt"), PROMPTS),
    "qwen_image_2_1": Case(qwen_image_2_1, dict(true_cfg_scale=4.0, height=128, width=128, **NONE), PROMPTS, together=False),
    "latent_diffusion": Case(latent_diffusion, dict(guidance_scale=4.0, **LARGE), PROMPTS),
    "omnigen": Case(omnigen, dict(guidance_scale=2.5, **LARGE), PROMPTS, apart="places are those of the first row's tokens"),
    "bria": Case(bria, dict(guidance_scale=5.0, **NONE, **SIZE, **SHORT), PROMPTS),
    "bria_fibo": Case(bria_fibo, dict(guidance_scale=5.0, height=128, width=128), PROMPTS),
    "ovis": Case(ovis, dict(guidance_scale=5.0, max_sequence_length=64, **SIZE), PROMPTS),
    "longcat": Case(longcat, dict(guidance_scale=4.5, enable_prompt_rewrite=False, **NONE, **SIZE), PROMPTS),
    "prx": Case(prx, dict(guidance_scale=4.0, tokenizer_max_length=24, use_resolution_binning=False, **SIZE), PROMPTS,
        together=False),
    "cosmos2": Case(cosmos2, dict(guidance_scale=7.0, **NONE, **SIZE, **SHORT), PROMPTS),
    "pixel_if": Case(pixel_if, dict(guidance_scale=7.0, clean_caption=False), PROMPTS),
    "ernie": Case(ernie, dict(guidance_scale=4.0, **SIZE), PROMPTS),
    "krea2": Case(krea2, dict(guidance_scale=4.5, max_sequence_length=32, **NONE, **SIZE), PROMPTS),
    "nucleus": Case(nucleus, dict(guidance_scale=4.0, **SIZE), PROMPTS),
    "ideogram4": Case(ideogram4, dict(guidance_scale=5.0, guidance_schedule=None, max_sequence_length=64, **SIZE), PROMPTS),
    "stable_diffusion_pag": Case(
        partial(pag, "StableDiffusionPAGPipeline", SD, "mid"), dict(guidance_scale=5.0, **PAG, **SIZE), PROMPTS
    ),
    "stable_diffusion_xl_pag": Case(
        partial(pag, "StableDiffusionXLPAGPipeline", XL, "mid"), dict(guidance_scale=5.0, **PAG, **SIZE), PROMPTS
    ),
    "stable_diffusion_3_pag": Case(
        partial(pag, "StableDiffusion3PAGPipeline", SD3, "blocks.1"),
        dict(guidance_scale=7.0, **PAG, **SIZE, **SHORT), PROMPTS,
    ),
    "pixart_sigma_pag": Case(
        partial(pag, "PixArtSigmaPAGPipeline", SIGMA, "blocks.0"),
        dict(guidance_scale=4.5, use_resolution_binning=False, clean_caption=False, **PAG, **SIZE, **SHORT), PROMPTS,
    ),
    "sana_pag": Case(partial(sana, diffusers.SanaPAGPipeline, pag_applied_layers="transformer_blocks.0"), dict(**PAG, **SANA),
        PROMPTS),
    "hunyuan_dit_pag": Case(
        partial(hunyuan_dit, diffusers.HunyuanDiTPAGPipeline, pag_applied_layers="blocks.1"),
        dict(guidance_scale=5.0, use_resolution_binning=False, **PAG, **SIZE), PROMPTS,
    ),
    "dit": Case(dit, dict(guidance_scale=4.0), [1, 7, 3]),
    "ddpm": Case(partial(ddpm, diffusers.DDPMPipeline, "DDPMScheduler"), {}),
    "ddim": Case(partial(ddpm, diffusers.DDIMPipeline, "DDIMScheduler"), {}),
}  # fmt: skip
