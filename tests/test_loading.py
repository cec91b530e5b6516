"""Any pipeline from a folder or a single file: as diffusers reads it, whole or not at all, and nothing of it runs."""

import json
import os
import shutil
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from s4s import S4SError
from s4s.models.pipelines.loading import load_pipeline
from tests.builders import pipelines as builder
from tests.builders import single_files
from tests.builders.chosen import often

import diffusers  # isort: skip

NETWORKS = {"stable_diffusion": "unet", "stable_diffusion_xl": "unet", "stable_diffusion_3": "transformer"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of each kind; not to be changed."""
    folder = tmp_path_factory.mktemp("loading")
    for kind in builder.OF_TEXT:
        builder.write(kind, folder / kind / "folder")
    return {kind: folder / kind / "folder" for kind in builder.OF_TEXT}


@pytest.fixture
def folder(written, tmp_path):
    """Copies a folder, to be changed."""
    return lambda kind="stable_diffusion": Path(shutil.copytree(written[kind], tmp_path / kind))


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def assert_same(pipe, other):
    assert type(pipe) is type(other) and pipe.components.keys() == other.components.keys()
    for name, part in pipe.components.items():
        assert type(part) is type(other.components[name]), name
        if isinstance(part, torch.nn.Module):
            own, theirs = part.state_dict(), other.components[name].state_dict()
            assert own.keys() == theirs.keys() and all(torch.equal(own[key], theirs[key]) for key in own), name
            assert not part.training


def refused(path, message, **options):
    with pytest.raises(S4SError, match=message) as error:
        load_pipeline(path, **options)
    assert len(str(error.value).splitlines()) == 1
    assert Path(str(path)).name in str(error.value) or "\n" not in str(error.value)


@pytest.mark.parametrize("kind", builder.OF_TEXT)
def test_a_folder_is_read_as_diffusers_reads_it(written, kind):
    assert_same(load_pipeline(written[kind]), diffusers.DiffusionPipeline.from_pretrained(written[kind]))


def test_weights_are_of_the_dtype_that_is_asked_for(written):
    pipe = load_pipeline(written["stable_diffusion_3"], dtype="bfloat16")
    assert {pipe.transformer.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.bfloat16}
    refused(written["stable_diffusion_3"], "dtype must be one of float32, bfloat16, float16, got 'int8'", dtype="int8")


def test_a_variant_is_found_where_it_is_the_only_one(folder, tmp_path):
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder())
    only = tmp_path / "only"
    pipe.save_pretrained(only, variant="fp16")
    assert_same(load_pipeline(only), pipe)
    assert_same(load_pipeline(only, variant="fp16"), pipe)
    refused(only, "no weights of the variant 'fp32'; there are fp16", variant="fp32")
    pipe.unet.save_pretrained(only / "unet", variant="non_ema")
    (tmp_path / "only.sha256").unlink()
    refused(only, r"unet: has no plain weights, but the variants fp16, non_ema; choose one of them as variant")
    assert_same(load_pipeline(only, variant="non_ema"), pipe)
    refused(tmp_path / "stable_diffusion", "variant 'fp16'; there are the plain ones alone", variant="fp16")


@pytest.mark.parametrize("part", ["text_encoder_3", "safety_checker"])
def test_what_a_pipeline_can_do_without_may_be_absent(folder, part):
    place = folder("stable_diffusion_3" if part == "text_encoder_3" else "stable_diffusion")
    if part == "text_encoder_3":
        for name in (part, "tokenizer_3"):
            shutil.rmtree(place / name)
    else:
        edit(place / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    pipe = load_pipeline(place)
    assert getattr(pipe, part) is None
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a cat", num_inference_steps=2, output_type="latent").images.isfinite().all()


def test_a_part_may_be_given(folder):
    place = folder()
    tokenizer = builder.tokenizer()
    shutil.rmtree(place / "tokenizer")
    refused(place, "its tokenizer is not there; get the whole pipeline")
    (place.parent / f"{place.name}.sha256").unlink()
    assert load_pipeline(place, components={"tokenizer": tokenizer}).tokenizer is tokenizer
    refused(place, "has no part transformer as components name; it has feature_extractor", components={"transformer": None})


HARMFUL = "import pathlib\npathlib.Path('marker').touch()\nclass Own: pass\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unet": ["subprocess", "Popen"]}, "unet: 'subprocess', 'Popen' is no part of diffusers .* no other library"),
        ({"unet": ["pipelines.os", "system"]}, "unet: 'pipelines.os', 'system' is no part"),
        ({"unet": ["own", "Own"]}, "unet: 'own', 'Own' is no part"),
        ({"unet": ["diffusers", "DiffusionPipeline"]}, "'DiffusionPipeline' is no part"),
        ({"unet": ["transformers", "AutoModel"]}, "'AutoModel' is no part"),
        ({"unet": [["diffusers"], 3]}, r"\['diffusers'\], 3 is no part"),
        ({"tokenizer": ["stable_diffusion", "os"]}, "'stable_diffusion', 'os' is no part"),
        ({"_class_name": ["own", "Own"]}, "names no class"),
        ({"_class_name": "Own"}, "'Own' is no pipeline of diffusers"),
        ({"_class_name": "UNet2DModel"}, "'UNet2DModel' is no pipeline of diffusers"),
    ],
)
def test_nothing_but_diffusers_and_transformers_is_imported(folder, monkeypatch, tmp_path, changes, message):
    place = folder()
    for name in ("own.py", "pipeline.py", "unet/own.py", "unet/modeling.py"):
        (place / name).write_text(HARMFUL)
    monkeypatch.chdir(place)
    edit(place / "model_index.json", **changes)
    refused(place, message)
    assert not list(tmp_path.rglob("marker"))


def test_code_in_a_folder_does_not_run(folder, monkeypatch, tmp_path):
    place = folder()
    monkeypatch.chdir(tmp_path)
    for name in ("pipeline.py", "unet/unet.py", "text_encoder/modeling.py", "text_encoder/__init__.py"):
        (place / name).write_text(HARMFUL)
    edit(place / "text_encoder/config.json", auto_map={"AutoModel": "modeling.Own", "AutoConfig": "modeling.Own"})
    edit(place / "model_index.json", custom_pipeline="pipeline")
    load_pipeline(place)
    assert not list(tmp_path.rglob("marker"))


class Runs:
    def __reduce__(self):
        return os.system, ("touch marker",)


@pytest.mark.parametrize("part, stem", [("unet", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")])
def test_a_pickle_that_asks_for_code_is_refused(folder, monkeypatch, tmp_path, part, stem):
    place = folder()
    monkeypatch.chdir(tmp_path)
    weights = next((place / part).glob("*.safetensors"))
    torch.save({**load_file(weights), "extra": Runs()}, place / part / f"{stem}.bin")
    weights.unlink()
    refused(place, r"\.bin: refused: it asks for posix\.system")
    assert not list(tmp_path.rglob("marker"))


def test_plain_pickles_in_a_folder_are_read(folder, written):
    place = folder()
    for part, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")):
        weights = next((place / part).glob("*.safetensors"))
        torch.save(load_file(weights), place / part / f"{stem}.bin")
        weights.unlink()
    assert_same(load_pipeline(place), load_pipeline(written["stable_diffusion"]))


def one_missing(place):
    path = next((place / "unet").glob("*.safetensors"))
    save_file(dict([*load_file(path).items()][1:]), path, {"format": "pt"})


def cut(place):
    path = next((place / "unet").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:5000])


def no_index(place):
    (place / "model_index.json").unlink()


def far_too_large(place):
    edit(place / "unet/config.json", block_out_channels=[32000, 64000])


def no_unet(place):
    shutil.rmtree(place / "unet")


def wrong_scheduler(place):
    (place / "scheduler/scheduler_config.json").write_text("no")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_missing, "unet: .*1 missing|unet: cannot be read"),
        (cut, "unet: cannot be read"),
        (no_index, "has no model_index.json; name the folder of a whole pipeline"),
        (far_too_large, "unet: refused: .*far larger than its weights"),
        (no_unet, "its unet is not there; get the whole pipeline"),
        (wrong_scheduler, "scheduler: cannot be read"),
    ],
)
def test_damaged_folders_are_refused_in_one_line(folder, damage, message):
    place = folder()
    damage(place)
    refused(place, message)


def test_a_change_since_the_first_use_is_noticed(folder):
    place = folder()
    load_pipeline(place)
    edit(place / "scheduler/scheduler_config.json", beta_end=0.02)
    refused(place, r"scheduler_config.json\): changed since it was first used")


def test_what_is_not_there_is_said(tmp_path, written):
    refused("owner/name", "neither a folder nor in the local cache; get it: hf download owner/name")
    refused(tmp_path / "absent", "absent: no such folder or file")
    refused(tmp_path, "has no model_index.json")
    refused(written["stable_diffusion"] / "unet", "it holds one network alone, which `kind: diffusers` reads")
    refused(written["stable_diffusion"], "belongs to a single file of weights alone", config=tmp_path)


FORMS = ("safetensors", "ckpt", "old")
SINGLE = ("sd1", "sd2", "sdxl", "sd3")


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Of each kind the pipeline, its state in the original's names, the folder of configurations."""
    folder = tmp_path_factory.mktemp("single")
    return {kind: (*single_files.single_file(kind, folder / kind), folder / kind) for kind in SINGLE}


def saved(path, state, kind):
    if kind == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        path = path.with_suffix(".pt" if kind == "old" else ".ckpt")
        torch.save({"state_dict": state, "global_step": 1}, path, _use_new_zipfile_serialization=kind != "old")
    return path


@pytest.mark.parametrize(
    "case", often(product(SINGLE, FORMS), ("sd1", "ckpt"), ("sd2", "old"), ("sdxl", "safetensors"), ("sd3", "safetensors"))
)
def test_a_single_file_is_the_pipeline_that_it_was_made_of(tmp_path, single, case):
    kind, form = case
    pipe, state, config = single[kind]
    found = load_pipeline(saved(tmp_path / "x", state, form), config=config)
    assert_same(found, pipe)
    if kind != "sd3":
        assert found.scheduler.config.prediction_type == ("v_prediction" if kind == "sd2" else "epsilon")


@pytest.mark.nightly  # 2 GB: diffusers takes 24 heads of 128 for granted
def test_flux_in_a_single_file_has_its_other_parts_from_the_folder(tmp_path):
    tokenizer_2, text_encoder_2 = builder.t5()
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, joint_attention_dim=40, pooled_projection_dim=16
    )
    pipe = diffusers.FluxPipeline(
        builder.scheduler("FlowMatchEulerDiscreteScheduler", shift=3.0), builder.autoencoder(), builder.clip(),
        builder.tokenizer(), text_encoder_2, tokenizer_2, transformer.to(torch.bfloat16),
    )  # fmt: skip
    pipe.save_pretrained(tmp_path / "folder")
    next((tmp_path / "folder/transformer").glob("*.safetensors")).unlink()
    path = saved(tmp_path / "x", single_files.of_flux(transformer), "safetensors")
    found = load_pipeline(path, config=tmp_path / "folder", dtype="bfloat16")
    own, theirs = found.transformer.state_dict(), transformer.state_dict()
    assert own.keys() == theirs.keys() and all(torch.equal(own[key], theirs[key]) for key in own)
    assert torch.equal(found.vae.decoder.conv_out.bias, pipe.vae.decoder.conv_out.bias.to(torch.bfloat16))


