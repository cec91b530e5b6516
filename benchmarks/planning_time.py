"""How long a dry run of the whole workflow takes against its number of cells.

python benchmarks/planning_time.py --cells 1000 10000 50000
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CLASSICAL = ["ddim", "dpmpp2m", "dpmpp3m", "ipndm2", "ipndm3", "unipc2", "unipc3"]
SCHEDULES = ["edm", "logsnr", "time_uniform", "time_quadratic"]


def study(folder: Path, cells: int) -> None:
    """A config of about that many cells: 36 solvers, a quarter of them learned, at 10 NFE, on as many models as it takes."""
    solvers = [f"{solver}-{schedule}" for solver in CLASSICAL[:6] for schedule in SCHEDULES] + [
        f"unipc3-{schedule}" for schedule in SCHEDULES[:3]
    ]
    learned = {f"learned{i}": {"family": "s4s_lms", "base": f"ipndm3-{SCHEDULES[i % 4]}"} for i in range(9)}
    models = -(-cells // (10 * (len(solvers) + len(learned))))
    description = yaml.safe_load((ROOT / "config/models/digits.yaml").read_text())
    for part in (description, description["features"], description["perceptual"]):
        part["path"] = str((ROOT / "config/models" / part["path"]).resolve())
    for i in range(models):
        (folder / f"model{i}.yaml").write_text(yaml.safe_dump({**description, "name": f"model{i}"}))
    config = {"models": [f"model{i}.yaml" for i in range(models)], "nfe": [*range(3, 13)]}
    (folder / "study.yaml").write_text(yaml.safe_dump({**config, "solvers": [*solvers, *learned], "definitions": learned}))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--cells", type=int, nargs="+", default=[1000, 10000])
args = parser.parse_args()

print("| cells | jobs | seconds | milliseconds a job | peak memory (MB) |\n|---:|---:|---:|---:|---:|")
for cells in args.cells:
    with tempfile.TemporaryDirectory() as name:
        study(Path(name), cells)
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", name, "--quiet", "rules"]
        started = time.perf_counter()
        done = subprocess.run([*command, "-n", "--configfile", f"{name}/study.yaml"], capture_output=True, text=True, cwd=name)
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
        jobs = int(re.findall(r"^total +(\d+)", done.stdout + done.stderr, re.M)[-1])
        scores = int(re.findall(r"^score +(\d+)", done.stdout + done.stderr, re.M)[-1])
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"| {scores:,} | {jobs:,} | {seconds:.0f} | {1000 * seconds / jobs:.1f} | {peak:,.0f} |", flush=True)
