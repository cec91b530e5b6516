"""s4s fit of a pipeline: what reaches `fit_pipeline`, ranges of numbers, options of the other form."""

import pytest
from typer.testing import CliRunner

from s4s import S4SError
from s4s.cli import app
from s4s.cli.fit_pipeline import is_pipeline, numbers, size
from tests.builders import pipelines as builder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit") / "folder"
    builder.write("stable_diffusion", folder)
    return folder


@pytest.fixture
def asked(monkeypatch):
    """What `fit_pipeline` was called with."""
    from s4s.export import pipeline_fit

    calls = []
    monkeypatch.setattr(pipeline_fit, "fit_pipeline", lambda pipe, **given: calls.append((pipe, given)))
    return calls


def run(*arguments):
    return CliRunner().invoke(app, ["fit", *map(str, arguments)])


def test_a_folder_is_loaded_and_fitted_as_it_will_be_called(pipeline, asked, tmp_path):
    options = ["--guidance", 3.5, "--size", "16x24", "--dtype", "bfloat16", "--device", "cpu", "--budget", "5min", "--train", 9]
    captions = pipeline.parent / "captions.txt"
    result = run(pipeline, "--nfe", "4-6", "--nfe", "8,9", "--prompts", captions, *options, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    ((pipe, given),) = asked
    assert type(pipe).__name__ == "StableDiffusionPipeline" and str(pipe.unet.dtype) == "torch.bfloat16"
    assert given == {
        "nfe": [4, 5, 6, 8, 9], "prompts": builder.CAPTIONS, "pairs": 9, "budget": "5min", "out": tmp_path / "out",
        "guidance_scale": 3.5, "height": 16, "width": 24,
    }  # fmt: skip
    captions.write_text("\n".join([*builder.CAPTIONS, "one more"]))
    assert run(pipeline, "--nfe", 4, "--prompts", captions, "--out", tmp_path / "out").exit_code == 0
    assert len(asked[1][1]["prompts"]) == 41 and "guidance_scale" not in asked[1][1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("FOLDER", "--solver", "joint"),
            "--solver belongs to a model of config/models; a pipeline .* takes --prompts, --guid",
        ),
        (("FOLDER", "--pairs", "x"), "--pairs belongs to a model"),
        (("FOLDER", "--config", "x"), "--config belongs to a model"),
        (("digits", "--guidance", "2"), "--guidance belongs to a pipeline .*; a model of config/models takes --solver"),
        (("digits", "--config-folder", "2"), "--config-folder belongs to a pipeline"),
        (("digits", "--dtype", "float32"), "--dtype belongs to a pipeline"),
        (("FOLDER", "--size", "big"), "--size big: must be one number of pixels"),
        (("FOLDER", "--prompts", "absent.txt"), "--prompts absent.txt: no such file"),
        (("FOLDER", "--dtype", "int4"), "dtype must be one of"),
        (("FOLDER", "--device", "gpu"), "gpu"),
        (("absent/folder",), "absent/folder: neither a folder nor in the local cache"),
        (("absent.safetensors",), "absent.safetensors: no such folder or file"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(pipeline, asked, tmp_path, arguments, message):
    result = run(*(pipeline if word == "FOLDER" else word for word in arguments), "--nfe", 4, "--out", tmp_path / "out")
    assert isinstance(result.exception, S4SError), result.output
    assert result.exception.args and len(str(result.exception).splitlines()) == 1 and not asked
    with pytest.raises(S4SError, match=message):
        raise result.exception


@pytest.mark.parametrize(
    ("given", "found"),
    [(["5"], [5]), (["4-8"], [4, 5, 6, 7, 8]), (["4", "6"], [4, 6]), (["6,4", "4-5"], [4, 5, 6]), ([" 3 , 7-7"], [3, 7])],
)
def test_numbers_of_evaluations(given, found):
    assert numbers(given) == found


@pytest.mark.parametrize("text", ["", "0", "8-4", "4-", "-4", "x", "4--8", "1.5", "2000", "4-99999", "٤"])
def test_wrong_numbers_of_evaluations_are_named(text):
    with pytest.raises(S4SError, match=r"--nfe .*: must be a number from 1 to 1000, a range such as 4-8"):
        numbers([text])


def test_sizes():
    assert size("512") == {"height": 512, "width": 512} and size("512x768") == {"height": 512, "width": 768}
    for text in ("", "0", "x", "512x", "5 12", "-3"):
        with pytest.raises(S4SError, match="--size"):
            size(text)


def test_what_is_a_pipeline(pipeline):
    assert all(map(is_pipeline, [str(pipeline), "x.safetensors", "x.ckpt", "owner/name", "./folder"]))
    assert not any(map(is_pipeline, ["digits", "config/models/digits.yaml", "mine.yml"]))


def test_help_says_both_forms():
    shown = CliRunner().invoke(app, ["fit", "--help"], env={"COLUMNS": "200"}).output
    assert "Options of pipelines" in shown and "s4s fit my-pipeline/" in shown and "s4s fit digits --nfe 5" in shown
