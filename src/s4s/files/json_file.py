"""Small results that are JSON files: checked when read, complete or not there when written."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from s4s.errors import S4SError, explain
from s4s.files.atomic import write_json


class Strict(BaseModel):
    """No unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JsonFile(Strict):
    """A pydantic model that is saved as JSON. `what` names the file in errors: "cannot read {what}"."""

    what: ClassVar[str]
    keys: ClassVar[str] = "those of files that s4s has written"

    def save(self, path: str | Path) -> None:
        """Write the JSON form; floats read back bit for bit."""
        write_json(path, self.model_dump())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            S4SError: if the file is missing, is not JSON, or a key is wrong.
        """
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise S4SError(f"{path}: cannot read {cls.what}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise S4SError(f"{path}: cannot read {cls.what}: the file is not text; make it again or restore it") from error
        except ValidationError as error:
            first, *others = explain(error, f"{path}: cannot read {cls.what}", cls.keys).splitlines()
            more = f" (and {len(others)} other problems)" if others else ""
            raise S4SError(f"{first}{more}; make the file again or restore it") from error
