"""What a question finds out about one model, as rows of a CSV."""

import argparse

from s4s.jobs.script import run_script, use_device
from s4s.study.questions import QUESTIONS


def main(args: argparse.Namespace) -> None:
    device = use_device(args.threads)
    from s4s.files.csv_file import write_csv
    from s4s.files.named_function import function_of
    from s4s.models.load import load_model
    from s4s.reporting.questions.job import Job, Key

    def named(items: list[str]) -> dict[Key, str]:
        pairs = (item.split("=", 1) for item in items)
        return {Key(model, solver, int(nfe)): path for cell, path in pairs for model, solver, nfe in [cell.split("/")]}

    denoiser = load_model(args.model, device)
    job = Job(args.model, denoiser, named(args.cells), named(args.fits), args.pairs, args.reference)
    rows = function_of(f"s4s.reporting.questions.{args.question}:answer")(job)
    write_csv(args.out, rows)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("question", choices=list(QUESTIONS))
parser.add_argument("--model", required=True)
parser.add_argument("--reference", nargs="?", help="moments of the real data, where they were computed before")
parser.add_argument("--cells", nargs="+", required=True, help="MODEL/SOLVER/NFE=FILE: tableaux or samples")
parser.add_argument("--fits", nargs="*", default=[], help="MODEL/SOLVER/NFE=FILE: convergence curves of fits")
parser.add_argument("--pairs", nargs="*", default=[], help="teacher pairs of the test noise")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--out", required=True)
run_script(main, parser)
