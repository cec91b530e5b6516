"""Fetch a published file or folder to where a model's YAML file says."""

import argparse
import json

from s4s.jobs.script import run_script


def main(args: argparse.Namespace) -> None:
    from s4s.models.description import WeightFile
    from s4s.models.download import fetch

    fetch(WeightFile.model_validate(json.loads(args.file)), args.below)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--file", required=True, help="JSON: path, url, member, sha256")
parser.add_argument("--below", nargs="+", required=True, help="folders of which one must hold the path")
run_script(main, parser)
