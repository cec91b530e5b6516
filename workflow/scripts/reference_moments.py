"""Compute the moments of the features of a model's real data."""

import argparse

from s4s.jobs.script import run_script, use_device


def main(args: argparse.Namespace) -> None:
    device = use_device(args.threads)
    from s4s.metrics.features import load_features, write_moments

    write_moments(args.out, load_features(args.model, device).reference())


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
