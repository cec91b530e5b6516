"""Draw all samples of one cell: every sampling seed, from the noise of the test split."""

import argparse

from s4s.script import run_script, use_device


def main(args: argparse.Namespace) -> None:
    device = use_device(args.threads)
    from s4s.models.load import load_model
    from s4s.samples import draw_samples
    from s4s.tableau import Tableau

    tableau = Tableau.load(args.tableau)
    draw_samples(load_model(args.model, device, args.embeddings), tableau, args.seeds, args.count, args.batch_size, args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--embeddings", help="HDF5 file of text embeddings, for models with prompts")
parser.add_argument("--tableau", required=True)
parser.add_argument("--seeds", type=int, nargs="+", required=True, help="sampling seeds")
parser.add_argument("--count", type=int, required=True, help="samples for each sampling seed")
parser.add_argument("--batch-size", type=int, default=512)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
