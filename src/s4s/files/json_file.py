"""Small results that are JSON files: checked when read, complete or not there when written."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from s4s.errors import DamagedFile, explain
from s4s.files.atomic import write_json
from s4s.files.checksum import is_signed, read_bytes, signed


BOM = b"\xef\xbb\xbf"  # before the text of some editors


class Strict(BaseModel):
    """No unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JsonFile(Strict):
    """A pydantic model that is saved as JSON, with a checksum. `what` names the file in errors: "cannot read {what}"."""

    what: ClassVar[str]
    keys: ClassVar[str] = "those of files that s4s has written"
    checksum: str | None = Field(
        None, pattern="^sha256:[0-9a-f]{64}$", description="of all other entries; s4s.files.checksum says how it is made"
    )

    def save(self, path: str | Path) -> None:
        """Write the JSON form; floats read back bit for bit."""
        write_json(path, signed(self.model_dump()))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; a file without a checksum is warned of.

        Raises:
            S4SError: if the file is missing; a DamagedFile if it is not JSON, a key is wrong, or it was changed.
        """
        try:
            found = cls.model_validate_json(read_bytes(path, cls.what).removeprefix(BOM))
        except ValidationError as error:
            first, *others = explain(error, f"cannot read {cls.what}", cls.keys).splitlines()
            more = f" (and {len(others)} other problems)" if others else ""
            raise DamagedFile(path, f"{first}{more}; make the file again or restore it") from error
        is_signed(found.model_dump(), path, cls.what)
        return found
