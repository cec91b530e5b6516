"""A question's rows of all models: one CSV, a table and a figure."""

import argparse
import json

from s4s.jobs.script import run_script
from s4s.study.questions import QUESTIONS


def main(args: argparse.Namespace) -> None:
    import pandas as pd

    from s4s.files.atomic import write_text
    from s4s.files.csv_file import read_csv, write_csv
    from s4s.files.named_function import function_of
    from s4s.reporting import figures
    from s4s.reporting.questions.markdown import markdown
    from s4s.reporting.tables import read_scores

    scores = read_scores(args.scores)
    if args.question == "ablation":
        gather = function_of(f"s4s.reporting.questions.{args.question}:gather")
        rows = gather(read_csv(args.metrics, "these measures"), scores, json.loads(args.groups))
    else:
        rows = pd.concat(map(read_csv, args.rows), ignore_index=True)
        rows = rows.merge(scores[["solver", "family"]].drop_duplicates(), on="solver", how="left")
    table, text, *pictures = args.out
    write_csv(table, rows)
    write_text(text, markdown(function_of(f"s4s.reporting.questions.{args.question}:tables")(rows)))
    figures.save(function_of(f"s4s.reporting.questions.{args.question}:figure")(rows), *pictures)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("question", choices=[*QUESTIONS, "ablation"])
parser.add_argument("--rows", nargs="*", default=[], help="CSV of each model")
parser.add_argument("--scores", required=True)
parser.add_argument("--metrics", required=True)
parser.add_argument("--groups", default="{}", help="JSON: solvers of each group of an ablation")
parser.add_argument("--out", nargs=4, required=True, help="CSV, table in Markdown, figure as PDF and PNG")
run_script(main, parser)
