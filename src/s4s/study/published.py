"""A solver in the config that others have published, or that is the user's own tableau. No torch."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from s4s.models.published_solvers import ZOO, shipped_entry
from s4s.models.published_solvers import Entry as ZooEntry
from s4s.study.described import UNKNOWN, Described


class Published(Described):
    """A solver that is a tableau already: an entry of the zoo whose numbers ship, or the user's own files, an NFE each."""

    family: ClassVar[str] = "published"

    tableau: str | Annotated[dict[str, str], Field(min_length=1)] = Field(
        description="zoo:NAME, or the path of tableaux, {nfe} in it filled in; or one of these by the model that it is for"
    )
    min_nfe: int = Field(1, ge=1, description="leave out cells with fewer evaluations")

    @cached_property
    def entries(self) -> dict[str, tuple[ZooEntry, int | None]]:
        """The entries that it names, with the number of evaluations where it says one."""
        sources = self.tableau.values() if isinstance(self.tableau, dict) else [self.tableau]
        return {source: shipped_entry(source) for source in sources if source.startswith("zoo:")}

    def source(self, model: str) -> str | None:
        """What it is for a model, as the config says it; None where it is for others."""
        if isinstance(self.tableau, dict):
            return self.tableau.get(model)
        of_others = self.tableau in self.entries and model not in self.entries[self.tableau][0].config
        return None if of_others else self.tableau

    def fits(self, model: str, nfe: int) -> bool:
        """Whether it is compared on a model at a number of evaluations: its entry has such a solver, or the file is there."""
        source = self.source(model)
        if source is None or nfe < self.min_nfe:
            return False
        if source in self.entries:
            entry, only = self.entries[source]
            return nfe in (entry.nfe if only is None else [only])
        return self.files(model, nfe)[0].is_file()

    def files(self, model: str, nfe: int) -> list[Path]:
        """Where its numbers are: a file of tableaux, or those of its entry."""
        source = self.source(model)
        if source not in self.entries:
            return [] if source is None else [Path(source.replace("{nfe}", str(nfe)))]
        entry, _ = self.entries[source]
        return [ZOO / f"{entry.name}.yaml", *([] if entry.numbers else [entry.folder / f"nfe~{nfe}.json"])]

    def in_zoo(self, model: str, nfe: int) -> str | None:
        """Its name in the zoo, "zoo:NAME/NFE"; None where it is a file."""
        entry, _ = self.entries.get(self.source(model) or "", (None, None))
        return None if entry is None else f"zoo:{entry.name}/{nfe}"

    def of_model(self, model: str) -> Published:
        """This definition without what it says of other models."""
        return self.model_copy(update={"tableau": {model: self.tableau[model]}}) if isinstance(self.tableau, dict) else self

    def own_modules(self) -> list[Path]:
        """No code makes it."""
        return []

    @model_validator(mode="after")
    def _sources_exist(self) -> Published:
        for option in self.extra:
            raise ValueError(f"{option}: {UNKNOWN}")
        for source in self.tableau.values() if isinstance(self.tableau, dict) else [self.tableau]:
            if source not in self.entries and ("{nfe}" not in source or re.search(r"[{}]", source.replace("{nfe}", ""))):
                raise ValueError(f"tableau must be zoo:NAME, or a path with {{nfe}} in it and no other braces, got {source!r}")
        if isinstance(self.tableau, str) and self.tableau in self.entries and not self.entries[self.tableau][0].config:
            raise ValueError(
                f"{self.tableau} is for no model in config/models; write tableau: {{MODEL: {self.tableau}}} with yours"
            )
        return self
