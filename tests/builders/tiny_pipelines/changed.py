"""Pipelines changed after they were made: compiled, halved, quantised, adapted, given a picture; and those that are refused."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from inspect import signature

import diffusers
import torch
import transformers

from tests.builders.pipelines import scheduler
from tests.builders.tiny_pipelines.case import Case, Needed
from tests.builders.tiny_pipelines.images import CASES as IMAGES
from tests.builders.tiny_pipelines.images import NONE, SD3, SIZE, XL, known
from tests.builders.tiny_pipelines.parts import smooth
from tests.builders.weights import fill, weights_of


def changed(name, change, **call) -> Case:
    """Another name's pipeline after `change`, which returns what it does not do in place; called with `call` as well."""
    case = IMAGES[name]

    def make():
        pipe = case.make()
        return change(pipe) or pipe

    return replace(case, make=make, call=case.call | call)


def other(name, kind, change=lambda pipe: None, **call) -> Case:
    """The parts of another name's pipeline in one of this class, after `change`; of its call what that one takes."""
    pipeline = getattr(diffusers, kind)
    parts, takes = signature(pipeline.__init__).parameters, signature(pipeline.__call__).parameters
    plain = {part: False for part in ("requires_safety_checker", "add_watermarker") if part in parts}

    def build(pipe):
        change(pipe)
        return pipeline(**{part: value for part, value in pipe.components.items() if part in parts}, **plain)

    case = changed(name, build, **call)
    return replace(case, call={key: value for key, value in case.call.items() if key in takes})


def compiled(pipe):
    """By torch, without a compiler of machine code."""
    pipe.unet = torch.compile(pipe.unet, backend="aot_eager")


def half(pipe):
    """In bfloat16, all of it."""
    pipe.to(torch.bfloat16)


def quantised(pipe):
    """The transformer's linear layers in whole numbers of 8 bits, rounded as they are used."""
    torch.ao.quantization.quantize_dynamic(pipe.transformer, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)


def channels_last(pipe):
    """Another order of a picture's numbers in memory."""
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)


def without_t5(gain):
    """As those have it whose memory is too small for T5."""
    made = known(SD3, gain)
    made.register_modules(text_encoder_3=None, tokenizer_3=None)
    return made


def cached(pipe):
    """Keeps what the transformer's blocks gave while its first block changes little."""
    pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))


def dropped_out(pipe):
    """Still in training, as a script that trains a LoRA leaves it."""
    pipe.unet.train()
    for part in pipe.unet.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.1


def with_scheduler(kind):
    """The network's own noise with another scheduler."""
    return lambda pipe: pipe.register_modules(scheduler=getattr(diffusers, kind).from_config(pipe.scheduler.config))


def taking(network, channels):
    """Of so many channels: those of the state, of a picture and of a mask."""

    def change(pipe):
        own = getattr(pipe, network)
        config = {name: value for name, value in own.config.items() if not name.startswith("_")}
        given = dict(in_channels=channels, out_channels=own.config.in_channels)
        pipe.register_modules(**{network: smooth(fill(type(own)(**config | given)))})

    return change


def adapted(network):
    """With a LoRA on all attention, loaded as users load one."""

    def change(pipe):
        if find_spec("peft") is None:
            raise Needed("peft")
        weights = {}
        for name, part in getattr(pipe, network).named_modules():
            if name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
                key = f"{network}.{name}.lora_"
                weights[f"{key}A.weight"] = weights_of(f"{key}A", (2, part.in_features))
                weights[f"{key}B.weight"] = weights_of(f"{key}B", (part.out_features, 2))
        pipe.load_lora_weights(weights)

    return change


def with_ip_adapter(pipe):
    """A picture seen through an encoder of its own beside the text."""
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8)
    encoder = fill(transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(projection_dim=12, **sizes)))
    pipe.register_modules(image_encoder=encoder)
    shapes = {"proj.weight": (4 * 16, 12), "proj.bias": (4 * 16,), "norm.weight": (16,), "norm.bias": (16,)}
    keys = {}
    for place in [name.removesuffix(".processor") for name in pipe.unet.attn_processors if "attn2" in name]:
        shape = pipe.unet.get_submodule(place).to_k.weight.shape
        keys |= {f"{len(keys) + 1}.to_{of}_ip.weight": weights_of(f"{place}.{of}", shape) for of in "kv"}
    picture = {name: weights_of(f"image_proj.{name}", shape) for name, shape in shapes.items()}
    pipe.load_ip_adapter({"image_proj": picture, "ip_adapter": keys}, subfolder="", weight_name="", image_encoder_folder=None)
    pipe.set_ip_adapter_scale(0.6)


