"""Videos and sound, and the ways in which people change a pipeline: controls, pictures to start from, adapters, precisions."""

import inspect
from functools import partial

import diffusers
import numpy as np
import torch
import transformers
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
from PIL import Image

from tests.builders import pipelines
from tests.builders.pipelines import clip, scheduler, tokenizer
from tests.builders.tiny_pipelines.case import Case
from tests.builders.tiny_pipelines.images import LEADING, NONE, ROPE, SD, SD3, SHIFTING, SHORT, SIZE, XL, flux, known
from tests.builders.tiny_pipelines.parts import PROMPTS, autoencoder, flow, language, letters, network, smooth, t5
from tests.builders.weights import fill, weights_of

FILM = dict(height=32, width=32, num_frames=5)
START = dict(template="<|im_start|>{}", crop_start=1)


def ltx():
    """Tokens of frames, with T5 and its mask."""
    tokenizer_t5, text_encoder = t5()
    transformer = network(
        "LTXVideoTransformer3DModel",
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        num_layers=1,
        caption_channels=40,
    )
    down = dict(down_block_types=("LTXVideoDownBlock3D",) * 3, downsample_type=("conv",) * 3, layers_per_block=(1,) * 4)
    up = dict(decoder_layers_per_block=(1,) * 4, decoder_spatio_temporal_scaling=(True,) * 3, decoder_inject_noise=(False,) * 4)
    sizes = dict(
        latent_channels=8, block_out_channels=(8,) * 3, decoder_block_out_channels=(8,) * 3, spatio_temporal_scaling=(True,) * 3
    )
    ae = fill(diffusers.AutoencoderKLLTXVideo(**sizes, **down, **up, upsample_residual=(False,) * 3, upsample_factor=(1,) * 3))
    return diffusers.LTXPipeline(flow(**SHIFTING), ae, text_encoder, tokenizer_t5, transformer)


def hunyuan_video():
    """Llama's tokens behind a template, CLIP's pooled text, and guidance as an input."""
    transformer = network(
        "HunyuanVideoTransformer3DModel",
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        pooled_projection_dim=16,
        rope_axes_dim=(2, 2, 4),
    )
    blocks = dict(down_block_types=("HunyuanVideoDownBlock3D",) * 4, up_block_types=("HunyuanVideoUpBlock3D",) * 4)
    ae = diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=4, **blocks
    )
    long = transformers.CLIPTextModel(transformers.CLIPTextConfig(**{**pipelines.TEXT, "max_position_embeddings": 77}))
    return diffusers.HunyuanVideoPipeline(
        language("LlamaModel", num_hidden_layers=3), letters(), transformer, fill(ae), flow(shift=7.0), fill(long), tokenizer()
    )


def mochi():
    """Time runs from 0 for noise to 1 for data."""
    tokenizer_t5, text_encoder = t5()
    transformer = network(
        "MochiTransformer3DModel",
        0.5,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=12,
        text_embed_dim=40,
        time_embed_dim=16,
        max_sequence_length=16,
    )
    ae = diffusers.AutoencoderKLMochi(
        encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4, layers_per_block=(1,) * 5
    )
    return diffusers.MochiPipeline(flow(invert_sigmas=True), fill(ae), text_encoder, tokenizer_t5, transformer)


def seeing():
    """What CLIP sees of a picture, and what scales pictures for it."""
    sizes = dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=224, patch_size=56
    )
    return fill(transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(projection_dim=16, **sizes)))


