"""Folders of diffusers, and Stable Diffusion: equality with diffusers' own pipelines, prompts, weights that are refused."""

import json
import os

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import s4s
from s4s import S4SError
from s4s.files.checksum import beside, record
from s4s.models.description import WeightFile
from s4s.models.load import load_outline
from s4s.models.paths import VPDiscrete
from s4s.models.pipelines.prompts import prompt_numbers, read_prompts
from s4s.models.seeds import sample_seeds
from tests.builders import pipelines as builder
from tests.builders.chosen import often
from tests.latent_diffusion_golden import sd_inputs

import diffusers  # isort: skip

GOLDEN = json.loads(builder.GOLDEN.read_text())["stable_diffusion"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The YAML's content of each kind of folder, and of the single file."""
    folder = tmp_path_factory.mktemp("pipelines")
    found = {kind: builder.write(kind, folder / kind / "folder") for kind in builder.KINDS}
    (folder / "single").mkdir()
    return {**found, "single_file": builder.write_single_file(folder / "single/sd.ckpt")}


def described(tmp_path, values, **changes):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**values, **changes}))
    return tmp_path / "tiny.yaml"


def states(model, count=3):
    """y, s and conditions of the first test samples."""
    y = torch.randn(count, *model.shape, generator=torch.Generator().manual_seed(0)) * 3
    return y, torch.tensor([0.1, 1.0, 9.0])[:count].double(), model.conditions(sample_seeds("test", count))


@pytest.mark.parametrize("kind", [kind for kind in builder.KINDS if kind not in builder.OF_TEXT])
def test_a_denoiser_is_what_the_network_predicts(tmp_path, written, kind):
    """By the formulas of each prediction, from diffusers' network called directly."""
    model = s4s.load_model(described(tmp_path, written[kind]))
    y, s, labels = states(model)
    folder = written[kind]["path"]
    network = {
        "pixel_pipeline": lambda: diffusers.UNet2DModel.from_pretrained(folder, subfolder="unet"),
        "classes": lambda: diffusers.UNet2DModel.from_pretrained(folder),
    }.get(kind, lambda: diffusers.DiTTransformer2DModel.from_pretrained(folder))().eval()
    column = s[:, None, None, None]
    x, t = model.path.from_ys(y.double(), s)
    alpha = x[:, :1, :1, :1] / y[:, :1, :1, :1]

    def predicted(labels):
        time = (1000 * t if kind == "flow_transformer" else t).float()
        arguments = {} if labels is None else {"class_labels": labels}
        with torch.inference_mode():
            return network(x.float(), timestep=time, **arguments).sample[:, :3].double()

    output = predicted(labels)
    if model.guidance != 1:
        null = predicted(torch.full((3,), 4))
        output = null + model.guidance * (output - null)
    expected = {
        "pixel_pipeline": lambda: alpha * x - alpha * column * output,  # sigma = alpha s
        "classes": lambda: output,
        "flow_transformer": lambda: x - t[:, None, None, None] * output,
        "learned_variance": lambda: y - column * output,
    }[kind]()
    assert (model(y, s, labels) - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "kind", often([kind for kind in builder.OF_TEXT if kind != "stable_diffusion_3"], "stable_diffusion", "pixart_sigma")
)
def test_ddim_with_guidance_is_that_of_diffusers_pipeline(tmp_path, written, kind):
    model = s4s.load_model(described(tmp_path, written[kind]))
    pipe = diffusers.DiffusionPipeline.from_pretrained(written[kind]["path"])
    pipe.set_progress_bar_config(disable=True)
    seeds = sample_seeds("test", 2)
    latents = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": 4, "guidance_scale": 7.5, "latents": latents}
    if kind.startswith("pixart"):
        options |= {"use_resolution_binning": False, "clean_caption": False}
    expected = pipe(builder.CAPTIONS[:2], output_type="latent", **options).images
    times = torch.tensor([751.0, 501.0, 251.0, 1.0, 0.0], dtype=torch.float64)
    levels = model.path.s_of_t(times)
    y_T = latents / model.path.alpha_of_s(levels[0])
    y_0 = s4s.sample(model, y_T.float(), s4s.solver("ddim", levels), model.conditions(seeds))
    x_0 = y_0 * model.path.alpha_of_s(levels[-1])
    assert (x_0 - expected).abs().max() < 2e-4 * expected.abs().max()
    images = pipe(builder.CAPTIONS[:2], output_type="pt", **options).images
    assert torch.allclose(model.decode(x_0.float()) / 2 + 0.5, images, atol=1e-3)


