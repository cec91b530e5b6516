"""The further questions of a comparison, one module each."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def part(name: str) -> Any:
    """A question's function by "s4s.reporting.questions.QUESTION:FUNCTION": answer, tables, figure, gather."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)
