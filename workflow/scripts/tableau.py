"""Write the tableau of a classical solver on a fixed grid."""

import argparse
import json

from s4s.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.levels import levels
    from s4s.models.load import load_model
    from s4s.solvers import solver

    spec = json.loads(args.spec)
    model = load_model(args.model)
    grid = levels(spec["levels"], args.nfe, model, **spec["level_options"])
    tableau = solver(spec["solver"], grid, **spec["solver_options"])
    tableau.with_meta(model=model.name, token=args.token, family="classical", schedule=spec["levels"]).save(args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--token", required=True, help="name of the solver in the results")
parser.add_argument("--spec", required=True, help="JSON: solver, solver_options, levels, level_options")
parser.add_argument("--nfe", type=int, required=True)
parser.add_argument("--out", required=True)
run_script(main, parser)
