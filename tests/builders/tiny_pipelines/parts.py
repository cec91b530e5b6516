"""Tokenizers, text encoders, autoencoders and schedulers that many tiny pipelines share."""

import diffusers
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing

from tests.builders import pipelines
from tests.builders.weights import fill

PROMPTS = ["a cat", "two dogs by the sea", "bread and butter"]
LANGUAGE = dict(
    hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
    vocab_size=320, pad_token_id=256, bos_token_id=257, eos_token_id=258,
)  # fmt: skip
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
]
CHAT = (  # without what the system says, which would be most of the tokens
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n"
    "{{ m.content if m.content is string else m.content[0].text }}<|im_end|>\n{% endfor %}"
)


# The first layer after the waves of the time, by the class that holds it, and the fastest wave to keep (in turns of `t`).
FIRST = {
    "TimestepEmbedding": ("linear_1", 0.006),
    "TimestepEmbedder": ("mlp.0", 0.006),
    "Krea2TimestepEmbedding": ("linear_1", 0.006),
    "MLPEmbedder": ("in_layer", 0.006),
    "Ideogram4EmbedScalar": ("mlp_in", 0.0006),
}


def letters(side: str = "right", start: bool = False) -> transformers.Qwen2Tokenizer:
    """Byte-level pairs without merges: one token a byte, after one for the start if asked; and a template for chats."""
    vocabulary = {token: i for i, token in enumerate([*sorted(ByteLevel.alphabet()), *SPECIAL])}
    made = transformers.Qwen2Tokenizer(
        vocab=vocabulary, merges=[], pad_token=SPECIAL[0], eos_token=SPECIAL[2], padding_side=side
    )
    made.add_special_tokens({"additional_special_tokens": SPECIAL[1:]})
    made.chat_template = CHAT
    if start:
        made.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{SPECIAL[1]} $A", special_tokens=[(SPECIAL[1], 257)]
        )
    return made


def loud(model):
    """A text encoder whose tokens differ more from one another than what random layers add to all of them."""
    with torch.no_grad():
        for name, table in model.named_parameters():
            if name.endswith(("embed_tokens.weight", "shared.weight")):
                table *= 8.0
    return model


def language(kind: str, **options):
    """A text model of transformers by its class's name, with the sizes that all of them share."""
    model = getattr(transformers, kind)
    return loud(fill(model(model.config_class(**{**LANGUAGE, **options}))))


def t5():
    """T5's tokenizer and its encoder."""
    tokenizer, encoder = pipelines.t5()
    return tokenizer, loud(encoder)


def autoencoder(channels: int = 4, blocks: int = 2, **options) -> diffusers.AutoencoderKL:
    """With this many latent channels, and half the size; with 4 blocks an eighth of it."""
    types = dict(down_block_types=("DownEncoderBlock2D",) * blocks, up_block_types=("UpDecoderBlock2D",) * blocks)
    sizes = dict(block_out_channels=(8,) * blocks, norm_num_groups=4, latent_channels=channels, sample_size=16)
    return fill(diffusers.AutoencoderKL(**{**types, **sizes, **options}))


def flow(**options) -> diffusers.FlowMatchEulerDiscreteScheduler:
    """Straight paths from noise to data."""
    return diffusers.FlowMatchEulerDiscreteScheduler(**options)


def network(kind: str, gain: float = 1.0, **options) -> torch.nn.Module:
    """A denoiser of diffusers by its class's name, its output times `gain`."""
    return smooth(fill(getattr(diffusers, kind)(**options)), gain)


def smooth(module: torch.nn.Module, gain: float = 1.0) -> torch.nn.Module:
    """Without the waves of the time that turn more than once from noise to data, as a trained network is."""
    with torch.no_grad():
        for part in module.modules():
            if type(part).__name__ in FIRST:
                name, fastest = FIRST[type(part).__name__]
                weight = part.get_submodule(name).weight
                half = weight.shape[1] // 2
                fast = 10.0 ** (-4.0 * torch.arange(half) / half) > fastest
                weight[:, torch.cat([fast, fast])] = 0.0
                weight *= 2.0
        layers = {name: part for name, part in module.named_modules() if isinstance(part, (torch.nn.Linear, torch.nn.Conv2d))}
        last = [name for name in layers if "modulation" not in name][-1]
        for parameter in layers[last].parameters():
            parameter *= gain
    return module
