"""Checkpoints of CompVis/latent-diffusion: equality with the original code, full-size networks, files that mean harm."""

import json
import os
import zipfile
from math import prod

import pytest
import torch
import yaml

import s4s
from s4s import S4SError
from s4s.models.latent_diffusion import empty_first_stage, empty_unet, first_stage_weights, unet_weights
from s4s.models.load import load_outline
from s4s.models.model_files import read_model_file
from tests.builders import latent_diffusion as builder
from tests.builders.weights import fill
from tests.latent_diffusion_golden import inputs

GOLDEN = json.loads(builder.GOLDEN.read_text())


def described(tmp_path, kind, **changes):
    """A model's YAML file beside its checkpoint."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(builder.description(kind, tmp_path / "tiny.ckpt", **changes)))
    return tmp_path / "tiny.yaml"


@pytest.mark.parametrize("kind", builder.TINY)
def test_predictions_and_images_are_those_of_the_original_code(tmp_path, kind):
    builder.write(kind, tmp_path / "tiny.ckpt")
    model = s4s.load_model(described(tmp_path, kind, **({"guidance": 1.0} if kind == "conditional" else {})))
    x, t, labels = inputs()
    condition = labels if kind == "conditional" else None
    y, s = model.path.to_ys(x.double(), t.double())
    denoised = model(y.float(), s, condition)
    noise = (y - denoised) / s[:, None, None, None]
    assert torch.allclose(noise.float(), torch.tensor(GOLDEN["tiny"][kind]["predicted"]).reshape(x.shape), atol=5e-4)
    arguments = model.conditioning.arguments(condition, 4) if condition is not None else {}
    predicted = model.network(x, t.float(), **arguments)
    assert torch.allclose(predicted, torch.tensor(GOLDEN["tiny"][kind]["predicted"]).reshape(x.shape), atol=1e-5)
    expected = torch.tensor(GOLDEN["tiny"][kind]["decoded"]).reshape(1, 3, 16, 16)
    assert torch.allclose(model.decode(x[:1]), expected.clamp(-1, 1), atol=1e-5)


def test_guidance_and_classes(tmp_path):
    builder.write("conditional", tmp_path / "tiny.ckpt")
    guided, plain = (s4s.load_model(described(tmp_path, "conditional", guidance=g)) for g in (2.0, 1.0))
    y, labels = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2])
    null = plain(y, 1.0, torch.full((3,), builder.CLASSES))
    assert torch.allclose(guided(y, 1.0, labels), null + 2.0 * (plain(y, 1.0, labels) - null), atol=1e-4)
    assert guided.passes == 2 and sorted(guided.conditions(s4s.models.seeds.sample_seeds("test", 4)).tolist()) == [0, 1, 2, 3]


def test_decoding_in_chunks_changes_nothing(tmp_path):
    builder.write("unconditional", tmp_path / "tiny.ckpt")
    latents = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    whole, chunked = (s4s.load_model(described(tmp_path, "unconditional", decode_batch=n)).decode(latents) for n in (8, 2))
    assert torch.allclose(whole, chunked, atol=1e-5) and whole.abs().max() <= 1


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_keeps_float32_states(tmp_path, precision):
    builder.write("conditional", tmp_path / "tiny.ckpt")
    full, lower = (s4s.load_model(described(tmp_path, "conditional", precision=p)) for p in ("float32", precision))
    y, labels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])
    assert lower(y, 1.0, labels).dtype == torch.float32
    assert (lower(y, 1.0, labels) - full(y, 1.0, labels)).square().mean().sqrt() < 0.05
    assert next(lower.conditioning.embedding.parameters()).dtype == getattr(torch, precision)


@pytest.mark.parametrize(("name", "millions"), [("lsun_bedrooms", 274), ("imagenet256", 401)])
def test_full_size_networks_take_every_published_tensor(name, millions):
    """Sizes of the U-Nets: table 12 and 13 of arXiv 2112.10752 say 274 M and 400 M with the class embedding."""
    model = read_model_file(name)
    state = {key: torch.empty(shape, device="meta") for key, shape in GOLDEN["full"][name].items()}
    with torch.device("meta"):
        unet, stage = empty_unet(model.unet), empty_first_stage(model.first_stage)
    for network, weights in [
        (unet, unet_weights(state, model.unet)),
        (stage, first_stage_weights(state, model.first_stage)),
    ]:
        assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in network.state_dict().items()}
        assert all(isinstance(value, torch.Tensor) for value in weights.values())
    for prefix, network in [("model.", unet), ("first_stage_model.", stage)]:
        published = sum(prod(shape) for key, shape in GOLDEN["full"][name].items() if key.startswith(prefix))
        assert published == sum(parameter.numel() for parameter in network.parameters())
    assert round(sum(parameter.numel() for parameter in unet.parameters()) / 1e6) == millions
    assert 54 < sum(parameter.numel() for parameter in stage.parameters()) / 1e6 < 56


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["lsun_bedrooms", "imagenet256"])
def test_a_full_size_forward_pass(name):
    model = read_model_file(name)
    unet = fill(empty_unet(model.unet))
    arguments = {"encoder_hidden_states": torch.zeros(1, 1, 512)} if model.classes else {}
    with torch.inference_mode():
        output = unet(torch.ones(1, 3, 64, 64), torch.tensor([500.5]), **arguments).sample
    assert output.shape == (1, 3, 64, 64) and output.isfinite().all() and output.std() > 0


def test_an_outline_needs_no_weights():
    outline = load_outline("lsun_bedrooms")
    assert outline.s_min == pytest.approx((0.0015 / 0.9985) ** 0.5) and 80 < outline.s_max < 200


class Runs:
    def __reduce__(self):
        return os.system, ("touch marker",)


def test_nothing_of_a_harmful_checkpoint_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": builder.state_dict("unconditional"), "callbacks": Runs()}, "tiny.ckpt")
    with pytest.raises(S4SError, match=r"refused: it asks for posix.system.*Nothing in it was executed") as error:
        s4s.load_model(described(tmp_path, "unconditional"))
    assert not (tmp_path / "marker").exists() and len(str(error.value).splitlines()) == 1


def compressed(path):
    """The same archive, compressed."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def nothing(path):
    torch.save({"state_dict": {"epoch": 1}}, path)


