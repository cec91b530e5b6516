"""The one error class that users see, and a plain-language reading of pydantic's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the callers of jobs import this module, hundreds of times a study
    from pathlib import Path

    from pydantic import ValidationError

# what the core does without -> the extra of pyproject.toml that installs it
EXTRAS = {
    "h5py": "fit",
    "scipy": "fit",
    "xxhash": "fit",
    "diffusers": "pretrained",
    "transformers": "pretrained",
    "peft": "pretrained",
    "cleanfid": "workflow",
    "huggingface_hub": "workflow",
    "jinja2": "workflow",
    "lpips": "workflow",
    "matplotlib": "workflow",
    "pandas": "workflow",
    "requests": "workflow",
    "sklearn": "workflow",
    "snakemake": "workflow",
    "snakemake_interface_logger_plugins": "workflow",
    "tabulate": "workflow",
    "torchvision": "workflow",
}


class S4SError(ValueError):
    """Wrong input. The message says what is wrong, where, what is allowed and what to do; it obeys no file that it quotes."""

    def __init__(self, message: str):
        super().__init__(printable(message))


def printable(text: str) -> str:
    r"""Text with escapes such as \x1b for what terminals obey: control characters, changes of direction; lines stay lines."""
    return "".join(mark if mark.isprintable() or mark in "\n\t" else mark.encode("unicode_escape").decode() for mark in text)


class DamagedFile(S4SError):
    """A file that is not as it was written. Where it is a result, the next run of the workflow makes it again."""

    def __init__(self, path: str | Path, what: str):
        super().__init__(f"{path}: {what}")
        self.path = path


class S4SWarning(UserWarning):
    """Something that a user should know, and that need not stop anything."""


def not_installed(error: ModuleNotFoundError, what: str = "this command") -> S4SError | None:
    """What to install for `what`; None where the module that is missing belongs to no extra."""
    module = (error.name or "").partition(".")[0]
    if (extra := EXTRAS.get(module)) is None:
        return None
    ways = f"pip install 's4s-solvers[{extra}]' (in s4s's own folder: pip install '.[{extra}]')"
    return S4SError(f"{what} needs the package {module}: {ways}")


@contextmanager
def needed_for(what: str) -> Iterator[None]:
    """Around imports: raise S4SError that says which extra `what` needs, where it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise not_installed(error, what) or error from error


def one_line(error: Exception, length: int = 300) -> str:
    """The beginning of another library's message, without its line breaks and what terminals obey."""
    return printable(" ".join(str(error).split()))[:length]


def shortened(text: str, length: int = 80) -> str:
    """Its beginning and its end."""
    return text if len(text) <= length else f"{text[: length // 2]} ... {text[-length // 2 + 5 :]}"


def shown(value: object) -> str:
    """Any value in a line."""
    return shortened(" ".join(repr(value).split()))


def must_be(what: str, value: object, fits: bool, kind: str) -> None:
    """Raise S4SError where an argument `what` does not fit; `kind` says what it may be."""
    if not fits:
        raise S4SError(f"{what} must be {kind}, got {shown(value)}")


def explain(error: ValidationError, where: str, keys: str = "the comments in config/config.yaml") -> str:
    """One line for each problem that pydantic found in `where` (a file or the name of a config); `keys` has the known keys."""
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(" ".join(str(part).split()) for part in problem["loc"]) or "(top level)"
        if problem["type"] == "extra_forbidden":
            message = f"unknown key; check its spelling against {keys}"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            if not isinstance(problem["input"], dict) and problem["type"] not in ("missing", "json_invalid"):
                message += f" (given: {shown(problem['input'])})"
        lines.append(f"{where}: {key}: {message}")
    return "\n".join(lines)
