"""What the scores of a comparison say, as tables: evaluations saved, ranks over cells, tests between neighbours."""

import argparse
from pathlib import Path

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    import pandas as pd

    from s4s.files.atomic import write_text
    from s4s.reporting import comparisons
    from s4s.reporting.tables import measures_markdown, saved_markdown

    table = comparisons.read_measures(args.metrics, args.scores)
    saved, ranks = comparisons.nfe_saved(table), comparisons.ranks(table)
    folder = Path(args.out)
    write_text(folder / "measures.md", measures_markdown(table))
    write_text(folder / "evaluations_saved.csv", saved.to_csv(index=False))
    write_text(folder / "evaluations_saved.md", saved_markdown(saved))
    ranked = ranks.table() if ranks else pd.DataFrame(columns=["solver", "average_rank", "p_next"])
    write_text(folder / "ranks.csv", ranked.to_csv(index=False))
    write_text(folder / "paired_tests.csv", comparisons.paired_tests(table).to_csv(index=False))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--scores", required=True)
parser.add_argument("--metrics", required=True)
parser.add_argument("--out", required=True, help="folder")
run_script(main, parser)
