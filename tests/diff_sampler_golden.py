"""Writes tests/golden/diff_sampler.json with the samplers of DyWeight and EPD: where each of them carries four numbers.

    git clone https://github.com/Westlake-AGI-Lab/DyWeight, and https://github.com/BeierZhu/EPD twice, for its two branches
    python -m tests.diff_sampler_golden --dyweight DyWeight --epd EPD-Solver --epdpp EPD-Solver++

Written at DyWeight's commit 620534e and EPD's 94c00d0 (EPD-Solver) and 88a91f0 (EPD-Solver++). Everything is computed in
float64, apart from schedules on noise levels, which are in float32 as there, rounded alike on every processor (the discrete
one is not); those of flow matching come without the rounding of diffusers. Networks and solvers are those of
tests/builders/diff_sampler.py. Predictors and samplers are the authors' classes and functions; on FLUX DyWeight's pipeline
and its training must agree, as EPD's two branches must.
"""

import argparse
import importlib
import json
import math
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import torch

from s4s.export.zoo.single_precision import SinglePrecision
from tests.builders.diff_sampler import DYWEIGHT, EPD, FLUX, MODELS, NOISE, flux_weights, noise, pixel_denoiser, velocity

GOLDEN = Path(__file__).parent / "golden/diff_sampler.json"
NAMES = ("solvers", "solver_utils", "training", "torch_utils", "dnnlib", "models")
LATENTS = NOISE.reshape(2, 1, 1, 2)


@contextmanager
def repository(folder: Path):
    """Its modules, by import; both repositories have the same names."""
    sys.path.insert(0, str(folder))
    yield importlib.import_module
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0] in NAMES]:
        del sys.modules[name]


def pixels(x, t, class_labels=None):
    return pixel_denoiser(x, t.reshape(-1, 1, 1, 1))


def latents(load, dataset):
    """The authors' own wrapper of a network of latent diffusion; the condition is added to the noise."""
    path, guided = MODELS[dataset].path, dataset == "ms_coco"
    model = SimpleNamespace(
        alphas_cumprod=1 / (1 + (2 * path.log_s).exp()),
        apply_model=lambda x, k, c: noise(x, k.reshape(-1, 1, 1, 1)) + (0 if c is None else c),
    )
    kind = {"guidance_type": "classifier-free", "guidance_rate": 7.5} if guided else {"guidance_type": "uncond"}
    net = load("models.networks_edm").CFGPrecond(model, **kind)
    rows = torch.zeros(len(NOISE), 1, 1, 1)
    return net, {"condition": rows, "unconditional_condition": rows} if guided else {}


class Flow:
    """A backend of EPD: x - t v."""

    def __init__(self, name, mu):
        self.backend, self.mu = name, mu

    def __call__(self, x, t, condition=None):
        t = t.reshape(-1, 1, 1, 1)
        return x - t * velocity(x, t)

    def make_flowmatch_schedule(self, count, device=None):
        if self.backend == "flux":
            t = torch.linspace(1, 0.001, count)
            return math.exp(self.mu) / (math.exp(self.mu) + (1 / t - 1))
        t = torch.linspace(1, 0.003 / 1.002, count)
        return 3 * t / (1 + 2 * t)


def in_single(load):
    """The authors' schedule in float32 that is the same on every processor, as float64."""
    get_schedule = load("solvers").get_schedule
    load("solver_utils").np = SimpleNamespace(log=torch.log, e=math.e)

    def rounded(*arguments, schedule_type, **options):
        single = schedule_type not in ("discrete", "flowmatch")
        torch.set_default_dtype(torch.float32 if single else torch.float64)
        with SinglePrecision() if single else nullcontext():
            levels = get_schedule(*arguments, schedule_type=schedule_type, **options)
        torch.set_default_dtype(torch.float64)
        return levels.double()

    return rounded


def dyweight(folder: Path) -> dict:
    found = {}
    with repository(folder) as load:
        solvers = load("solvers")
        solvers.get_schedule = in_single(load)
        for name, case in DYWEIGHT.items():
            on_pixels = case["dataset"] == "cifar10"
            net, condition = (pixels, {}) if on_pixels else latents(load, case["dataset"])
            ends = (0.002, 80.0) if on_pixels else (net.sigma_min, net.sigma_max)
            predictor = load("training.networks").DyWeight_predictor(
                case["num_steps"],
                case["max_history_steps"],
                enable_t_scale_learning=case["t_scale"] is not None,
                afs=case["afs"],
            )
            predictor.hybrid_weights.data = torch.tensor(case["weights"]).float().double()
            if case["t_scale"] is not None:
                predictor.t_scale.data = torch.tensor(case["t_scale"]).float().double()
            weights, factors = predictor()
            end = solvers.dyweight_sampler(
                net, LATENTS, **condition, num_steps=case["num_steps"], sigma_min=ends[0], sigma_max=ends[1], afs=case["afs"],
                hybrid_weights=weights, t_scale=factors, **case["loss"],
            )  # fmt: skip
            found[name] = end.flatten().tolist()
        for name, factors in FLUX.items():
            found[name] = flux(load, factors).flatten().tolist()
    return found


