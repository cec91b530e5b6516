"""Statistics of a model along teacher trajectories, for DPM-Solver-v3."""

import argparse

from s4s.jobs.script import run_script, use_device


def main(args: argparse.Namespace) -> None:
    device = use_device(args.threads)
    from s4s.files.rows import TEACHER_PAIRS, read_attributes, read_split
    from s4s.models.load import load_model
    from s4s.solvers.dpm_v3_statistics import model_statistics

    paths = read_split(args.trajectories, TEACHER_PAIRS, "search")
    levels = read_attributes(args.trajectories)["levels"]
    denoiser = load_model(args.model, device)
    statistics = model_statistics(
        denoiser, levels, paths.trajectory, paths.outputs,
        batch_size=denoiser.block, show_progress=True, condition=paths.condition,
    )  # fmt: skip
    statistics.save(args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--trajectories", required=True)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
