"""Files from elsewhere: what a reader may spend on one, and the refusal before it spends more.

A small file can claim, repeat or nest far more than it holds. So each reader has a budget. It is compared with what can be told
before much is spent: the file's size, the brackets and commas in a text, the parts of a value counted as often as they are met.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from s4s.errors import S4SError, one_line

MB = 1 << 20
CSV_BYTES, CSV_COLUMNS = 8 * MB, 100  # a row of scores.csv has some 300 bytes and 17 columns
PARTS, DEPTH = 100_000, 60  # of a config or of settings, what is shared counted as often as it is met
INTEGER_BITS = 1024
HEADER_BYTES = 8 * MB  # of a safetensors file; one of 2 000 tensors has 250 000
ZIP_RECORDS = 50_000
SLACK = 64 * MB  # that a zip's compressed records may be larger than the zip


class Budget(NamedTuple):
    """What a JSON text may have: bytes, lists and objects, keys, values; told by its brackets, colons and commas."""

    bytes: int
    containers: int
    keys: int
    values: int


SETTINGS = Budget(4 * MB, 200_000, 20_000, 400_000)  # trained_betas has 1 000 numbers
RESULT = Budget(128 * MB, 100_000, 50_000, 3_000_000)  # a tableau of nfe 1000 has 1 500 000 numbers at most, in 40 MB
CAPTIONS = Budget(128 * MB, 1_000_000, 6_000_000, 8_000_000)  # COCO's for train2014: 92 MB, 0.5, 2 and 3 million
VOCABULARY = Budget(64 * MB, 1_000_000, 1_000_000, 3_000_000)  # of a tokenizer
LINES = 16 * MB  # of prompts, one a line


def read_bytes(path: str | Path, most: int) -> bytes:
    """The content of a file of at most so many bytes; what is larger is not read.

    Raises:
        OSError: as `open`. S4SError: if it is larger.
    """
    check_size(path, most)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read((size or most) + 1)  # of a pipe no size is known
    if len(content) > most:
        raise too_much(path, f"{most:,} bytes")
    return content


def check_size(path: str | Path, most: int) -> None:
    """Refuse a file of more than so many bytes.

    Raises:
        OSError: if it is not there. S4SError: if it is larger.
    """
    if (size := os.stat(path).st_size) > most:
        raise too_much(path, f"{most:,} bytes", size)


def read_text(path: str | Path, most: int) -> str:
    """The same as text, without a byte order mark.

    Raises:
        OSError, S4SError: as `read_bytes`. UnicodeDecodeError: if it is no text.
    """
    return read_bytes(path, most).decode("utf-8-sig")


def json_bytes(path: str | Path, budget: Budget) -> bytes:
    """A JSON text that is not parsed yet, within a budget.

    Raises:
        OSError, S4SError: as `read_bytes`.
    """
    content = read_bytes(path, budget.bytes)
    check_json(content, path, budget)
    return content


def check_json(content: bytes, where: str | Path, budget: Budget) -> None:
    """Refuse a JSON text that would take far more memory than it has bytes.

    Raises:
        S4SError: if it has more than the budget allows.
    """
    for most, found, what in (
        (budget.containers, content.count(b"[") + content.count(b"{"), "lists and objects"),
        (budget.keys, content.count(b":"), "keys"),
        (budget.values, content.count(b","), "values"),
    ):
        if found > most:
            raise too_much(where, f"{most:,} {what}", found)


def read_json(path: str | Path, budget: Budget = SETTINGS) -> Any:
    """What a JSON file holds.

    Raises:
        S4SError: if it is beyond the budget, or no JSON. OSError: as `open`.
    """
    try:
        return json.loads(json_bytes(path, budget).decode("utf-8-sig"))
    except S4SError:
        raise
    except (ValueError, RecursionError) as error:
        raise S4SError(f"{path}: not JSON: {one_line(error)}; make the file again or restore it") from error


def read_table(path: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a head, each with the number of its line; fields that a row lacks are None.

    Raises:
        OSError, S4SError, UnicodeDecodeError: as `read_text`. S4SError: if it has too many columns. csv.Error: if it is no CSV.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, CSV_BYTES), newline=""))
    if len(reader.fieldnames or ()) > CSV_COLUMNS:
        raise too_much(path, f"{CSV_COLUMNS} columns", len(reader.fieldnames or ()))
    return ((reader.line_num, row) for row in reader)


def check_safetensors(path: Path) -> None:
    """Refuse a safetensors file whose list of tensors is longer than any network's.

    Raises:
        OSError: as `open`. S4SError: if it is.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if HEADER_BYTES < length <= path.stat().st_size:  # a longer one is damaged, which its own reader sees
        raise too_much(path, f"a header of {HEADER_BYTES:,} bytes", length)


