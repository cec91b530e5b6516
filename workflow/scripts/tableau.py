"""Write the tableau of a classical solver on fixed or searched levels."""

import argparse
import json

from s4s.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.levels import levels
    from s4s.models.load import load_outline
    from s4s.provenance import made_for
    from s4s.solvers import solver

    spec = json.loads(args.spec)
    model = load_outline(args.model)
    level_options = {**spec["level_options"], **({"costs": args.costs} if args.costs else {})}
    solver_options = {**spec["solver_options"], **({"statistics": args.statistics} if args.statistics else {})}
    steps = args.nfe + solver_options.get("analytic_first_step", False)
    grid = levels(spec["levels"], steps, model, **level_options)
    tableau = solver(spec["solver"], grid, start=model.s_max, path=model.path, **solver_options)
    tableau.with_meta(**made_for(model), token=args.token, family=args.family, schedule=spec["levels"]).save(args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--token", required=True, help="name of the solver in the results")
parser.add_argument("--family", default="classical", help="classical or searched")
parser.add_argument("--spec", required=True, help="JSON: solver, solver_options, levels, level_options")
parser.add_argument("--nfe", type=int, required=True)
parser.add_argument("--costs", help="costs of steps, for levels: gits")
parser.add_argument("--statistics", help="statistics of the model, for solver: dpm_v3")
parser.add_argument("--out", required=True)
run_script(main, parser)
