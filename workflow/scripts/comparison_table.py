"""Draw a comparison table, solvers x NFE, from scores.csv; the ending of the output says Markdown or LaTeX."""

import argparse

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.files.atomic import write_text
    from s4s.reporting.tables import latex, markdown, read_scores

    draw = latex if args.out.endswith(".tex") else markdown
    write_text(args.out, draw(read_scores(args.scores), args.metric))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--scores", required=True)
parser.add_argument("--metric", choices=["fid", "global_error"], required=True)
parser.add_argument("--out", required=True, help="a path that ends in .md or .tex")
run_script(main, parser)
