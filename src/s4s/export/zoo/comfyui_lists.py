"""Lists of noise levels in the source of a ComfyUI node, where authors of two methods have published theirs. It is not run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from s4s.errors import S4SError, one_line
from s4s.files.bounded import read_text

LIMIT = 2**18  # bytes; nodes_gits.py has 46 000
LISTS, LEVELS = 1000, 1001  # lists of a file, numbers of a list
LARGEST = 1e9  # level; neither infinity nor what is no number is below it
TABLE = re.compile(r"^NOISE_LEVELS\s*=\s*(\{[^{}()]*\})", re.MULTILINE)


def has_table(path: Path, word: str) -> bool:
    """Whether a file is such a source and has a word in its first lines."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return b"NOISE_LEVELS" in head and word.encode() in head


def noise_levels(path: Path) -> dict[str, list[list[float]]]:
    """The lists of a file by their name.

    Raises:
        S4SError: if the file cannot be read, holds no table NOISE_LEVELS of lists of finite numbers, or too many.
    """
    try:
        found = TABLE.search(read_text(path, LIMIT))
    except (OSError, UnicodeDecodeError) as error:
        raise S4SError(f"{path}: cannot read this file: {one_line(error)}") from error
    if found is None:
        raise S4SError(f"{path}: no table NOISE_LEVELS = {{...}} in it; give the node's own file, as its repository has it")
    try:
        table = ast.literal_eval(found[1])
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise S4SError(
            f"{path}: its NOISE_LEVELS are no table of numbers: {one_line(error) or 'lists within lists'}; get the file again"
        ) from error
    lists = {str(name): rows if _are_lists(rows) else [rows] for name, rows in table.items()}
    if sum(map(len, lists.values())) > LISTS or not all(_is_list(row) for rows in lists.values() for row in rows):
        raise S4SError(f"{path}: its NOISE_LEVELS must be at most {LISTS} lists of 2 to {LEVELS} finite numbers")
    return lists


def chosen(path: Path, pick: str | None) -> tuple[str, list[list[float]]]:
    """The lists of one name, and the name; a number is found in any spelling.

    Raises:
        S4SError: as `noise_levels`, or if there is no such name, or several and none was said.
    """
    lists = noise_levels(path)
    if pick is None and len(lists) == 1:
        return next(iter(lists.items()))
    for name, rows in lists.items():
        if pick is not None and (name.lower() == pick.lower() or _number(name) == _number(pick) != name):
            return name, rows
    what = "several lists" if pick is None else f"no list named {pick!r}"
    raise S4SError(f"{path}: {what}; --pick one of {', '.join(lists) or 'none'}")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _are_lists(rows: object) -> bool:
    return isinstance(rows, list) and bool(rows) and all(isinstance(row, list) for row in rows)


def _is_list(row: object) -> bool:
    if not isinstance(row, list) or not 2 <= len(row) <= LEVELS:
        return False
    return all(isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST for value in row)
