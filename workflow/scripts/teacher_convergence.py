"""Measure the teacher's own error against its number of steps, on validation noise; write a CSV."""

import argparse

from s4s.jobs.script import run_script, use_device


def main(args: argparse.Namespace) -> dict[str, int]:
    device = use_device(args.threads)
    from s4s.files.checksum import write_with_checksum
    from s4s.learning.teacher import convergence
    from s4s.models.load import load_model
    from s4s.study.definitions import Classical

    definition = Classical.from_json(args.definition)
    teacher = definition.solver, definition.solver_options(), definition.levels
    denoiser = load_model(args.model, device)
    rows = convergence(denoiser, *teacher, args.steps, args.count, denoiser.block)
    lines = [f"{denoiser.name},{steps},{error:.8e}" for steps, error in rows]
    write_with_checksum(args.out, "\n".join(["model,steps,global_error", *lines]) + "\n")
    return {"evaluations": (4 * args.steps + sum(steps for steps, _ in rows)) * args.count * denoiser.passes}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--definition", required=True, help="JSON of the classical solver, with its levels")
parser.add_argument("--steps", type=int, required=True, help="the teacher's number of steps")
parser.add_argument("--count", type=int, required=True, help="number of samples")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
