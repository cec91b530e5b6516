"""Pipelines that were changed after they were made: compiled, in half precision, quantised, without a part."""

from functools import partial

import diffusers
import torch

from tests.builders.pipelines import scheduler
from tests.builders.tiny_pipelines.case import Case
from tests.builders.tiny_pipelines.images import CASES as IMAGES
from tests.builders.tiny_pipelines.images import NONE, SD3, SIZE, XL, known


def changed(name, change, **call) -> Case:
    """A case of another name's pipeline after `change`, called with this as well; a change returns what it does not do in place."""
    case = IMAGES[name]

    def make():
        pipe = case.make()
        return change(pipe) or pipe

    return Case(make, case.call | call, case.prompts, case.apart, case.together)


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


ZERO_SNR = dict(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
CASES: dict[str, Case] = {
    "compiled": changed("stable_diffusion", compiled),
    "quantised": changed("stable_diffusion_3", quantised),
    "half_stable_diffusion_3": changed("stable_diffusion_3", half),
    "half_flux": changed("flux", half),
    "stable_diffusion_3_without_t5": Case(
        partial(without_t5, 0.25), dict(guidance_scale=7.0, **SIZE), IMAGES["stable_diffusion_3"].prompts
    ),
    "stable_diffusion_xl_zero_snr": Case(
        partial(known, XL, noise=partial(scheduler, **ZERO_SNR)), dict(guidance_scale=5.0, guidance_rescale=0.7, **NONE, **SIZE),
        IMAGES["stable_diffusion_xl"].prompts,
    ),
    "channels_last": changed("stable_diffusion", channels_last),
}  # fmt: skip
