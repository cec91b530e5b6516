"""Our samplers inside the programs themselves: k-diffusion from its wheel, ComfyUI from the checkout that COMFYUI names.

    COMFYUI=/path/to/ComfyUI python -m pytest -m nightly tests/test_real_programs.py -s

Each test prints its difference from `s4s.sample`, relative to the largest value of a sample.
"""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import s4s
from s4s import S4SError
from s4s.cli import app
from s4s.export import sample_s4s, sigmas_of
from s4s.export.collection import restarted
from s4s.models.edm.denoiser import EDMDenoiser, EDMPreconditioning
from s4s.models.paths import FlowMatching, VPDiscrete
from s4s.models.predicting import PredictingDenoiser
from s4s.models.provenance import made_for
from tests.builders.small_network import SmallNetwork
from tests.test_k_diffusion import TABLEAUX

pytestmark = pytest.mark.nightly
runner = CliRunner()

K_DIFFUSION = [
    "k-diffusion==0.1.1.post1", "torchsde==0.2.6", "torchdiffeq==0.2.5", "trampoline==0.1.2", "dctorch==0.1.2", "einops==0.8.1"
]  # fmt: skip
SHAPE = (4, 8, 8)
VP = VPDiscrete.scaled_linear()
LEVELS = VP.s_of_t(torch.tensor([999.0, 800.0, 500.0, 200.0, 5.0]))


class Network(SmallNetwork):
    """As CompVis's models present it."""

    alphas_cumprod = (1 / (1 + (2 * VP.log_s).exp())).float()

    def apply_model(self, x, t, cond=None):
        return self(x, t)


def ours(prediction):
    about = {"name": "small", "shape": SHAPE}
    if prediction == "edm":
        return EDMDenoiser(Network(), EDMPreconditioning(0.5), s_min=0.002, s_max=120.0, **about)
    about["device"] = torch.device("cpu")
    if prediction in ("epsilon", "v_prediction"):
        return PredictingDenoiser(Network(), VP, prediction, s_min=0.03, s_max=float(LEVELS[0]), **about)
    times = 1000 if prediction == "flow" else 1
    return PredictingDenoiser(Network(), FlowMatching(), "flow", times=times, s_min=1e-4, s_max=999.0, **about)


def difference(found, expected):
    """Also printed."""
    value = float((found - expected).abs().max() / expected.abs().max())
    print(f"{value:.1e}", end=" ")
    return value


@pytest.fixture(scope="module")
def k_diffusion(tmp_path_factory):
    """The modules of k-diffusion that sample; its package alone would import far more."""
    folder = str(tmp_path_factory.mktemp("packages"))
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", folder, *K_DIFFUSION]
    if (done := subprocess.run(install, capture_output=True, text=True)).returncode:
        pytest.skip(f"k-diffusion cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    package = ModuleType("k_diffusion")
    package.__path__ = [f"{folder}/k_diffusion"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setitem(sys.modules, "k_diffusion", package)
        for name in ("external", "sampling", "layers"):
            setattr(package, name, importlib.import_module(f"k_diffusion.{name}"))
        yield package
        for name in [name for name in sys.modules if name.startswith("k_diffusion.")]:
            del sys.modules[name]


def wrapped(k_diffusion, prediction):
    """k-diffusion's wrapper of the same network, and what it is called with."""
    if prediction == "edm":  # whose network is given sigma itself
        inner = torch.nn.Module()
        network = Network()
        inner.forward = lambda x, sigma: network(x, sigma.log() / 4)
        return k_diffusion.layers.Denoiser(inner, sigma_data=0.5), {}
    kind = {"epsilon": "CompVisDenoiser", "v_prediction": "CompVisVDenoiser"}[prediction]
    return getattr(k_diffusion.external, kind)(Network()), {} if prediction == "epsilon" else {"cond": None}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "edm"])
@pytest.mark.parametrize("make", TABLEAUX.values(), ids=TABLEAUX)
@torch.no_grad()
def test_k_diffusion_gives_what_sample_gives(k_diffusion, prediction, make):
    denoiser, (model, arguments) = ours(prediction), wrapped(k_diffusion, prediction)
    tableau = make(LEVELS).with_meta(**made_for(denoiser))
    y_T = s4s.initial_noise(denoiser, range(4))
    found = sample_s4s(model, y_T, sigmas_of(tableau), arguments, tableau=tableau, disable=True)
    assert difference(found, s4s.sample(denoiser, y_T, tableau)) < 1e-5


@pytest.mark.parametrize(
    ("theirs", "solver", "options"),
    [
        ("sample_euler", "ddim", {}),
        ("sample_heun", "heun", {}),
        ("sample_dpmpp_2m", "dpmpp", {"order": 2}),
        ("sample_lms", "ipndm_v", {"order": 4}),
    ],
)
@torch.no_grad()
def test_k_diffusions_own_samplers_are_our_classical_solvers(k_diffusion, theirs, solver, options):
    model, _ = wrapped(k_diffusion, "epsilon")
    x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0)) * LEVELS[0].float()
    tableau = s4s.solver(solver, LEVELS, **options)
    found = sample_s4s(model, x, sigmas_of(tableau), tableau=tableau, disable=True)
    sigmas = LEVELS[:: 2 if solver == "heun" else 1].float()  # it makes two evaluations a step
    assert difference(found, getattr(k_diffusion.sampling, theirs)(model, x, sigmas, disable=True)) < 1e-5


