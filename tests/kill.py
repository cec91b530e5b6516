"""Kill a run again and again at random moments, then run once more, and compare with a run that nobody disturbed.

    python -m tests.kill --kills 50 --seed 0                    about 7 minutes on 2 cores
    python -m tests.kill --kills 5 --jobs-only

Each round starts `snakemake` on the tiny config in one folder and, after a random time, sends SIGKILL to Snakemake itself or to
a random process that it started, warm server and shells included. After the last round one plain run must end well; then the
tables are compared byte for byte (of scores.csv without the column fit_seconds, a measured time), and processes, locks,
temporary files and leases are counted that are left. What is printed at the end is Markdown for docs/reliability.md.
"""

import argparse
import collections
import contextlib
import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from s4s.jobs.gpu_lease import lease_gpus, release

ROOT = Path(__file__).parents[1]
MARK = "S4S_KILL_TEST"  # in the environment of every process of a run
TABLES = ("fid.md", "fid.tex", "global_error.md", "global_error.tex")
LEFT = re.compile(r"\.[^/]*-\d+-\d+-\d+\.\w+|.*\.(parts|state|partial|tmp)")


def start(folder: Path) -> subprocess.Popen:
    """One plain run."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        str(ROOT / "Snakefile"),
        "--configfile",
        str(ROOT / "tests/configs/tiny.yaml"),
    ]
    command += ["--directory", str(folder), "--cores", "2", "--resources", "gpu=2", "--quiet", "all"]
    environment = {**os.environ, MARK: str(folder), "CUDA_VISIBLE_DEVICES": "0,1", "S4S_LEASES": str(folder.parent / "leases")}
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def processes(folder: Path) -> dict[int, str]:
    """The processes that belong to runs in a folder, zombies left out, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            ours = entry.name.isdigit() and f"{MARK}={folder}".encode() in (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") if ours else ""
            if command:
                found[int(entry.name)] = command
        except OSError:
            pass
    return found


def kind(command: str, main: bool) -> str:
    """What sort of process a command line is, in a word or two."""
    if main:
        return "snakemake"
    if "--serve" in command:
        return "warm server or a job in it"
    return "job's caller" if "s4s.jobs.fork_server" in command else "shell or other"


def disturb(folder: Path, kills: int, jobs_only: bool, longest: float) -> collections.Counter:
    """The killed runs; what was killed how often."""
    killed: collections.Counter[str] = collections.Counter()
    while sum(killed.values()) < kills:
        run = start(folder)
        while run.poll() is None and sum(killed.values()) < kills:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(random.uniform(0.5, longest))
            others = [pid for pid in processes(folder) if pid != run.pid]
            victim = run.pid if not jobs_only and (random.random() < 0.5 or not others) else random.choice([*others, run.pid])
            command = processes(folder).get(victim, "")
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed[kind(command, victim == run.pid)] += 1
            print(f"{sum(killed.values())} of {kills}: killed {victim} ({kind(command, victim == run.pid)})", flush=True)
        if run.poll() is None and sum(killed.values()) >= kills:
            run.kill()
        run.wait()
        if run.returncode == 0:  # done too early: begin again with what takes longest
            shutil.rmtree(folder / "results")
    return killed


def left_over(folder: Path) -> dict[str, list[str]]:
    """What must not be there after a run."""
    deadline = time.monotonic() + 5
    while processes(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    files = [str(path.relative_to(folder)) for path in (folder / "results").rglob("*") if LEFT.fullmatch(path.name)]
    locks = [str(path) for path in (folder / ".snakemake/locks").glob("*")]
    incomplete = [str(path) for path in (folder / ".snakemake/incomplete").rglob("*") if path.is_file()]
    os.environ.update(CUDA_VISIBLE_DEVICES="0,1", S4S_LEASES=str(folder.parent / "leases"))
    began = time.monotonic()
    release(lease_gpus(2, patience=0.0))
    waited = ["waited for a lease"] if time.monotonic() - began > 0.05 else []
    return {
        "processes": list(processes(folder).values()), "stale locks": locks, "temporary files": files,
        "incomplete outputs": incomplete, "GPU leases": waited,
    }  # fmt: skip


def table_rows(path: Path) -> list[dict[str, str]]:
    """scores.csv without measured times."""
    with path.open() as file:
        return [{key: value for key, value in row.items() if key != "fit_seconds"} for row in csv.DictReader(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=14.0, help="seconds between kills at most")
    parser.add_argument("--jobs-only", action="store_true", help="prefer jobs to Snakemake itself")
    parser.add_argument("--undisturbed", type=Path, help="folder of a finished run of the tiny config; by default one is made")
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory(prefix="s4s-kill-") as name:
        calm, rough = args.undisturbed or Path(name) / "calm", Path(name) / "rough"
        for folder in (calm, rough):
            folder.mkdir(exist_ok=True)
        began = time.monotonic()
        if not args.undisturbed and start(calm).wait():
            sys.exit((Path(name) / "calm.log").read_text()[-3000:])
        undisturbed = "" if args.undisturbed else f" An undisturbed run: {time.monotonic() - began:.0f} s."
        began = time.monotonic()
        killed = disturb(rough, args.kills, args.jobs_only, args.longest)
        seconds = time.monotonic() - began
        code = start(rough).wait()
        if code:
            sys.exit((Path(name) / "rough.log").read_text()[-5000:])
        same = {
            table: (calm / f"results/tables/{table}").read_bytes() == (rough / f"results/tables/{table}").read_bytes()
            for table in TABLES
        }
        same["scores.csv"] = table_rows(calm / "results/tables/scores.csv") == table_rows(rough / "results/tables/scores.csv")
        left = left_over(rough)
        print(f"\nSeed {args.seed}.{undisturbed} {killed.total()} kills in {seconds:.0f} s:\n")
        print("| killed | times |\n|:---|---:|")
        print("\n".join(f"| {what} | {count} |" for what, count in killed.most_common()))
        print("\nThe run after that ended with exit code 0.\n\n| table | same bytes as undisturbed |\n|:---|:---|")
        print("\n".join(f"| {table} | {'yes' if equal else 'NO'} |" for table, equal in same.items()))
        print("\n| left | number |\n|:---|---:|")
        print("\n".join(f"| {what} | {len(found)} |" for what, found in left.items()))
        problems = [table for table, equal in same.items() if not equal] + [
            f"{what}: {found}" for what, found in left.items() if found
        ]
        if problems:
            sys.exit("\nPROBLEMS\n" + "\n".join(problems))


if __name__ == "__main__":
    main()