def test_flow_matching_with_guidance_is_that_of_diffusers_pipeline(tmp_path, written):
    """Euler's method between the pipeline's own times, of which the first is 1 less 1/1000 and more, for s = t / (1 - t)."""
    model = s4s.load_model(described(tmp_path, written["stable_diffusion_3"]))
    pipe = diffusers.StableDiffusion3Pipeline.from_pretrained(written["stable_diffusion_3"]["path"])
    pipe.set_progress_bar_config(disable=True)
    seeds, sigmas = sample_seeds("test", 2), [0.99, 0.7, 0.4, 0.2]
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0)
    options = {"sigmas": sigmas, "guidance_scale": 7.5, "latents": latents, "output_type": "latent"}
    expected = pipe(builder.CAPTIONS[:2], **options).images
    x, condition = latents.double(), model.conditions(seeds)
    for t, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        denoised = model((x / (1 - t)).float(), t / (1 - t), condition).double()
        x = denoised + after / t * (x - denoised)  # the line through both that Euler's step follows
    assert (x - expected).abs().max() < 2e-4 * expected.abs().max()


def test_a_single_file_gives_what_the_original_code_gives(tmp_path, written):
    model = s4s.load_model(described(tmp_path, written["single_file"]))
    x, t, context = sd_inputs()
    predicted = model.pipe.unet(x, t.float(), encoder_hidden_states=context).sample
    assert torch.allclose(predicted, torch.tensor(GOLDEN["predicted"]).reshape(x.shape), atol=1e-5)
    expected = torch.tensor(GOLDEN["decoded"]).reshape(1, 3, 16, 16).clamp(-1, 1)
    assert torch.allclose(model.decode(x[:1]), expected, atol=1e-5)
    folder = s4s.load_model(described(tmp_path, written["stable_diffusion"]))
    own, same = (m.pipe.encode_prompt(builder.CAPTIONS[:3], "cpu", 1, False)[0] for m in (model, folder))
    assert own.shape == (3, 12, 16) and torch.allclose(own, same, atol=1e-6)


@pytest.mark.suite
def test_safetensors_hold_the_same(tmp_path, written):
    state = torch.load(written["single_file"]["path"])["state_dict"]
    save_file(state, tmp_path / "sd.safetensors")
    first, second = (
        s4s.load_model(described(tmp_path, written["single_file"], **changes))
        for changes in ({}, {"path": str(tmp_path / "sd.safetensors")})
    )
    y, s, numbers = states(first)
    assert torch.equal(first(y, s, numbers), second(y, s, numbers))


def test_no_prompt_is_both_fitted_and_tested_on():
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


def variant(folder):
    path = folder / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (empty_config, "'DiffusionPipeline' is no network of diffusers"),
        (no_weights, "cannot be read"),
        (damaged_weights, "cannot be read"),
        (no_scheduler, "has no scheduler_config.json"),
        (variant, r"folder: cannot be read: it has no .*, but the variant fp16; save it without one: .*variant=\"fp16\""),
    ],
)
def test_wrong_folders_are_refused(tmp_path, damage, message):
    values = builder.write("classes", tmp_path / "folder")
    damage(tmp_path / "folder")
    with pytest.raises(S4SError, match=message) as error:
        s4s.load_model(described(tmp_path, values))
    assert len(str(error.value).splitlines()) == 1


