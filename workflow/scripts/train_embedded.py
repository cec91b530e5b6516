"""Train an embedded model and its feature network; `snakemake train_embedded` runs it."""

import argparse
from pathlib import Path

from s4s.script import run_script, use_device


def main(args: argparse.Namespace) -> None:
    use_device(args.threads)
    from s4s.models.digits import load_digits
    from s4s.models.embedded import save_network
    from s4s.models.training import train_classifier, train_denoiser

    digits = load_digits()
    for name, seed in [("classifier", 0), ("perceptual", 1)]:
        network, record = train_classifier(digits, args.classifier_steps, seed=seed)
        print(f"{name}: held-out accuracy {record['held_out_accuracy']:.4f}")
        save_network(network, record, Path(args.out) / f"{name}.safetensors")
    denoiser, record = train_denoiser(digits, args.steps)
    print(f"denoiser: loss {record['loss']}")
    save_network(denoiser.network, record, Path(args.out) / "denoiser.safetensors")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=5000, help="optimiser steps of the denoiser")
parser.add_argument("--classifier-steps", type=int, default=1500, help="optimiser steps of the feature network")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True, help="folder for the three safetensors files")
run_script(main, parser)
