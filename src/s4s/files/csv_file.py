"""Results that are CSV files: written with a checksum beside them, compared with it when read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4s.errors import DamagedFile, one_line
from s4s.files.checksum import read_with_checksum, write_with_checksum

if TYPE_CHECKING:
    import pandas as pd


def write_csv(path: str | Path, rows: pd.DataFrame) -> None:
    """Write rows without their index; NAME.csv.sha256 has the checksum."""
    write_with_checksum(path, rows.to_csv(index=False))


def read_csv(path: str | Path, what: str = "this table", **options: Any) -> pd.DataFrame:
    """Read what `write_csv` wrote, or a table without a checksum beside it; `options` are those of pandas.

    Raises:
        S4SError: if there is no such file; a DamagedFile if it was changed or is no CSV.
    """
    import pandas as pd

    content = read_with_checksum(path, what)
    try:
        return pd.read_csv(io.BytesIO(content), **options)
    except ValueError as error:  # pandas' own are such
        raise DamagedFile(path, f"cannot read {what}: {one_line(error)}; make it again or restore it") from error
