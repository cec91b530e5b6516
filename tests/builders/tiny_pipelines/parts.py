"""Tokenizers, text encoders, autoencoders and schedulers that many tiny pipelines share."""

import diffusers
import torch
import transformers
from diffusers.models.embeddings import TimestepEmbedding
from tokenizers.pre_tokenizers import ByteLevel

from tests.builders.weights import fill

PROMPTS = ["a cat", "two dogs by the sea", "bread and butter"]
LANGUAGE = dict(
    hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
    vocab_size=320, pad_token_id=256, bos_token_id=257, eos_token_id=258,
)  # fmt: skip
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>"]
CHAT = (  # without what the system says, which would be most of the tokens
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n"
    "{{ m.content if m.content is string else m.content[0].text }}<|im_end|>\n{% endfor %}"
)


def letters(side: str = "right") -> transformers.Qwen2Tokenizer:
    """Byte-level pairs without merges: one token a byte, and a template for chats."""
    vocabulary = {token: i for i, token in enumerate([*sorted(ByteLevel.alphabet()), *SPECIAL])}
    made = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[], pad_token=SPECIAL[0], eos_token=SPECIAL[2], padding_side=side)
    made.chat_template = CHAT
    return made


def language(kind: str, **options):
    """A text model of transformers by its class's name, with the sizes that all of them share."""
    model = getattr(transformers, kind)
    return fill(model(model.config_class(**{**LANGUAGE, **options})))


def autoencoder(channels: int = 4, **options) -> diffusers.AutoencoderKL:
    """Half the size, with this many latent channels."""
    types = dict(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
    sizes = dict(block_out_channels=(8, 16), norm_num_groups=4, latent_channels=channels, sample_size=16)
    return fill(diffusers.AutoencoderKL(**{**types, **sizes, **options}))


def flow(**options) -> diffusers.FlowMatchEulerDiscreteScheduler:
    """Straight paths from noise to data."""
    return diffusers.FlowMatchEulerDiscreteScheduler(**options)


def network(kind: str, gain: float = 1.0, **options) -> torch.nn.Module:
    """A denoiser of diffusers by its class's name."""
    return smooth(fill(getattr(diffusers, kind)(**options)), gain)


def smooth(module: torch.nn.Module, gain: float = 1.0) -> torch.nn.Module:
    """Leave out the waves of the time that turn more than once from noise to data, as a trained network does."""
    for part in module.modules():
        if isinstance(part, TimestepEmbedding):
            weight = part.linear_1.weight
            half = weight.shape[1] // 2
            fast = 10.0 ** (-4.0 * torch.arange(half) / half) > 0.006
            weight[:, torch.cat([fast, fast])] = 0.0
            weight *= 2.0
    return module
