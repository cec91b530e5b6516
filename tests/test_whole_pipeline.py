"""`kind: pipeline` of model files: held against denoisers put together by hand, and what is refused."""

from contextlib import nullcontext

import pytest
import torch
import yaml
from safetensors.torch import save_file

import s4s
from s4s import S4SError
from s4s.files.checksum import file_digest
from s4s.learning.settings import FitSettings
from s4s.learning.teacher import make_pairs
from s4s.models.load import load_outline
from s4s.models.pipelines.prompts import prompt_numbers
from s4s.models.seeds import sample_seeds
from tests.builders import by_hand as reference
from tests.builders import pipelines as builder
from tests.builders import single_files
from tests.builders.chosen import often

KINDS = ("stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "pixart_sigma")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {kind: builder.write(kind, folder / kind / "folder") for kind in KINDS}


def described(tmp_path, values, **changes):
    path = tmp_path / "whole.yaml"
    path.write_text(yaml.safe_dump({**values, **changes}))
    return path


def close(a, b, tolerance=1e-4):
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return (a - b).abs().max() <= tolerance * b.abs().max()


def images_of(model, pairs):
    """None of Stable Diffusion 3, whose pipeline wants a shift that the tiny autoencoder has not."""
    return None if model.parametrisation["path"] == "flow" else model.decode(torch.as_tensor(pairs.val.y_0[:2]))


@pytest.mark.parametrize("kind", often(KINDS, KINDS[0]))
def test_a_pipeline_teaches_what_its_network_teaches(tmp_path, written, kind):
    """The same pairs, and coefficients to 1e-4."""
    path = described(tmp_path, written[kind])
    whole, outline = s4s.load_model(path), load_outline(path)
    by_hand = reference.denoiser(whole.pipe, builder.CAPTIONS, guidance=7.5)
    by_hand.conditioning.of_seeds = whole.prompts.of_seeds
    found = []
    for model in (by_hand, whole):
        assert (model.s_min, model.s_max, model.parametrisation) == (outline.s_min, outline.s_max, outline.parametrisation)
        assert (model.guidance, model.passes, model.shape) == (7.5, 2, whole.shape)
        teacher = s4s.solver("unipc", s4s.levels("logsnr", 5, model), order=3)
        pairs = s4s.TeacherPairs(*(make_pairs(model, teacher, sample_seeds(split, 4)) for split in ("train", "val")))
        levels = s4s.levels("logsnr", 3, model)
        settings = FitSettings(distance="l2", derivatives="forward", iterations=2, batch=4, validate_every=1)
        fit = s4s.fit(model, pairs, "lms", levels, driver="joint", settings=settings)
        found.append((pairs, fit.tableau, images_of(model, pairs)))
    (pairs, tableau, images), (others, other, shown) = found
    for split in ("train", "val"):
        a, b = getattr(pairs, split), getattr(others, split)
        assert (a.y_T == b.y_T).all() and close(a.y_0, b.y_0)
    for a, b in zip(tableau.reduced(), other.reduced(), strict=True):
        assert close(a, b)
    assert close(tableau.levels, other.levels)
    assert images is None or (images - shown).abs().max() < 1e-3


def test_prompts_of_tests_are_not_those_of_a_fit(tmp_path, written):
    model = s4s.load_model(described(tmp_path, written["stable_diffusion"]))
    for split in ("train", "val", "test"):
        seeds = sample_seeds(split, 5)
        assert model.conditions(seeds).tolist() == prompt_numbers(seeds, 40).tolist()
    with pytest.raises(S4SError, match="40 prompts are too few for 31 samples of test"):
        model.conditions(sample_seeds("test", 31))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"call": {"guidence": 2}},
            "model stable_diffusion: call: a StableDiffusionPipeline takes no guidence; it takes .*height",
        ),
        ({"call": {"generator": 2}}, "call: generator cannot be given with a pipeline: noise comes from the seeds"),
        ({"call": {"num_inference_steps": 2}}, "call: num_inference_steps cannot be given"),
        ({"call": {"output_type": "pil"}}, "call: output_type cannot be given"),
        ({"call": {"prompt": "a cat"}}, "call: prompt cannot be given: prompts come from `prompts`"),
        ({"call": {"callback_on_step_end": "x"}}, "call: callback_on_step_end cannot be given"),
        ({"call": {"height": {"a": 1}}}, "call.height"),
        ({"path": "absent"}, "absent: no such folder or file; put it there"),
        ({"path": "absent", "repository": "owner/name"}, "absent: no such folder or file; hf download owner/name --local-dir"),
        ({"repository": "owner/name", "config": "x"}, "config belongs to a single file"),
        ({"precision": "int8"}, "precision"),
        ({"url": "https://x/y"}, "url and sha256 belong to a single file, which needs config"),
        ({"path": "absent", "config": ".", "url": "https://x/y.ckpt"}, "get https://x/y.ckpt and put it there"),
    ],
)
def test_wrong_descriptions_are_refused_before_weights_are_read(tmp_path, written, monkeypatch, changes, message):
    monkeypatch.setattr("s4s.models.pipelines.whole_pipeline.load_pipeline", None)
    path = described(tmp_path, written["stable_diffusion"], **changes)
    with pytest.raises(S4SError, match=message) as error:
        s4s.load_model(path)
    assert "\n" not in str(error.value).strip() or "call.height" in message


def test_a_range_and_a_block_of_ones_own(tmp_path, written):
    values = written["stable_diffusion"]
    path = described(tmp_path, values, s_min=0.1, s_max=9.0, block=3, precision="bfloat16")
    model, outline = s4s.load_model(path), load_outline(path)
    assert (model.s_min, model.s_max, model.rows, model.weights) == (0.1, 9.0, 3, torch.bfloat16)
    assert (outline.s_min, outline.s_max) == (0.1, 9.0)


def test_a_single_file_is_a_model_too(tmp_path):
    _, state = single_files.single_file("sd2", tmp_path / "folder")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "sd.safetensors")
    (tmp_path / "captions.txt").write_text("\n".join(builder.CAPTIONS))
    values = {"name": "one", "kind": "pipeline", "path": "sd.safetensors", "prompts": {"path": "captions.txt"}}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(S4SError, match="a single file holds weights alone"):
        s4s.load_model(tmp_path / "one.yaml")
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({**values, "config": "folder"}))
    for digest, refused in (("0" * 64, True), (file_digest(tmp_path / "sd.safetensors"), False)):
        (tmp_path / "one.yaml").write_text(yaml.safe_dump({**values, "config": "folder", "sha256": digest}))
        with pytest.raises(S4SError, match="wrong sha256") if refused else nullcontext():
            s4s.load_model(tmp_path / "one.yaml")
    model, outline = s4s.load_model(tmp_path / "one.yaml"), load_outline(tmp_path / "one.yaml")
    assert model.parametrisation["prediction"] == "v_prediction" and outline.parametrisation == model.parametrisation
