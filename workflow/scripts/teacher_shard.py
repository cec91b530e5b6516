"""Run the teacher on the noise of one split and write its pairs."""

import argparse

from s4s.script import run_script, use_device


def main(args: argparse.Namespace) -> None:
    device = use_device(args.threads)
    from s4s.models.load import load_model
    from s4s.seeds import sample_seeds
    from s4s.store import write_splits
    from s4s.tableau import Tableau
    from s4s.teacher import KIND, attributes, make_pairs

    denoiser = load_model(args.model, device, args.embeddings)
    teacher = Tableau.load(args.teacher)
    seeds = sample_seeds(args.split.split("~")[0], args.count, args.sampling_seed)
    pairs = make_pairs(denoiser, teacher, seeds, args.batch_size, args.trajectory, show_progress=True)
    write_splits(args.out, KIND, {args.split: pairs}, attributes(denoiser, teacher))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--embeddings", help="HDF5 file of text embeddings, for models with prompts")
parser.add_argument("--teacher", required=True, help="the teacher's tableau")
parser.add_argument("--split", required=True, help="train, val or test~SEED")
parser.add_argument("--count", type=int, required=True)
parser.add_argument("--sampling-seed", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=512)
parser.add_argument("--trajectory", action="store_true", help="keep the states at all steps")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