def picture(name="a picture", size=16):
    """Of smooth colours."""
    values = np.kron(weights_of(name, (4, 4, 3)).numpy() * 7, np.ones((size // 4, size // 4, 1)))
    return Image.fromarray((255 / (1 + np.exp(-3 * values))).astype(np.uint8))


def svd():
    """From a picture; more guidance for later frames, on EDM's preconditioning."""
    unet = network(
        "UNetSpatioTemporalConditionModel",
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        num_attention_heads=2,
        num_frames=2,
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    )
    ae = diffusers.AutoencoderKLTemporalDecoder(down_block_types=("DownEncoderBlock2D",) * 2, block_out_channels=(32, 32))
    noise = diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        steps_offset=1,
        sigma_min=0.002,
        sigma_max=700.0,
        use_karras_sigmas=True,
    )
    return diffusers.StableVideoDiffusionPipeline(fill(ae), seeing(), unet, noise, transformers.CLIPImageProcessor())


def linear(kind="DDIMScheduler", **options):
    """A schedule of even betas."""
    return getattr(diffusers, kind)(beta_schedule="linear", **options)


def animatediff():
    """Stable Diffusion whose frames see one another."""
    made = pipelines.stable_diffusion()
    motion = diffusers.MotionAdapter(
        block_out_channels=(32, 64),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_mid_block_layers_per_block=1,
        motion_max_seq_length=4,
    )
    parts = {name: made.components[name] for name in ("vae", "text_encoder", "tokenizer", "unet")}
    pipe = diffusers.AnimateDiffPipeline(**parts, motion_adapter=fill(motion), scheduler=linear(**LEADING))
    smooth(pipe.unet)
    return pipe


def text_to_video_sd():
    """Layers of convolutions and of attention over frames."""
    unet = network(
        "UNet3DConditionModel",
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    )
    return diffusers.TextToVideoSDPipeline(autoencoder(), clip(), tokenizer(), unet, scheduler(**LEADING))


def latte():
    """Attention over space and over time in turns, and a learned variance."""
    tokenizer_t5, text_encoder = t5()
    transformer = network(
        "LatteTransformer3DModel",
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=16,
        attention_bias=True,
        sample_size=4,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=40,
        video_length=2,
    )
    return diffusers.LattePipeline(tokenizer_t5, text_encoder, autoencoder(), transformer, linear())


def allegro():
    """Noise is added at every step by its own scheduler."""
    tokenizer_t5, text_encoder = t5()
    transformer = network(
        "AllegroTransformer3DModel",
        0.3,
        num_attention_heads=2,
        attention_head_dim=24,
        num_layers=1,
        cross_attention_dim=48,
        sample_height=4,
        sample_width=4,
        sample_frames=2,
        caption_channels=40,
    )
    blocks = dict(down_block_types=("AllegroDownBlock3D",) * 4, up_block_types=("AllegroUpBlock3D",) * 4)
    ae = diffusers.AutoencoderKLAllegro(block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=4, **blocks)
    ae.enable_tiling()  # or it does not decode
    return diffusers.AllegroPipeline(
        tokenizer_t5, text_encoder, fill(ae), transformer, linear("EulerAncestralDiscreteScheduler")
    )


def stable_audio():
    """Sound: states without width and height, on a cosine path, with the length in seconds as an input."""
    tokenizer_t5, text_encoder = t5()
    tokenizer_t5.model_max_length = 16
    transformer = network(
        "StableAudioDiTModel",
        0.3,
        sample_size=8,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        out_channels=4,
        cross_attention_dim=16,
        time_proj_dim=16,
        global_states_input_dim=32,
        cross_attention_input_dim=16,
    )
    seconds = StableAudioProjectionModel(text_encoder_dim=40, conditioning_dim=16, min_value=0, max_value=8)
    ae = diffusers.AutoencoderOobleck(
        encoder_hidden_size=8,
        downsampling_ratios=[2, 2],
        channel_multiples=[1, 2],
        decoder_channels=8,
        decoder_input_channels=4,
        audio_channels=2,
        sampling_rate=8,
    )
    return diffusers.StableAudioPipeline(
        fill(ae), text_encoder, fill(seconds), tokenizer_t5, transformer, diffusers.CosineDPMSolverMultistepScheduler()
    )


def control(seed, unet, **options):
    """A ControlNet that fits a UNet, and is heard."""
    made = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16), load_weights_from_unet=False)
    fill(made, seed)
    with torch.no_grad():
        for layer in (*made.controlnet_down_blocks, made.controlnet_mid_block):
            layer.weight *= 0.5
    return smooth(made)


