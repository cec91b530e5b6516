"""Train an embedded model and the networks that it is scored and fitted with; `snakemake train_embedded` runs it for all."""

import argparse
from pathlib import Path

from s4s.jobs.script import run_script, use_device

MIXTURE_ROWS = 5000  # drawn from the mixture, for distances that need more than its moments


def main(args: argparse.Namespace) -> None:
    use_device(args.threads)
    from s4s.metrics.fid import Moments, moments
    from s4s.metrics.moments_file import write_moments
    from s4s.models.embedded.datasets import load_dataset, turned
    from s4s.models.embedded.recipes import EMBEDDED_FILES, RECIPES
    from s4s.models.embedded.training import latents_of, train_autoencoder, train_classifier, train_denoiser, train_mixture
    from s4s.models.embedded.weights import MIXTURE_TABLES, save_network, save_tensors

    folder, name = Path(args.out), args.model
    if name == "mixture":
        exact, record = train_mixture(load_dataset("digits"))
        save_tensors({key: getattr(exact, key) for key in MIXTURE_TABLES}, record, folder / "denoiser.safetensors")
        (mean, covariance), rows = exact.moments(), exact.draw(MIXTURE_ROWS).float().numpy()
        write_moments(folder / "held_out.npz", Moments(mean.numpy(), covariance.numpy(), rows))
        return
    recipe, files = RECIPES[name], EMBEDDED_FILES[name]
    data = load_dataset(recipe.dataset)
    labelled = turned(data) if recipe.turned else data
    for network_name, seed in [("classifier", 0), ("perceptual", 1)]:
        if f"{network_name}.safetensors" in files:
            options = {
                "classes": int(labelled.train_labels.max()) + 1,
                "width": 32,
                "n_features": 32,
                "channels": data.train.shape[1],
                "side": data.train.shape[2],
            }
            network, record = train_classifier(network_name, labelled, options, args.classifier_steps, seed=seed)
            print(f"{network_name}: held-out accuracy {record['held_out_accuracy']:.4f}")
            save_network(network, {**record, "dataset": recipe.dataset}, folder / f"{network_name}.safetensors")
    if "held_out.npz" in files:
        write_moments(folder / "held_out.npz", moments(data.held_out.double().numpy()))
    if recipe.autoencoder:
        autoencoder, record = train_autoencoder(data, {"latent": recipe.shape[0], "width": 16}, args.autoencoder_steps)
        print(f"autoencoder: held-out PSNR {record['held_out_psnr_db']:.1f} dB")
        save_network(autoencoder, {**record, "dataset": recipe.dataset}, folder / "autoencoder.safetensors")
        data = latents_of(data, autoencoder)
    network, record = train_denoiser(name, recipe, data, args.steps)
    print(f"denoiser: loss {record['loss']}")
    save_network(network, record, folder / "denoiser.safetensors")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="name of the model in s4s/models/embedded/recipes.py, or mixture")
parser.add_argument("--steps", type=int, help="optimiser steps of the denoiser, instead of the recipe's")
parser.add_argument("--classifier-steps", type=int, default=1500, help="optimiser steps of the feature networks")
parser.add_argument("--autoencoder-steps", type=int, default=4000, help="optimiser steps of the autoencoder")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True, help="folder for the files")
run_script(main, parser)
