"""Small files of DyWeight and EPD in their true formats, networks to run them on, and what the readers say of them."""

from __future__ import annotations

import sys
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from s4s.models.load import Outline, load_outline
from s4s.models.paths import FlowMatching, VPDiscrete
from tests.builders.edm import Persistent, dump

SD, LSUN = VPDiscrete.scaled_linear(), VPDiscrete.scaled_linear(0.0015, 0.0195)
MODELS = {
    "cifar10": load_outline("cifar10"),
    "ms_coco": Outline("sd15", *SD.ends, SD, {**SD.description(), "prediction": "epsilon"}),
    "lsun_bedroom_ldm": Outline("lsun_bedrooms", *LSUN.ends, LSUN, {**LSUN.description(), "prediction": "epsilon"}),
    "flow": Outline("flux", 0.002, 999.0, FlowMatching(), {"path": "flow", "prediction": "flow"}),
}
NOISE = torch.tensor([[-1.3, 0.4], [0.7, -0.2]], dtype=torch.float64)  # unit noise, [2, 2]


def pixel_denoiser(y: Tensor, s: Tensor) -> Tensor:
    """A smooth D(y; s)."""
    return y / (1 + s**2) + torch.sin(y / (1 + s**2).sqrt() + s.log() / 2)


def noise(x: Tensor, k: Tensor) -> Tensor:
    """A smooth estimate of the noise in a state x at the time k of a table."""
    return 0.8 * x + torch.sin(1.3 * x + k / 300) / 2


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """A smooth velocity of rectified flow."""
    return 0.6 * x + torch.sin(1.1 * x + 2 * t)


def denoiser_of(model: Outline):
    """D(y; s) of these networks, as PredictingDenoiser makes it."""

    def denoised(y, s, condition=None):
        s = torch.as_tensor(s, dtype=torch.float64)
        x, t = model.path.from_ys(y, s)
        if not isinstance(model.path, VPDiscrete | FlowMatching):
            return pixel_denoiser(y, s)
        return x - t * velocity(x, t) if isinstance(model.path, FlowMatching) else y - s * noise(x, t)

    return denoised


def dyweight_case(dataset: str, count: int, seed: int, afs: bool, window: int = 3, t_scale: bool = True, **more) -> dict:
    """A solver of DyWeight near what the published ones are, its parameters rounded."""
    rng = np.random.default_rng(seed)
    weights = np.eye(count - 1) * 1.5 - np.eye(count - 1, k=-1) * 0.5 + rng.uniform(-0.1, 0.1, (count - 1, count - 1))
    weights[0, 0] -= 0.5
    factors = rng.uniform(0.9, 1.05, count - 1 - afs).round(3).tolist() if t_scale else None
    loss = {"schedule_type": "polynomial", "schedule_rho": 7.0, **more}
    return {
        "dataset": dataset, "num_steps": count, "afs": afs, "max_history_steps": window, "loss": loss,
        "weights": weights.round(3).tolist(), "t_scale": factors,
    }  # fmt: skip


def epd_case(dataset: str, count: int, seed: int, afs: bool, points: int = 2, **more) -> dict:
    """A solver of EPD, its parameters rounded."""
    rng = np.random.default_rng(seed)
    names = ("r_params", "scale_dir_params", "scale_time_params", "weight_s")
    parameters = {name: rng.normal(size=(count - 1, points)).round(3).tolist() for name in names}
    kwargs = {
        "num_points": points, "dataset_name": dataset, "num_steps": count, "sampler_tea": "heun", "sampler_stu": "epd",
        "M": 3, "guidance_type": None, "guidance_rate": 0.0, "schedule_type": "time_uniform", "schedule_rho": 1.0,
        "afs": afs, "scale_dir": 0.05, "scale_time": 0.2, "max_order": 3, "fcn": False, **more,
    }  # fmt: skip
    return {"kwargs": kwargs, "parameters": parameters}