def transformer(hidden_states, timestep, **_):
    return (velocity(hidden_states, timestep.reshape(-1, 1, 1)),)


def flux(load, factors):
    count = len(factors)
    weights, factors = (torch.tensor(values).float().double() for values in (flux_weights(factors), factors))
    t, mu = torch.linspace(1, 1 / count, count), 0.5 + (32**2 - 256) * 0.65 / 3840
    sigmas = torch.cat([math.exp(mu) / (math.exp(mu) + (1 / t - 1)), torch.zeros(1)])
    start = NOISE.reshape(2, 1, 2)
    parameters = load("models.flux.dyweight").DyweightParams(count, window_size=2)
    parameters.theta.data = weights
    parameters.t_scale = lambda i: factors[i]
    runner = load("models.flux.dyweight").DyweightRunner(transformer, parameters)
    trained = runner(start, sigmas, None, None, None, None, None, mode="student")
    module = load("models.flux.dyweight_pipeline_flux")
    module.calculate_shift = lambda *_: mu
    module.retrieve_timesteps = lambda *_, **__: (sigmas[:-1] * 1000, count)
    step = SimpleNamespace(update=lambda: None)
    config = SimpleNamespace(base_image_seq_len=0, max_image_seq_len=0, base_shift=0, max_shift=0)
    transformer.config = SimpleNamespace(in_channels=64, guidance_embeds=False)
    pipeline = SimpleNamespace(
        _execution_device="cpu", joint_attention_kwargs=None, encode_prompt=lambda **_: (torch.zeros(2, 1, 1), None, None),
        transformer=transformer, prepare_latents=lambda *_: (start, None), maybe_free_model_hooks=lambda: None,
        scheduler=SimpleNamespace(config=config, sigmas=sigmas, order=1), progress_bar=lambda total: nullcontext(step),
    )  # fmt: skip
    call = module.DyWeight_FluxPipeline.__call__
    (end,) = call(
        pipeline, ["a", "b"], height=512, width=512, num_inference_steps=count, t_scales=factors, weights=weights,
        output_type="latent", return_dict=False,
    )  # fmt: skip
    torch.testing.assert_close(end, trained, rtol=1e-13, atol=1e-13)
    return end


def epd(folder: Path, plus: bool) -> dict:
    found = {}
    with repository(folder) as load:
        solvers = load("solvers")
        solvers.get_schedule = in_single(load)
        solvers.init_hook = lambda *_: ([], SimpleNamespace(remove=lambda: None))
        for name, case in EPD.items():
            kwargs = case["kwargs"]
            backend, dataset = kwargs.get("backend", "ldm"), kwargs["dataset_name"]
            if backend != "ldm" and not plus:
                continue
            if backend != "ldm":
                net, condition, ends = Flow(backend, kwargs["backend_config"].get("flowmatch_mu")), {}, (None, None)
            elif dataset == "cifar10":
                net, condition, ends = pixels, {}, (0.002, 80.0)
            else:
                net, condition = latents(load, dataset)
                ends = (net.sigma_min, net.sigma_max)
            predictor = load("training.networks").EPD_predictor(**kwargs)
            for key, values in case["parameters"].items():
                getattr(predictor, key).data = torch.tensor(values).float().double()
            kind = "epd_parallel" if kwargs["sampler_stu"] == "epd" and (plus or not condition) else kwargs["sampler_stu"]
            end, _ = getattr(solvers, f"{kind}_sampler")(
                net, LATENTS, **condition, sigma_min=ends[0], sigma_max=ends[1], predictor=predictor,
                **{key: kwargs[key] for key in ("num_steps", "schedule_type", "schedule_rho", "afs", "max_order")},
            )  # fmt: skip
            found[name] = end.detach().flatten().tolist()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("dyweight", "epd", "epdpp"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    first, second = epd(arguments.epd, False), epd(arguments.epdpp, True)
    for name, values in first.items():
        torch.testing.assert_close(torch.tensor(values), torch.tensor(second[name]), rtol=1e-13, atol=1e-13)
    golden = {"dyweight": dyweight(arguments.dyweight), "epd": second}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
