"""ComfyUI's node, against stand-ins that do what its comfy/samplers.py, comfy/model_sampling.py and folder_paths.py do."""

import asyncio
import importlib
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

import s4s
from s4s import S4SError
from s4s.export.collection import restarted
from s4s.models.embedded.mixture import MixtureDenoiser
from s4s.models.paths import VPDiscrete

PATH = VPDiscrete.scaled_linear()
MODEL = MixtureDenoiser(torch.tensor([[1.0, -1.0], [-0.5, 2.0]]).double(), torch.tensor([0.4, 0.6]).double(), std=0.3)


class EPS:
    def noise_scaling(self, sigma, noise, latent, max_denoise=False):
        return noise * (torch.sqrt(1 + sigma**2) if max_denoise else sigma) + latent

    def inverse_noise_scaling(self, sigma, latent):
        return latent


class V_PREDICTION(EPS):  # noqa: N801
    pass


class EDM(V_PREDICTION):
    sigma_data = 0.5


class COSMOS_RFLOW(EPS):  # noqa: N801
    pass


class CONST:
    def noise_scaling(self, sigma, noise, latent, max_denoise=False):
        return sigma * noise + (1 - sigma) * latent

    def inverse_noise_scaling(self, sigma, latent):
        return latent / (1 - sigma)


class IMG_TO_IMG_FLOW(CONST):  # noqa: N801
    pass


class Table:
    sigma_min = property(lambda self: self.sigmas[0])
    sigma_max = property(lambda self: self.sigmas[-1])


class ModelSamplingDiscrete(Table):
    sigmas = PATH.log_s.exp().float()


class ModelSamplingDiscreteDistilled(ModelSamplingDiscrete):
    pass


class ModelSamplingContinuousEDM(Table):
    sigmas = torch.linspace(math.log(0.002), math.log(120.0), 1000).exp()


class ModelSamplingDiscreteFlow(Table):
    sigmas = torch.arange(1, 1001) / 1000


class KSAMPLER:
    """Begins and ends as ComfyUI's does, and passes what it passes."""

    def __init__(self, sampler_function, extra_options={}):  # noqa: B006
        self.sampler_function, self.extra_options = sampler_function, extra_options

    def sample(self, guider, sigmas, extra_args, callback, noise, latent, denoise_mask=None, disable_pbar=False):
        extra_args["denoise_mask"] = denoise_mask
        sampling, steps = guider.inner_model.model_sampling, len(sigmas) - 1
        most, first = float(sampling.sigma_max), float(sigmas[0])
        whole = math.isclose(most, first, rel_tol=1e-5) or first > most
        x = sampling.noise_scaling(sigmas[0], noise, latent, whole)

        def model(x, sigma, denoise_mask, model_options={}, seed=None):  # noqa: B006
            return guider(x, sigma, model_options=model_options, seed=seed)

        def k_callback(info):
            callback(info["i"], info["denoised"], info["x"], steps)

        arguments = {"extra_args": extra_args, "callback": k_callback, "disable": disable_pbar}
        return sampling.inverse_noise_scaling(
            sigmas[-1], self.sampler_function(model, x, sigmas, **arguments, **self.extra_options)
        )


def part(*names):
    """A type of inputs and outputs that keeps what it is made with."""
    return SimpleNamespace(**{name: lambda *args, **options: SimpleNamespace(args=args, **options) for name in names})


@pytest.fixture
def node(monkeypatch, tmp_path):
    """The node, loaded as ComfyUI loads it; files are looked for in tmp_path / "s4s"."""
    folders = {}
    (tmp_path / "s4s").mkdir()

    def get_filename_list(kind):
        return sorted(str(path.relative_to(folders[kind])) for path in Path(folders[kind]).rglob("*") if path.is_file())

    def get_full_path_or_raise(kind, name):
        return str(Path(folders[kind]) / name)

    io = SimpleNamespace(
        ComfyNode=object, Schema=SimpleNamespace, NodeOutput=lambda *args: SimpleNamespace(args=args),
        Model=part("Input"), Combo=part("Input"), Int=part("Input"), Sampler=part("Output"), Sigmas=part("Output"),
    )  # fmt: skip
    of_modules = {
        "folder_paths": {
            "models_dir": str(tmp_path), "add_model_folder_path": folders.__setitem__,
            "get_filename_list": get_filename_list, "get_full_path_or_raise": get_full_path_or_raise,
        },
        "comfy": {}, "comfy.samplers": {"KSAMPLER": KSAMPLER}, "comfy.model_sampling": {"CONST": CONST},
        "comfy_api": {}, "comfy_api.latest": {"ComfyExtension": object, "io": io},
    }  # fmt: skip
    for name, values in of_modules.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["comfy"].model_sampling = sys.modules["comfy.model_sampling"]
    monkeypatch.delitem(sys.modules, "s4s.export.comfyui", raising=False)
    module = importlib.import_module("s4s.export.comfyui")
    yield asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())[0]
    del sys.modules["s4s.export.comfyui"]


