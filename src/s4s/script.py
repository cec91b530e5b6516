"""How the workflow's scripts start: arguments, one thread a core given, one clear line for a wrong input."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from s4s.errors import S4SError


def run_script(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line and call `main`; an S4SError becomes one message and exit code 1."""
    arguments = parser.parse_args()
    try:
        main(arguments)
    except S4SError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def use_device(threads: int) -> str:
    """The GPU if there is one, else the CPU with `threads` threads. Results do not depend on other jobs' threads."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads)
    return "cuda" if torch.cuda.is_available() else "cpu"
