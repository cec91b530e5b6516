"""Progress with time left: a live bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from tqdm import tqdm


def progress(**options: Any) -> tqdm[NoReturn]:
    """`tqdm` on standard error; in a file it prints at most one line every ten seconds."""
    terminal = sys.stderr.isatty()
    return tqdm(
        file=sys.stderr,
        dynamic_ncols=terminal,
        mininterval=0.1 if terminal else 10.0,
        ascii=not terminal,
        **options,
    )
