"""Write report.html: what was run, tables, figures and where every number comes from, on one page."""

import argparse
import os

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.reporting.report import write_report
    from s4s.study.config import Config

    models, run = dict(item.split("=", 1) for item in args.models), os.environ.get("S4S_STARTED", "")
    config = Config.model_validate_json(args.config)
    write_report(args.scores, args.figures, config, models, args.out, args.logs, run, args.comparison, args.saved, args.further)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--scores", required=True)
parser.add_argument("--figures", nargs="+", required=True, help="PNG files")
parser.add_argument("--logs", required=True, help="folder of the jobs' logs, whose last lines say what each cost")
parser.add_argument("--config", required=True, help="JSON of the config, without its defaults")
parser.add_argument("--models", nargs="+", required=True, help="NAME=FILE, the YAML file of each model")
parser.add_argument("--comparison", default="", help="name of a further comparison; by default the config's own")
parser.add_argument("--further", nargs="*", default=[], help="names of further comparisons, whose reports are linked")
parser.add_argument("--saved", help="evaluations_saved.csv of a further comparison")
parser.add_argument("--out", required=True)
run_script(main, parser)
