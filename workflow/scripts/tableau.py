"""Write the tableau of a classical solver on its noise schedule."""

import argparse

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.models.load import load_outline
    from s4s.study.definitions import Classical
    from s4s.study.make import classical

    definition, model = Classical.from_json(args.definition), load_outline(args.model)
    classical(definition, args.nfe, model, args.token, args.costs, args.statistics).save(args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--token", required=True, help="name of the solver in the results")
parser.add_argument("--definition", required=True, help="JSON of the classical solver, with its levels")
parser.add_argument("--nfe", type=int, required=True)
parser.add_argument("--costs", nargs="?", help="costs of steps, for levels: gits")
parser.add_argument("--statistics", nargs="?", help="statistics of the model, for solver: dpm_v3")
parser.add_argument("--out", required=True)
run_script(main, parser)
