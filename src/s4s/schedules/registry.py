"""What the registries of solvers, schedules and learned families share: options, functions by name, a user's own. No torch.

An entry names its function as "module:function" and its options as a pydantic model, from which the config's schema, the docs
and the messages of errors are made. A user's own solver, schedule or family has no entry: its name is "module:function" too, of
a module in the working directory or on PYTHONPATH, and its options are what its signature says.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError

from s4s.errors import S4SError, shown
from s4s.files.json_file import Strict

T = TypeVar("T")
O = TypeVar("O", bound="Options")  # noqa: E741


class Options(Strict):
    """Options by name: type, default and meaning. One without a default must be given."""

    @classmethod
    def names(cls) -> list[str]:
        """All options."""
        return [*cls.model_fields]

    @classmethod
    def needed(cls) -> list[str]:
        """Options without a default."""
        return [name for name, field in cls.model_fields.items() if field.is_required()]

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """The values of each option that has finitely many."""
        found = {}
        for name, field in cls.model_fields.items():
            if field.annotation is bool:
                found[name] = (False, True)
            elif get_origin(field.annotation) is Literal:
                found[name] = get_args(field.annotation)
        return found


def checked(options: type[O], what: str, given: Mapping[str, Any]) -> O:
    """The options of an entry, with its defaults for those that are not given.

    Raises:
        S4SError: that `what` has no such option, needs another one, or does not take a value.
    """
    for name in given:
        if name not in options.model_fields:
            raise S4SError(f"{what} has no option {name!r}; allowed: {', '.join(options.names()) or 'none'}")
    try:
        return options.model_validate(dict(given))
    except ValidationError as error:
        raise S4SError(reason(options, what, error)) from error


def reason(options: type[Options], what: str, error: ValidationError) -> str:
    """The first thing that is wrong with some options: which, what is allowed, what was given."""
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    limits = {"greater_than": ("gt", ">"), "greater_than_equal": ("ge", ">=")}
    if problem["type"] == "missing":
        return f"{what} needs the option {name!r}"
    if problem["type"] == "value_error":
        return f"{what}: {problem['msg'].removeprefix('Value error, ')}"
    if name in options.choices():
        allowed = f"must be one of {', '.join(map(str, options.choices()[name]))}"
    elif problem["type"] in limits:
        key, sign = limits[problem["type"]]
        allowed = f"must be {sign} {problem['ctx'][key]:g}"
    else:
        allowed = f"{problem['msg'][:1].lower()}{problem['msg'][1:]}"
    return f"{what}: {name} {allowed}, got {shown(problem['input'])}"


def schema_of(owners: Mapping[str, type[Options]]) -> dict[str, Any]:
    """The JSON Schema of every option that some entries have, by the option's name, with the entries in its description."""
    of: dict[str, dict[str, Any]] = {}
    for owner, options in owners.items():
        for name, schema in options.model_json_schema().get("properties", {}).items():
            of.setdefault(name, {})[owner] = {key: value for key, value in schema.items() if key not in ("title", "default")}
    return {name: _joined(schemas) for name, schemas in of.items()}


def _joined(schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One schema that takes what any of some take."""
    meanings = [schema.pop("description", "") for schema in schemas.values()]
    kinds = [schema for i, schema in enumerate(schemas.values()) if schema not in [*schemas.values()][:i]]
    described = f"{next(filter(None, meanings), '')} ({', '.join(schemas)})".strip()
    return {"anyOf": [*kinds, {"type": "null"}], "default": None, "description": described}


def is_own(name: object) -> bool:
    """Whether a name stands for a user's own function."""
    return isinstance(name, str) and ":" in name


def module_file(name: str) -> Path | None:
    """The file of the module in "module:function", None if there is none; found without importing anything."""
    where: Iterable[str] | None = [os.getcwd(), *sys.path]
    parts, spec = name.partition(":")[0].split("."), None
    for i in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: i + 1]), where)  # type: ignore[arg-type]
        if spec is None:
            return None
        where = spec.submodule_search_locations or []
    return Path(spec.origin) if spec is not None and spec.origin and Path(spec.origin).is_file() else None


def check_name(name: str, known: Iterable[str]) -> str:
    """A name if it is known, or module:function with a module that is there; its code is not run.

    Raises:
        ValueError: if it is neither.
    """
    if name in (names := list(known)):
        return name
    if not is_own(name):
        raise ValueError(f"must be one of {', '.join(names)}, or module:function of your own")
    module, _, function = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), function]):
        raise ValueError("must be module:function, such as mypackage.mine:name")
    if module_file(name) is None:
        raise ValueError(f"no module {module!r} in the working directory or on PYTHONPATH; put it there, or install it")
    return name


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of a name."""
    return name in inspect.signature(function).parameters


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
