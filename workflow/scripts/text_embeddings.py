"""Compute the text embeddings of the prompts that a model is sampled, taught and fitted with."""

import argparse

from s4s.jobs.script import run_script, use_device


def main(args: argparse.Namespace) -> None:
    device = use_device(args.threads)
    import torch

    from s4s.models.load import text_encoder
    from s4s.models.model_files import read_model_file
    from s4s.models.pipelines.prompts import prompt_numbers, read_prompts, store_embeddings
    from s4s.models.seeds import sample_seeds

    model = read_model_file(args.model)
    prompts = read_prompts(model.prompts)
    sizes = {"test": args.test, "train": args.train, "val": args.val, "search": args.search}
    numbers = {n for split, size in sizes.items() for n in prompt_numbers(sample_seeds(split, size), len(prompts)).tolist()}
    store_embeddings(prompts, sorted(numbers), text_encoder(model, torch.device(device)), args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
for split in ("test", "train", "val", "search"):
    parser.add_argument(f"--{split}", type=int, required=True, help=f"number of samples of {split}")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
