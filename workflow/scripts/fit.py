"""Fit a learned solver to the teacher's pairs; an interrupted fit goes on where it was."""

import argparse
import json
from pathlib import Path

from s4s.script import run_script, use_device


def main(args: argparse.Namespace) -> dict[str, int]:
    device = use_device(args.threads)
    from s4s.atomic import write_json
    from s4s.families import FAMILIES
    from s4s.fitting.fit import fit
    from s4s.fitting.settings import FitSettings
    from s4s.fitting.warm_start import resampled
    from s4s.models.load import copies, load_model, load_perceptual
    from s4s.solvers import solver
    from s4s.tableau import Tableau
    from s4s.teacher import TeacherPairs

    spec = json.loads(args.spec)
    base = Tableau.load(args.base)
    denoiser = load_model(args.model, device, args.embeddings)
    start = base
    if args.warm_start:
        start = resampled(
            Tableau.load(args.warm_start), base.nfe, denoiser.s_max, float(base.levels[-1]),
            lambda levels: solver(base.meta["solver"], levels, path=denoiser.path, **base.meta["options"]),
            weights=FAMILIES[spec["weights"]].by_lag,
        ).with_meta(**base.meta)  # fmt: skip
    result = fit(
        denoiser,
        TeacherPairs.load(args.train, args.val),
        spec["weights"],
        start.levels,
        base=start,
        family_options=spec["options"],
        driver=spec["driver"],
        decoupled=spec["decoupled"],
        first_node=spec["first_node"],
        settings=FitSettings(**spec["settings"]),
        perceptual_network=load_perceptual(args.model, device),
        batch_size=denoiser.block,
        replicas=copies(args.model, device, args.embeddings),
        state_path=args.state,
        show_progress=True,
    )
    result.tableau.with_meta(token=args.token, fit=spec).save(args.out)
    evaluations = result.tableau.meta["evaluations"]
    write_json(args.history, {"evaluations": evaluations, "seconds": result.seconds, "history": result.history})
    Path(args.state).unlink(missing_ok=True)
    return {"evaluations": evaluations}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--embeddings", help="HDF5 file of text embeddings, for models with prompts")
parser.add_argument("--token", required=True, help="name of the solver in the results")
parser.add_argument("--spec", required=True, help="JSON: weights, options, driver, decoupled, first_node, settings")
parser.add_argument("--base", required=True, help="tableau of the classical solver to start from")
parser.add_argument("--warm-start", help="tableau of a learned solver, at another NFE or of another model, to start near")
parser.add_argument("--train", nargs="+", required=True, help="teacher pairs to learn from: a file, or shards")
parser.add_argument("--val", nargs="+", required=True, help="teacher pairs to validate on")
parser.add_argument("--state", required=True, help="resumable state, removed when the results are there")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True, help="the learned tableau")
parser.add_argument("--history", required=True, help="JSON with the fit's course and cost")
run_script(main, parser)
