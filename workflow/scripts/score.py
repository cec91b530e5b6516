"""Score the samples of one cell: FID and global error, for each sampling seed."""

import argparse

from s4s.jobs.script import run_script, use_device


def main(args: argparse.Namespace) -> None:
    device = use_device(args.threads)
    from s4s.metrics.load import load_features
    from s4s.metrics.score import describe, join_statistics, save_statistics, score, statistics_of
    from s4s.metrics.score_file import Score
    from s4s.models.load import load_model

    features = load_features(args.model, device, args.reference)
    if args.statistics:
        found, about = join_statistics(args.statistics)
    else:
        model = load_model(args.model, device)
        found, about = statistics_of(model, features, args.samples, args.pairs), describe(model, features, args.samples)
    if args.only_statistics:
        save_statistics(args.out, found, about)
    else:
        Score(**score(found, about, features.reference())).save(args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--samples", nargs="?", help="samples, or teacher pairs taken as samples")
parser.add_argument("--pairs", nargs="*", help="teacher pairs of the same noise")
parser.add_argument("--reference", nargs="?", help="moments of the real data, where they were computed before")
parser.add_argument(
    "--only-statistics", action="store_true", help="write the statistics of these samples, a shard, not a score"
)
parser.add_argument("--statistics", nargs="*", help="statistics of all shards, to make the score of")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
