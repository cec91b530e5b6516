"""What a scheduler costs in a diffusers pipeline: S4SScheduler against DPMSolverMultistepScheduler, in one run.

The same StableDiffusionPipeline, small and with random weights, runs with both in turn at the same number of steps and without
guidance; then the schedulers' own work alone (set_timesteps and all steps) on latents of Stable Diffusion's size. Medians.

python benchmarks/pipeline_overhead.py
python benchmarks/pipeline_overhead.py --device cuda
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' builders of small pipelines
from s4s.export import S4SScheduler
from s4s.models.paths import VPDiscrete
from s4s.solvers import solver
from tests.builders import pipelines as builder

import diffusers  # isort: skip

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: cuda where there is one")
parser.add_argument("--nfe", type=int, nargs="+", default=[5, 10], help="steps")
parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="latents of 4x64x64 in the schedulers' own work")
parser.add_argument("--repeats", type=int, default=40, help="runs that the median is taken of")
args = parser.parse_args()

pipe = builder.stable_diffusion().to(args.device)
pipe.set_progress_bar_config(disable=True)
path = VPDiscrete(pipe.scheduler.betas)
peer = diffusers.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, solver_order=2, final_sigmas_type="sigma_min")


def ours(nfe):
    """A scheduler with a tableau as full as a learned one: every output weighs in every later state."""
    times = torch.linspace(path.times - 1, 0, nfe + 1, dtype=torch.float64)
    tableau = solver("ipndm", path.s_of_t(times), order=min(4, nfe))
    generator = torch.Generator().manual_seed(0)
    B = tableau.B + 1e-3 * torch.randn(nfe, nfe, generator=generator, dtype=torch.float64).tril()
    return S4SScheduler.from_tableau(type(tableau)(tableau.levels, tableau.A, B), pipe.scheduler)


def run_pipeline(scheduler, nfe):
    pipe.scheduler = scheduler
    latents = torch.zeros(1, 4, 8, 8, device=args.device)
    pipe("a cat", num_inference_steps=nfe, guidance_scale=1.0, latents=latents, output_type="latent")


def run_steps(scheduler, nfe, x, output):
    scheduler.set_timesteps(nfe, device=args.device)
    for t in scheduler.timesteps:
        x = scheduler.step(output, t, scheduler.scale_model_input(x, t)).prev_sample


def seconds(call):
    if args.device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if args.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def row(what, nfe, call):
    """Medians of both in turn, and their ratio."""
    schedulers = ours(nfe), peer
    times = [[seconds(lambda s=s: call(s)) for s in schedulers] for _ in range(args.repeats)][2:]
    first, second = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"| {what} | {nfe} | {first * 1e3:.2f} | {second * 1e3:.2f} | {first / second:.2f} |", flush=True)


print(f"{args.device}, {torch.get_num_threads()} threads, torch {torch.__version__}, diffusers {diffusers.__version__}\n")
print("| what | steps | S4SScheduler (ms) | DPMSolverMultistepScheduler (ms) | ratio |")
print("|:---|---:|---:|---:|---:|")
with torch.inference_mode():
    for nfe in args.nfe:
        row("pipeline", nfe, lambda s, nfe=nfe: run_pipeline(s, nfe))
        for batch in args.batch:
            x, output = torch.randn(2, batch, 4, 64, 64, device=args.device)
            row(f"scheduler alone, batch {batch}", nfe, lambda s, nfe=nfe, x=x, output=output: run_steps(s, nfe, x, output))
