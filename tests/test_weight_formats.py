"""Files of weights that are not what a model's file says: what they are, and what to do, in one line."""

import gzip
import io
import json
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save, save_file

import s4s
from s4s import S4SError
from s4s.models import weight_formats
from s4s.models.network_weights import fill
from s4s.models.pipelines.single_file import SingleFile
from tests.builders import edm, latent_diffusion

TENSORS = {"weight": torch.ones(2, 3)}


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pt"))
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    return buffer.getvalue()


def npy():
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 134\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
FORMATS = {
    "git-lfs": (POINTER, r"a pointer of Git LFS, not the file; run `git lfs pull`"),
    "page": (PAGE, "a web page, not the file; the download was refused"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page, not the file"),
    "message": (b"Entry not found", "a text: 'Entry not found'; get the weights themselves"),
    "json": (b'{"error": "Repository is gated"}', "a text: .*Repository is gated"),
    "index": (b'{"metadata": {}, "weight_map": {"a": "b"}}', "the index of weights in several files; name the folder"),
    "empty": (b"", "an empty file; its download or copy was interrupted"),
    "zeros": (bytes(5000), "a file of zeros; its download or copy was interrupted"),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(40), r"a GGUF file, quantised weights; .*\.safetensors"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file, as Keras writes it"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.0.0" + bytes(40), "an ONNX model; get the publisher's weights for PyTorch"),
    "flax": (b"\x82\xa7conv_in\x82\xa6kernel\xc7\x10\x01" + bytes(range(200, 220)), "weights of Flax, in MessagePack"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(40), "a file of TensorFlow"),
    "gzip": (gzip.compress(b"weights"), "a gzip archive; unpack it"),
    "tar": (tarred(), "a tar archive; unpack it"),
    "zip": (zipped(model__ckpt=b"x", readme__md=b"y"), "a zip archive of 2 files; unpack it"),
    "a part of a zip": (saved(TENSORS)[:300], "the beginning of a zip archive; its download or copy was interrupted"),
    "npz": (npz(), "an .npz of NumPy"),
    "npy": (npy(), "an array of NumPy"),
    "keras": (zipped(**{"model__weights__h5": b"x", "config__json": b"{}"}), "a model of Keras"),
    "torchscript": (zipped(**{"x/data__pkl": b"x", "x/constants__pkl": b"x", "x/code/x__py": b"x"}), "a TorchScript program"),
    "old torch": (
        saved(TENSORS, _use_new_zipfile_serialization=False),
        "a checkpoint in torch.save's old serialisation .* write it anew: torch.save",
    ),
}


def model_file(folder, kind, name, content):
    (folder / name).write_bytes(content)
    values = {"name": "x", "kind": kind, "path": name}
    if kind == "latent_diffusion":
        values = latent_diffusion.description("unconditional", folder / name)
    (folder / "x.yaml").write_text(yaml.safe_dump(values))
    return folder / "x.yaml"