def edit(path, **changes):
    """Change a configuration on purpose: a file that was used before is signed."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    for folder in path.parents:
        if beside(folder).exists():
            record(folder)


DPM_OF_FLOW = {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}
OWN_OF_FLOW = {"_class_name": "S4SScheduler", "path_type": "flow", "prediction_type": "flow_prediction"}
SD_BETAS = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SD_PATH = VPDiscrete.scaled_linear().description()


@pytest.mark.parametrize(
    ("kind", "config", "parametrisation"),
    [
        ("flow_transformer", {**DPM_OF_FLOW, "prediction_type": "flow_prediction"}, {"path": "flow", "prediction": "flow"}),
        ("flow_transformer", {**DPM_OF_FLOW, "prediction_type": "sample"}, {"path": "flow", "prediction": "sample"}),
        ("flow_transformer", OWN_OF_FLOW, {"path": "flow", "prediction": "flow"}),
        ("classes", SD_BETAS, {**SD_PATH, "prediction": "epsilon"}),
    ],
)
def test_a_scheduler_says_what_its_class_has_by_default(tmp_path, kind, config, parametrisation):
    values = builder.write(kind, tmp_path / "folder")
    (tmp_path / "folder/scheduler/scheduler_config.json").write_text(json.dumps(config))
    assert s4s.load_model(described(tmp_path, values)).parametrisation == parametrisation


def test_a_scheduler_of_flow_matching_must_say_what_is_predicted(tmp_path):
    values = builder.write("flow_transformer", tmp_path / "folder")
    (tmp_path / "folder/scheduler/scheduler_config.json").write_text(json.dumps(DPM_OF_FLOW))
    with pytest.raises(S4SError, match="use_flow_sigmas and prediction_type epsilon is not supported; flow_prediction and"):
        s4s.load_model(described(tmp_path, values))


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": "KarrasVeScheduler"}, "noise schedule of a KarrasVe.* no betas"),
        ("scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"}, "a LCMScheduler is not supported: .* distilled"),
        ("config.json", {"out_channels": 7}, "takes more than a noisy state"),
    ],
)
def test_unsupported_folders_are_refused(tmp_path, file, changes, message):
    values = builder.write("flow_transformer", tmp_path / "folder")
    edit(tmp_path / "folder" / file, **changes)
    if "out_channels" in changes:
        builder.dit(**changes).save_pretrained(tmp_path / "folder")
    model = described(tmp_path, values)
    with pytest.raises(S4SError, match=message) as error:
        states(s4s.load_model(model))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("UNet1DModel", {}, "a UNet1DModel alone is not supported; use `kind: pipeline` .* or one of UNet2DModel, "),
        ("UNet2DConditionModel", {}, "a UNet2DConditionModel alone is not supported; use `kind: pipeline` for its pipeline"),
        ("UNet2DModel", {"class_embed_type": "timestep"}, "conditioned on more than classes"),
        ("UNet2DModel", {"in_channels": 9}, "takes more than a noisy state"),
    ],
)
def test_unsupported_networks_are_refused(tmp_path, network, options, message):
    sizes = {"UNet1DModel": {}, "UNet2DConditionModel": {**builder.BLOCKS, **builder.ATTENTION}}.get(network, builder.PIXELS)
    getattr(diffusers, network)(**{**sizes, **options}).save_pretrained(tmp_path / "folder")
    builder.scheduler().save_pretrained(tmp_path / "folder/scheduler")
    with pytest.raises(S4SError, match=message):
        s4s.load_model(described(tmp_path, {"name": "x", "kind": "diffusers", "path": "folder"}))


def rewritten(change, part="unet"):
    """The weights of a part with other names of tensors, or other tensors."""

    def damage(folder):
        path = next((folder / part).glob("*.safetensors"))
        save_file(change(load_file(path)), path, {"format": "pt"})

    return damage


def renamed(state):
    return {key.replace("conv_in.weight", "conv_in.wieght").replace("shared", "shard"): value for key, value in state.items()}


def with_lora(folder):
    """A pipeline that was saved with a LoRA that was not fused, by peft itself where it is installed; else by its names."""

    def adapted(state):
        name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q."
        state[f"{name}base_layer.weight"] = state.pop(f"{name}weight")
        return {**state, f"{name}lora_A.default.weight": torch.ones(2, 64), f"{name}lora_B.default.weight": torch.ones(64, 2)}

    rewritten(adapted)(folder)


def pointer(part):
    def damage(folder):
        next((folder / part).glob("*.safetensors")).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")

    return damage


def cut(part):
    def damage(folder):
        path = next((folder / part).glob("*.safetensors"))
        path.write_bytes(path.read_bytes()[:-100])

    return damage


def wrong_setting(part, **settings):
    return lambda folder: edit(folder / part / "config.json", **settings)


def harmful(part, stem):
    def damage(folder):
        next((folder / part).glob("*.safetensors")).unlink()
        torch.save({"x": Runs()}, folder / part / f"{stem}.bin")

    return damage


def without_first(state):
    return dict(sorted(state.items())[1:])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rewritten(renamed), r"unet: .* UNet2DConditionModel: 1 missing \(conv_in\.weight\), 1 unknown \(conv_in\.wieght\)$"),
        (rewritten(without_first), r"unet: the weights do not fit UNet2DConditionModel: 1 missing \(conv_in\.bias\)$"),
        (rewritten(without_first, "vae"), r"vae: the weights do not fit AutoencoderKL: 1 missing \("),
        (rewritten(lambda state: {**state, "more": torch.ones(1)}, "vae"), r"vae: .* AutoencoderKL: 1 unknown \(more\)$"),
        (rewritten(without_first, "text_encoder"), r"text_encoder: the weights do not fit CLIPTextModel: 1 missing \("),
        (rewritten(lambda state: {**state, "more": torch.ones(1)}, "text_encoder"), r"CLIPTextModel: 1 unknown \(more\)$"),
        (with_lora, r"unet: .*; a LoRA was left in it \(.*\); fuse it .*pipe\.fuse_lora\(\); pipe\.unload_lora_weights\(\)"),
        (cut("unet"), "unet: cannot be read: "),
        (cut("text_encoder"), "text_encoder: cannot be read: "),
        (wrong_setting("unet", block_out_channels="wide"), "unet: cannot be read: "),
        (wrong_setting("text_encoder", hidden_size="wide"), "text_encoder: cannot be read: "),
        (harmful("unet", "diffusion_pytorch_model"), r"model\.bin: refused: it asks for posix\.system"),
        (harmful("text_encoder", "pytorch_model"), r"model\.bin: refused: it asks for posix\.system"),
        (pointer("vae"), r"model\.safetensors: cannot be read; it is a pointer of Git LFS"),
        (pointer("text_encoder"), r"model\.safetensors: cannot be read; it is a pointer of Git LFS"),
    ],
)
def test_weights_that_are_not_the_networks_own_are_refused(tmp_path, damage, message):
    values = builder.write("stable_diffusion", tmp_path / "folder")
    damage(tmp_path / "folder")
    with pytest.raises(S4SError, match=message) as error:
        s4s.load_model(described(tmp_path, values))
    assert len(str(error.value).splitlines()) == 1


def tables_of_positions(folder):
    """As files of old versions of transformers have one."""
    rewritten(lambda state: {**state, "text_model.embeddings.position_ids": torch.arange(12)[None]}, "text_encoder")(folder)


def old_attention(folder):
    """As files of old versions of diffusers name an autoencoder's attention."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def change(state):
        for new, old in names.items():
            state = {key.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): value for key, value in state.items()}
        assert any(".proj_attn." in key for key in state)
        return state

    rewritten(change, "vae")(folder)


