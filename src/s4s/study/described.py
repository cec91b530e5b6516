"""What all solver definitions in the config have in common: how they travel to a job, and their options. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError

from s4s.errors import S4SError, explain
from s4s.schedules.registry import Options, checked, is_own, module_file, schema_of

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue

O = TypeVar("O", bound=Options)  # noqa: E741
UNKNOWN = "unknown key; check its spelling against the comments in config/config.yaml"
Token = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Described(BaseModel):
    """A solver's definition, which travels to a job as one JSON text."""

    model_config = ConfigDict(extra="allow", frozen=True)  # what is extra is checked against the registries

    of_the_plan: ClassVar[set[str]] = {"min_nfe"}  # what chooses cells and files; a job is given these, and does not choose
    registered: ClassVar[dict[str, type[Options]]] = {}  # the options of all entries that such a definition can name

    def to_json(self) -> str:
        """All that a job has to know of this solver: what differs from defaults, with sorted keys."""
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True, exclude=self.of_the_plan), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The definition that `to_json` wrote.

        Raises:
            S4SError: one line for each key that is wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise S4SError(explain(error, "definition")) from error

    @property
    def extra(self) -> dict[str, Any]:
        """The keys beside the fields; null stands for an option's default, as does order: full."""
        given = self.model_extra or {}
        return {key: value for key, value in given.items() if value is not None and (key, value) != ("order", "full")}

    def chosen(self, options: type[O], what: str) -> O:
        """The options of an entry, those that are not given by default.

        Raises:
            S4SError: if a value is not allowed, or one is missing.
        """
        return checked(options, what, {name: value for name, value in self.extra.items() if name in options.names()})

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """With the options of all entries, and no other keys."""
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        schema["properties"] = {**schema["properties"], **schema_of(cls.registered)}
        schema["additionalProperties"] = False
        return reference


def given(options: Options) -> dict[str, Any]:
    """Those options that were not left to their default, in the entry's order."""
    return {name: getattr(options, name) for name in options.names() if name in options.model_fields_set}


def own_modules(*names: str) -> list[Path]:
    """The files of the modules of those names that are one's own."""
    return [file for name in names if is_own(name) and (file := module_file(name)) is not None]