def test_diffusers_reads_a_single_file_alike(tmp_path, single):
    _, state, config = single["sd2"]
    path = saved(tmp_path / "x", state, "safetensors")
    theirs = diffusers.StableDiffusionPipeline.from_single_file(path, config=str(config), local_files_only=True)
    assert_same(load_pipeline(path, config=config), theirs)


def test_the_averaged_weights_of_a_single_file_are_taken(tmp_path, single):
    _, state, config = single["sd1"]
    name = "model.diffusion_model.out.2.bias"
    both = {**state, "model_ema.diffusion_modelout2bias": state[name] + 1}
    pipe = load_pipeline(saved(tmp_path / "x", both, "ckpt"), config=config)
    assert torch.equal(pipe.unet.conv_out.bias, state[name] + 1)


@pytest.mark.parametrize("form", often(FORMS, "safetensors"))
def test_wrong_single_files_are_refused_in_one_line(tmp_path, single, form):
    _, state, config = single["sd1"]
    path = saved(tmp_path / "x", state, form)
    refused(path, "a single file holds weights alone; name as config the folder of its pipeline")
    refused(path, "no such folder of configurations", config=tmp_path / "absent")
    refused(
        path, "tensors are those of a StableDiffusionPipeline, but .* a StableDiffusionXLPipeline", config=single["sdxl"][2]
    )
    part = {name: tensor for name, tensor in state.items() if "out.2.bias" not in name}
    refused(
        saved(tmp_path / "y", part, form),
        r"does not fit the configuration in .*unet: .*1 missing \(conv_out.bias\)",
        config=config,
    )
    part = {name: tensor for name, tensor in state.items() if not name.startswith("first_stage")}
    refused(saved(tmp_path / "z", part, form), "its vae is not there", config=config)
    alone = {name: tensor for name, tensor in state.items() if name.startswith("first_stage")}
    refused(saved(tmp_path / "v", alone, form), "not a whole pipeline in a single file; it is a checkpoint", config=config)