@pytest.mark.parametrize(
    ("made", "model", "message"),
    [
        (
            "epsilon",
            "v_prediction",
            "made for a network with prediction epsilon .*small.* this model has prediction v_pred",
        ),
        ("v_prediction", "epsilon", "prediction v_prediction .* prediction epsilon"),
        ("edm", "epsilon", "path edm .* path vp_discrete"),
        ("epsilon", "edm", "path vp_discrete .* path edm"),
    ],
)
def test_k_diffusion_refuses_a_solver_of_another_network(k_diffusion, made, model, message):
    tableau = s4s.solver("ddim", LEVELS).with_meta(**made_for(ours(made)))
    guided = torch.nn.Module()
    guided.inner_model = wrapped(k_diffusion, model)[0]
    with pytest.raises(S4SError, match=message):
        sample_s4s(guided, torch.zeros(1, *SHAPE), sigmas_of(tableau), tableau=tableau)
    far = s4s.solver("ddim", LEVELS * torch.tensor([2.0, 1, 1, 1, 1]))
    if model != "edm":
        with pytest.raises(S4SError, match=r"noise levels 29.2\d* to 0.0\d*, but this model covers 14.6\d* to 0.029\d* only"):
            sample_s4s(guided, torch.zeros(1, *SHAPE), sigmas_of(far), tableau=far)


COMFYUI = {  # our names and its ModelType's; the last two tell the network t itself
    "epsilon": "EPS", "v_prediction": "V_PREDICTION", "edm": "EDM", "flow": "FLOW", "flux": "FLUX", "cosmos": "FLOW_COSMOS"
}  # fmt: skip
ABOVE = torch.cat([torch.tensor([500.0]), LEVELS[1:]])  # where ComfyUI's own schedules for Cosmos do not reach


def comfyui_cases():
    """By name: what the model predicts, a solver made for it, and start_at_step.

    ComfyUI tells a network with a table of times whole ones, so solvers for these have them, but for one.
    """
    for prediction in COMFYUI:
        for name, make in TABLEAUX.items():
            tableau = make(ABOVE if prediction == "cosmos" else LEVELS).with_meta(**made_for(ours(prediction)))
            if prediction in ("epsilon", "v_prediction"):
                if name == "other conditioning":
                    yield f"{prediction} {name}, at times between", (prediction, tableau, 0)
                tableau = replace(tableau, eval_levels=VP.s_of_t(VP.t_of_s(tableau.eval_levels).round()))
            yield f"{prediction} {name}", (prediction, tableau, 0)
            if name == "dpmpp":
                yield f"{prediction} from the middle", (prediction, tableau, 2)


@pytest.fixture(scope="module")
def in_comfyui(tmp_path_factory):
    """Its samples and their unit noise, by case, and what it printed."""
    if "COMFYUI" not in os.environ:
        pytest.skip("COMFYUI does not name a checkout of ComfyUI")
    folder, cases = tmp_path_factory.mktemp("comfyui"), {}
    for name in ("custom_nodes", "models"):
        (folder / name).mkdir()
    for number, (name, (prediction, tableau, start)) in enumerate(comfyui_cases()):
        file, token = tmp_path_factory.mktemp("tableaux") / f"nfe~{tableau.nfe}.json", f"solver{number}"
        tableau.with_meta(token=token).save(file)
        assert runner.invoke(app, ["export", "comfyui", str(file), "--out", str(folder)]).exit_code == 0
        cases[name] = (COMFYUI[prediction], f"small/{token}/{file.name}", start)
        if name == "epsilon dpmpp":
            cases["of another network"] = ("FLOW", *cases[name][1:])
    (folder / "cases.json").write_text(json.dumps(cases))
    noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    save_file({"noise": noise}, folder / "noise.safetensors")
    program = [os.environ.get("COMFYUI_PYTHON", sys.executable), str(Path(__file__).parent / "comfyui_program.py")]
    done = subprocess.run([*program, os.environ["COMFYUI"], str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return load_file(folder / "found.safetensors"), noise, done.stdout


@pytest.mark.parametrize("case", dict(comfyui_cases()))
def test_comfyui_gives_what_sample_gives(in_comfyui, case):
    found, noise, _ = in_comfyui
    prediction, tableau, start = dict(comfyui_cases())[case]
    if start:
        tableau = restarted(tableau.levels[start:])
    y = noise * tableau.levels[0].float() + (0.1 if start else 0.0)
    expected = s4s.sample(ours(prediction), y, tableau)
    rounded = {"cosmos heun": 2e-4}  # ComfyUI takes 1 - t in float32, here 1/501, and this solver's weights are large
    assert difference(found[case], expected) < (1e-3 if case.endswith("between") else rounded.get(case, 1e-5))


def test_comfyui_refuses_a_solver_of_another_network(in_comfyui):
    printed = in_comfyui[2].splitlines()
    assert [line for line in printed if line.startswith("refused")] == printed[-1:]
    assert "was made for a network with path vp_discrete (model small), but this model has path flow" in printed[-1]
