"""Files that operating systems and programs leave in every folder that they show: no data, though some are images."""

from __future__ import annotations

from pathlib import Path, PurePath

from s4s.errors import S4SError

MOST = 2_000_000  # files in a folder of data; ImageNet has 1.3 million

NAMES = {
    "@eadir", "__macosx", "$recycle.bin", "lost+found", "system volume information", "#recycle",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
}  # fmt: skip


def files_below(folder: Path, most: int = MOST) -> list[Path]:
    """All files in a folder and the folders in it, in the order of their names, stray ones aside.

    Raises:
        S4SError: if there are more.
    """
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not is_stray(path.relative_to(folder)):
            found.append(path)
            if len(found) > most:
                raise S4SError(
                    f"{folder}: refused: it has more than {most:,} files; name the folder of the model or images alone"
                )
    return sorted(found)


def is_stray(path: PurePath) -> bool:
    """Whether a part of a path inside a folder of data is hidden (.DS_Store, ._a.png, .thumbnails) or one of `NAMES`."""
    return any(part.startswith(".") or part.lower() in NAMES for part in path.parts)