def patched(levels, output, **options):
    """What comes out of a MODEL socket, with the two classes that ComfyUI makes its model_sampling of."""
    sampling = type("ModelSampling", (levels, output), options)()
    return SimpleNamespace(model_sampling=sampling, get_model_object={"model_sampling": sampling}.__getitem__)


def guided(model, calls):
    """As ComfyUI's guiders: called with a state, sigma for each row and named options, it returns the denoised state."""

    def guider(x, sigma, model_options, seed):
        assert sigma.shape == x.shape[:1] and (model_options, seed) == ({"transformer_options": {}}, 7)
        calls.append(float(sigma[0]))
        flow = isinstance(model.model_sampling, CONST)
        return MODEL(x / (1 - sigma[:, None]), sigma / (1 - sigma)) if flow else MODEL(x, sigma)

    guider.inner_model = model
    return guider


def sampled(node, model, file, noise, latent, start_at_step=0):
    """What SamplerCustom makes of the node's two outputs, with the sigmas that the model was given and the callback's calls."""
    sampler, sigmas = node.execute(model, file, start_at_step).args
    calls, seen, arguments = [], [], {"model_options": {"transformer_options": {}}, "seed": 7}
    x = sampler.sample(
        guided(model, calls), sigmas, arguments, lambda *args: seen.append(args), noise, latent, disable_pbar=True
    )
    return x, calls, seen


VP = {**PATH.description(), "prediction": "epsilon"}
FLOW = {"path": "flow", "prediction": "flow"}
KINDS = {  # ComfyUI's classes, the parametrisation that a solver is made for, and its first and last level
    "noise": (ModelSamplingDiscrete, EPS, VP, PATH.log_s[-1].exp().item(), 0.05),
    "v": (ModelSamplingDiscrete, V_PREDICTION, {**VP, "prediction": "v_prediction"}, 10.0, 0.05),
    "edm": (ModelSamplingContinuousEDM, EDM, {"path": "edm", "sigma_data": 0.5, "prediction": "edm"}, 80.0, 0.002),
    "flow": (ModelSamplingDiscreteFlow, CONST, FLOW, 500.0, 1e-4),
    "cosmos": (ModelSamplingContinuousEDM, COSMOS_RFLOW, FLOW, 80.0, 0.002),
    "cosmos from above": (ModelSamplingContinuousEDM, COSMOS_RFLOW, FLOW, 999.0, 0.002),
}


def written(tmp_path, kind, **changes):
    """A solver for this kind of model in ComfyUI's folder, and its model."""
    levels, output, about, most, least = KINDS[kind]
    schedule = torch.logspace(math.log10(most), math.log10(least), 6, dtype=torch.float64)
    tableau = s4s.solver("unipc", schedule, order=3).with_meta(parametrisation=about, **changes)
    tableau.save(tmp_path / "s4s/nfe~5.json")
    return tableau, patched(levels, output)