PICTURE = weights_of("a picture", (1, 3, 16, 16)).tanh() / 2 + 0.5  # in [0, 1]
OF_PICTURE = dict(image=PICTURE, strength=1.0)  # all of its noise: the picture only says how large
MASK = (torch.arange(16) > 5).float().expand(1, 1, 16, 16)
ZERO_SNR = dict(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
APART = {
    **dict.fromkeys(
        ("refused_inpaint_blend", "flux_img2img", "qwen_image_img2img", "stable_diffusion_inpaint", "flux_fill"),
        "the latents of one picture are drawn for all rows",
    ),
    "quantised": "all rows have one scale of whole numbers",
    "refused_dropout": "what is dropped is drawn",
}
CASES: dict[str, Case] = {
    "compiled": changed("stable_diffusion", compiled),
    "quantised": changed("stable_diffusion_3", quantised),
    "half_stable_diffusion_3": changed("stable_diffusion_3", half),
    "half_flux": changed("flux", half),
    "stable_diffusion_3_without_t5": Case(
        partial(without_t5, 0.25), dict(guidance_scale=7.0, **SIZE), IMAGES["stable_diffusion_3"].prompts
    ),
    "stable_diffusion_xl_zero_snr": Case(
        partial(known, XL, noise=partial(scheduler, **ZERO_SNR)),
        dict(guidance_scale=5.0, guidance_rescale=0.7, **NONE, **SIZE), IMAGES["stable_diffusion_xl"].prompts,
    ),
    "channels_last": changed("stable_diffusion", channels_last),
    "refused_cache": changed("flux", cached),
    "refused_dropout": changed("stable_diffusion", dropped_out),
    "refused_lcm": changed("stable_diffusion", with_scheduler("LCMScheduler")),
    "refused_inpaint_blend": other("stable_diffusion", "StableDiffusionInpaintPipeline", mask_image=MASK, **OF_PICTURE),
    "stable_diffusion_img2img": other("stable_diffusion", "StableDiffusionImg2ImgPipeline", **OF_PICTURE),
    "stable_diffusion_xl_img2img": other("stable_diffusion_xl", "StableDiffusionXLImg2ImgPipeline", **OF_PICTURE),
    "stable_diffusion_3_img2img": other("stable_diffusion_3", "StableDiffusion3Img2ImgPipeline", **OF_PICTURE),
    "flux_img2img": other("flux", "FluxImg2ImgPipeline", **OF_PICTURE),
    "qwen_image_img2img": other("qwen_image", "QwenImageImg2ImgPipeline", **OF_PICTURE),
    "stable_diffusion_inpaint": other(
        "stable_diffusion", "StableDiffusionInpaintPipeline", taking("unet", 9), mask_image=MASK, **OF_PICTURE
    ),
    "flux_fill": other("flux", "FluxFillPipeline", taking("transformer", 48), mask_image=MASK, **OF_PICTURE),
    "instruct_pix2pix": other(
        "stable_diffusion", "StableDiffusionInstructPix2PixPipeline", taking("unet", 8), image=PICTURE,
        guidance_scale=5.0, image_guidance_scale=1.5,
    ),
    "flux_kontext": other("flux", "FluxKontextPipeline", image=PICTURE, max_area=256, _auto_resize=False),
    "ip_adapter": changed("stable_diffusion", with_ip_adapter, ip_adapter_image=PICTURE),
    "lora_stable_diffusion": changed("stable_diffusion", adapted("unet")),
    "lora_stable_diffusion_3": changed("stable_diffusion_3", adapted("transformer")),
    "lora_flux": changed("flux", adapted("transformer")),
}  # fmt: skip
CASES |= {name: replace(CASES[name], apart=reason) for name, reason in APART.items()}
CASES["stable_diffusion_3_img2img"] = replace(CASES["stable_diffusion_3_img2img"], together=False)  # a picture for each is asked
