"""Files that operating systems and programs leave in every folder that they show: no data, though some are images."""

from __future__ import annotations

from pathlib import PurePath

NAMES = {
    "@eadir", "__macosx", "$recycle.bin", "lost+found", "system volume information", "#recycle",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
}  # fmt: skip


def is_stray(path: PurePath) -> bool:
    """Whether a part of a path inside a folder of data is hidden (.DS_Store, ._a.png, .thumbnails) or one of `NAMES`."""
    return any(part.startswith(".") or part.lower() in NAMES for part in path.parts)
