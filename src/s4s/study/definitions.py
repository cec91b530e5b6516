"""What a solver's name in the config means: a classical solver on its levels, one that is fitted, or a published one. No torch.

Which solvers, schedules and families there are, and which options they have, stands in SOLVERS, SCHEDULES and FAMILIES alone:
the keys of a definition beside its fields are options of the entries that it names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from s4s.learning.drivers import DRIVERS, cannot_search, nothing_to_learn
from s4s.learning.families import FAMILIES, Entry, Recipe, family_of, recipe_of, recipes
from s4s.learning.families.bases import Base, immovable
from s4s.learning.settings import FitSettings
from s4s.schedules import SCHEDULES, Schedule, ScheduleOptions, schedule_of
from s4s.schedules.registry import Options, check_name, is_own
from s4s.solvers import SOLVERS, Reuse, Solver, solver_of
from s4s.study.described import UNKNOWN, Described, Token, given, own_modules
from s4s.study.published import Published

OWN = {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", "description": "module:function of one's own"}


def _schema(names: Iterable[str]) -> WithJsonSchema:
    """That of a name in a registry, or of module:function of one's own."""
    return WithJsonSchema({"anyOf": [{"type": "string", "enum": [*names]}, OWN]})


Kind = Annotated[str, AfterValidator(lambda name: check_name(name, SOLVERS)), _schema(SOLVERS)]
ScheduleName = Annotated[str, AfterValidator(lambda name: check_name(name, SCHEDULES)), _schema(SCHEDULES)]
Family = Annotated[str, AfterValidator(lambda name: check_name(name, recipes())), _schema(recipes())]


class Classical(Described):
    """A classical solver on a fixed or an optimised noise schedule."""

    registered: ClassVar[dict[str, type[Options]]] = {
        **{name: entry.options for name, entry in SOLVERS.items()},
        **{name: schedule.options for name, schedule in SCHEDULES.items()},
    }

    solver: Kind
    levels: ScheduleName
    analytic_first_step: bool = Field(False, description="take the first step without an evaluation, so one more step")
    to_zero: bool = Field(False, description="the last evaluation is a final denoising step")
    cached: int = Field(1, ge=1, description="a step cache: steps for each evaluation, of which the others reuse what it gave")
    reuse: Reuse | None = Field(None, description="what the steps without an evaluation reuse, default easycache")
    options: dict[str, Any] | None = Field(None, description="of a solver of one's own")
    levels_options: dict[str, Any] | None = Field(None, description="of levels of one's own")
    min_nfe: int = Field(1, ge=1, description="leave out cells with fewer evaluations")

    @property
    def entry(self) -> Solver:
        """What the solver is."""
        return solver_of(self.solver)

    @property
    def schedule(self) -> Schedule:
        """What its schedule is."""
        return schedule_of(self.levels)

    @property
    def family(self) -> str:
        return "searched" if self.schedule.searched else "classical"

    @property
    def files(self) -> set[str]:
        """Options that are files which the workflow computes: costs of steps, statistics of the model."""
        return {*self.entry.files, *self.schedule.files}

    @cached_property
    def of_solver(self) -> Options:
        """The solver's options, defaults included."""
        return self.chosen(self.entry.options, self.solver)

    @cached_property
    def of_schedule(self) -> ScheduleOptions:
        """The schedule's options, defaults included."""
        return self.chosen(self.schedule.options, f"levels: {self.levels}")

    @model_validator(mode="after")
    def _options_fit(self) -> Classical:
        takes, schedule = self.entry.options, self.schedule
        for option in {*self.extra} - {*takes.names(), *schedule.options.names()}:
            if any(option in entry.options.model_fields for entry in SOLVERS.values()):
                raise ValueError(f"{self.solver} takes no option {option}; allowed: {', '.join(takes.names()) or 'none'}")
            owners = [name for name, other in SCHEDULES.items() if option in other.options.model_fields]
            if owners:
                raise ValueError(f"{option} belongs to levels: {' or '.join(owners)}, not to {self.levels}")
            raise ValueError(f"{option}: {UNKNOWN}")
        if "order" in takes.choices() and "order" not in self.extra:
            raise ValueError(f"{self.solver} needs an order, one of {', '.join(map(str, takes.choices()['order']))}")
        for option in schedule.options.needed():
            if option not in self.extra:
                raise ValueError(f"levels: {self.levels} needs {option}")
        for key, name, values in (("options", self.solver, self.options), ("levels_options", self.levels, self.levels_options)):
            if values and not is_own(name):
                raise ValueError(f"{key} are those of module:function of one's own; {name} takes its options beside its name")
        _ = self.of_solver  # or an error says what is wrong
        if problem := self.of_schedule.wrong():
            raise ValueError(problem)
        if self.to_zero and self.of_schedule.ends_at_zero():
            raise ValueError("values end at 0 already; leave out to_zero")
        if self.cached > 1 and self.analytic_first_step:
            raise ValueError("a step cache evaluates its first step; leave out cached or analytic_first_step")
        if self.cached == 1 and self.reuse:
            raise ValueError("reuse is for the steps without an evaluation of a step cache; set cached to 2 or more")
        return self

    def fits(self, nfe: int) -> bool:
        """Whether this solver is compared at a number of evaluations."""
        return nfe >= self.min_nfe and self.of_schedule.offers(self.steps(nfe))

    def steps(self, nfe: int) -> int:
        """Number of steps over the schedule at a number of evaluations."""
        return nfe * self.cached + self.analytic_first_step - self.to_zero

    @property
    def ends_at_zero(self) -> bool:
        """Whether the last evaluation is a final denoising step, at any NFE."""
        return self.to_zero or self.of_schedule.ends_at_zero()

    @property
    def order(self) -> int:
        """The order of a step, 1 where the solver has none to choose."""
        return getattr(self.of_solver, "order", 1)

    def as_base(self) -> Base:
        """What a fit can know of it before there are numbers."""
        return Base(self.entry, self.of_solver, self.analytic_first_step, self.schedule.from_the_top, self.cached > 1)

    def solver_options(self) -> dict[str, Any]:
        """The options of `s4s.solver`."""
        options = self.options or given(self.of_solver)
        if self.cached > 1:
            options = {**options, "cached": self.cached, **({"reuse": self.reuse} if self.reuse else {})}
        return {**options, "analytic_first_step": True} if self.analytic_first_step else options

    def level_options(self) -> dict[str, Any]:
        """The options of `s4s.levels`."""
        options = self.levels_options or given(self.of_schedule)
        return {**options, "to_zero": True} if self.to_zero else options

    def own_modules(self) -> list[Path]:
        """The files of one's own modules that make this solver; what they import themselves is not among them."""
        return own_modules(self.solver, self.levels)


