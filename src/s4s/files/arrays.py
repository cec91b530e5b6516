"""Arrays of numbers in .npz files, written whole and read without pickles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from s4s.errors import S4SError, one_line
from s4s.files.atomic import atomic_path


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file of these arrays."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: str | Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """The arrays of an .npz file whose names are wanted.

    Raises:
        S4SError: if it is none, is damaged, or one of them holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if wanted(name)}
    except (
        Exception
    ) as error:  # zipfile, its compressions and numpy's headers raise what they like; an .npy file has no `files`
        raise S4SError(f"{path}: not an .npz file of numbers ({type(error).__name__}: {one_line(error)})") from error
