"""Pipelines changed after they were made: other memory, other classes with the same parts, LoRAs loaded as users load them."""

from dataclasses import replace
from importlib.util import find_spec
from inspect import signature

import diffusers
import torch

from tests.builders.tiny_pipelines.case import Case, Needed
from tests.builders.tiny_pipelines.images import CASES as IMAGES
from tests.builders.weights import weights_of


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


def channels_last(pipe):
    """Another order of a picture's numbers in memory."""
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)


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


PICTURE = weights_of("a picture", (1, 3, 16, 16)).tanh() / 2 + 0.5  # in [0, 1]
CASES: dict[str, Case] = {
    "channels_last": changed("stable_diffusion", channels_last),
    "qwen_image_img2img": replace(
        other("qwen_image", "QwenImageImg2ImgPipeline", image=PICTURE, strength=1.0),
        apart="the latents of one picture are drawn for all rows",
    ),
    "flux_kontext": other("flux", "FluxKontextPipeline", image=PICTURE, max_area=256, _auto_resize=False),
    "lora_stable_diffusion": changed("stable_diffusion", adapted("unet")),
    "lora_stable_diffusion_3": changed("stable_diffusion_3", adapted("transformer")),
}
