"""How small can the error of any linear solver with N evaluations be? Fits with many pairs and steps, from several starts.

Family joint with skip weights and a first evaluation point represents every linear solver (docs/learned.md). Each fit starts at
another classical solver; the smallest error on unseen noise stands for the floor. It is an upper bound: no fit is known to be
the best there is. Beside it stand the best training-free solvers at more evaluations, and how many of them the floor is worth.

    python benchmarks/floor.py galaxies-hsc32 --nfe 3 4 5 6      # `snakemake galaxies` fetches the weights
"""

import argparse

import numpy as np
import torch

import s4s
from s4s.learning.teacher import TeacherPairs, make_pairs
from s4s.metrics.global_error import global_error
from s4s.models.seeds import sample_seeds
from s4s.reporting.comparisons import needed_evaluations

STARTS = [("ipndm", "time_quadratic"), ("unipc", "time_quadratic"), ("dpmpp", "time_uniform"), ("unipc", "logsnr")]
SOLVERS = [
    ("ddim", {}),
    *((kind, {"order": 3, "lower_order_final": True}) for kind in ("dpmpp", "unipc")),
    ("ipndm", {"order": 3}),
]
LEVELS = ("edm", "logsnr", "time_uniform", "time_quadratic")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("--nfe", type=int, nargs="+", default=[3, 4, 5, 6])
parser.add_argument("--compared", type=int, nargs="+", default=[3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16])
parser.add_argument("--pairs", type=int, default=256, help="training pairs; a quarter of them validate, as many are the test")
parser.add_argument("--iterations", type=int, default=64)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--starts", type=int, default=3, help="how many of the starts")
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()
torch.set_num_threads(args.threads)

model = s4s.load_model(args.model)
teacher = s4s.solver("unipc", s4s.levels("logsnr", 40, model), order=3)
train, val, test = (
    make_pairs(model, teacher, sample_seeds(split, count), model.block)
    for split, count in (("train", args.pairs), ("val", args.pairs // 4), ("test", args.pairs // 4))
)
pairs = TeacherPairs(train, val, model.name)
settings = s4s.FitSettings(distance="l2", batch=args.batch, iterations=args.iterations, patience=args.iterations)


def error(tableau):
    return global_error(s4s.sample(model, torch.as_tensor(test.y_T), tableau, batch_size=model.block).numpy(), test.y_0)


def classical(kind, levels, nfe):
    options = dict(SOLVERS)[kind]
    return s4s.solver(kind, s4s.levels(levels, nfe, model), path=model.path, **options)


def best_classical(nfe):
    return min(error(classical(kind, levels, nfe)) for kind, _ in SOLVERS for levels in LEVELS)


curve = np.array([best_classical(nfe) for nfe in args.compared])
print(
    f"{args.model}: {args.pairs} training pairs, {args.iterations} steps of {args.batch}, {len(test)} test noises\n", flush=True
)
print("best training-free: " + ", ".join(f"{n}: {value:.4f}" for n, value in zip(args.compared, curve, strict=True)) + "\n")
names = [f"{kind}, {levels}" for kind, levels in STARTS[: args.starts]]
print(f"| NFE | best training-free | {' | '.join(f'from {name}' for name in names)} | floor / training-free | NFE speed-up |")
print("|---:" * (len(names) + 4) + "|", flush=True)
for nfe in args.nfe:
    found = []
    for kind, levels in STARTS[: args.starts]:
        base = classical(kind, levels, nfe)
        options = {"family_options": {"start_weights": True}, "driver": "joint", "decoupled": True, "first_node": True}
        result = s4s.fit(model, pairs, "lms", base.levels, base=base, settings=settings, batch_size=model.block, **options)
        found.append(error(result.tableau))
    plain, floor = best_classical(nfe), min(found)
    needed = needed_evaluations(np.array(args.compared, dtype=float), curve, floor)
    speed_up = f"{needed / nfe:.2f}" if np.isfinite(needed) else f"above {args.compared[-1] / nfe:.2f}"
    print(f"| {nfe} | {plain:.4f} | {' | '.join(f'{e:.4f}' for e in found)} | {floor / plain:.2f} | {speed_up} |", flush=True)
