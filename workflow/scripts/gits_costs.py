"""Costs of Euler steps between all pairs of levels, along teacher trajectories; needs no model."""

import argparse

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.files.rows import TEACHER_PAIRS, read_attributes, read_split
    from s4s.schedules.gits import step_costs

    paths = read_split(args.trajectories, TEACHER_PAIRS, "search")
    step_costs(read_attributes(args.trajectories)["levels"], paths.trajectory, paths.outputs).save(args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trajectories", required=True)
parser.add_argument("--out", required=True)
run_script(main, parser)
