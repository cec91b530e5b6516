"""Learned solvers: (levels, weights) -> Tableau, differentiable. A new family is one module and one line in FAMILIES.

This file imports no torch before a family is made, since the config is checked against FAMILIES.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, WithJsonSchema, model_validator

from s4s.errors import S4SError
from s4s.files.named_function import function_of
from s4s.learning.families.bases import (
    Base,
    any_solver,
    follows_levels,
    multistep,
    predictor_corrector,
    single_step,
    step_cache,
)
from s4s.schedules.registry import Options, call_checked, checked, is_own, takes

if TYPE_CHECKING:
    from s4s.learning.families.family import Family
    from s4s.models.paths import Path
    from s4s.tableau import Tableau

# "full" of a config is None here
Order = Annotated[
    Annotated[int, Field(ge=1)] | None,
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}, {"const": "full"}]}),
]


class Ordered(Options):
    order: Order = Field(None, description="number of past outputs that a step weighs, or full for all")


class PC(Options):
    prediction: Literal["data", "noise"] = Field("data", description="what the coefficients weigh")
    order: Order = Field(None, description="number of past outputs that a step weighs, or full for all")
    consistency: bool = Field(False, description="keep the sum of each row's weights at 1")


class Free(PC):
    """Options with which something must be left to learn; a corrector always leaves its own."""

    @model_validator(mode="after")
    def _free(self) -> Self:
        if self.consistency and self.order == 1:
            raise ValueError("consistency leaves weights of order 1 nothing to learn; raise the order or leave it out")
        return self


class LMS(Free):
    start_weights: bool = Field(False, description="also learn what each row takes from the start")

    @model_validator(mode="after")
    def _of_data(self) -> Self:
        if self.start_weights and self.prediction == "noise":
            raise ValueError("start_weights belong to data prediction; take prediction: data or leave them out")
        return self


class SingleStep(Free):
    order: int = Field(2, ge=1, description="evaluations of a step")


class Entry(NamedTuple):
    """A learned family.

    Attributes:
        function: (base, options) to the Family, as "module:class"; where it has a parameter `path`, the model's is given.
        options: their names, types and defaults.
        cannot_start: why it cannot start at a classical solver: (its name in the config, options, base) to a reason or None.
        driver: what is free when, if a definition says nothing; None for one that only RECIPES name.
        decoupled: conditioning levels are learned, if a definition says nothing.
        schedule_only: it has no weights.
        by_lag: a row's weights belong to its last outputs, so a warm start carries them to another NFE.
        discrete: its weights are whole numbers, which optimiser `exchange` alone searches.
    """

    function: str
    options: type[Options] = Options
    cannot_start: Callable[[str, Any, Base], str | None] = any_solver
    driver: str | None = "joint"
    decoupled: bool = True
    schedule_only: bool = False
    by_lag: bool = False
    discrete: bool = False


FAMILIES: dict[str, Entry] = {
    "lms": Entry("s4s.learning.families.lms:LMS", LMS, multistep, driver=None, by_lag=True),
    "pc": Entry("s4s.learning.families.pc:PC", PC, predictor_corrector, driver=None, by_lag=True),
    "single_step": Entry("s4s.learning.families.single_step:SingleStep", SingleStep, single_step, driver=None),
    "ld3": Entry("s4s.learning.families.ld3:LD3", cannot_start=follows_levels, driver="schedule", schedule_only=True),
    "gs": Entry("s4s.learning.families.gs:GS", cannot_start=follows_levels),
    "dyweight": Entry("s4s.learning.families.dyweight:DyWeight", Ordered, multistep, by_lag=True),
    "bns": Entry("s4s.learning.families.bns:BNS", by_lag=True),
    "cached": Entry(
        "s4s.learning.families.step_cache:StepCache", cannot_start=step_cache, driver="coefficients", discrete=True
    ),
}


class Recipe(NamedTuple):
    """What `family` in a config stands for: weights of FAMILIES, what is free when, and whether `weights` may choose others."""

    weights: str
    driver: str
    decoupled: bool = False
    any_weights: bool = False


RECIPES: dict[str, Recipe] = {
    "s4s_lms": Recipe("lms", "coefficients"),
    "s4s_pc": Recipe("pc", "coefficients"),
    "s4s_ss": Recipe("single_step", "coefficients"),
    "s4s_alt": Recipe("lms", "alternate", True, any_weights=True),
    "joint": Recipe("lms", "joint", True, any_weights=True),
}


def recipes() -> dict[str, Recipe]:
    """All names of families that a config may have: those of RECIPES, and every family with a driver of its own."""
    own = {name: Recipe(name, entry.driver, entry.decoupled) for name, entry in FAMILIES.items() if entry.driver is not None}
    return {**RECIPES, **own}


def recipe_of(family: str) -> Recipe:
    """What a family's name in a config stands for; a user's own, "module:class", has weights of that name."""
    return Recipe(family, "joint", True) if is_own(family) else recipes()[family]


def family_of(name: str) -> Entry:
    """The entry of a family, or what is supposed of a user's own, "module:class".

    Raises:
        S4SError: if there is none.
    """
    if is_own(name):
        return Entry(name)
    if name not in FAMILIES:
        raise S4SError(f"unknown family {name!r}; known: {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]


def make_family(name: str, base: Tableau, path: Path | None = None, **options: Any) -> Family:
    """A learned solver's family, started at a classical solver.

    Args:
        name: a name in FAMILIES, or "module:class" of one's own.
        base: the solver that all weights at zero stand for.
        path: the model's Gaussian path, for classical solvers that count in its time.
        options: those of the family; None stands for its default.
    Raises:
        S4SError: if the family or an option is unknown, or the family cannot represent `base`.
    """
    entry, what = family_of(name), f"family {name!r}"
    given = {option: value for option, value in options.items() if value is not None}
    if not is_own(name):
        given = dict(checked(entry.options, what, given))
    make = function_of(entry.function)
    in_time = {"path": path} if takes(make, "path") else {}
    made = call_checked(make, what, base, **given, **in_time)
    if is_own(name):
        from s4s.learning.families.family import Family

        if not isinstance(made, Family):
            raise S4SError(f"{what} must make an s4s.learning.families.family.Family, not {made!r}")
    return made  # type: ignore[no-any-return]
