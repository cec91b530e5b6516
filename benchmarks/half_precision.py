"""Fits on live pipelines in bfloat16: by differences of several steps and by forward derivatives, against the fit in float32.

Pipelines are tiny, with random weights. Teacher pairs are of each precision, and other ones for each seed. "learned / base" is
the error of the solver that came out over that of the one it started from, both in float32, on noise that no fit has seen,
against float32's teacher: mean and standard deviation over seeds.

    python benchmarks/half_precision.py
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' builders of small pipelines
import s4s
from s4s.learning.teacher import TeacherPairs, make_pairs
from s4s.metrics.global_error import global_error
from s4s.models.seeds import sample_seeds
from tests.builders import pipelines as builder

KINDS = {"stable_diffusion_3": builder.stable_diffusion_3, "stable_diffusion": builder.stable_diffusion}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=float, nargs="+", default=[0.01, 0.03, 0.05, 0.1], help="of differences, against the level")
parser.add_argument("--nfe", type=int, default=4)
parser.add_argument("--iterations", type=int, default=10)
parser.add_argument("--guidance", type=float, default=3.0)
parser.add_argument("--seeds", type=int, default=3, help="fits of each row, on pairs of their own")
args = parser.parse_args()


def asked(kind, dtype):
    return s4s.from_pipeline(KINDS[kind]().to(dtype), prompts=["a cat"], guidance_scale=args.guidance)


def teacher_of(denoiser):
    return s4s.solver("unipc", s4s.levels("logsnr", 12, denoiser), order=3)


def fitted(denoiser, pairs, base, derivatives):
    settings = s4s.FitSettings(
        distance="l2", iterations=args.iterations, batch=2, validate_every=2, derivatives=derivatives, patience=9
    )
    return s4s.fit(denoiser, pairs, "lms", base.levels, base=base, driver="joint", settings=settings, batch_size=denoiser.rows)


print(f"cpu, torch {torch.__version__}, NFE {args.nfe}, guidance {args.guidance}\n")
print("| pipeline | precision | derivatives | learned / base |\n|:---|:---|:---|---:|", flush=True)
for kind in KINDS:
    reference = asked(kind, torch.float32)
    seeds = sample_seeds("test", 8)
    test = make_pairs(reference, teacher_of(reference), seeds, reference.rows)
    base = s4s.solver("ipndm", s4s.levels("logsnr", args.nfe, reference), order=3)

    def error(tableau, reference=reference, test=test):
        condition = None if test.condition is None else torch.as_tensor(test.condition)
        return global_error(s4s.sample(reference, torch.as_tensor(test.y_T), tableau, condition).numpy(), test.y_0)

    start = error(base)
    for dtype in (torch.float32, torch.bfloat16):
        denoiser = reference if dtype == torch.float32 else asked(kind, dtype)
        teacher, several = teacher_of(denoiser), []
        for seed in range(args.seeds):
            own = [sample_seeds(split, 8 * (seed + 1))[8 * seed :] for split in ("train", "val")]
            several.append(TeacherPairs(*(make_pairs(denoiser, teacher, seeds, denoiser.rows) for seeds in own)))
        steps = [denoiser.difference_step] if dtype == torch.float32 else args.steps
        for derivatives, step in [*(("differences", step) for step in steps), ("forward", None)]:
            if step is not None:
                denoiser.difference_step = step
            words = derivatives if step is None else f"differences, {step}"
            try:
                found = [error(fitted(denoiser, pairs, base, derivatives).tableau) / start for pairs in several]
            except s4s.S4SError as refused:
                print(f"| {kind} | {str(dtype)[6:]} | {words} | {str(refused)[:60]} |", flush=True)
                continue
            spread = f" ± {statistics.stdev(found):.3f}" if len(found) > 1 else ""
            print(f"| {kind} | {str(dtype)[6:]} | {words} | {statistics.mean(found):.3f}{spread} |", flush=True)
        denoiser.close()
    reference.close()
