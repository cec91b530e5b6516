"""What a large study costs on paper: GPU-hours, and wall time on several numbers of GPUs, from the models' throughputs.

python benchmarks/study_cost.py                 six models x 8 NFE x 40 solvers x 50,000 images
python benchmarks/study_cost.py --gpus 8 64 512 --start 20 --plan 4

Jobs are put on the GPUs longest first, stage after stage for each model: teacher, fits, then shards of samples with scores.
Every job also pays --start seconds (queue, imports, weights), groups of --group cells' shards together; planning pays --plan
milliseconds a job before anything runs. Throughputs are estimates (docs/models.md), so all numbers are too.
"""

import argparse
import heapq
import itertools

from s4s.learning.settings import FitSettings
from s4s.models.model_files import read_model_file
from s4s.study.plan import fit_evaluations, passes

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--models", nargs="+", default=["cifar10", "ffhq", "afhqv2", "lsun_bedrooms", "imagenet256", "sd14"])
parser.add_argument("--nfe", type=int, nargs="+", default=[*range(3, 11)])
parser.add_argument("--classical", type=int, default=30, help="training-free solvers")
parser.add_argument("--learned", type=int, default=10)
parser.add_argument("--images", type=int, default=50_000)
parser.add_argument("--shard", type=int, nargs="+", default=[50_000, 10_000, 2_000], help="samples of one job")
parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512])
parser.add_argument("--start", type=float, default=20.0, help="seconds that a job pays before it computes")
parser.add_argument("--group", type=int, default=1, help="shards that one job of a cluster makes, one after another")
parser.add_argument("--plan", type=float, default=4.0, help="milliseconds of planning a job (benchmarks/planning_time.py)")
parser.add_argument("--score", type=float, default=500.0, help="images a second through the feature network")
args = parser.parse_args()


def tasks(name, shard):
    """Seconds of each GPU job of a model, by stage."""
    model = read_model_file(name)
    rate = model.throughput / passes(model)  # evaluations a second
    study = {**model.study.get("teacher", {})}
    steps, train, val = study.get("steps", 64), study.get("train", 512), study.get("val", 128)
    cuts = [min(shard, args.images - start) for start in range(0, args.images, shard)]
    teacher = [steps * rows / rate for rows in [*cuts, train, val]]
    settings = FitSettings()
    fits = [fit_evaluations(settings, nfe, val) / rate for nfe in args.nfe for _ in range(args.learned)]
    cells = list(itertools.product(args.nfe, range(args.classical + args.learned)))
    samples = [nfe * rows / rate + rows / args.score for nfe, _ in cells for rows in cuts]
    return {"teacher": teacher, "fits": fits, "samples": samples}


def makespan(stages, gpus):
    """Seconds until all is done, and the share of it that the GPUs compute."""
    free = [0.0] * gpus
    ready = {name: 0.0 for name in stages}
    for stage in ("teacher", "fits", "samples"):
        work = []
        for name, jobs in stages.items():
            group = args.group if stage == "samples" else 1
            ordered = sorted(jobs[stage], reverse=True)
            work += [(sum(ordered[i : i + group]) + args.start, name) for i in range(0, len(ordered), group)]
        ends = dict(ready)
        for seconds, name in sorted(work, reverse=True):
            begin = max(heapq.heappop(free), ready[name])
            heapq.heappush(free, begin + seconds)
            ends[name] = max(ends[name], begin + seconds)
        ready = ends
    return max(free)


stages = {name: tasks(name, args.shard[0]) for name in args.models}
print("| model | GPU-hours: teacher | fits | samples and scores |\n|:---|---:|---:|---:|")
for name, own in stages.items():
    print(f"| {name} | " + " | ".join(f"{sum(jobs) / 3600:,.1f}" for jobs in own.values()) + " |")
work = sum(sum(jobs) for own in stages.values() for jobs in own.values())
jobs = sum(len(jobs) for own in stages.values() for jobs in own.values())
cells = len(args.models) * len(args.nfe) * (args.classical + args.learned)
print(f"\n{cells:,} cells, {jobs:,} GPU jobs, {work / 3600:,.0f} GPU-hours of work\n")
print("| GPUs | shard | wall time (h) | of the GPUs' time used | planning (min) |\n|---:|---:|---:|---:|---:|")
for gpus in args.gpus:
    for shard in args.shard:
        cut = {name: tasks(name, shard) for name in args.models}
        count = sum(len(jobs) for own in cut.values() for jobs in own.values())
        count += sum(len(own["samples"]) for own in cut.values())  # a score for each shard of samples
        planning = count * args.plan / 1000
        seconds = makespan(cut, gpus) + planning
        print(f"| {gpus} | {shard:,} | {seconds / 3600:,.1f} | {work / gpus / seconds:.0%} | {planning / 60:.1f} |")
