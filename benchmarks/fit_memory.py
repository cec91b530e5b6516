"""Peak memory and time of one step of a fit, against the number of evaluations and the batch.

python benchmarks/fit_memory.py                  on a CPU: live bytes of all tensors; on a GPU: torch's own peak

Memory is what a step adds to what is there before it. Rows are ratios to the smallest NFE and batch of each way.
"""

import argparse
import time

import torch

import s4s
from benchmarks.peak_memory import PeakMemory
from s4s import FitSettings, TeacherPairs
from s4s.learning.families import make_family
from s4s.learning.loop import Loop
from s4s.learning.losses import make_distance
from s4s.learning.objective import Objective, Replica
from s4s.learning.parameters import Parameters
from s4s.learning.tangents import Counter
from s4s.learning.teacher import make_pairs
from s4s.models.load import load_perceptual
from s4s.models.seeds import sample_seeds

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--nfe", type=int, nargs="+", default=[4, 6, 8, 10])
parser.add_argument("--batch", type=int, nargs="+", default=[8, 32])
parser.add_argument("--rows", type=int, default=1024, help="states at a time through the network")
parser.add_argument("--model", default="digits")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--threads", type=int, default=1)
args = parser.parse_args()
torch.set_num_threads(args.threads)
denoiser, network = s4s.load_model(args.model, args.device), load_perceptual(args.model, args.device)
teacher = s4s.solver("unipc", s4s.levels("logsnr", 12, denoiser), order=3)
pairs = TeacherPairs(*(make_pairs(denoiser, teacher, sample_seeds(name, 256)) for name in ("train", "val")), denoiser.name)
WAYS = {
    "Gauss-Newton": {"preset": "gauss_newton"},
    "Adam": {"preset": "adam"},
    "Adam, recompute": {"preset": "adam", "recompute": True},
}


def measure(nfe, batch, given):
    """Peak bytes and seconds of one step, after one that warms up."""
    settings = FitSettings(**given, batch=batch, validate_every=1000, iterations=1000)
    base = s4s.solver("ipndm", s4s.levels("time_quadratic", nfe, denoiser), order=3)
    replicas, counter = [Replica(denoiser, make_distance("perceptual", network))], Counter()
    train, val = (Objective(replicas, split, args.rows, counter) for split in (pairs.train, pairs.val))
    loop = Loop(Parameters(make_family("lms", base), base, True), train, val, "joint", settings, 0.0)
    loop.step()
    with PeakMemory(denoiser.device) as peak:
        loop.step()
    start = time.perf_counter()
    loop.step()
    if denoiser.device.type == "cuda":
        torch.cuda.synchronize()
    return peak.bytes, time.perf_counter() - start


name = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {args.threads} thread(s)"
print(f"{name}, {args.rows} states at a time\n")
print(f"| optimiser | NFE | batch | peak (MB) | over NFE {args.nfe[0]}, same batch | seconds a step |")
print("|:---|---:|---:|---:|---:|---:|")
for way, given in WAYS.items():
    for batch in args.batch:
        first = None
        for nfe in args.nfe:
            peak, seconds = measure(nfe, batch, given)
            first = first or peak
            print(f"| {way} | {nfe} | {batch} | {peak / 1e6:.1f} | {peak / first:.2f} | {seconds:.2f} |", flush=True)
