"""Write report.html: what was run, tables, figures and where every number comes from, on one page."""

import argparse
import os

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.files.json_file import read_signed
    from s4s.reporting.report import write_report
    from s4s.study.study import MAIN, Study

    study = Study.read(read_signed(args.config, "the config of this run"))
    run, folder = os.environ.get("S4S_STARTED", ""), args.of.rstrip("/") or MAIN
    write_report(study, folder, args.scores, args.figures, args.out, args.logs, run, args.saved)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--config", required=True, help="JSON: the config of the run")
parser.add_argument("--of", nargs="?", const="", default="", help="study/NAME of a comparison; by default the config's own")
parser.add_argument("--scores", required=True)
parser.add_argument("--figures", nargs="+", required=True, help="PNG files")
parser.add_argument("--logs", required=True, help="folder of the jobs' logs, whose last lines say what each cost")
parser.add_argument("--saved", nargs="?", help="evaluations_saved.csv of a further comparison")
parser.add_argument("--out", required=True)
run_script(main, parser)
