"""Compute the moments of the features of a model's real data, or of samples of its teacher."""

import argparse

from s4s.jobs.script import run_script, use_device


def main(args: argparse.Namespace) -> None:
    device = use_device(args.threads)
    from s4s.metrics.load import load_features
    from s4s.metrics.moments_file import write_moments
    from s4s.metrics.teacher_reference import teacher_moments
    from s4s.models.load import load_model

    features = load_features(args.model, device)
    if args.pairs:
        write_moments(args.out, teacher_moments(load_model(args.model, device), features, args.pairs))
    else:
        write_moments(args.out, features.reference())


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--pairs", nargs="*", help="pairs of the teacher that samples are compared with")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
