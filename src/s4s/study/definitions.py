"""What a solver's name in the config means: a classical solver on its levels, or a solver that is fitted. No torch."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from s4s.errors import S4SError, explain
from s4s.learning.families import FAMILIES
from s4s.learning.settings import FitSettings
from s4s.schedules import GRIDS
from s4s.solvers import SOLVERS


def _one_of(registry: Iterable[str]) -> AfterValidator:
    """A validator that lets only the names in a registry pass."""
    names = list(registry)

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return value

    return AfterValidator(check)


Kind = Annotated[str, _one_of(SOLVERS), Field(json_schema_extra={"enum": [*SOLVERS]})]
Schedule = Annotated[str, _one_of(GRIDS), Field(json_schema_extra={"enum": [*GRIDS]})]
Token = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Recipe(NamedTuple):
    """What a learned family's name in the config stands for: weights (s4s/families) and what is free when."""

    weights: str
    driver: str
    decoupled: bool = False


RECIPES = {
    "s4s_lms": Recipe("lms", "coefficients"),
    "s4s_pc": Recipe("pc", "coefficients"),
    "s4s_ss": Recipe("single_step", "coefficients"),
    "ld3": Recipe("ld3", "schedule", True),
    "s4s_alt": Recipe("lms", "alternate", True),
    "joint": Recipe("lms", "joint", True),
    "gs": Recipe("gs", "joint", True),
    "dyweight": Recipe("dyweight", "joint", True),
    "bns": Recipe("bns", "joint", True),
}
FORMS = ("s4s_alt", "joint")  # families whose weights have a form to choose
FILES = {"costs", "statistics"}  # options that the workflow computes and fills in itself


class Strict(BaseModel):
    """No unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Described(Strict):
    """A solver's definition, which travels to a job as one JSON text."""

    of_the_plan: ClassVar[set[str]] = {"min_nfe"}  # what chooses cells and files; a job is given these, and does not choose

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


class Classical(Described):
    """A classical solver on fixed levels, or on levels that are searched for without gradients."""

    solver: Kind
    levels: Schedule
    order: Annotated[int, Field(ge=1)] | None = None
    prediction: Literal["data", "noise"] | None = None
    variant: Literal["bh1", "bh2", "midpoint", "heun"] | None = None
    lower_order_final: bool | None = None
    corrector: bool | None = None
    clock: Literal["time", "sigma", "lambda"] | None = None
    p_pseudo: bool | None = None
    c_pseudo: bool | None = None
    analytic_first_step: bool = Field(False, description="take the first step without an evaluation, so one more step")
    to_zero: bool = Field(False, description="the last evaluation is a final denoising step")
    rho: Annotated[float, Field(gt=0)] | None = Field(None, description="exponent of the edm grid")
    power: Annotated[float, Field(gt=0)] | None = Field(None, description="exponent of the time_power grid")
    table: Literal["sd", "sdxl", "svd"] | None = Field(None, description="which Align Your Steps levels")
    values: list[list[Annotated[float, Field(ge=0)]]] | None = Field(None, description="explicit levels, a list for each NFE")
    gamma: Annotated[float, Field(gt=0)] | None = Field(None, description="weight of later steps in gits")
    exponent: Literal[1, 2] | None = Field(None, description="of the error of an output in dmn")
    initial: Literal["logsnr", "time_uniform"] | None = Field(None, description="levels that dmn starts from")
    min_nfe: int = Field(1, ge=1, description="leave out cells with fewer evaluations")

    @property
    def family(self) -> str:
        return "searched" if GRIDS[self.levels].searched else "classical"

    @property
    def files(self) -> set[str]:
        """Options that are files which the workflow computes: costs of steps, statistics of the model."""
        statistics = {"statistics"} if self.solver == "dpm_v3" else set()
        return FILES & set(GRIDS[self.levels].options) | statistics

    @model_validator(mode="after")
    def _options_fit(self) -> Classical:
        takes = SOLVERS[self.solver].options
        for option in _SOLVER_OPTIONS:
            value, allowed = getattr(self, option), takes.get(option)
            if allowed and option == "order" and value not in allowed:
                raise ValueError(f"{self.solver} needs an order, one of {', '.join(map(str, allowed))}")
            if value is not None and not allowed:
                raise ValueError(f"{self.solver} takes no option {option}; allowed: {', '.join(takes) or 'none'}")
            if value is not None and value not in (allowed or ()):
                raise ValueError(f"{self.solver}: {option} must be one of {', '.join(map(str, allowed or ()))}")
        for option in _LEVEL_OPTIONS:
            owners = [name for name, grid in GRIDS.items() if option in grid.options]
            if getattr(self, option) is not None and self.levels not in owners:
                raise ValueError(f"{option} belongs to levels: {' or '.join(owners)}, not to {self.levels}")
        for levels, option in (("time_power", "power"), ("explicit", "values")):
            if self.levels == levels and getattr(self, option) is None:
                raise ValueError(f"levels: {levels} needs {option}")
        for row in self.values or []:
            if len(row) < 2 or any(later >= earlier for earlier, later in itertools.pairwise(row)):
                raise ValueError(f"values: levels must decrease strictly and be at least 2, got {row}")
            if row[-1] == 0 and self.to_zero:
                raise ValueError(f"values: {row} ends at 0 already; leave out to_zero")
        return self

    def fits(self, nfe: int) -> bool:
        """Whether this solver is compared at a number of evaluations."""
        listed = self.values is None or any(len(row) == self.steps(nfe) + 1 for row in self.values)
        return nfe >= self.min_nfe and listed

    def steps(self, nfe: int) -> int:
        """Number of steps over the schedule at a number of evaluations."""
        return nfe + self.analytic_first_step - self.to_zero

    def solver_options(self) -> dict[str, Any]:
        """The options of `s4s.solver`."""
        options = self.model_dump(include=set(_SOLVER_OPTIONS), exclude_none=True)
        return {**options, "analytic_first_step": True} if self.analytic_first_step else options

    def level_options(self) -> dict[str, Any]:
        """The options of `s4s.levels`."""
        options = self.model_dump(include=set(_LEVEL_OPTIONS), exclude_none=True)
        return {**options, "to_zero": True} if self.to_zero else options


