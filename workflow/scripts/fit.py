"""Fit a learned solver to the teacher's pairs; an interrupted fit goes on where it was."""

import argparse
import json

from s4s.script import run_script, use_device


def main(args: argparse.Namespace) -> None:
    device = use_device(args.threads)
    from s4s.atomic import write_json
    from s4s.fitting.fit import fit
    from s4s.fitting.settings import FitSettings
    from s4s.models.load import load_model, load_perceptual
    from s4s.store import read_split
    from s4s.tableau import Tableau
    from s4s.teacher import KIND, TeacherPairs

    spec = json.loads(args.spec)
    base = Tableau.load(args.base)
    denoiser = load_model(args.model, device)
    result = fit(
        denoiser,
        TeacherPairs(read_split(args.train, KIND, "train"), read_split(args.val, KIND, "val")),
        "lms",
        base.levels,
        base=base,
        family_options={"prediction": spec["prediction"], "order": spec["order"]},
        driver=spec["driver"],
        decoupled=spec["decoupled"],
        settings=FitSettings(**spec["settings"]),
        perceptual_network=load_perceptual(args.model, device),
        batch_size=args.batch_size,
        state_path=args.state,
        show_progress=True,
    )
    meta = {"model": denoiser.name, "token": args.token, "fit": spec, "start": base.meta, "evaluations": result.evaluations}
    result.tableau.with_meta(**meta).save(args.out)
    write_json(args.history, {"evaluations": result.evaluations, "seconds": result.seconds, "history": result.history})


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--token", required=True, help="name of the solver in the results")
parser.add_argument("--spec", required=True, help="JSON: prediction, order, driver, decoupled, settings")
parser.add_argument("--base", required=True, help="tableau of the classical solver to start from")
parser.add_argument("--train", required=True, help="teacher pairs to learn from")
parser.add_argument("--val", required=True, help="teacher pairs to validate on")
parser.add_argument("--batch-size", type=int, default=512, help="rows at a time in validation")
parser.add_argument("--state", required=True, help="resumable state, removed at the end")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True, help="the learned tableau")
parser.add_argument("--history", required=True, help="JSON with the fit's course and cost")
run_script(main, parser)
