"""`kind: pipeline` of model files: held against the adapters, through the workflow, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

import s4s
from s4s import S4SError
from s4s.learning.teacher import make_pairs
from s4s.models.load import load_outline
from s4s.models.pipelines.prompts import prompt_numbers
from s4s.models.seeds import sample_seeds
from s4s.study.study import Study
from tests.builders import pipelines as builder
from tests.builders import studies

CALLS = {
    "stable_diffusion": {},
    "stable_diffusion_xl": {},
    "stable_diffusion_3": {},
    "pixart_sigma": {"use_resolution_binning": False, "clean_caption": False},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {kind: builder.write(kind, folder / kind / "folder") for kind in CALLS}


def both(tmp_path, values, kind, **changes):
    """The YAML files of the adapter and of the whole pipeline."""
    own = {**values, "kind": "pipeline", "call": {"guidance_scale": values["guidance"], **CALLS[kind]}, **changes}
    del own["guidance"]
    for name, content in (("adapter", values), ("whole", own)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "adapter.yaml", tmp_path / "whole.yaml"


def close(a, b, tolerance=1e-4):
    return (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize("kind", CALLS)
def test_a_pipeline_teaches_what_its_adapter_teaches(tmp_path, written, kind):
    adapter, whole = both(tmp_path, written[kind], kind)
    one, other = load_outline(adapter), load_outline(whole)
    assert (one.s_min, one.s_max, one.parametrisation) == (other.s_min, other.s_max, other.parametrisation)
    found = []
    for path in (adapter, whole):
        model = s4s.load_model(path)
        assert (model.guidance, model.passes, model.block) == (7.5, 2, 64 if path == adapter else 8)
        teacher = s4s.solver("unipc", s4s.levels("logsnr", 8, model), order=3)
        pairs = s4s.TeacherPairs(*(make_pairs(model, teacher, sample_seeds(split, 4)) for split in ("train", "val")))
        levels = s4s.levels("logsnr", 3, model)
        fit = s4s.fit(model, pairs, "joint", levels, iterations=2, phase=1, validate_every=1)
        found.append((pairs, fit.tableau, model.decode(pairs.val.y_0[:2])))
    (pairs, tableau, images), (others, other, shown) = found
    for split in ("train", "val"):
        a, b = getattr(pairs, split), getattr(others, split)
        assert torch.equal(a.y_T, b.y_T) and close(a.y_0, b.y_0)
    for a, b in zip(tableau.reduced(), other.reduced(), strict=True):
        assert close(a, b)
    assert close(tableau.levels, other.levels) and (images - shown).abs().max() < 1e-3
