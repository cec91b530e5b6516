"""Small pipelines in single files, whose tensors have the original's names."""

import json
from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

from tests.builders import pipelines

SD = pipelines.stable_diffusion
ENDS = ("weight", "bias")
# the original's part of a block of two streams: diffusers' for the image, and for the text
SD3_PARTS = {
    "adaLN_modulation.1": ("norm1.linear", "norm1_context.linear"), "attn.proj": ("attn.to_out.0", "attn.to_add_out"),
    "mlp.fc1": ("ff.net.0.proj", "ff_context.net.0.proj"), "mlp.fc2": ("ff.net.2", "ff_context.net.2"),
}  # fmt: skip
FLUX_PARTS = {
    "_mod.lin": SD3_PARTS["adaLN_modulation.1"], "_attn.proj": SD3_PARTS["attn.proj"], "_mlp.0": SD3_PARTS["mlp.fc1"],
    "_mlp.2": SD3_PARTS["mlp.fc2"],
}  # fmt: skip
QKV = (("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj"))


def _original(network, translate, prefix, more=()):
    """A network's tensors with the original's names, which diffusers' `translate` is asked for by numbers in their place."""
    shapes = {name: shape for name, shape in json.loads(pipelines.GOLDEN.read_text())["stable_diffusion"]["keys"].items()
              if name.startswith(prefix)}  # fmt: skip
    names, own = [*shapes, *more], network.state_dict()
    found = translate({name: torch.tensor(number) for number, name in enumerate(names)}, config=network.config)
    assert found.keys() == own.keys()
    tensors = {names[int(number)]: own[name] for name, number in found.items()}
    return {name: tensor.reshape(shapes[name]) if prefix.startswith("first") else tensor for name, tensor in tensors.items()}


def _open_clip(text_encoder, prefix):
    """A text encoder's tensors with OpenCLIP's names."""
    own = {name.removeprefix("text_model."): tensor for name, tensor in text_encoder.state_dict().items()}
    found = {
        "positional_embedding": own["embeddings.position_embedding.weight"],
        "token_embedding.weight": own["embeddings.token_embedding.weight"], "logit_scale": torch.tensor(4.6),
        **{f"ln_final.{end}": own[f"final_layer_norm.{end}"] for end in ("weight", "bias")},
    }  # fmt: skip
    if "text_projection.weight" in own:
        found["text_projection"] = own["text_projection.weight"].T.contiguous()
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
             "attn.out_proj": "self_attn.out_proj"}  # fmt: skip
    for layer in range(text_encoder.config.num_hidden_layers):
        there, here = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        for end in ("weight", "bias"):
            found |= {f"{there}.{new}.{end}": own[f"{here}.{old}.{end}"] for new, old in names.items()}
            found[f"{there}.attn.in_proj_{end}"] = torch.cat([own[f"{here}.self_attn.{part}_proj.{end}"] for part in "qkv"])
    return {prefix + name: tensor for name, tensor in found.items()}


def single_file(kind: str, folder: Path):
    """A pipeline as a state in the original's names, and its folder without weights."""
    pipe = {"sd1": SD, "sd2": SD, "sdxl": pipelines.stable_diffusion_xl, "sd3": pipelines.stable_diffusion_3}[kind]()
    if kind == "sd2":
        pipe.scheduler = pipelines.scheduler(prediction_type="v_prediction", set_alpha_to_one=False, steps_offset=1)
    pipe.save_pretrained(folder)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    if kind == "sd3":
        return pipe, _of_sd3(pipe)
    unet = "model.diffusion_model."
    more = [f"{unet}label_emb.0.{n}.{end}" for n in (0, 2) for end in ("weight", "bias")] if kind == "sdxl" else []
    state = _original(pipe.unet, convert_ldm_unet_checkpoint, unet, more)
    state |= _original(pipe.vae, convert_ldm_vae_checkpoint, "first_stage_model.")
    clip_names = {f"text_model.{name}": tensor for name, tensor in pipe.text_encoder.state_dict().items()}
    if kind == "sd2":
        return pipe, state | _open_clip(pipe.text_encoder, "cond_stage_model.model.")
    prefix = {"sd1": "cond_stage_model.transformer.", "sdxl": "conditioner.embedders.0.transformer."}[kind]
    state |= {prefix + name: tensor for name, tensor in clip_names.items()}
    return pipe, state | (_open_clip(pipe.text_encoder_2, "conditioner.embedders.1.model.") if kind == "sdxl" else {})


def _swapped(tensor):
    """Shift and scale, which diffusers has in the other order."""
    return torch.cat(tensor.chunk(2)[::-1])


