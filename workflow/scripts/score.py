"""Score the samples of one cell: FID and global error, for each sampling seed."""

import argparse

from s4s.script import run_script, use_device


def main(args: argparse.Namespace) -> None:
    device = use_device(args.threads)
    from s4s.atomic import write_json
    from s4s.metrics.features import load_features
    from s4s.metrics.score import score_samples
    from s4s.models.load import load_model

    model, features = load_model(args.model, device), load_features(args.model, device, args.reference)
    write_json(args.out, score_samples(model, features, args.samples, args.pairs, args.batch_size))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--samples", required=True)
parser.add_argument("--pairs", required=True, help="teacher pairs of the test noise")
parser.add_argument("--reference", help="moments of the real images, if the model's reference is a folder of them")
parser.add_argument("--batch-size", type=int, default=1024, help="states decoded at a time")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
