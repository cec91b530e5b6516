"""Run the teacher's solver from search noise and keep the states and outputs at all steps."""

import argparse

from s4s.jobs.script import run_script, use_device


def main(args: argparse.Namespace) -> dict[str, int]:
    device = use_device(args.threads)
    from s4s.files.rows import TEACHER_PAIRS, write_splits
    from s4s.learning.teacher import attributes, make_pairs
    from s4s.models.load import load_model
    from s4s.models.seeds import sample_seeds
    from s4s.schedules import levels
    from s4s.solvers import solver
    from s4s.study.definitions import Classical

    definition = Classical.from_json(args.definition)
    denoiser = load_model(args.model, device)
    schedule = levels(definition.levels, args.steps, denoiser, **definition.level_options())
    teacher = solver(definition.solver, schedule, path=denoiser.path, **definition.solver_options())
    seeds = sample_seeds("search", args.count)
    paths = make_pairs(denoiser, teacher, seeds, denoiser.block, trajectory=True, show_progress=True)
    write_splits(args.out, TEACHER_PAIRS, {"search": paths}, attributes(denoiser, teacher))
    return {"evaluations": args.count * teacher.nfe * denoiser.passes}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--definition", required=True, help="JSON of the classical solver, with its levels")
parser.add_argument("--steps", type=int, required=True, help="steps of the trajectories")
parser.add_argument("--count", type=int, required=True, help="number of trajectories")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
