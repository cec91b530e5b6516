"""A dozen of the pipelines of benchmarks/pipeline_matrix.py, which tries all of them and fits each."""

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.builders.tiny_pipelines import PIPELINES

FILE = Path(__file__).parents[1] / "benchmarks/pipeline_matrix.py"
DOZEN = [
    "flux", "chroma", "qwen_image", "z_image", "sana", "lumina2", "stable_diffusion_xl", "wan_two_transformers", "ltx",
    "cogvideox", "svd", "stable_diffusion_controlnet", "lora_stable_diffusion",
]  # fmt: skip


@pytest.fixture(scope="module")
def matrix():
    spec = importlib.util.spec_from_file_location("pipeline_matrix", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["pipeline_matrix"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", DOZEN)
def test_a_pipeline_is_the_denoiser_that_it_is(matrix, name):
    found = matrix.examine(name, PIPELINES[name], fit=False)
    assert not found.refused and not found.failed
    assert found.agrees and found.dtype == "float32"
    assert found.reverse and found.forward


def test_a_refusal_is_no_failure(matrix):
    found = matrix.examine("refused_cache", PIPELINES["refused_cache"])
    assert "disable_cache" in found.refused and not found.failed and not found.fits
    assert "disable_cache" in matrix.table([found])
