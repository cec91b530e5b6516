"""What a model is, as one digest of its description and its files' contents: the same for another clone or a copy of them."""

from __future__ import annotations

import hashlib
import json
import stat
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from s4s.errors import S4SError
from s4s.files import checksum
from s4s.files.json_file import read_signed, write_signed
from s4s.files.stray_files import files_below
from s4s.models.description import AnyModel, PythonModel

KEPT = Path(".snakemake") / "s4s-checksums.json"  # of large files, by path, size and time of change
LARGE = 1 << 20
DESCRIBED = {"study", "features", "perceptual", "throughput", "licence", "published"}  # what does not change samples


def of_model(model: AnyModel, *parts: str) -> str:
    """Digest of what a model's samples depend on, and of further parts of its description, features or perceptual.

    A file whose SHA-256 the description says counts by that; whoever reads it compares it. Else one that is published counts by
    where it is published, since it may not be here yet; any other by its content.
    """
    described = _plain(model, DESCRIBED - {*parts})
    if isinstance(model, PythonModel) and (module := model.module_file()) is not None:
        described["module"] = file_digest(module)
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _plain(value: Any, without: set[str] | None = None) -> Any:
    """Plain values, with the content of a file instead of its path."""
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields if name not in (without or ())}
        if fields.get("sha256") or fields.get("url") or fields.get("repository"):
            fields.pop("path", None)
        if fields.get("sha256"):
            fields.pop("url", None)
        return {name: _plain(field) for name, field in fields.items()}
    if isinstance(value, dict):
        return {str(key): _plain(field) for key, field in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(field) for field in value]
    return path_digest(value) if isinstance(value, Path) else value


def path_digest(path: Path) -> str:
    """Digest of a file, or of all files in a folder with their names, stray ones aside; of what is not there its absence."""
    if not path.is_dir():
        return file_digest(path)
    lines = [f"{file_digest(file)}  {file.relative_to(path).as_posix()}" for file in files_below(path)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file; that of a large one is kept until its size or its time of change is another."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "absent"  # a device or a pipe may never end
        if status.st_size < LARGE:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        key, look = str(path.resolve()), [status.st_size, status.st_mtime_ns]
        if (kept := _kept().get(key)) and kept[:2] == look:
            return str(kept[2])
        digest = checksum.file_digest(path)
    except OSError:
        return "absent"
    _kept()[key] = [*look, digest]
    if KEPT.parent.is_dir():
        write_signed(KEPT, _kept())
    return digest


@cache
def _kept() -> dict[str, list[Any]]:
    try:
        return read_signed(KEPT, "this list of checksums")
    except S4SError:
        return {}