def _renamed(own, names):
    return {f"{there}.{end}": own[f"{here}.{end}"] for there, here in names.items() for end in ENDS}


def _joined(own, block, stream):
    return {end: torch.cat([own[f"{block}.attn.{part}.{end}"] for part in QKV[stream]]) for end in ENDS}


def _of_sd3(pipe):
    own, unet, times = pipe.transformer.state_dict(), "model.diffusion_model.", "time_text_embed."
    state = {"pos_embed": own["pos_embed.pos_embed"]} | _renamed(own, {
        "x_embedder.proj": "pos_embed.proj", "context_embedder": "context_embedder", "final_layer.linear": "proj_out",
        **{f"t_embedder.mlp.{n}": f"{times}timestep_embedder.linear_{n // 2 + 1}" for n in (0, 2)},
        **{f"y_embedder.mlp.{n}": f"{times}text_embedder.linear_{n // 2 + 1}" for n in (0, 2)},
    })  # fmt: skip
    state |= {f"final_layer.adaLN_modulation.1.{end}": _swapped(own[f"norm_out.linear.{end}"]) for end in ENDS}
    last = pipe.transformer.config.num_layers - 1
    for layer in range(last + 1):
        block = f"transformer_blocks.{layer}"
        for stream, name in enumerate(("x_block", "context_block")):
            there = f"joint_blocks.{layer}.{name}"
            state |= {f"{there}.attn.qkv.{end}": tensor for end, tensor in _joined(own, block, stream).items()}
            whole = layer < last or stream == 0  # the last block has no output for the text
            parts = {part: here[stream] for part, here in SD3_PARTS.items() if whole or part.startswith("ada")}
            state |= _renamed(own, {f"{there}.{part}": f"{block}.{here}" for part, here in parts.items()})
    for end in ENDS:
        name = f"joint_blocks.{last}.context_block.adaLN_modulation.1.{end}"
        state[name] = _swapped(state[name])
    state = {unet + name: tensor for name, tensor in state.items()}
    state |= _original(pipe.vae, convert_ldm_vae_checkpoint, "first_stage_model.")
    for encoder, place in (("text_encoder", "clip_l"), ("text_encoder_2", "clip_g"), ("text_encoder_3", "t5xxl")):
        weights = getattr(pipe, encoder).state_dict()
        weights.pop("encoder.embed_tokens.weight", None)  # it is shared.weight
        state |= {f"text_encoders.{place}.transformer.{name}": tensor for name, tensor in weights.items()}
    return state


def of_flux(transformer):
    """The transformer alone, as Flux is published; 24 heads of 128, which diffusers takes for granted."""
    own, times = transformer.state_dict(), "time_text_embed."
    embedders = {"time_in": "timestep_embedder", "vector_in": "text_embedder"}
    state = _renamed(own, {
        "img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out",
        **{f"{there}.in_layer": f"{times}{here}.linear_1" for there, here in embedders.items()},
        **{f"{there}.out_layer": f"{times}{here}.linear_2" for there, here in embedders.items()},
    })  # fmt: skip
    state |= {f"final_layer.adaLN_modulation.1.{end}": _swapped(own[f"norm_out.linear.{end}"]) for end in ENDS}
    norms = {"query_norm": ("norm_q", "norm_added_q"), "key_norm": ("norm_k", "norm_added_k")}
    for layer in range(transformer.config.num_layers):
        block = f"transformer_blocks.{layer}"
        for stream, name in enumerate(("img", "txt")):
            there = f"double_blocks.{layer}.{name}"
            state |= {f"{there}_attn.qkv.{end}": tensor for end, tensor in _joined(own, block, stream).items()}
            state |= _renamed(own, {f"{there}{part}": f"{block}.{here[stream]}" for part, here in FLUX_PARTS.items()})
            state |= {f"{there}_attn.norm.{n}.scale": own[f"{block}.attn.{here[stream]}.weight"] for n, here in norms.items()}
    for layer in range(transformer.config.num_single_layers):
        block, there = f"single_transformer_blocks.{layer}", f"single_blocks.{layer}"
        state |= _renamed(own, {f"{there}.modulation.lin": f"{block}.norm.linear", f"{there}.linear2": f"{block}.proj_out"})
        state |= {f"{there}.norm.{n}.scale": own[f"{block}.attn.{here[0]}.weight"] for n, here in norms.items()}
        joined = _joined(own, block, 0)
        state |= {f"{there}.linear1.{end}": torch.cat([joined[end], own[f"{block}.proj_mlp.{end}"]]) for end in ENDS}
    return state
