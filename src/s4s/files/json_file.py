"""Small results that are JSON files: checked when read, complete or not there when written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from s4s.errors import DamagedFile, explain, one_line
from s4s.files.atomic import write_json
from s4s.files.bounded import RESULT, check_json
from s4s.files.checksum import KEY, checksum_of, is_signed, read_bytes, signed


def write_signed(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum."""
    write_json(path, signed(values))


def read_signed(path: str | Path, what: str) -> dict[str, Any]:
    """The entries of a file that `write_signed` wrote.

    Raises:
        S4SError: if it cannot be read, or as `parse_signed`.
    """
    return parse_signed(read_bytes(path, what), path, what)


def parse_signed(text: str | bytes, where: str | Path, what: str) -> dict[str, Any]:
    """The entries of a JSON object but its checksum, which it must have.

    Raises:
        DamagedFile: if it is no such object, or was changed. S4SError: if it has far more than any such file needs.
    """
    found = parse_object(text, where, what)
    if found.get(KEY) != checksum_of(found):
        raise DamagedFile(where, f"{what} was changed: it does not fit its checksum")
    del found[KEY]
    return found


def parse_object(text: str | bytes, where: str | Path, what: str) -> dict[str, Any]:
    """The entries of a JSON object.

    Raises:
        DamagedFile: if it is none.
    """
    check_json(text.encode() if isinstance(text, str) else text, where, RESULT)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(where, f"{what} is not JSON ({one_line(error)})") from error
    if not isinstance(found, dict):
        raise DamagedFile(where, f"{what} is no JSON object")
    return found


T = TypeVar("T")


class _First(FailFast):
    __hash__ = object.__hash__  # typing asks for one in a union


Items = Annotated[list[T], _First()]  # of millions that are wrong, the first is told


class Strict(BaseModel):
    """No unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JsonFile(Strict):
    """A pydantic model that is saved as JSON, with a checksum. `what` names the file in errors: "cannot read {what}"."""

    what: ClassVar[str]
    keys: ClassVar[str] = "those of files that s4s has written"
    always_signed: ClassVar[bool] = False  # nobody but s4s writes such files
    checksum: str | None = Field(
        None,
        exclude=True,
        pattern="^sha256:[0-9a-f]{64}$",
        description="of all other entries; s4s.files.checksum says how it is made",
    )

    def save(self, path: str | Path) -> None:
        """Write the JSON form; floats read back bit for bit."""
        write_signed(path, self.model_dump())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; a file without a checksum is warned of.

        Raises:
            S4SError: if the file is missing, or has more than such a file needs; a DamagedFile if it is not JSON, a key is
                wrong, or it was changed.
        """
        found = cls.read(path)
        found.check_signed(path)
        return found.model_copy(update={"checksum": None})  # equal to what was saved

    def check_signed(self, where: str | Path) -> None:
        """Raise DamagedFile if the checksum is of other entries; if there is none, too, or warn."""
        if self.checksum is None and self.always_signed:
            raise DamagedFile(where, f"{self.what} have no checksum; make them again")
        is_signed({**self.model_dump(), KEY: self.checksum}, where, self.what)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """As `load`, but whether it was changed is not looked at."""
        content = read_bytes(path, cls.what)
        check_json(content, path, RESULT)
        try:
            return cls.model_validate_json(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise DamagedFile(path, f"cannot read {cls.what}: the file is not text; make it again or restore it") from error
        except ValidationError as error:
            first, *others = explain(error, f"cannot read {cls.what}", cls.keys).splitlines()
            more = f" (and {len(others)} other problems)" if others else ""
            raise DamagedFile(path, f"{first}{more}; make the file again or restore it") from error
