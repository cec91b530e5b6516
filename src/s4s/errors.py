"""The one error class that users see, and a plain-language reading of pydantic's."""

from __future__ import annotations

from pydantic import ValidationError


class S4SError(ValueError):
    """Wrong input. The message says what is wrong, where, what is allowed and what to do."""


def one_line(error: Exception, length: int = 300) -> str:
    """The beginning of another library's message, without its line breaks."""
    return " ".join(str(error).split())[:length]


def shortened(text: str, length: int = 80) -> str:
    """Its beginning and its end."""
    return text if len(text) <= length else f"{text[: length // 2]} ... {text[-length // 2 + 5 :]}"


def explain(error: ValidationError, where: str, keys: str = "the comments in config/config.yaml") -> str:
    """One line for each problem that pydantic found in `where` (a file or the name of a config); `keys` has the known keys."""
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"]) or "(top level)"
        if problem["type"] == "extra_forbidden":
            message = f"unknown key; check its spelling against {keys}"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            if not isinstance(problem["input"], dict) and problem["type"] not in ("missing", "json_invalid"):
                message += f" (given: {shortened(repr(problem['input']))})"
        lines.append(f"{where}: {key}: {message}")
    return "\n".join(lines)
