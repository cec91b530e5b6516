"""Moments of features in .npz files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from s4s.errors import DamagedFile, S4SError
from s4s.files.arrays import read_arrays, write_arrays
from s4s.metrics.fid import Moments, check_moments


def read_moments(path: Path) -> Moments:
    """mu and sigma of an .npz file: EDM's fid-refs, clean-fid's statistics and ADM's reference batches have them.

    Files of ours also have rows, the first of the features themselves, and may have components, as `Moments` has them.

    Raises:
        S4SError: if it is no such file, or they are no moments.
    """
    found = read_arrays(path, {"mu", "sigma", "rows", "components"}.__contains__)
    if missing := {"mu", "sigma"} - found.keys():
        raise S4SError(f"{path}: no {' and no '.join(sorted(missing))}; statistics are an .npz file with mu and sigma")
    if (rows := found.get("rows")) is not None and len(np.atleast_1d(rows)) < 2:
        raise S4SError(f"{path}: rows has fewer than 2 of them; make the file again")
    return check_moments(found["mu"], found["sigma"], rows, path, found.get("components"))


def known_moments(path: Path) -> Moments:
    """Those of a file that `write_moments` wrote, which can be written again."""
    try:
        return read_moments(path)
    except S4SError as error:
        raise DamagedFile(path, str(error).removeprefix(f"{path}: ")) from error


def write_moments(path: str | Path, found: Moments) -> None:
    """Write moments so that `read_moments` gives them back."""
    arrays = {"mu": found.mean, "sigma": found.covariance, "rows": found.rows, "components": found.components}
    write_arrays(path, {name: array for name, array in arrays.items() if array is not None})