def noise():
    return torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_ours(node, tmp_path, kind):
    """Also from Stable Diffusion's last level, where ComfyUI's own start would be 0.23 % further out."""
    tableau, model = written(tmp_path, kind)
    found, calls, seen = sampled(node, model, "nfe~5.json", noise(), torch.zeros(5, 2))
    assert torch.allclose(found, s4s.sample(MODEL, noise() * tableau.levels[0], tableau), atol=1e-4)
    s = tableau.levels[:-1]
    assert calls == pytest.approx((s / (1 + s) if kind == "flow" else s).tolist())
    assert [(i, steps) for i, _, _, steps in seen] == [(i, 5) for i in range(5)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_from_the_middle_begins_from_an_image(node, tmp_path, kind):
    tableau, model = written(tmp_path, kind)
    latent = torch.tensor([[0.3, -0.2]]).double()
    found, _, seen = sampled(node, model, "nfe~5.json", noise(), latent, 3)
    levels = tableau.levels[3:]
    expected = s4s.sample(MODEL, latent + noise() * levels[0], restarted(levels))
    assert torch.allclose(found, expected, atol=1e-5) and len(seen) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_both_halves_of_split_sigmas_run(node, tmp_path, kind):
    """SplitSigmas and two SamplerCustom: the high half leaves the noisy state, the low one begins from it without noise."""
    tableau, model = written(tmp_path, kind)
    sampler, sigmas = node.execute(model, "nfe~5.json").args
    arguments, states = {"model_options": {"transformer_options": {}}, "seed": 7}, []
    high = sampler.sample(guided(model, []), sigmas[:3], {**arguments}, lambda *_: None, noise(), torch.zeros(5, 2))
    s4s.sampling.run(lambda y, s, _: MODEL(y, s), noise() * tableau.levels[0], tableau, None, lambda n, y, _: states.append(y))
    assert torch.allclose(high, states[2], atol=1e-4 * float(tableau.levels[2]))
    low = sampler.sample(guided(model, []), sigmas[2:], {**arguments}, lambda *_: None, torch.zeros(5, 2), high)
    assert torch.allclose(low, s4s.sample(MODEL, high, restarted(tableau.levels[2:])), atol=1e-4)


def test_an_interruption_passes(node, tmp_path):
    """And the next run is whole."""
    tableau, model = written(tmp_path, "noise")
    sampler, sigmas = node.execute(model, "nfe~5.json").args
    arguments = {"model_options": {"transformer_options": {}}, "seed": 7}
    with pytest.raises(KeyboardInterrupt):
        sampler.sample(
            guided(model, []), sigmas, arguments, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt), noise(), noise()
        )
    found = sampler.sample(guided(model, []), sigmas, arguments, lambda *_: None, noise(), torch.zeros(5, 2))
    assert torch.allclose(found, s4s.sample(MODEL, noise() * tableau.levels[0], tableau), atol=1e-4)


@pytest.mark.parametrize(
    ("made_for", "model", "message"),
    [
        (
            "noise",
            (ModelSamplingDiscrete, V_PREDICTION),
            "nfe~5.json: .* prediction epsilon .* this model has prediction v_pred",
        ),
        ("flow", (ModelSamplingDiscrete, EPS), r"made for a network with path flow \(model sd3\), but .* path vp_discrete"),
        ("noise", (ModelSamplingDiscreteFlow, CONST), "with path vp_discrete .* has path flow"),
        ("noise", (ModelSamplingDiscreteDistilled, EPS), "has path ModelSamplingDiscreteDistilled with EPS"),
        ("noise", (ModelSamplingContinuousEDM, EDM), "with path vp_discrete .* has path edm"),
        ("flow", (ModelSamplingDiscreteFlow, IMG_TO_IMG_FLOW), "has path ModelSamplingDiscreteFlow with IMG_TO_IMG_FLOW"),
    ],
)
def test_another_models_solver_is_refused(node, tmp_path, made_for, model, message):
    written(tmp_path, made_for, model="sd3")
    with pytest.raises(S4SError, match=message):
        node.execute(patched(*model), "nfe~5.json")


def test_noise_of_another_size_is_refused(node, tmp_path):
    written(tmp_path, "flow")
    with pytest.raises(S4SError, match="has path ModelSamplingDiscreteFlow with CONST"):
        node.execute(patched(ModelSamplingDiscreteFlow, CONST, noise_scale=8.0), "nfe~5.json")


def test_levels_beyond_the_models_are_refused(node, tmp_path):
    s4s.solver("ddim", torch.tensor([20.0, 1.0, 0.05])).save(tmp_path / "s4s/far.json")
    message = "far.json: .* over noise levels 20 to 0.05, but this model covers 14.6146 to 0.02916.* only"
    with pytest.raises(S4SError, match=message):
        node.execute(patched(ModelSamplingDiscrete, EPS), "far.json")


@pytest.mark.parametrize(
    ("file", "start", "message"),
    [
        ("nfe~5.json", 5, "nfe~5.json has 5 steps, so start_at_step must be from 0 to 4, not 5"),
        ("none.json", 0, "none.json"),
        ("broken.json", 0, "broken.json"),
    ],
)
def test_wrong_input_is_refused(node, tmp_path, file, start, message):
    _, model = written(tmp_path, "noise")
    (tmp_path / "s4s/broken.json").write_text("{")
    with pytest.raises(S4SError, match=message):
        node.execute(model, file, start)


def test_files_are_listed_anew_and_noticed_when_they_change(node, tmp_path):
    def listed():
        return node.define_schema().inputs[1].options

    assert listed() == []
    written(tmp_path, "noise")
    (tmp_path / "s4s/notes.txt").write_text("not a solver")
    assert listed() == ["nfe~5.json"]
    before = node.fingerprint_inputs(tableau="nfe~5.json", model=None, start_at_step=0)
    assert node.fingerprint_inputs(tableau="nfe~5.json", model=None, start_at_step=0) == before
    written(tmp_path, "v")
    assert node.fingerprint_inputs(tableau="nfe~5.json", model=None, start_at_step=0) != before