@pytest.mark.parametrize("content, message", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(("kind", "name"), [("embedded", "x.safetensors"), ("edm", "x.pkl"), ("latent_diffusion", "x.ckpt")])
def test_every_reader_says_what_a_file_is(tmp_path, kind, name, content, message):
    with pytest.raises(S4SError, match=rf"{name}: not .*; it is {message}") as error:
        s4s.load_model(model_file(tmp_path, kind, name, content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("embedded", "x.safetensors", saved(TENSORS), "a checkpoint of torch.save; give it a name that ends with .ckpt"),
        ("latent_diffusion", "x.safetensors", saved(TENSORS), "a checkpoint of torch.save; give it a name"),
        ("latent_diffusion", "x.ckpt", save(TENSORS), "a file of safetensors; give it a name that ends with .safetensors"),
        ("latent_diffusion", "x.ckpt", b"\x80\x04N.", "a pickle, not a checkpoint .* `kind: edm` reads theirs"),
        ("edm", "x.pkl", save(TENSORS), "a file of safetensors"),
        ("edm", "x.pkl", saved(TENSORS), "a checkpoint of torch.save"),
    ],
)
def test_what_another_reader_reads_is_said(tmp_path, kind, name, content, message):
    with pytest.raises(S4SError, match=f"{name}: not .*; it is {message}"):
        s4s.load_model(model_file(tmp_path, kind, name, content))


def test_what_is_not_known_is_not_guessed(tmp_path):
    for content in (b"\xff\xfe\x00\x01" * 99, b"\x80\x09abc\xff", b"\x01"):
        (tmp_path / "x").write_bytes(content)
        assert weight_formats.instead_of(tmp_path / "x") == ""
    assert weight_formats.of_file(tmp_path / "absent") is None and weight_formats.names_in(tmp_path / "absent") == []


NAMES = {
    "SDXL": (["conditioner.embedders.0.transformer.text_model.x", "model.diffusion_model.out.2.bias"],
             "Stable Diffusion XL in a single file; `kind: pipeline` reads it, with the folder of its configurations as"),
    "SD2": (["cond_stage_model.model.ln_final.weight", "model.diffusion_model.out.2.bias"], "Stable Diffusion v2 in a single"),
    "SD3": (["model.diffusion_model.joint_blocks.0.x_block.attn.proj.bias"], "Stable Diffusion 3 in a single file; `kind: pip"),
    "Flux": (["double_blocks.0.img_attn.norm.key_norm.scale"], "Flux, or a network like it, in a single file; `kind: pipe"),
    "Flux in ComfyUI": (["model.diffusion_model.double_blocks.0.img_mod.lin.bias"], "Flux, or a network like it, in a"),
    "kohya": (["lora_unet_down_blocks_0.lora_down.weight", "lora_te_text_model.alpha"], "a LoRA alone, no network; load"),
    "PEFT": (["unet.mid_block.to_q.lora_A.weight", "unet.mid_block.to_q.lora_B.weight"], "a LoRA alone, no network"),
    "LyCORIS": (["lycoris_x.hada_w1_a", "lycoris_x.hada_w1_b"], "a LoRA alone"),
    "ControlNet": (["control_model.zero_convs.0.0.bias", "model.diffusion_model.out.2.bias"], "a ControlNet, which steers"),
    "UNet": (["down_blocks.0.resnets.0.conv1.bias", "conv_in.bias"], "a network of diffusers alone; name the folder"),
    "VAE": (["encoder.conv_in.weight", "decoder.conv_in.weight"], "an autoencoder alone"),
    "CLIP": (["text_model.encoder.layers.0.mlp.fc1.bias"], "a text encoder alone"),
    "T5": (["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"], "a text encoder alone"),
}  # fmt: skip


@pytest.mark.parametrize("names, message", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("form", ["safetensors", "ckpt"])
def test_a_single_file_of_another_network_is_named(tmp_path, form, names, message, monkeypatch):
    tensors, path = {name: torch.zeros(1) for name in names}, tmp_path / f"x.{form}"
    (save_file if form == "safetensors" else torch.save)(tensors, path)
    if form == "safetensors":  # by its header, before anything is read
        monkeypatch.setattr("s4s.models.pipelines.single_file.read_checkpoint", None)
    assert re.match(f"; it is {message}", weight_formats.by_names(names))
    whole = weight_formats.pipeline_of(names)
    said = f"its tensors are those of a {whole}, but" if whole else f"not a whole pipeline in a single file; it is {message}"
    with pytest.raises(S4SError, match=rf"x\.{form}: {said}") as error:
        SingleFile(path, "StableDiffusionPipeline" if whole != "StableDiffusionPipeline" else "FluxPipeline", tmp_path)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_latent_diffusion_that_is_another_is_named(tmp_path):
    names = NAMES["SDXL"][0]
    torch.save({"state_dict": {name: torch.zeros(1) for name in names}}, tmp_path / "x.ckpt")
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(latent_diffusion.description("unconditional", tmp_path / "x.ckpt")))
    with pytest.raises(S4SError, match=r"does not fit `unet` and `first_stage`.*; it is Stable Diffusion XL in a single file"):
        s4s.load_model(tmp_path / "x.yaml")


def test_a_pickle_of_edm2_is_named(tmp_path):
    content = edm.checkpoint("EDMPrecond", "ddpmpp", edm.TINY["edm-ddpmpp"][2])
    content["ema"].class_name = "Precond"  # of training/networks_edm2.py
    edm.dump(content, tmp_path / "x.pkl")
    with pytest.raises(S4SError, match=r"it is of EDM2 \(NVlabs/edm2\), .*; bring it with `kind: python`"):
        s4s.load_model(model_file(tmp_path, "edm", "x.pkl", (tmp_path / "x.pkl").read_bytes()))


def renamed(state):
    first, *_ = sorted(state)
    return {(f"{key}_" if key == first else key): value for key, value in state.items()}


def adapted(state):
    """As peft leaves a layer whose LoRA was not fused."""
    key = next(key for key in sorted(state) if key.endswith(".weight") and state[key].ndim > 1)
    stem = key.removesuffix("weight")
    low = {f"{stem}lora_A.default.weight": torch.zeros(1), f"{stem}lora_B.default.weight": torch.zeros(1)}
    return {f"{stem}base_layer.weight": state[key], **low, **{name: value for name, value in state.items() if name != key}}


CHANGES = {
    "renamed": (renamed, r"the weights do not fit \w+: 1 missing \(.*\), 1 unknown \(.*_\)"),
    "one less": (lambda state: dict(sorted(state.items())[1:]), r"do not fit \w+: 1 missing \([\w.]+\)$"),
    "one more": (lambda state: {**state, "surprise": torch.ones(1)}, r"do not fit \w+: 1 unknown \(surprise\)$"),
    "five more": (
        lambda state: {**state, **{f"more{i}": torch.ones(1) for i in range(5)}},
        r"5 unknown \(more0, more1, more2, \.\.\.\)",
    ),
    "another shape": (lambda state: {**state, (key := min(state)): state[key][None]}, "size mismatch|1 of another shape|shape"),
    "LoRA": (adapted, r"3 unknown \(.*lora_A.*; a LoRA was left in it .*pipe\.fuse_lora\(\); pipe\.unload_lora_weights\(\)"),
}


@pytest.mark.parametrize("change, message", CHANGES.values(), ids=CHANGES)
def test_a_network_takes_just_its_own_tensors(tmp_path, change, message):
    source = Path("config/models/digits.yaml").resolve()
    values = yaml.safe_load(source.read_text())
    state = load_file(source.parent / values["path"])
    with pytest.raises(S4SError, match=message):
        fill(s4s.load_model("digits").network, change(state))
    header = json.loads(
        (content := (source.parent / values["path"]).read_bytes())[8 : 8 + int.from_bytes(content[:8], "little")]
    )
    save_file(change(state), tmp_path / "x.safetensors", header["__metadata__"])
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"name": "digits", "kind": "embedded", "path": "x.safetensors"}))
    with pytest.raises(S4SError, match=rf"x\.safetensors: .*{message}"):
        s4s.load_model(tmp_path / "x.yaml")


