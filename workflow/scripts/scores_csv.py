"""Gather the scores of all cells in one long-form table, and every measure of every sampling seed in another."""

import argparse

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.files.csv_file import write_csv
    from s4s.files.json_file import read_signed
    from s4s.reporting.tables import by_seed, gather
    from s4s.study import paths, targets
    from s4s.study.study import Study

    study = Study.read(read_signed(args.config, "the config of this run"))
    cells = study.cells(args.of)
    root = targets.local_root(args.first, paths.score(cells[0]))
    scores = {cell: root + paths.score(cell) for cell in cells}
    fits = {scores[cell]: root + paths.fit(cell) for cell in study.fits(args.of)}
    table = gather(scores.values(), targets.describe(study, args.of), fits)
    write_csv(args.scores, table)
    write_csv(args.metrics, by_seed(scores.values()))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--config", required=True, help="JSON: the config of the run")
parser.add_argument("--of", required=True, help="tables, or study/NAME of a further comparison")
parser.add_argument("--first", required=True, help="file of the first cell's scores; the others lie in the same results")
parser.add_argument("--scores", required=True, help="CSV to write, a row a cell")
parser.add_argument("--metrics", required=True, help="CSV to write, a row a measure and sampling seed")
run_script(main, parser)
