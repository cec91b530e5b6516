"""Folders of diffusers, and Stable Diffusion: equality with diffusers' own pipelines, prompts, stored embeddings."""

import json

import pytest
import torch
import yaml

import s4s
from s4s import S4SError
from s4s.models import pipeline, stable_diffusion
from s4s.models.files import WeightFile, read_model_file
from s4s.models.load import load_outline
from s4s.models.prompts import prompt_numbers, read_prompts, store_embeddings
from s4s.seeds import sample_seeds
from tests.builders import pipelines as builder
from tests.latent_diffusion_golden import sd_inputs

import diffusers  # isort: skip

GOLDEN = json.loads(builder.GOLDEN.read_text())["stable_diffusion"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The YAML's content of each kind of folder, and of the single file."""
    folder = tmp_path_factory.mktemp("pipelines")
    sizes = {"test": 30, "train": 5, "val": 5}
    found = {split: set(prompt_numbers(sample_seeds(split, n), 40).tolist()) for split, n in sizes.items()}
    assert found["test"] == set(range(30)) and found["train"] | found["val"] == set(range(30, 40))
    assert not found["train"] & found["val"]
    assert prompt_numbers(sample_seeds("test", 3, 1), 40).tolist() == [0, 1, 2]
    for split, n in [("test", 31), ("train", 6), ("val", 6)]:
        with pytest.raises(S4SError, match=f"40 prompts are too few for {n} samples of {split}"):
            prompt_numbers(sample_seeds(split, n), 40)


def test_coco_captions_are_read_in_the_order_of_images(tmp_path):
    entries = [(7, 30, "late"), (3, 12, "second of 3"), (3, 11, " first of 3 "), (9, 1, "nine"), (1, 99, "one")]
    annotations = [{"image_id": image, "id": number, "caption": caption} for image, number, caption in entries]
    (tmp_path / "captions.json").write_text(json.dumps({"annotations": annotations}))
    assert read_prompts(WeightFile(path=tmp_path / "captions.json")) == ["one", "first of 3", "late", "nine"]


@pytest.mark.parametrize(("name", "content"), [("a.json", "{}"), ("a.json", "no"), ("a.txt", "one\n"), ("b.txt", None)])
def test_wrong_prompts_are_refused(tmp_path, written, name, content):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(S4SError, match=rf"{name}: (neither lines|\d prompts|cannot read)"):
        s4s.load_model(described(tmp_path, written["stable_diffusion"], prompts={"path": name}))


def test_an_outline_reads_the_scheduler_alone(tmp_path, written):
    (tmp_path / "pipe/scheduler").mkdir(parents=True)
    builder.scheduler().save_config(tmp_path / "pipe/scheduler")
    outline = load_outline(described(tmp_path, {"name": "x", "kind": "diffusers", "path": "pipe"}))
    assert outline.s_max == pytest.approx(14.6146, abs=1e-3) and outline.path.times == 1000


def empty_config(folder):
    (folder / "config.json").write_text(json.dumps({"_class_name": "DiffusionPipeline"}))


def no_weights(folder):
    (folder / "diffusion_pytorch_model.safetensors").unlink()


def damaged_weights(folder):
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"12345678 nothing")


def no_scheduler(folder):
    (folder / "scheduler/scheduler_config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (empty_config, "'DiffusionPipeline' is no network of diffusers"),
        (no_weights, "cannot be read"),
        (damaged_weights, "cannot be read"),
        (no_scheduler, "has no scheduler_config.json"),
    ],
)
def test_wrong_folders_are_refused(tmp_path, damage, message):
    values = builder.write("classes", tmp_path / "folder")
    damage(tmp_path / "folder")
    with pytest.raises(S4SError, match=message) as error:
        s4s.load_model(described(tmp_path, values))
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_folder_says_how_to_get_it(tmp_path):
    values = {"name": "x", "kind": "diffusers", "path": "absent", "repository": "owner/name"}
    with pytest.raises(S4SError, match=r"absent: no such folder; hf download owner/name --local-dir .*absent"):
        s4s.load_model(described(tmp_path, values))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision(tmp_path, written, precision):
    values = written["stable_diffusion"]
    full, lower = (s4s.load_model(described(tmp_path, values, precision=p)) for p in ("float32", precision))
    y, s, numbers = states(full)
    assert lower(y, s, numbers).dtype == torch.float32
    assert next(iter(lower.conditioning.rows.known.values())).dtype == lower.weights
    assert (lower(y, s, numbers) - full(y, s, numbers)).square().mean().sqrt() < 0.1 * full(y, s, numbers).std()


SD_UNET = dict(sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8)
SD_VAE = dict(
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
)  # fmt: skip


def test_full_size_stable_diffusion_has_the_published_parameters():
    """860 M in the UNet and 123 M in the text encoder, as the model card of Stable Diffusion v1 says; 84 M in the autoencoder."""
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    with torch.device("meta"):
        parts = [diffusers.UNet2DConditionModel(**SD_UNET), CLIPTextModel(text), diffusers.AutoencoderKL(**SD_VAE)]
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert counts == [859_520_964, 123_060_480, 83_653_863]


def test_a_full_size_forward_pass():
    unet = diffusers.UNet2DConditionModel(**SD_UNET).eval()
    with torch.inference_mode():
        output = unet(torch.ones(1, 4, 64, 64), torch.tensor([500.5]), encoder_hidden_states=torch.zeros(1, 77, 768)).sample
    assert output.shape == (1, 4, 64, 64) and output.isfinite().all() and output.std() > 0
