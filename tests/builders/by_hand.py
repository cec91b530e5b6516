"""Denoisers of small pipelines, put together by hand: diffusers' networks and text encoders called directly.

`s4s.from_pipeline` is held against them.
"""

import torch

from s4s.models.pipelines.prompts import PromptsInTurn
from s4s.models.pipelines.scheduler_config import noise_of
from s4s.models.predicting import PredictingDenoiser

# pipeline: which of what its encode_prompt returns its network takes, and what it calls them
ENCODED = {
    "StableDiffusionPipeline": {"encoder_hidden_states": 0},
    "StableDiffusionXLPipeline": {"encoder_hidden_states": 0, "text_embeds": 2},
    "StableDiffusion3Pipeline": {"encoder_hidden_states": 0, "pooled_projections": 2},
    "PixArtSigmaPipeline": {"encoder_hidden_states": 0, "encoder_attention_mask": 1},
}


class Encoded:
    """Conditions are numbers of prompts; the unconditional one is the empty text, for which SDXL has zeros."""

    def __init__(self, pipe, prompts):
        self.of_seeds = PromptsInTurn(len(prompts)).of_seeds
        unused = {"StableDiffusionXLPipeline": ["prompt_2"], "StableDiffusion3Pipeline": ["prompt_2", "prompt_3"]}
        kind = type(pipe).__name__
        options = {name: None for name in unused.get(kind, [])}
        returned = pipe.encode_prompt(
            [*prompts, ""], device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False, **options
        )
        self.rows = {name: returned[place] for name, place in ENCODED[kind].items()}
        if kind == "StableDiffusionXLPipeline":
            for row in self.rows.values():
                row[-1] = 0

    def arguments(self, condition, rows):
        numbers = torch.full((rows,), -1) if condition is None else condition
        return {name: values[numbers] for name, values in self.rows.items()}


@torch.no_grad()
def denoiser(pipe, prompts=None, guidance=1.0, name="by_hand"):
    """Of a pipeline with one of the text encoders above, or without prompts."""
    network = getattr(pipe, "unet", None) or pipe.transformer
    noise, size = noise_of({**pipe.scheduler.config, "_class_name": type(pipe.scheduler).__name__}), network.config.sample_size
    channels, vae = network.config.in_channels, getattr(pipe, "vae", None)

    def predict(x, t, text_embeds=None, **arguments):
        if text_embeds is not None:
            sizes = torch.tensor([[2 * size, 2 * size, 0, 0, 2 * size, 2 * size]], dtype=x.dtype).expand(len(x), -1)
            arguments["added_cond_kwargs"] = {"text_embeds": text_embeds, "time_ids": sizes}
        elif "encoder_attention_mask" in arguments:
            arguments["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
        return network(x, timestep=t, return_dict=False, **arguments)[0][:, :channels]

    return PredictingDenoiser(
        predict, noise.path, noise.prediction, name=name, shape=(channels, size, size), s_min=noise.s_min, s_max=noise.s_max,
        device=torch.device("cpu"), times=noise.times, conditioning=prompts and Encoded(pipe, prompts), guidance=guidance,
        decoder=vae and (lambda latents: vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)),
    )  # fmt: skip