def reshaped(path):
    torch.save({key: value[:1] for key, value in builder.state_dict("unconditional").items() if value.ndim}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (compressed, "it is compressed"),
        (truncated, "not a checkpoint of torch, or damaged"),
        (emptied, "not a checkpoint of torch, or damaged"),
        (nothing, "holds no tensors by name"),
        (reshaped, "does not fit `unet` and `first_stage`"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path, damage, message):
    damage(builder.write("unconditional", tmp_path / "tiny.ckpt"))
    with pytest.raises(S4SError, match=message) as error:
        s4s.load_model(described(tmp_path, "unconditional"))
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_checkpoint_says_where_to_get_it():
    with pytest.raises(S4SError, match=r"get https://ommer-lab.com/.*zip, take model.ckpt out of it and put the file there"):
        s4s.load_model("lsun_bedrooms")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance": 2.0}, "guidance other than 1 needs classes"),
        ({"classes": 4}, "one without takes none"),
        ({"unet": {**builder.TINY["unconditional"], "num_heads": 2}}, "either num_heads or num_head_channels"),
        ({"unet": {**builder.TINY["unconditional"], "num_res_blocks": 2}}, "does not fit"),
    ],
)
def test_wrong_descriptions_are_refused(tmp_path, changes, message):
    builder.write("unconditional", tmp_path / "tiny.ckpt")
    with pytest.raises(S4SError, match=message):
        s4s.load_model(described(tmp_path, "unconditional", **changes))