def controlled(build, kind, controls=1):
    """Stable Diffusion, perhaps XL, with one ControlNet or more."""
    made = known(build)
    nets = [control(str(seed), made.unet) for seed in range(controls)]
    return getattr(diffusers, kind)(**parts_of(made), controlnet=nets if controls > 1 else nets[0], **unchecked(kind))


def parts_of(made, *without):
    """What a pipeline is made of, for another one."""
    return {name: part for name, part in made.components.items() if name not in ("image_encoder", *without)}


def unchecked(kind):
    """What Stable Diffusion takes for no safety checker."""
    known_as = inspect.signature(getattr(diffusers, kind)).parameters
    return dict(requires_safety_checker=False) if "requires_safety_checker" in known_as else {}


def stable_diffusion_3_controlnet():
    """A transformer beside the transformer."""
    made = known(SD3, 0.5)
    net = network("SD3ControlNetModel", **{**pipelines.MMDIT, "num_layers": 1})
    return diffusers.StableDiffusion3ControlNetPipeline(**parts_of(made), controlnet=net)


def flux_controlnet():
    """The control is latents of a picture."""
    made = flux(guidance_embeds=True)
    net = network(
        "FluxControlNetModel",
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=40,
        pooled_projection_dim=16,
        guidance_embeds=True,
        **ROPE,
    )
    return diffusers.FluxControlNetPipeline(**parts_of(made), controlnet=net)


def t2i_adapter():
    """What is added to the UNet depends on the picture alone."""
    made = known(SD)
    adapter = fill(diffusers.T2IAdapter(channels=[32, 64], num_res_blocks=1, downscale_factor=2))
    return diffusers.StableDiffusionAdapterPipeline(**parts_of(made), adapter=adapter, requires_safety_checker=False)


def pictured(build, kind, *without):
    """The same networks in another pipeline."""
    return getattr(diffusers, kind)(**parts_of(known(build), *without), **unchecked(kind))


def wider(build, kind, channels):
    """Stable Diffusion whose UNet takes further channels of latents, as a mask and a picture."""
    made = known(build)
    unet = network("UNet2DConditionModel", **pipelines.BLOCKS, **{**pipelines.ATTENTION, "in_channels": channels})
    return getattr(diffusers, kind)(**parts_of(made, "unet"), unet=unet, **unchecked(kind))


def flux_fill():
    """Latents, the picture's latents under the mask, and the mask, all as tokens."""
    made = flux()
    transformer = network(
        "FluxTransformer2DModel",
        in_channels=16 + 16 + 16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=40,
        pooled_projection_dim=16,
        guidance_embeds=True,
        **ROPE,
    )
    return diffusers.FluxFillPipeline(**parts_of(made, "transformer", "feature_extractor"), transformer=transformer)


def adapted(build, targets):
    """Low-rank changes of some of a network's layers."""
    import peft

    made = known(build)
    net = made.unet if hasattr(made, "unet") else made.transformer
    net.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=targets))
    with torch.no_grad():
        for name, value in net.named_parameters():
            if "lora_" in name:
                value.copy_(weights_of(name, value.shape))
    net.requires_grad_(False)
    return made


def ip_adapter():
    """A picture beside the text, in attention of its own."""
    made = known(SD)
    made.register_modules(image_encoder=seeing())
    names = [name.removesuffix(".processor") for name in made.unet.attn_processors if "attn2" in name]
    sizes = {
        f"{2 * n + 1}.to_{part}_ip.weight": made.unet.get_submodule(name).to_k.weight.shape
        for n, name in enumerate(names)
        for part in "kv"
    }
    projection = {"proj.weight": (4 * 16, 16), "proj.bias": (4 * 16,), "norm.weight": (16,), "norm.bias": (16,)}
    made.load_ip_adapter(
        {
            part: {name: weights_of(name, size) for name, size in parts.items()}
            for part, parts in (("image_proj", projection), ("ip_adapter", sizes))
        },
        subfolder="",
        weight_name="",
    )
    made.set_ip_adapter_scale(0.6)
    return made


