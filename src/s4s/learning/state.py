"""The resumable state of a fit: written now and then, read when the same fit starts again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from s4s.files.atomic import atomic_path


def identity(**parts: Any) -> str:
    """Hash of all that determines a fit; a state of another fit is not resumed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def save_state(path: Path, state: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path | None, fit_identity: str) -> dict[str, Any] | None:
    """The saved state of this very fit, or None; a damaged or foreign state means starting anew."""
    if path is None or not path.exists():
        return None
    try:
        state = torch.load(path, weights_only=True)
    except Exception:  # a damaged file can raise anything
        return None
    return state if isinstance(state, dict) and state.get("identity") == fit_identity else None
