"""What the config says of a further comparison. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from s4s.files.json_file import Strict
from s4s.study.described import Token
from s4s.study.questions import QUESTIONS


class Showcase(Strict):
    """A figure of samples beside the teacher's, with maps of their errors."""

    models: list[str] = Field(min_length=1, max_length=4)
    nfe: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=4)
    solvers: list[Token] = Field(min_length=1, max_length=4, description="beside the best training-free one")


class Comparison(Strict):
    """Further cells, a target of its own."""

    models: list[str] = Field(min_length=1)
    nfe: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    more_nfe: list[Annotated[int, Field(ge=1)]] = Field([], description="for training-free and published solvers alone")
    solvers: list[Token] = Field(min_length=1)
    nfe_of: dict[str, list[Annotated[int, Field(ge=1)]]] = Field({}, description="for single models, instead of both")
    showcase: Showcase | None = Field(None, description="a figure of samples, with maps of their errors")
    groups: dict[str, list[Token]] = Field({}, description="ablation: solvers that differ in one thing, by its name")
    questions: list[Literal[*QUESTIONS]] = Field([], description="what else is asked of the solvers")  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _names_of_its_own(self) -> Comparison:
        for name, tokens in self.groups.items():
            for token in tokens:
                if token not in self.solvers:
                    raise ValueError(f"groups: {name}: {token!r} is not among the comparison's solvers; add it there")
        if unknown := sorted({*self.nfe_of} - {*self.models}):
            raise ValueError(f"nfe_of: {unknown[0]!r} is not among the comparison's models")
        if (shown := self.showcase) is not None:
            for what, given, known in (("models", shown.models, self.models), ("solvers", shown.solvers, self.solvers)):
                if unknown := [name for name in given if name not in known]:
                    raise ValueError(f"showcase: {unknown[0]!r} is not among the comparison's {what}; add it there")
        return self

    def renamed(self, names: Iterable[str]) -> Comparison:
        """The same with its models by other names, in their order."""
        name = dict(zip(self.models, names, strict=True))
        shown = self.showcase
        if shown is not None:
            shown = shown.model_copy(update={"models": [name[model] for model in shown.models]})
        nfe_of = {name[model]: nfe for model, nfe in self.nfe_of.items()}
        return self.model_copy(update={"models": [*name.values()], "nfe_of": nfe_of, "showcase": shown})
