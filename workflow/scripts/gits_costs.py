"""Costs of Euler steps between all pairs of levels, along teacher trajectories; needs no model."""

import argparse

from s4s.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.levels.gits import step_costs
    from s4s.store import read_attributes, read_split
    from s4s.teacher import KIND

    paths = read_split(args.trajectories, KIND, "search")
    step_costs(read_attributes(args.trajectories)["levels"], paths.trajectory, paths.outputs).save(args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trajectories", required=True)
parser.add_argument("--out", required=True)
run_script(main, parser)
