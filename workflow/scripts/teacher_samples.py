"""Give the teacher's end points on the test noise the form of samples, so that the teacher is scored like any solver."""

import argparse

from s4s.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.samples import copy_teacher_samples

    copy_teacher_samples(args.pairs, args.seeds, args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pairs", required=True)
parser.add_argument("--seeds", type=int, nargs="+", required=True, help="sampling seeds")
parser.add_argument("--out", required=True)
run_script(main, parser)
