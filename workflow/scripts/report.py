"""Write results/report.html: the tables and figures on one page that needs no other file."""

import argparse
import os

from s4s.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.report import write_report

    write_report(args.scores, args.figures, args.config, args.out, args.logs, os.environ.get("S4S_STARTED", ""))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--scores", required=True)
parser.add_argument("--figures", nargs="+", required=True, help="PNG files")
parser.add_argument("--logs", required=True, help="folder of the jobs' logs, whose last lines say what each cost")
parser.add_argument("--config", required=True, help="JSON of the config, printed at the end of the page")
parser.add_argument("--out", required=True)
run_script(main, parser)
