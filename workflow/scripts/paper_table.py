"""Write a table for a paper, from scores.csv and the published figures, or the document that has them all."""

import argparse

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.files.atomic import write_text
    from s4s.reporting import paper_tables as paper
    from s4s.reporting.tables import read_scores

    kind, _, name = args.name.partition("-")
    if kind == "paper":
        text = paper.document(args.tables, args.figures)
    else:
        scores, published = read_scores(args.scores), paper.published_figures(args.published)
        match kind:
            case "fid":
                table = paper.fid_table(scores[scores.model == name], published, args.dataset)
            case "published":
                models = dict(item.split("=", 1) for item in args.models)
                table = paper.published_table(args.dataset, published, scores, models)
            case "fit_time":
                table = paper.fit_time_table(scores)
        text = paper.latex(table) if args.out.endswith(".tex") else paper.markdown(table)
    write_text(args.out, text)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("name", help="fid-MODEL, published-DATASET, fit_time, or paper for the document")
parser.add_argument("--scores", help="results/tables/scores.csv")
parser.add_argument("--published", help="resources/published/fid.csv")
parser.add_argument("--dataset", nargs="?", const="", default="", help="name in the published figures")
parser.add_argument("--models", nargs="*", default=[], help="MODEL=DATASET for models with published figures")
parser.add_argument("--tables", nargs="*", default=[], help="of the document")
parser.add_argument("--figures", nargs="*", default=[], help="of the document")
parser.add_argument("--out", required=True, help="a path that ends in .md or .tex")
run_script(main, parser)