_SOLVER_OPTIONS = ("order", "prediction", "variant", "lower_order_final", "corrector", "clock", "p_pseudo", "c_pseudo")
_LEVEL_OPTIONS = ("rho", "power", "table", "values", "gamma", "exponent", "initial")


class Learned(Described):
    """A solver that is fitted to the teacher."""

    of_the_plan: ClassVar[set[str]] = {"min_nfe", "warm_start", "teacher_steps"}

    family: Literal["s4s_lms", "s4s_pc", "s4s_ss", "ld3", "s4s_alt", "joint", "gs", "dyweight", "bns"]
    base: Token = Field(description="token of the classical solver that the fit starts from, exactly")
    weights: Literal["lms", "pc", "single_step"] | None = Field(None, description="form of s4s_alt and joint, default lms")
    driver: Literal["coefficients", "schedule", "alternate", "joint"] | None = Field(
        None, description="what is free when, if not what the family's name says"
    )
    prediction: Literal["data", "noise"] | None = Field(None, description="what the coefficients weigh, default data")
    order: Annotated[int, Field(ge=1)] | Literal["full"] = "full"
    consistency: bool | None = Field(None, description="keep the sum of each row's weights at 1")
    start_weights: bool | None = Field(None, description="also learn what each row takes from the start (lms)")
    decoupled: bool | None = Field(None, description="also learn the level that the network is told at each node")
    first_node: bool = Field(False, description="also learn where the first evaluation is made")
    warm_start: str | None = Field(
        None,
        description="previous: the learned solver at the next smaller NFE; or the path of a tableau, {nfe} in it filled in",
    )
    teacher_steps: int | None = Field(None, ge=1, description="steps of a teacher of its own; null: as `teacher` says")
    fit: dict[str, Any] = Field(default_factory=dict, description="settings that differ from the top-level fit:")
    min_nfe: int = Field(1, ge=1, description="leave out cells with fewer evaluations")

    @property
    def recipe(self) -> Recipe:
        """Weights, driver and whether told levels are learned, as the family says and as this definition changes it."""
        named = RECIPES[self.family]
        weights, driver = self.weights or named.weights, self.driver or named.driver
        decoupled = named.decoupled and driver != "coefficients" if self.decoupled is None else self.decoupled
        return Recipe(weights, driver, decoupled)

    @property
    def family_options(self) -> dict[str, Any]:
        """The options of the weights, without those left to their default."""
        order = None if self.order == "full" else self.order
        given = {"prediction": self.prediction, "order": order, "consistency": self.consistency,
                 "start_weights": self.start_weights}  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}

    def settled(self, settings: FitSettings) -> Learned:
        """This definition with all settings of its fit, so that nothing else says what they are."""
        return self.model_copy(update={"fit": settings.model_dump(mode="json")})

    def record(self, settings: FitSettings) -> dict[str, Any]:
        """What a learned tableau's meta says of its fit."""
        weights, driver, decoupled = self.recipe
        return {
            "family": self.family,
            "base": self.base,
            "weights": weights,
            "options": self.family_options,
            "driver": driver,
            "decoupled": decoupled,
            "first_node": self.first_node,
            "settings": settings.model_dump(mode="json"),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Learned:
        """The definition with the settings of its fit, from what a tableau's meta says."""
        plain = {key: record[key] for key in ("family", "base", "driver", "decoupled", "first_node")}
        form = {"weights": record["weights"]} if record["family"] in FORMS else {}
        return cls.model_validate({**plain, **form, **record["options"], "fit": record["settings"]})

    @model_validator(mode="after")
    def _options_fit(self) -> Learned:
        recipe = self.recipe
        if self.weights and self.family not in FORMS:
            raise ValueError(f"weights belong to families s4s_alt and joint; {self.family} has its own")
        takes = FAMILIES[recipe.weights].options
        for option in self.family_options:
            if option not in takes:
                raise ValueError(f"family {self.family} takes no option {option}; allowed: {', '.join(takes) or 'none'}")
        if self.decoupled and recipe.driver == "coefficients":
            raise ValueError("decoupled levels belong to a learned schedule; take a driver that learns it, or leave this out")
        if FAMILIES[recipe.weights].schedule_only and recipe.driver in ("coefficients", "alternate"):
            raise ValueError(f"family {self.family} has no coefficients; take driver schedule or joint")
        if self.start_weights and self.prediction == "noise":
            raise ValueError("start_weights belong to data prediction")
        if self.consistency and self.order == 1 and recipe.weights != "pc":
            raise ValueError("consistency leaves weights of order 1 nothing to learn; raise the order or leave it out")
        if self.first_node and recipe.driver == "schedule":
            raise ValueError("first_node is learned with the coefficients; take another driver than schedule, or leave it out")
        if self.warm_start and re.search(r"[{}]", self.warm_start.replace("{nfe}", "")):
            raise ValueError(f"warm_start may hold {{nfe}} and no other braces, got {self.warm_start!r}")
        return self


def _kind(value: Any) -> str:
    return "learned" if isinstance(value, Learned) or (isinstance(value, dict) and "family" in value) else "classical"


Definition = Annotated[Annotated[Classical, Tag("classical")] | Annotated[Learned, Tag("learned")], Discriminator(_kind)]
