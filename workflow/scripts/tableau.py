"""Write the tableau of a classical solver on fixed or searched levels."""

import argparse
import json

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.models.load import load_outline
    from s4s.study.make import classical

    spec, model = json.loads(args.spec), load_outline(args.model)
    classical(spec, args.nfe, model, args.token, args.family, args.costs, args.statistics).save(args.out)


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
