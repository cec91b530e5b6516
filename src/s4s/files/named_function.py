"""Functions by name, "module:function": those of registries, and a user's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from s4s.errors import S4SError, needed_for

_NAMED: set[str] = set()


def function_of(name: str) -> Callable[..., Any]:
    """What "module:function" names; a module of one's own is looked for in the working directory first.

    Raises:
        S4SError: if it cannot be imported; it says which extra is missing, where that is why.
    """
    module, _, function = name.partition(":")
    if module.partition(".")[0] != "s4s" and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with needed_for(name):
            found = getattr(import_module(module), function)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise S4SError(
            f"{name!r} cannot be imported ({error}); put its module into the working directory, or install it"
        ) from error
    _NAMED.add(name)
    return found  # type: ignore[no-any-return]


def was_named(name: str) -> bool:
    """Whether `function_of` was asked for it in this process: by a config or a caller, not by what a file says of itself."""
    return name in _NAMED
