"""Draw the samples of one cell, or of a shard of it, from the test noise; an interrupted job goes on where it was."""

import argparse

from s4s.jobs.script import run_script, use_device


def main(args: argparse.Namespace) -> dict[str, int]:
    device = use_device(args.threads)
    from s4s.learning.draw import draw_samples
    from s4s.models.load import load_model
    from s4s.models.model_files import identity
    from s4s.models.seeds import sample_seeds, shard_of
    from s4s.tableau import Tableau

    denoiser = load_model(args.model, device)
    split, _, shard = args.part.strip("/").partition("-")
    seeds = {
        f"test~{seed}": shard_of(sample_seeds("test", args.count, seed), int(shard) if split else None, args.shard_size)
        for seed in args.seeds
        if split in ("", f"test~{seed}")
    }
    unfinished = f"{identity(args.model)} {args.code}"
    count = draw_samples(denoiser, Tableau.load(args.tableau), seeds, args.batch_size, args.out, unfinished)
    return {"evaluations": count}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--tableau", required=True)
parser.add_argument("--seeds", type=int, nargs="+", required=True, help="sampling seeds")
parser.add_argument("--count", type=int, required=True, help="samples for each sampling seed")
parser.add_argument(
    "--part", nargs="?", const="", default="", help="test~SEED-SHARD: one shard of one sampling seed; by default all rows"
)
parser.add_argument("--shard-size", type=int, default=0, help="rows of a shard")
parser.add_argument("--batch-size", type=int, default=512, help="samples at a time, in whole blocks of the model")
parser.add_argument("--code", help="digest of the code; unfinished work of other code is not continued")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