def test_a_single_file_that_asks_for_code_is_refused(tmp_path, monkeypatch, single):
    monkeypatch.chdir(tmp_path)
    for new in (True, False):
        torch.save({"state_dict": single["sd1"][1], "x": Runs()}, tmp_path / f"{new}.ckpt", _use_new_zipfile_serialization=new)
        refused(tmp_path / f"{new}.ckpt", r"refused: it asks for posix\.system", config=single["sd1"][2])
    assert not (tmp_path / "marker").exists()


def test_a_file_of_another_kind_says_what_it_is(tmp_path, single):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(50))
    refused(tmp_path / "x.gguf", "must end with .* it is a GGUF file")
    (tmp_path / "x.safetensors").write_bytes(b"<!DOCTYPE html><html>")
    refused(tmp_path / "x.safetensors", "it is a web page", config=single["sd1"][2])


def lora(form, pipe):
    """A LoRA of one attention layer, in the names of peft or of kohya."""
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    size = pipe.unet.get_submodule(layer).in_features
    down, up = torch.ones(2, size) / 10, torch.ones(size, 2) / 10
    if form == "peft":
        return {f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up}
    name = "lora_unet_" + layer.replace(".", "_")
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(2.0)}


@pytest.mark.parametrize("form", often(["peft", "kohya"], "peft"))
def test_a_lora_changes_what_the_network_says(tmp_path, written, form):
    pytest.importorskip("peft")
    plain = load_pipeline(written["stable_diffusion"])
    save_file(lora(form, plain), tmp_path / "lora.safetensors")
    pipe = load_pipeline(written["stable_diffusion"], lora=[tmp_path / "lora.safetensors"])
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    x = torch.randn(1, plain.unet.get_submodule(layer).in_features, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        change = pipe.unet.get_submodule(layer)(x) - plain.unet.get_submodule(layer)(x)
    assert torch.allclose(change, (0.02 * x.sum()).expand_as(change), atol=1e-5)


def test_two_loras_add_up(tmp_path, written):
    pytest.importorskip("peft")
    plain = load_pipeline(written["stable_diffusion"])
    for name in "ab":
        save_file(lora("peft", plain), tmp_path / f"{name}.safetensors")
    pipe = load_pipeline(written["stable_diffusion"], lora=[tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    assert pipe.get_active_adapters() == ["lora_0", "lora_1"]


def test_a_wrong_lora_is_refused(tmp_path, written, monkeypatch):
    refused(written["stable_diffusion"], "absent.safetensors: no such file of a LoRA", lora=[tmp_path / "absent.safetensors"])
    pytest.importorskip("peft")
    save_file({"unet.no.such.layer.lora_A.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    refused(written["stable_diffusion"], "other.safetensors: .*is it a LoRA for", lora=[tmp_path / "other.safetensors"])
    torch.save({"x": Runs()}, tmp_path / "x.bin")
    refused(written["stable_diffusion"], r"x.bin: refused: it asks for posix\.system", lora=[tmp_path / "x.bin"])
