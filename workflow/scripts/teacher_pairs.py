"""Join the teacher's shards, one a split, in one file of virtual datasets."""

import argparse
from pathlib import Path

from s4s.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.store import merge_splits

    merge_splits(args.out, {Path(shard).stem: Path(shard) for shard in args.shards})


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("shards", nargs="+", help="files named after their split")
parser.add_argument("--out", required=True)
run_script(main, parser)
