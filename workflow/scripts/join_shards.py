"""Join shards in one file of virtual datasets."""

import argparse

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.files.rows import merge

    merge(args.out, args.kind, args.shards, args.keys)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("shards", nargs="+", help="HDF5 files, those of a split in its order")
parser.add_argument("--kind", choices=["teacher-pairs", "samples"], required=True, help="what the file is")
parser.add_argument("--keys", nargs="+", help="datasets to take; all by default")
parser.add_argument("--out", required=True)
run_script(main, parser)
