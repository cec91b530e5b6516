"""The tableau's file for other programs: its JSON Schema, and the reference sampler in docs/pipelines.md."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

import s4s
from s4s.export.schema import schema
from s4s.models.embedded.mixture import MixtureDenoiser

DOCS = Path(__file__).parents[1] / "docs"
LEVELS = torch.tensor([20.0, 6.0, 2.0, 0.7, 0.05], dtype=torch.float64)


def mixture():
    means = torch.tensor([[1.0, -1.0], [-0.5, 2.0]], dtype=torch.float64)
    return MixtureDenoiser(means, torch.tensor([0.4, 0.6], dtype=torch.float64), std=0.3)


def other_conditioning():
    tableau = s4s.solver("unipc", LEVELS, order=3)
    factors = torch.tensor([0.9, 1.1, 1.0, 0.95], dtype=torch.float64)
    return replace(tableau, eval_levels=tableau.eval_levels * factors, kappa=0.8)


TABLEAUX = {
    "ddim": lambda: s4s.solver("ddim", LEVELS),
    "heun": lambda: s4s.solver("heun", LEVELS),
    "to zero": lambda: s4s.solver("dpmpp", torch.cat([LEVELS, LEVELS.new_zeros(1)]), order=3),
    "other conditioning": other_conditioning,
}


@pytest.fixture(scope="module")
def sample():
    """The function in the documentation."""
    names = {}
    exec(re.search(r"```python\n(import json\n.*?)```", (DOCS / "pipelines.md").read_text(), re.DOTALL)[1], names)
    return names["sample"], names["denoiser_of_noise_prediction"]


@pytest.mark.parametrize("make", TABLEAUX.values(), ids=TABLEAUX)
def test_the_documented_sampler_is_ours(tmp_path, sample, make):
    tableau, model = make(), mixture()
    tableau.save(tmp_path / "tableau.json")
    noise = torch.randn(7, *model.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def denoiser(y, s):
        return model(torch.from_numpy(y), s).numpy()

    expected = s4s.sampling.run(model, noise * tableau.levels[0], tableau).numpy()
    assert np.allclose(sample[0](tmp_path / "tableau.json", denoiser, noise.numpy()), expected, rtol=1e-10, atol=1e-12)
    network = sample[1](lambda x, t: (x * np.sqrt(1 + t**2) - denoiser(x * np.sqrt(1 + t**2), t)) / t, lambda s: s)
    assert np.allclose(sample[0](tmp_path / "tableau.json", network, noise.numpy()), expected, rtol=1e-8, atol=1e-10)


def test_the_schema_in_the_documentation_is_current():
    assert (DOCS / "tableau.schema.json").read_text() == schema(), "run python -m s4s.export.schema > docs/tableau.schema.json"


@pytest.mark.parametrize("make", TABLEAUX.values(), ids=TABLEAUX)
def test_the_schema_takes_what_we_write(make):
    jsonschema.validate(make().as_json(), json.loads(schema()))


@pytest.mark.parametrize(
    "change", [{"format": "other"}, {"nfe": 0}, {"kappa": -1.0}, {"levels": [1.0]}, {"extra": 1}, {"A": [["x"]]}]
)
def test_the_schema_and_the_reader_refuse_the_same(tmp_path, change):
    values = {**TABLEAUX["ddim"]().as_json(), **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, json.loads(schema()))
    (tmp_path / "tableau.json").write_text(json.dumps(values))
    with pytest.raises(s4s.S4SError):
        s4s.Tableau.load(tmp_path / "tableau.json")