CFG = {"guidance_type": "cfg", "guidance_rate": 7.5}
DISCRETE = {"schedule_type": "discrete", "schedule_rho": 1.0}
FLOW = {**CFG, "schedule_type": "flowmatch", "scale_dir": 0.0, "scale_time": 0.0}
DYWEIGHT = {
    "pixels": dyweight_case("cifar10", 6, 1, False),
    "pixels-afs": dyweight_case("cifar10", 5, 2, True),
    "pixels-uniform": dyweight_case("cifar10", 5, 3, True, 2, False, schedule_type="time_uniform", schedule_rho=1.0),
    "pixels-logsnr": dyweight_case("cifar10", 4, 4, False, schedule_type="logsnr"),
    "sd": dyweight_case("ms_coco", 7, 5, False, 2, **DISCRETE),
    "sd-polynomial": dyweight_case("ms_coco", 6, 6, False),
    "latents-afs": dyweight_case("lsun_bedroom_ldm", 6, 7, True, **DISCRETE),
}
FLUX = {"flux": [1.0, 0.973, 1.012, 0.981], "flux-below": [0.96, 1.02, 0.99]}  # t_scale
EPD = {
    "pixels": epd_case("cifar10", 4, 1, False),
    "pixels-afs": epd_case("cifar10", 4, 2, True),
    "pixels-3-fcn": epd_case("cifar10", 3, 3, True, 3, fcn=True, schedule_type="polynomial", schedule_rho=7.0),
    "pixels-ipndm": epd_case("cifar10", 6, 4, True, sampler_stu="ipndm"),
    "pixels-ipndm-4": epd_case("cifar10", 6, 5, False, sampler_stu="ipndm", max_order=4, scale_time=0.0),
    "latents-afs": epd_case("lsun_bedroom_ldm", 4, 6, True, guidance_type="uncond", guidance_rate=1.0, scale_dir=0.0),
    "sd": epd_case("ms_coco", 5, 7, False, **CFG, **DISCRETE),
    "sd3": epd_case("ms_coco", 5, 8, False, **FLOW, backend="sd3", backend_config={"resolution": 512}),
    "flux": epd_case("ms_coco", 4, 9, False, **FLOW, backend="flux", backend_config={"resolution": 1024, "flowmatch_mu": 1.15}),
}  # fmt: skip


def flux_weights(factors: list[float]) -> list[list[float]]:
    """Weights of a window of 2 for so many steps."""
    weights = np.eye(len(factors)) * 0.95 + np.diag(0.02 * np.arange(1.0, len(factors)) - 0.1, -1)
    return weights.round(3).tolist()


def write_dyweight(case: dict, path: Path, loss: dict | None = None, **changes) -> Path:
    """network-snapshot-000010.pkl of DyWeight; `changes` are of what the predictor says, `loss` of what its loss does."""
    count, weights = case["num_steps"], torch.tensor(case["weights"])
    factors = None if case["t_scale"] is None else parameter(torch.tensor(case["t_scale"]))
    parameters = {"hybrid_weights": parameter(weights), "t_scale": factors}
    mask = torch.ones(count - 1, count - 1).tril().triu(1 - case["max_history_steps"])
    arguments = {"num_steps": count, "afs": case["afs"], "guidance_rate": 7.5 if case["dataset"] == "ms_coco" else 0.0}
    predictor = {**state(parameters, {"mask": mask}), **arguments, "_init_kwargs": arguments, **changes}
    of_loss = {**case["loss"], "dataset_name": case["dataset"], "t_steps": None, **(loss or {})}
    with samplers("dyweight_sampler", "heun_sampler") as (student, teacher):
        objects = {"predictor": ("DyWeight_predictor", predictor)}
        objects["loss_fn"] = ("DyWeight_loss", {**of_loss, "solver_stu": student, "solver_tea": teacher})
        return dump({key: Persistent(*value) for key, value in objects.items()}, path)


def write_epd(case: dict, path: Path, **changes) -> Path:
    """network-snapshot-000010.pkl of EPD; `changes` are of what the predictor says."""
    parameters = {name: parameter(torch.tensor(values)) for name, values in case["parameters"].items()}
    predictor = {**state(parameters), **case["kwargs"], "_init_kwargs": case["kwargs"]}
    predictor["_modules"] = OrderedDict(sigmoid=torch.nn.Sigmoid(), softmax=torch.nn.Softmax(dim=-1))
    return dump({"model": Persistent("EPD_predictor", {**predictor, **changes})}, path)


def write_flux(factors: list[float], path: Path, **changes) -> Path:
    """dyweight_nfe*.pt of DyWeight."""
    raw = {"dyweight_weights_raw": torch.tensor(flux_weights(factors)), "dyweight_t_scales": torch.tensor(factors)}
    torch.save({"window_size": 2, **raw, "dyweight_meta": {"K": len(factors)}, **changes}, path)
    return path


def parameter(value: Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(value.float(), requires_grad=False)


def state(parameters: dict, buffers: dict | None = None) -> dict:
    """What torch's modules keep."""
    hooks = {"_forward_hooks": OrderedDict(), "_non_persistent_buffers_set": set()}
    return {"training": False, "_parameters": OrderedDict(parameters), "_buffers": OrderedDict(buffers or {}), **hooks}


@contextmanager
def samplers(*names: str):
    """Functions that pickle finds under these names in a module `solvers`."""

    def made(name):
        def function(*_):
            raise AssertionError("a function of a pickle was run")

        function.__module__, function.__qualname__ = "solvers", name
        return function

    module, before = ModuleType("solvers"), sys.modules.get("solvers")
    for name in names:
        setattr(module, name, made(name))
    sys.modules["solvers"] = module
    yield [getattr(module, name) for name in names]
    del sys.modules["solvers"]
    if before is not None:
        sys.modules["solvers"] = before
