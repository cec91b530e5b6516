"""Where the files are that come with the package: config/, resources/. A wheel has them inside it, a checkout beside src."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path


def shipped(name: str) -> Path:
    """The path of a shipped file or folder, such as "config/models"; it may not exist."""
    inside = files("s4s.files") / "shipped"
    if inside.is_dir():
        with as_file(inside) as folder:  # wheels are unpacked when they are installed, so this is no temporary copy
            return folder / name
    return Path(__file__).parents[3] / name
