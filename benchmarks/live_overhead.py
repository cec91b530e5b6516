"""What a live pipeline costs beyond its network: an evaluation through its denoiser against a step of its own loop.

The pipeline is Stable Diffusion 3's, tiny and with random weights, without guidance. Interleaved, medians, milliseconds of one
evaluation of one state.

    python benchmarks/live_overhead.py
    python benchmarks/live_overhead.py --device cuda
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' builders of small pipelines
import s4s
from tests.builders import pipelines as builder

STEPS = 20  # of a run, the difference of which to one of half as many is what a step takes
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: cuda where there is one")
parser.add_argument("--repeats", type=int, default=30, help="rounds that the medians are taken of")
args = parser.parse_args()

pipe = builder.stable_diffusion_3().to(args.device)
pipe.set_progress_bar_config(disable=True)
denoiser = s4s.from_pipeline(pipe, prompts="a cat", guidance_scale=1.0)
inputs = {}
handle = pipe.transformer.register_forward_pre_hook(lambda network, given, named: inputs.update(named), with_kwargs=True)
y, s = s4s.initial_noise(denoiser, [0]), 1.0
denoiser(y, s)
handle.remove()


def seconds(work):
    if args.device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if args.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def own_loop(steps):
    return seconds(lambda: pipe("a cat", guidance_scale=1.0, num_inference_steps=steps, output_type="latent"))


def through_denoiser():
    return seconds(lambda: [denoiser(y, s) for _ in range(STEPS)]) / STEPS


def network_alone():
    return seconds(lambda: [pipe.transformer(**inputs) for _ in range(STEPS)]) / STEPS


with torch.inference_mode():
    rounds = []
    for _ in range(args.repeats + 2):
        loop = (own_loop(STEPS) - own_loop(STEPS // 2)) / (STEPS - STEPS // 2)
        rounds.append((network_alone(), loop, through_denoiser()))
denoiser.close()
network, loop, ours = (1e3 * statistics.median(column) for column in zip(*rounds[2:], strict=True))
print(f"{args.device}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
print("| network (ms) | a step of the pipeline (ms) | an evaluation of the denoiser (ms) | beyond the network (ms) | / step |")
print("|---:|---:|---:|---:|---:|")
print(f"| {network:.2f} | {loop:.2f} | {ours:.2f} | {ours - network:.2f} | {ours / loop:.2f} |")
