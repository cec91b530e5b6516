"""Make the teacher's pairs of one split, or of a shard of it; an interrupted job goes on where it was."""

import argparse

from s4s.jobs.script import run_script, use_device


def main(args: argparse.Namespace) -> dict[str, int]:
    device = use_device(args.threads)
    from s4s.learning.teacher import write_pairs
    from s4s.models.load import load_model
    from s4s.models.model_files import identity
    from s4s.models.seeds import sample_seeds, shard_of
    from s4s.tableau import Tableau

    denoiser = load_model(args.model, device)
    split, _, sampling_seed = args.split.partition("~")
    seeds = shard_of(sample_seeds(split, args.count, int(sampling_seed or 0)), args.shard, args.shard_size)
    count = write_pairs(
        denoiser, Tableau.load(args.teacher), args.split, seeds, args.batch_size, args.out, args.trajectory == "True",
        f"{identity(args.model)} {args.code}",
    )  # fmt: skip
    return {"evaluations": count}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--teacher", required=True, help="the teacher's tableau")
parser.add_argument("--split", required=True, help="train, val or test~SEED")
parser.add_argument("--count", type=int, required=True, help="number of samples of the whole split")
parser.add_argument("--shard", type=int, help="which shard; by default all rows")
parser.add_argument("--shard-size", type=int, default=0, help="rows of a shard")
parser.add_argument("--batch-size", type=int, default=512, help="samples at a time, in whole blocks of the model")
parser.add_argument("--trajectory", choices=["True", "False"], default="False", help="keep the states at all steps")
parser.add_argument("--code", help="digest of the code; unfinished work of other code is not continued")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
