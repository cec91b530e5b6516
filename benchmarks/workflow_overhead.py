"""What the workflow costs beside the work of its jobs: wall time of a fresh run over the seconds that the jobs compute.

python benchmarks/workflow_overhead.py                                      the default config
python benchmarks/workflow_overhead.py --configfile tests/configs/tiny.yaml

A job's own seconds, from its arguments to its last file, stand in its log. On C cores at best C jobs compute at a time, so the
ratio is C x wall / sum; the wall time includes start, plan, waiting of one core for the last jobs, and figures.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from s4s.jobs.costs import read_usage

ROOT = Path(__file__).parents[1]
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--configfile", default=str(ROOT / "config/config.yaml"))
parser.add_argument("--cores", type=int, default=2)
args = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", folder, "--quiet", "all"]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--cores", str(args.cores), "--resources", "gpu=4", "--configfile", str(Path(args.configfile).resolve())]
    )
    wall = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.returncode)
    usage = read_usage(Path(folder) / "results/logs")

total = usage.seconds.sum()
by_kind = usage.groupby("job").seconds.agg(["size", "sum"]).sort_values("sum", ascending=False)
print(f"{args.cores} cores, {len(usage)} jobs; wall {wall:.0f} s, sum of the jobs' own seconds {total:.0f} s")
print(f"wall / sum: {wall / total:.2f}; {args.cores} x wall / sum: {args.cores * wall / total:.2f}\n")
print("| job | jobs | seconds | share |\n|:---|---:|---:|---:|")
print(
    "\n".join(
        f"| {name} | {row['size']:.0f} | {row['sum']:.1f} | {row['sum'] / total:.1%} |" for name, row in by_kind.iterrows()
    )
)
