"""How the error of a fit falls with the number of teacher pairs.

python benchmarks/fit_pairs.py

Each row is the same fit (all of the family joint free) with so many training pairs, of which every one is visited at least
once; the memory of Gauss-Newton is as long as that takes. Mean and standard deviation over fit seeds; each seed has pairs of
its own. Tested on unseen noise; validated on 128 further pairs.
"""

import argparse

import numpy as np
import torch

import s4s
from s4s import FitSettings, TeacherPairs
from s4s.files.rows import Split
from s4s.learning.teacher import make_pairs
from s4s.metrics.global_error import global_error
from s4s.models.load import load_perceptual
from s4s.models.seeds import sample_seeds

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--pairs", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512, 1024, 4096])
parser.add_argument("--nfe", type=int, nargs="+", default=[5])
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--model", default="digits")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--teacher-steps", type=int, default=64)
args = parser.parse_args()
torch.set_num_threads(args.threads)
denoiser, network = s4s.load_model(args.model, args.device), load_perceptual(args.model, args.device)
teacher = s4s.solver("unipc", s4s.levels("logsnr", args.teacher_steps, denoiser), order=3)
BATCH, LEAST = 8, 32


def pairs(split, count, seed):
    return make_pairs(denoiser, teacher, sample_seeds(split, count, seed), 1024, show_progress=True)


def part(split, rows):
    return Split(**{name: array[rows] for name, array in split.arrays().items()})


pool, val = pairs("train", max(max(args.pairs), 3 * 512), 0), pairs("val", 128, 0)
test = pairs("test", 1024, 7)
print("| NFE | training pairs | error | validation loss | evaluations of the fit (thousands) |\n|---:|---:|---:|---:|---:|")
for nfe in args.nfe:
    base = s4s.solver("ipndm", s4s.levels("time_quadratic", nfe, denoiser), order=min(3, nfe))
    for count in args.pairs:
        errors, vals, evaluations = [], [], []
        for seed in args.seeds:
            first = seed * count if (seed + 1) * count <= len(pool.y_0) else 0  # disjoint where there are enough
            steps = max(LEAST, count // BATCH)
            settings = FitSettings(
                iterations=steps, batch=BATCH, memory=max(20, count / BATCH / 2), validate_every=max(4, steps // 8), seed=seed
            )
            result = s4s.fit(
                denoiser, TeacherPairs(part(pool, slice(first, first + count)), val), "lms", base.levels, base=base,
                family_options={"start_weights": True}, driver="joint", decoupled=True, first_node=True, settings=settings,
                perceptual_network=network,
            )  # fmt: skip
            y = s4s.sample(denoiser, torch.from_numpy(test.y_T), result.tableau, batch_size=1024)
            errors.append(global_error(y.cpu().numpy(), test.y_0))
            vals.append(min(h["val"] for h in result.history))
            evaluations.append(result.evaluations)
        spread = f" ± {np.std(errors, ddof=1):.4f}" if len(errors) > 1 else ""
        print(
            f"| {nfe} | {count} | {np.mean(errors):.4f}{spread} | {np.mean(vals):.4f} | {np.mean(evaluations) / 1e3:.0f} |",
            flush=True,
        )