class Learned(Described):
    """A solver that is fitted to the teacher."""

    of_the_plan: ClassVar[set[str]] = {"min_nfe", "warm_start", "teacher_steps", "starts"}
    registered: ClassVar[dict[str, type[Options]]] = {name: entry.options for name, entry in FAMILIES.items()}

    family: Family
    base: Token = Field(description="token of the classical solver that the fit starts from, exactly")
    starts: list[Token] = Field(
        [],
        description="further classical solvers: the fit starts at the one of them and the base with the least validation error",
    )
    weights: Literal[*(name for name, entry in FAMILIES.items() if entry.driver is None)] | None = Field(  # type: ignore[valid-type]
        None, description="form of s4s_alt and joint, default lms"
    )
    driver: Literal[*DRIVERS] | None = Field(  # type: ignore[valid-type]
        None, description="what is free when, if not what the family's name says"
    )
    decoupled: bool | None = Field(None, description="also learn the conditioning level of each node")
    first_node: bool = Field(False, description="also learn where the first evaluation is made")
    warm_start: str | None = Field(
        None,
        description="previous: the learned solver at the next smaller NFE; or the path of a tableau, {nfe} in it filled in",
    )
    teacher_steps: int | None = Field(None, ge=1, description="steps of a teacher of its own; null: as `teacher` says")
    options: dict[str, Any] | None = Field(None, description="of a family of one's own")
    fit: dict[str, Any] = Field({}, description="settings that differ from the top-level fit:")
    min_nfe: int = Field(1, ge=1, description="leave out cells with fewer evaluations")

    @cached_property
    def recipe(self) -> Recipe:
        """Weights, driver and whether conditioning levels are learned, as the family says and as this definition changes it."""
        named = recipe_of(self.family)
        weights, driver = self.weights or named.weights, self.driver or named.driver
        decoupled = named.decoupled and driver != "coefficients" if self.decoupled is None else self.decoupled
        return Recipe(weights, driver, decoupled)

    @model_validator(mode="after")
    def _starts(self) -> Learned:
        if self.starts and self.warm_start not in (None, "previous"):
            raise ValueError("starts: a fit near the solver of a file starts there; leave out starts or warm_start")
        return self

    @property
    def bases(self) -> list[str]:
        """All classical solvers that it may start from."""
        return [*dict.fromkeys([self.base, *self.starts])]

    @property
    def entry(self) -> Entry:
        """What the family of its weights is."""
        return family_of(self.recipe.weights)

    @cached_property
    def of_family(self) -> Options:
        """The options of the weights, defaults included."""
        return self.chosen(self.entry.options, f"family {self.family}")

    @property
    def family_options(self) -> dict[str, Any]:
        """The options of the weights, without those left to their default."""
        return self.options or given(self.of_family)

    @property
    def order(self) -> int:
        """The least NFE that it is possible for: its order where it has one, else 1."""
        return getattr(self.of_family, "order", None) or 1

    def settled(self, settings: FitSettings) -> Learned:
        """This definition with all settings of its fit, so that nothing else says what they are."""
        return self.model_copy(update={"fit": settings.model_dump(mode="json")})

    def record(self, settings: FitSettings, base: str | None = None) -> dict[str, Any]:
        """What a learned tableau's meta says of its fit, which started at `base` where not at its own."""
        recipe = self.recipe
        return {
            "family": self.family,
            "base": base or self.base,
            "weights": recipe.weights,
            "options": self.family_options,
            "driver": recipe.driver,
            "decoupled": recipe.decoupled,
            "first_node": self.first_node,
            "settings": settings.model_dump(mode="json"),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Learned:
        """The definition with the settings of its fit, from what a tableau's meta says."""
        plain = {key: record[key] for key in ("family", "base", "driver", "decoupled", "first_node")}
        form = {"weights": record["weights"]} if recipe_of(record["family"]).any_weights else {}
        options = {"options": record["options"]} if is_own(record["family"]) else record["options"]
        return cls.model_validate({**plain, **form, **options, "fit": record["settings"]})

    def cannot_start(self, base: Classical) -> str | None:
        """Why it cannot start at a classical solver, as far as it shows without the numbers."""
        if base.ends_at_zero:
            return "it ends at level 0; leave out to_zero"
        known = base.as_base()
        if problem := self.entry.cannot_start(self.family, self.of_family, known):
            return problem
        if self.warm_start and not known.movable:
            return f"warm_start makes its formula anew on other levels, which it cannot {immovable()}"
        return None

    def nothing_to_learn(self, nfe: int = 2) -> str | None:
        """Why a turn of its fit has nothing to learn at a number of evaluations, as far as it shows without the numbers."""
        return nothing_to_learn(self.recipe.driver, nfe, self.recipe.decoupled, self.first_node)

    def cannot_search(self, settings: FitSettings) -> str | None:
        """Why its fit cannot find its numbers with some settings."""
        return cannot_search(self.entry.discrete, settings.optimiser, self.recipe.driver, self.first_node)

    def own_modules(self) -> list[Path]:
        """The file of one's own module that makes its family, if it is one; what that imports is not among them."""
        return own_modules(self.family)

    @model_validator(mode="after")
    def _options_fit(self) -> Learned:
        recipe = self.recipe
        if self.weights and not recipe_of(self.family).any_weights:
            several = " and ".join(name for name, other in recipes().items() if other.any_weights)
            raise ValueError(f"weights belong to families {several}; {self.family} has its own")
        takes = self.entry.options
        for option in {*self.extra} - {*takes.names()}:
            if any(option in entry.options.model_fields for entry in FAMILIES.values()):
                allowed = ", ".join(takes.names()) or "none"
                raise ValueError(f"family {self.family} takes no option {option}; allowed: {allowed}")
            raise ValueError(f"{option}: {UNKNOWN}")
        if self.options and not is_own(self.family):
            raise ValueError(f"options are those of module:class of one's own; {self.family} takes its options beside its name")
        _ = self.of_family  # or an error says what is wrong
        if self.decoupled and recipe.driver == "coefficients":
            raise ValueError("decoupled levels belong to a learned schedule; take a driver that learns it, or leave this out")
        if self.entry.schedule_only and recipe.driver in ("coefficients", "alternate"):
            raise ValueError(f"family {self.family} has no coefficients; take driver schedule or joint")
        if problem := self.nothing_to_learn():
            raise ValueError(problem)
        if self.warm_start and re.search(r"[{}]", self.warm_start.replace("{nfe}", "")):
            raise ValueError(f"warm_start may hold {{nfe}} and no other braces, got {self.warm_start!r}")
        return self


def without_fit(text: str) -> Classical | Published:
    """The definition of a solver that is not fitted, from what `to_json` wrote.

    Raises:
        S4SError: one line for each key that is wrong.
    """
    return (Published if _kind(json.loads(text)) == "published" else Classical).from_json(text)


def _kind(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return "learned" if "family" in keys else "published" if "tableau" in keys else "classical"


Definition = Annotated[
    Annotated[Classical, Tag("classical")] | Annotated[Learned, Tag("learned")] | Annotated[Published, Tag("published")],
    Discriminator(_kind),
]
