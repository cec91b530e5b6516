"""What the scores of a comparison say, as tables: NFE speed-up, ranks over cells, tests between neighbours."""

import argparse
from pathlib import Path

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    import pandas as pd

    from s4s.files.atomic import write_text
    from s4s.files.checksum import ENDING, write_with_checksum
    from s4s.reporting import comparisons
    from s4s.reporting.tables import measures_markdown, saved_markdown

    table = comparisons.read_measures(args.metrics, args.scores)
    saved, ranks = comparisons.nfe_saved(table), comparisons.ranks(table)
    ranked = ranks.table() if ranks else pd.DataFrame(columns=["solver", "average_rank", "p_next"])
    texts = {
        "measures.md": measures_markdown(table),
        "evaluations_saved.csv": saved.to_csv(index=False),
        "evaluations_saved.md": saved_markdown(saved),
        "ranks.csv": ranked.to_csv(index=False),
        "paired_tests.csv": comparisons.paired_tests(table).to_csv(index=False),
    }
    for path in (path for path in args.out if not path.endswith(ENDING)):
        write = write_with_checksum if path.endswith(".csv") else write_text
        write(path, texts[Path(path).name])


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--scores", required=True)
parser.add_argument("--metrics", required=True)
parser.add_argument("--out", nargs="+", required=True, help="files to write; their names say what each is")
run_script(main, parser)
