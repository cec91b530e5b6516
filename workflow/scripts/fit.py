"""Fit a learned solver to the teacher's pairs; an interrupted fit goes on where it was."""

import argparse
from pathlib import Path

from s4s.jobs.script import run_script, use_device


def main(args: argparse.Namespace) -> dict[str, int]:
    device = use_device(args.threads)
    from s4s.learning.fit_record import FitRecord
    from s4s.learning.settings import FitSettings
    from s4s.learning.teacher import TeacherPairs
    from s4s.models.load import load_model
    from s4s.study.definitions import Learned
    from s4s.study.make import learned
    from s4s.tableau import Tableau

    denoiser = load_model(args.model, device)
    bases, near = list(map(Tableau.load, args.bases)), Tableau.load(args.warm_start) if args.warm_start else None
    pairs = TeacherPairs.load(args.train, args.val)
    definition = Learned.from_json(args.definition)
    settings = FitSettings.model_validate(definition.fit)
    result = learned(definition, settings, denoiser, bases, pairs, args.token, args.model, near, args.state)
    result.tableau.save(args.out)
    record = FitRecord.of(result)
    record.save(args.history)
    Path(args.state).unlink(missing_ok=True)
    return {"evaluations": record.evaluations}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--token", required=True, help="name of the solver in the results")
parser.add_argument("--definition", required=True, help="JSON of the learned solver, with all settings of its fit")
parser.add_argument(
    "--bases", nargs="+", required=True, help="tableaux of classical solvers: the best on the validation pairs is started from"
)
parser.add_argument(
    "--warm-start", nargs="?", help="tableau of a learned solver, at another NFE or of another model, to start near"
)
parser.add_argument("--train", nargs="+", required=True, help="teacher pairs to learn from: a file, or shards")
parser.add_argument("--val", nargs="+", required=True, help="teacher pairs to validate on")
parser.add_argument("--state", required=True, help="resumable state, removed when the results are there")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True, help="the learned tableau")
parser.add_argument("--history", required=True, help="JSON with the fit's convergence curve and cost")
run_script(main, parser)
