"""Write the tableau of a classical solver on its noise schedule, or of one that others have published."""

import argparse

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.export.zoo.tableaux import zoo_tableau
    from s4s.models.load import load_outline
    from s4s.models.model_files import read_model_file
    from s4s.study.definitions import Classical, without_fit
    from s4s.study.make import classical, published
    from s4s.tableau import Tableau

    definition, model = without_fit(args.definition), load_outline(args.model)
    if isinstance(definition, Classical):
        made = classical(definition, args.nfe, model, args.token, args.costs, args.statistics)
    else:
        name = definition.in_zoo(model.name, args.nfe)
        source = zoo_tableau(name, model) if name else Tableau.load(definition.files(model.name, args.nfe)[0])
        made = published(source, definition, args.nfe, model, args.token, read_model_file(args.model).guidance_scale())
    made.save(args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--token", required=True, help="name of the solver in the results")
parser.add_argument("--definition", required=True, help="JSON of the solver, a classical one with its levels")
parser.add_argument("--nfe", type=int, required=True)
parser.add_argument("--costs", nargs="?", help="costs of steps, for levels: gits")
parser.add_argument("--statistics", nargs="?", help="statistics of the model, for solver: dpm_v3")
parser.add_argument("--out", required=True)
run_script(main, parser)