@pytest.mark.parametrize("change", often([tables_of_positions, old_attention], old_attention))
def test_what_may_be_there_or_absent_changes_nothing(tmp_path, written, change):
    values = builder.write("stable_diffusion", tmp_path / "folder")
    change(tmp_path / "folder")
    one, other = (s4s.load_model(described(tmp_path, v)) for v in (values, written["stable_diffusion"]))
    y, s, numbers = states(one)
    assert torch.equal(one(y, s, numbers), other(y, s, numbers)) and torch.equal(one.decode(y), other.decode(y))


def test_tied_weights_are_there_once_or_twice(tmp_path, written):
    values = builder.write("pixart_sigma", tmp_path / "folder")
    rewritten(lambda state: {**state, "encoder.embed_tokens.weight": state["shared.weight"].clone()}, "text_encoder")(
        tmp_path / "folder"
    )
    one, other = (s4s.load_model(described(tmp_path, v)) for v in (values, written["pixart_sigma"]))
    y, s, numbers = states(one)
    assert torch.equal(one(y, s, numbers), other(y, s, numbers))


@pytest.mark.parametrize("kind", ["FluxTransformer2DModel", "UNet1DModel", "AutoencoderKL", "PriorTransformer"])
def test_a_class_is_checked_before_its_weights_are_read(tmp_path, written, kind, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/config.json").write_text(json.dumps({"_class_name": kind}))
    monkeypatch.setattr(diffusers.ModelMixin, "from_pretrained", None)
    with pytest.raises(S4SError, match=f"a {kind} alone is not supported"):
        s4s.load_model(described(tmp_path, {"name": "x", "kind": "diffusers", "path": "folder"}))


class Runs:
    def __reduce__(self):
        return os.system, ("touch marker",)


def test_nothing_of_a_harmful_folder_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = builder.write("classes", tmp_path / "folder")
    weights = tmp_path / "folder/diffusion_pytorch_model.safetensors"
    torch.save({**load_file(weights), "extra": Runs()}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(S4SError, match=r"refused: it asks for posix\.system"):
        s4s.load_model(described(tmp_path, values))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("kind", "left_out", "changes", "message"),
    [
        ("classes", ["classes", "guidance"], {}, "UNet2DModel is conditioned on classes; give `classes`"),
        ("pixel_pipeline", [], {"classes": 3}, "UNet2DModel takes no classes; leave out `classes`"),
        ("flow_transformer", ["classes"], {}, "DiTTransformer2DModel is conditioned on classes"),
    ],
)
def test_conditions_must_fit_the_network(tmp_path, written, kind, left_out, changes, message):
    values = {key: value for key, value in written[kind].items() if key not in left_out}
    with pytest.raises(S4SError, match=message):
        s4s.load_model(described(tmp_path, values, **changes))


def test_a_missing_folder_says_how_to_get_it(tmp_path):
    values = {"name": "x", "kind": "diffusers", "path": "absent", "repository": "owner/name"}
    with pytest.raises(S4SError, match=r"absent: no such folder; hf download owner/name --local-dir .*absent"):
        s4s.load_model(described(tmp_path, values))


@pytest.mark.parametrize("precision", often(["bfloat16", "float16"], "bfloat16"))
def test_lower_precision(tmp_path, written, precision):
    values = written["stable_diffusion"]
    full, lower = (s4s.load_model(described(tmp_path, values, precision=p)) for p in ("float32", precision))
    y, s, numbers = states(full)
    assert lower(y, s, numbers).dtype == torch.float32
    assert lower.pipe.unet.dtype == lower.pipe.text_encoder.dtype == lower.weights == getattr(torch, precision)
    assert (lower(y, s, numbers) - full(y, s, numbers)).square().mean().sqrt() < 0.1 * full(y, s, numbers).std()


def test_an_autoencoder_that_overflows_stays_in_full_precision(tmp_path):
    network = builder.dit(in_channels=4, out_channels=8)
    pipe = diffusers.DiTPipeline(network, builder.autoencoder(), builder.scheduler())
    pipe.save_pretrained(tmp_path / "folder")
    values = {"name": "dit", "kind": "diffusers", "path": "folder", "classes": 4}
    full, half = (s4s.load_model(described(tmp_path, values, precision=p)) for p in ("float32", "float16"))
    latents = states(full)[0]
    assert torch.equal(half.decode(latents), full.decode(latents))
    edit(tmp_path / "folder/vae/config.json", force_upcast=False)
    half = s4s.load_model(described(tmp_path, values, precision="float16"))
    assert torch.allclose(half.decode(latents), full.decode(latents), atol=0.05)
    assert not torch.equal(half.decode(latents), full.decode(latents))
    edit(tmp_path / "folder/vae/config.json", latents_mean=[0, 0, 0, 0], latents_std=[1, 1, 1, 1])
    with pytest.raises(S4SError, match="with latents_mean is not supported"):
        s4s.load_model(described(tmp_path, values))


SD_UNET = dict(sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8)
SD_VAE = dict(
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
)  # fmt: skip


def test_full_size_stable_diffusion_has_the_published_parameters():
    """860 M in the UNet and 123 M in the text encoder, as Stable Diffusion's README says; 84 M in the autoencoder."""
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    with torch.device("meta"):
        parts = [diffusers.UNet2DConditionModel(**SD_UNET), CLIPTextModel(text), diffusers.AutoencoderKL(**SD_VAE)]
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert counts == [859_520_964, 123_060_480, 83_653_863]


@pytest.mark.nightly
def test_a_full_size_forward_pass():
    unet = diffusers.UNet2DConditionModel(**SD_UNET).eval()
    with torch.inference_mode():
        output = unet(torch.ones(1, 4, 64, 64), torch.tensor([500.5]), encoder_hidden_states=torch.zeros(1, 77, 768)).sample
    assert output.shape == (1, 4, 64, 64) and output.isfinite().all() and output.std() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", [*builder.KINDS, "single_file"])
def test_a_gpu_gives_what_the_cpu_gives(tmp_path, written, kind):
    path = described(tmp_path, written[kind])
    here, there = s4s.load_model(path), s4s.load_model(path, "cuda")
    y, s, condition = states(here)
    expected = here(y, s, condition)
    assert torch.allclose(there(y.cuda(), s.cuda(), condition).cpu(), expected, atol=1e-3 * expected.abs().max().item())
    assert torch.allclose(there.decode(expected.cuda()).cpu(), here.decode(expected), atol=1e-2)