def safetensors_header(path: Path, most: int = HEADER_BYTES) -> dict[str, Any]:
    """What a safetensors file says of its tensors by their names; empty for a file that is none, or a header of more bytes."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= min(most, path.stat().st_size) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def checked_zip(file: IO[bytes], where: str | Path, slack: int = 0) -> zipfile.ZipFile:
    """A zip whose records take, unpacked, no more than its own size and `slack`; without slack none is compressed.

    Raises:
        S4SError: if they take more, or there are far too many. BadZipFile: if it is no such zip.
    """
    size, archive = file.seek(0, os.SEEK_END), zipfile.ZipFile(file)
    records = archive.infolist()
    if not slack and any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise zipfile.BadZipFile("it is compressed")
    if len(records) > ZIP_RECORDS:
        raise too_much(where, f"{ZIP_RECORDS:,} records", len(records))
    if (unpacked := sum(record.file_size for record in records)) > size + slack:
        raise too_much(where, f"{size + slack:,} bytes unpacked", unpacked)
    return archive


def members_of(value: Any) -> Iterable[Any] | None:
    """What a plain container holds; None for what is no container."""
    if isinstance(value, Mapping):
        return itertools.chain(value, value.values())
    return value if isinstance(value, list | tuple | set | frozenset) else None


def check_parts(
    value: Any, where: str | Path, members: Callable[[Any], Iterable[Any] | None] = members_of, most: int = PARTS
) -> None:
    """Refuse a value that takes too long to walk, to print or to hash: what is shared counts as often as it is met.

    Args:
        members: what a part holds, None for a part that holds nothing.
    Raises:
        S4SError: if it has more parts than `most`, is nested deeper than DEPTH, holds itself, or has too long an integer.
    """
    known: dict[int, tuple[int, int]] = {}  # parts and levels of each container

    def walk(part: Any, level: int) -> tuple[int, int]:
        if (held := members(part)) is None:
            if isinstance(part, int) and part.bit_length() > INTEGER_BITS:
                raise too_much(where, f"{INTEGER_BITS} bits in an integer", part.bit_length())
            return 1, 0
        parts, levels = known.get(id(part), (0, 0))
        if not parts:
            known[id(part)] = most, 0  # for one that holds itself
            parts = 1
            for child in held if level < DEPTH else ():
                inner, below = walk(child, level + 1)
                parts, levels = parts + inner, max(levels, below + 1)
                if parts > most:
                    raise too_much(where, f"{most:,} parts, counted as often as they are met")
            known[id(part)] = parts, levels
        if level + levels >= DEPTH:
            raise too_much(where, f"{DEPTH} levels of parts within parts")
        return parts, levels

    walk(value, 0)


def too_much(where: str | Path, most: str, found: int | None = None) -> S4SError:
    """What to say of a file that is beyond a budget; `found` is what it has."""
    number = "" if found is None else f": {found:,}"
    return S4SError(f"{where}: refused: more than {most}{number}, which no such file needs; get it again, or take another")