def compiled():
    """A UNet behind torch.compile."""
    made = known(SD)
    made.unet = torch.compile(made.unet, backend="aot_eager")
    return made


def quantised():
    """Linear layers in eight bits."""
    made = known(SD3, 0.5)
    small = torch.ao.quantization.quantize_dynamic(made.transformer, {torch.nn.Linear}, dtype=torch.qint8)
    made.register_modules(transformer=small)
    return made


def in_bfloat16(build):
    """All of it in half precision."""
    return known(build, 0.5).to(torch.bfloat16)


def without_t5():
    """Two of three text encoders."""
    made = known(SD3, 0.5)
    made.register_modules(text_encoder_3=None, tokenizer_3=None)
    return made


def caching():
    """Remembers its first block's output and skips the others when it is as before."""
    made = flux()
    made.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
    return made


def dropping():
    """In training mode."""
    made = known(SD)
    unet = fill(diffusers.UNet2DConditionModel(**pipelines.BLOCKS, **pipelines.ATTENTION, dropout=0.1)).train()
    made.register_modules(unet=unet)
    return made


ZERO = dict(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
HOLE = Image.fromarray(np.kron([[0, 255], [0, 0]], np.ones((8, 8))).astype(np.uint8))
FULL = dict(image=picture(size=16), strength=1.0)
SEEN = dict(image=picture(size=16), guidance_scale=5.0)
FIRST = "the picture's code is drawn with the first row's generator"
CASES: dict[str, Case] = {
    "ltx": Case(ltx, dict(guidance_scale=3.0, **NONE, height=128, width=128, num_frames=9, **SHORT), PROMPTS),
    "hunyuan_video": Case(hunyuan_video, dict(guidance_scale=6.0, prompt_template=START, **FILM, **SHORT), PROMPTS),
    "mochi": Case(mochi, dict(guidance_scale=4.5, height=32, width=32, num_frames=7, **NONE, **SHORT), PROMPTS),
    "svd": Case(svd, dict(image=picture(), height=8, width=8, num_frames=2, max_guidance_scale=3.0)),
    "animatediff": Case(animatediff, dict(guidance_scale=7.5, height=8, width=8, num_frames=2), PROMPTS),
    "text_to_video_sd": Case(text_to_video_sd, dict(guidance_scale=9.0, height=8, width=8, num_frames=2), PROMPTS),
    "latte": Case(
        latte,
        dict(guidance_scale=7.5, height=8, width=8, video_length=2, clean_caption=False),
        PROMPTS,
        apart="a text alone is cut to its length",
    ),
    "allegro": Case(
        allegro, dict(guidance_scale=7.5, height=32, width=32, num_frames=8, clean_caption=False, **SHORT), PROMPTS
    ),
    "stable_audio": Case(stable_audio, dict(guidance_scale=7.0), PROMPTS, needs="torchsde"),
    "stable_diffusion_controlnet": Case(
        partial(controlled, SD, "StableDiffusionControlNetPipeline"), dict(**SEEN, **SIZE), PROMPTS
    ),
    "stable_diffusion_xl_controlnet": Case(
        partial(controlled, XL, "StableDiffusionXLControlNetPipeline"), dict(**SEEN, **SIZE), PROMPTS
    ),
    "stable_diffusion_3_controlnet": Case(
        stable_diffusion_3_controlnet,
        dict(control_image=picture(size=16), guidance_scale=5.0, **SIZE, **SHORT),
        PROMPTS,
        apart="the picture's code is drawn without a generator",
    ),
    "flux_controlnet": Case(
        flux_controlnet, dict(control_image=picture(size=16), guidance_scale=3.5, **SIZE, **SHORT), PROMPTS
    ),
    "multi_controlnet": Case(
        partial(controlled, SD, "StableDiffusionControlNetPipeline", 2),
        dict(
            image=[picture(size=16), picture("another", 16)],
            controlnet_conditioning_scale=[0.7, 0.4],
            guidance_scale=5.0,
            **SIZE,
        ),
        PROMPTS,
    ),
    "t2i_adapter": Case(t2i_adapter, dict(**SEEN, **SIZE), PROMPTS, together=False),
    "refused_controlnet_end": Case(
        partial(controlled, SD, "StableDiffusionControlNetPipeline"), dict(control_guidance_end=0.5, **SEEN, **SIZE), PROMPTS
    ),
    "stable_diffusion_img2img": Case(
        partial(pictured, SD, "StableDiffusionImg2ImgPipeline"), dict(guidance_scale=5.0, **FULL), PROMPTS
    ),
    "stable_diffusion_xl_img2img": Case(
        partial(pictured, XL, "StableDiffusionXLImg2ImgPipeline"), dict(guidance_scale=5.0, **FULL), PROMPTS
    ),
    "stable_diffusion_3_img2img": Case(
        partial(pictured, SD3, "StableDiffusion3Img2ImgPipeline"),
        dict(guidance_scale=5.0, **FULL, **SIZE, **SHORT),
        PROMPTS,
        together=False,
    ),
    "flux_img2img": Case(
        partial(pictured, partial(flux, guidance_embeds=True), "FluxImg2ImgPipeline"),
        dict(guidance_scale=3.5, **FULL, **SIZE, **SHORT),
        PROMPTS,
        apart=FIRST,
    ),
    "stable_diffusion_inpaint": Case(
        partial(wider, SD, "StableDiffusionInpaintPipeline", 9),
        dict(guidance_scale=5.0, mask_image=HOLE, **FULL, **SIZE),
        PROMPTS,
        apart=FIRST,
    ),
    "flux_fill": Case(flux_fill, dict(guidance_scale=3.5, mask_image=HOLE, **FULL, **SIZE, **SHORT), PROMPTS, apart=FIRST),
    "refused_inpaint_blend": Case(
        partial(pictured, SD, "StableDiffusionInpaintPipeline"),
        dict(guidance_scale=5.0, mask_image=HOLE, **FULL, **SIZE),
        PROMPTS,
        apart=FIRST,
    ),
    "instruct_pix2pix": Case(
        partial(wider, SD, "StableDiffusionInstructPix2PixPipeline", 8),
        dict(guidance_scale=5.0, image_guidance_scale=1.5, image=picture(size=16)),
        PROMPTS,
    ),
    "flux_lora": Case(
        partial(adapted, partial(flux, guidance_embeds=True), ["to_q", "to_v"]),
        dict(guidance_scale=3.5, **SIZE, **SHORT),
        PROMPTS,
    ),
    "ip_adapter": Case(ip_adapter, dict(guidance_scale=5.0, ip_adapter_image=picture(size=16), **SIZE), PROMPTS),
    "compiled": Case(compiled, dict(guidance_scale=5.0, **SIZE), PROMPTS),
    "quantised": Case(
        quantised,
        dict(guidance_scale=5.0, **SIZE, **SHORT),
        PROMPTS,
        apart="values are rounded on the scale of the whole batch",
    ),
    "stable_diffusion_3_bfloat16": Case(partial(in_bfloat16, SD3), dict(guidance_scale=5.0, **SIZE, **SHORT), PROMPTS),
    "flux_bfloat16": Case(
        partial(in_bfloat16, partial(flux, guidance_embeds=True)), dict(guidance_scale=3.5, **SIZE, **SHORT), PROMPTS
    ),
    "stable_diffusion_3_without_t5": Case(without_t5, dict(guidance_scale=5.0, **SIZE, **SHORT), PROMPTS),
    "stable_diffusion_xl_zero_snr": Case(
        partial(known, XL, noise=partial(scheduler, **ZERO)), dict(guidance_scale=5.0, guidance_rescale=0.7, **SIZE), PROMPTS
    ),
    "refused_cache": Case(caching, dict(guidance_scale=0.0, **SIZE, **SHORT), PROMPTS),
    "refused_dropout": Case(dropping, dict(guidance_scale=5.0, **SIZE), PROMPTS, apart="dropout is random"),
    "refused_lcm": Case(partial(known, SD, noise=diffusers.LCMScheduler), dict(guidance_scale=5.0, **SIZE), PROMPTS),
}
