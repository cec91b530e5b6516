"""What a fit costs: denoiser evaluations and seconds against the error reached, for our default and the literature's recipes.

python benchmarks/fit_cost.py                      all methods at NFE 4, 6 and 10: hours, most of them for GS's recipe
python benchmarks/fit_cost.py --methods ours ld3   some of them
python benchmarks/fit_cost.py --table              the tables again, from what is there

Each fit's result is kept under --out and not computed again, and a killed one goes on. All methods learn from the same pool of
teacher pairs, of which each takes as many as its recipe says, and are tested on the same unseen noise. Evaluations count a
forward pass 1, a forward with its backward pass 3, and include validation and the teacher's steps for the pairs used.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

import s4s
from s4s import FitSettings, TeacherPairs
from s4s.files.rows import Split, read_split, write_splits
from s4s.learning.parameters import Linearised
from s4s.learning.tangents import Counter, run_with_tangents
from s4s.learning.teacher import make_pairs
from s4s.metrics.global_error import global_error
from s4s.models.load import load_perceptual
from s4s.models.seeds import sample_seeds

TEACHER_STEPS = 64
DPMPP = ("dpmpp", {"order": 3}, "time_uniform")
UNIPC = ("unipc", {"order": 3, "variant": "bh1"}, "logsnr")
IPNDM = ("ipndm", {"order": 3}, "time_quadratic")
ADAM = {"preset": "adam", "learning_rate_power": 0, "iterations": 1000, "validate_every": 50, "patience": 1000}
# the token joint of config/config.yaml; Adam has the same numbers to learn
OURS = {"family_options": {"start_weights": True}, "first_node": True}
SIZES = {"train_pairs": 256, "val_pairs": 128}
# method: base, family, driver, settings
METHODS = {
    "ours": (IPNDM, "lms", "joint", SIZES),
    "ours, half the steps": (IPNDM, "lms", "joint", {**SIZES, "iterations": 16}),
    "s4s_alt, Gauss-Newton": (IPNDM, "lms", "alternate", SIZES),
    "s4s_alt, Adam": (IPNDM, "lms", "alternate", {"preset": "adam", **SIZES}),
    **{
        f"Adam {rate:g}": (IPNDM, "lms", "joint", {**ADAM, **SIZES, "learning_rate": rate}) for rate in (3e-3, 1e-2, 3e-2, 1e-1)
    },
    "gs recipe, Gauss-Newton": (DPMPP, "gs", "joint", SIZES),
    "ld3": (UNIPC, "ld3", "schedule", {"preset": "ld3"}),
    "gs": (DPMPP, "gs", "joint", {"preset": "gs"}),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--nfe", type=int, nargs="+", default=[4, 6, 10])
parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="fit seeds")
parser.add_argument("--model", default="digits")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=1024, help="states at a time through the network")
parser.add_argument("--out", type=Path, default=Path("build/fit_cost"))
parser.add_argument("--table", action="store_true", help="compute nothing, show what is there")
args = parser.parse_args()
torch.set_num_threads(args.threads)


def teacher_pairs(denoiser):
    """The pool: 1400 training and 1000 validation pairs, and 1024 for the test."""
    path = args.out / f"{denoiser.name}-pairs.h5"
    sizes = {"train": 1400, "val": 1000, "test": 1024}
    if not path.exists():
        teacher = s4s.solver("unipc", s4s.levels("logsnr", TEACHER_STEPS, denoiser), order=3)
        made = {
            name: make_pairs(denoiser, teacher, sample_seeds(name, n), 512, show_progress=True) for name, n in sizes.items()
        }
        write_splits(path, "teacher-pairs", made, {})
    return {name: read_split(path, "teacher-pairs", name) for name in sizes}


def fit(denoiser, network, pool, method, nfe, seed):
    """One fit; its cost, convergence curve and error on unseen noise."""
    (kind, options, schedule), family, driver, given = METHODS[method]
    settings = FitSettings(**{**given, "seed": seed})
    levels = s4s.levels(schedule, nfe, denoiser)
    base = s4s.solver(kind, levels, **options)
    result = s4s.fit(
        denoiser, TeacherPairs(pool["train"], pool["val"], denoiser.name), family, levels, base=base, driver=driver,
        decoupled=True, **(OURS if driver == "joint" and family == "lms" else {}), settings=settings,
        perceptual_network=network, batch_size=args.batch_size, show_progress=True,
        state_path=path_of(method, nfe, seed).with_suffix(".state"),
    )  # fmt: skip
    teacher = TEACHER_STEPS * ((settings.train_pairs or 1400) + (settings.val_pairs or 1000))
    return {
        "evaluations": result.evaluations + teacher, "teacher": teacher, "seconds": result.seconds,
        "error": test_error(denoiser, pool["test"], result.tableau), "start": test_error(denoiser, pool["test"], base),
        "history": result.history,
    }  # fmt: skip


def test_error(denoiser, test: Split, tableau):
    y = s4s.sample(denoiser, torch.from_numpy(test.y_T), tableau, batch_size=args.batch_size)
    return global_error(y.cpu().numpy(), test.y_0)


def seconds(action):
    action()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        action()
        if args.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def derivative_costs(denoiser, batch=16, tangents=16):
    """Seconds of a gradient and of a directional derivative, over those of a forward pass of as many states."""
    y, s = torch.randn(batch * tangents, *denoiser.shape, device=args.device), 1.0

    def forward():
        with torch.inference_mode():
            denoiser(y, s)

    def gradient():
        start = y.clone().requires_grad_()
        denoiser(start, s).sum().backward()

    one = s4s.solver("ddim", torch.tensor([2.0, s, 0.5], dtype=torch.float64))
    slope = torch.zeros(tangents, 2, 2, dtype=torch.float64)
    slope[:, 0, 0] = torch.arange(1, tangents + 1)  # moves node 1, so that the second evaluation has all tangents
    level_changes = torch.zeros(tangents, 2, dtype=torch.float64)
    lin = Linearised(one, torch.zeros(tangents, 3).double(), slope, torch.zeros_like(slope), level_changes, level_changes[:, 0])

    def tangent(mode):
        with torch.no_grad():
            run_with_tangents(denoiser, y[:batch], lin, Counter(), args.batch_size, mode)

    base = seconds(forward)
    found = {
        "forward with its backward pass": seconds(gradient) / base,
        "directional derivative by a difference": seconds(lambda: tangent("differences")) / base,
    }
    if hasattr(denoiser.network, "memory_format"):  # torch's forward mode refuses channels_last in group_norm
        denoiser.network.memory_format = torch.contiguous_format
        denoiser.network.to(memory_format=torch.contiguous_format)
    return {**found, "directional derivative in torch's forward mode": seconds(lambda: tangent("forward")) / seconds(forward)}


def path_of(method, nfe, seed):
    name = "".join(c if c.isalnum() or c in ".-" else "_" for c in method)
    return args.out / f"{args.model}-{name}-{nfe}-{seed}.json"


if not args.table:
    denoiser, network = s4s.load_model(args.model, args.device), load_perceptual(args.model, args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    pool = teacher_pairs(denoiser)
    for method in args.methods:
        for nfe in args.nfe:
            for seed in args.seeds:
                path = path_of(method, nfe, seed)
                if not path.exists():
                    path.write_text(json.dumps(fit(denoiser, network, pool, method, nfe, seed)))
    (args.out / f"{args.model}-derivatives.json").write_text(json.dumps(derivative_costs(denoiser)))

print("Cost on this machine over a forward pass of as many states:\n")
for name, ratio in json.loads((args.out / f"{args.model}-derivatives.json").read_text()).items():
    print(f"* {name}: {ratio:.2f}")
found = {
    (method, nfe): [
        json.loads(path_of(method, nfe, seed).read_text()) for seed in args.seeds if path_of(method, nfe, seed).exists()
    ]
    for method in args.methods
    for nfe in args.nfe
}
for nfe in args.nfe:
    rows = {method: found[method, nfe] for method in args.methods if found[method, nfe]}
    if not rows:
        continue
    ours = rows.get("ours")
    print(f"\nNFE {nfe}, error on unseen noise (mean ± standard deviation over fit seeds):\n")
    print("| method | seeds | base | error | thousand evaluations | of them teacher | seconds | ours at this validation loss |")
    print("|:---|---:|---:|---:|---:|---:|---:|---:|")
    for method, fits in rows.items():
        mean = {key: statistics.mean(f[key] for f in fits) for key in ("start", "error", "evaluations", "teacher", "seconds")}
        spread = f" ± {statistics.stdev(f['error'] for f in fits):.4f}" if len(fits) > 1 else ""
        text = ""
        if ours and method not in ("ours", "ld3", "gs"):  # the papers' recipes are validated on other pairs
            goal = min(h["val"] for h in fits[0]["history"] if h["val"] is not None)
            reached = [h["evaluations"] + ours[0]["teacher"] for h in ours[0]["history"] if h["val"] <= goal]
            text = f"{fits[0]['evaluations'] / reached[0]:.1f} times fewer" if reached else "not reached"
        print(
            f"| {method} | {len(fits)} | {mean['start']:.4f} | {mean['error']:.4f}{spread} | {mean['evaluations'] / 1e3:.0f} "
            f"| {mean['teacher'] / 1e3:.0f} | {mean['seconds']:.0f} | {text} |"
        )