def test_a_variant_a_pointer_and_nothing_are_named(tmp_path):
    def folder(**files):
        shutil.rmtree(tmp_path / "part", ignore_errors=True)
        (tmp_path / "part").mkdir()
        for name, content in files.items():
            (tmp_path / "part" / name.replace("__", ".")).write_bytes(content)
        return tmp_path / "part"

    weights, stem = save(TENSORS), "diffusion_pytorch_model"
    wrong = {
        "variant fp16; save it without one: .*variant=\"fp16\"": {f"{stem}__fp16__safetensors": weights},
        "variant non_ema;": {f"{stem}__non_ema__bin": saved(TENSORS)},
        "variant bf16;": {f"{stem}__bf16-00001-of-00002__safetensors": weights},
        "flax_model.msgpack; it is weights of Flax": {"flax_model__msgpack": b"\x81\xa1a\xc0"},
        "model.onnx; it is an ONNX model": {"model__onnx": b"\x08\x08\x12\x07pytorch"},
        "model.gguf; it is a GGUF file": {"model__gguf": b"GGUF" + bytes(9)},
        "openvino_model.bin; get the whole folder": {"openvino_model__bin": b"\xff\x01\x02\x9f" * 9},
        "model.safetensors or diffusion_pytorch_model.bin; get the whole folder": {"config__json": b"{}"},
        "pytorch_model.safetensors: cannot be read; it is a pointer of Git LFS": {f"{stem}__safetensors": POINTER},
        "00002.safetensors: cannot be read; it is a web page": {
            f"{stem}__safetensors__index__json": b"{}", f"{stem}-00001-of-00002__safetensors": weights,
            f"{stem}-00002-of-00002__safetensors": PAGE,
        },
    }  # fmt: skip
    for message, files in wrong.items():
        with pytest.raises(S4SError, match=message):
            weight_formats.check_has_weights(folder(**files), stem)
    weight_formats.check_has_weights(folder(**{f"{stem}__safetensors": weights, f"{stem}__bin": POINTER}), stem)
    weight_formats.check_has_weights(
        folder(pytorch_model__bin=saved(TENSORS, _use_new_zipfile_serialization=False)), "model", "pytorch_model"
    )
