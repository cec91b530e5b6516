"""A question's rows of all models: one CSV, a table and a figure."""

import argparse
import json
from importlib import import_module

from s4s.jobs.script import run_script
from s4s.study.questions import QUESTIONS


def main(args: argparse.Namespace) -> None:
    import pandas as pd

    from s4s.files.atomic import write_text
    from s4s.reporting import figures
    from s4s.reporting.questions.markdown import markdown
    from s4s.reporting.tables import read_scores

    module = import_module(f"s4s.reporting.questions.{args.question}")
    scores = read_scores(args.scores)
    if args.question == "ablation":
        rows = module.gather(pd.read_csv(args.metrics), scores, json.loads(args.groups))
    else:
        rows = pd.concat(map(pd.read_csv, args.rows), ignore_index=True)
        rows = rows.merge(scores[["solver", "family"]].drop_duplicates(), on="solver", how="left")
    write_text(f"{args.out}.csv", rows.to_csv(index=False))
    write_text(f"{args.out}.md", markdown(module.tables(rows)))
    figures.save(module.figure(rows), args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("question", choices=[*QUESTIONS, "ablation"])
parser.add_argument("--rows", nargs="*", default=[], help="CSV of each model")
parser.add_argument("--scores", required=True)
parser.add_argument("--metrics", required=True)
parser.add_argument("--groups", default="{}", help="JSON: solvers of each group of an ablation")
parser.add_argument("--out", required=True, help="path of CSV, table and figure without their endings")
run_script(main, parser)
