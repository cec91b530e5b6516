"""The resumable state of a fit: written now and then, read when the same fit starts again."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from s4s.errors import one_line
from s4s.files.atomic import atomic_path
from s4s.files.rows import Split
from s4s.files.zip_seal import check_zip, sealed
from s4s.learning.loop import Loop

STATE_SECONDS = 2.0  # between states that are saved; longer where saving takes more than 2 % of it


def identity(**parts: Any) -> str:
    """Hash of all that determines a fit; a state of another fit is not resumed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def rows_digest(split: Split) -> str:
    """Hash of the bytes of all arrays of a split, with their names, types and shapes."""
    found = xxhash.xxh3_128()
    for name, array in sorted(split.arrays().items()):
        found.update(f"{name} {array.dtype} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


class StateFile:
    """Where one fit keeps its state, and its clock, which goes on where the state's stopped.

    Args:
        path: None keeps nothing. fit_identity: of `identity`; a state with another one is foreign.
    """

    def __init__(self, path: Path | None, fit_identity: str):
        self.path, self.identity = path, fit_identity
        self.earlier_seconds = 0.0
        self.started = self.last_saved = time.perf_counter()
        self.cost = 0.0  # seconds that saving took

    def seconds(self) -> float:
        """Wall time of the fit, with that of earlier interrupted runs."""
        return self.earlier_seconds + time.perf_counter() - self.started

    def resume(self, loop: Loop) -> None:
        """Set the loop to the saved state, if there is one of this very fit; a damaged or foreign one is left alone."""
        saved = self._load()
        if saved is not None and loop.same_initial_loss(saved):
            loop.restore(saved)
            self.earlier_seconds = saved["seconds"]

    def is_due(self) -> bool:
        """Whether the last state is old enough for the next."""
        return time.perf_counter() - self.last_saved > STATE_SECONDS * max(1.0, 25 * self.cost)

    def save(self, loop: Loop) -> None:
        """Write the loop's state, whole or not at all."""
        if self.path is None:
            return
        begun = time.perf_counter()
        content = io.BytesIO()  # a file written by torch itself ends, on a full disk, in an error that does not say so
        torch.save({"identity": self.identity, "seconds": self.seconds(), **loop.state()}, content)
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(sealed(content.getvalue()))
        self.last_saved = time.perf_counter()
        self.cost = self.last_saved - begun

    def _load(self) -> dict[str, Any] | None:
        if self.path is None or not self.path.exists():
            return None
        try:
            check_zip(self.path)  # torch itself does not compare the checksums of its records
            state = torch.load(self.path, weights_only=True)
            return state if state["identity"] == self.identity else None
        except Exception as error:  # a damaged file can raise anything
            print(f"{self.path}: damaged ({one_line(error, 80)}); this fit starts from its beginning", file=sys.stderr)
            return None
