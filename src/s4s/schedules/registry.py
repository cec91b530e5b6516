"""Calls a registered function with options from a user, and says clearly which of them it does not take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from s4s.errors import S4SError

T = TypeVar("T")


def call_checked(function: Callable[..., T], what: str, *args: Any, **options: Any) -> T:
    """`function(*args, **options)`; an option that it does not take is an S4SError that lists those it does."""
    parameters = list(inspect.signature(function).parameters.values())[len(args) :]
    allowed = [p.name for p in parameters]
    for option in options:
        if option not in allowed:
            raise S4SError(f"{what} has no option {option!r}; allowed: {', '.join(allowed) or 'none'}")
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise S4SError(f"{what} needs the option {parameter.name!r}")
    return function(*args, **options)
