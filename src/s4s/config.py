"""The workflow's configuration: one pydantic model that checks it, generates its JSON Schema and lists its cells. No torch."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from s4s.errors import S4SError, explain
from s4s.fitting.settings import FitSettings
from s4s.models.files import model_path

Grid = Literal["edm", "logsnr", "time_uniform", "time_quadratic"]
Token = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")]

DRIVER_OF_FAMILY = {"s4s_lms": "coefficients", "ld3": "schedule", "s4s_alt": "alternate", "joint": "joint"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Classical(_Strict):
    """A classical solver on a fixed grid."""

    solver: Literal["ddim", "dpmpp", "ipndm", "unipc"]
    levels: Grid
    order: Annotated[int, Field(ge=1)] | None = None
    variant: Literal["bh1", "bh2"] | None = None
    lower_order_final: bool | None = None
    rho: Annotated[float, Field(gt=0)] | None = Field(None, description="exponent of the edm grid")
    min_nfe: int = Field(1, ge=1, description="leave out cells with fewer evaluations")

    @property
    def family(self) -> str:
        return "classical"

    @model_validator(mode="after")
    def _options_fit(self) -> Classical:
        orders = {"ddim": (), "dpmpp": (1, 2, 3), "ipndm": (1, 2, 3, 4), "unipc": (1, 2, 3)}[self.solver]
        if orders and self.order not in orders:
            raise ValueError(f"{self.solver} needs an order, one of {', '.join(map(str, orders))}")
        takes = {"ddim": (), "dpmpp": ("order", "lower_order_final"), "ipndm": ("order",)}
        for option in ("order", "variant", "lower_order_final"):
            allowed = takes.get(self.solver, ("order", "variant", "lower_order_final"))
            if getattr(self, option) is not None and option not in allowed:
                raise ValueError(f"{self.solver} takes no option {option}; allowed: {', '.join(allowed) or 'none'}")
        if self.rho is not None and self.levels != "edm":
            raise ValueError(f"rho belongs to levels: edm, not to {self.levels}")
        return self

    def solver_options(self) -> dict[str, Any]:
        """The options of `s4s.solver`."""
        return self.model_dump(include={"order", "variant", "lower_order_final"}, exclude_none=True)

    def level_options(self) -> dict[str, Any]:
        """The options of `s4s.levels`."""
        return self.model_dump(include={"rho"}, exclude_none=True)


class Learned(_Strict):
    """A solver that is fitted to the teacher."""

    family: Literal["s4s_lms", "s4s_alt", "ld3", "joint"]
    base: Token = Field(description="token of the classical solver that the fit starts from, exactly")
    prediction: Literal["data", "noise"] = "data"
    order: Annotated[int, Field(ge=1)] | Literal["full"] = "full"
    decoupled: bool = Field(False, description="also learn the level that the network is told at each node")
    fit: dict[str, Any] = Field(default_factory=dict, description="settings that differ from the top-level fit:")
    min_nfe: int = Field(1, ge=1, description="leave out cells with fewer evaluations")

    @model_validator(mode="after")
    def _decoupled_needs_schedule(self) -> Learned:
        if self.decoupled and self.family == "s4s_lms":
            raise ValueError("decoupled levels belong to a learned schedule; take family s4s_alt, ld3 or joint")
        return self


def _kind(value: Any) -> str:
    return "learned" if isinstance(value, Learned) or (isinstance(value, dict) and "family" in value) else "classical"


Definition = Annotated[Annotated[Classical, Tag("classical")] | Annotated[Learned, Tag("learned")], Discriminator(_kind)]


class Teacher(_Strict):
    """The strong solver that defines the right answer."""

    solver: Literal["ddim", "dpmpp", "ipndm", "unipc"] = "unipc"
    order: int = Field(3, ge=1)
    levels: Grid = "logsnr"
    steps: int = Field(64, ge=1, description="network evaluations of the teacher")
    train: int = Field(512, ge=1, description="training pairs")
    val: int = Field(256, ge=1, description="validation pairs")
    trajectory: bool = Field(False, description="keep the states at all steps too")

    def definition(self) -> Classical:
        options = {} if self.solver == "ddim" else {"order": self.order}
        return Classical(solver=self.solver, levels=self.levels, **options)


class Cell(NamedTuple):
    """One entry of the comparison."""

    model: str
    solver: str
    nfe: int


class Config(_Strict):
    """config/config.yaml; every key is explained there."""

    models: list[str] = Field(min_length=1)
    nfe: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    solvers: list[Token] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0, lt=2**24)]] = Field(min_length=1, description="sampling seeds of the test")
    samples: int = Field(256, ge=2, description="samples for each sampling seed")
    batch_size: int = Field(128, ge=1, description="samples at a time through the network")
    teacher: Teacher = Teacher()
    fit: FitSettings = FitSettings()
    definitions: dict[Token, Definition]

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        for name in ("models", "nfe", "solvers", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} lists an entry twice: {values}")
        for token in self.solvers:
            self._check_token(token)
        too_large = [n for n in self.nfe if n >= self.teacher.steps]
        if too_large:
            raise ValueError(f"nfe {too_large} must be smaller than the teacher's {self.teacher.steps} steps")
        if not any(True for _ in self.cells()):
            raise ValueError("no cell is left: every solver has min_nfe above the largest nfe")
        return self

    def _check_token(self, token: str) -> None:
        if token == "teacher" or token not in self.definitions:
            known = ", ".join(sorted(self.definitions))
            raise ValueError(f"solvers: unknown solver {token!r}; defined: {known}; add it under definitions")
        definition = self.definitions[token]
        if isinstance(definition, Learned):
            base = self.definitions.get(definition.base)
            if not isinstance(base, Classical):
                classical = ", ".join(sorted(t for t, d in self.definitions.items() if isinstance(d, Classical)))
                raise ValueError(
                    f"definitions.{token}.base: {definition.base!r} is not a classical solver; defined: {classical}"
                )
            self.fit_settings(token)
        orders = [definition.order]
        if isinstance(definition, Learned):
            orders.append(self.definitions[definition.base].order)
        order = max((value for value in orders if isinstance(value, int)), default=1)
        bad = [n for n in self.nfe_of(token) if n < order]
        if bad:
            raise ValueError(
                f"definitions.{token}: order {order} is larger than nfe {bad}; "
                f"lower the order, raise the nfe, or set min_nfe: {order} to leave these cells out"
            )

    def nfe_of(self, token: str) -> list[int]:
        """The numbers of evaluations at which a solver is compared."""
        definition = self.definitions[token]
        least = definition.min_nfe
        if isinstance(definition, Learned):
            least = max(least, self.definitions[definition.base].min_nfe)
        return [n for n in self.nfe if n >= least]

    def fit_settings(self, token: str) -> FitSettings:
        """The settings of a learned solver's fit: `fit` with what its definition changes."""
        try:
            definition = self.definitions[token]
            changes = definition.fit if isinstance(definition, Learned) else {}
            return FitSettings.model_validate({**self.fit.model_dump(), **changes})
        except ValidationError as error:
            raise ValueError(explain(error, f"definitions.{token}.fit")) from error

    def cells(self) -> list[Cell]:
        """All cells of the comparison, the teacher's own row first."""
        return [
            *(Cell(model, "teacher", self.teacher.steps) for model in self.models),
            *(Cell(m, token, n) for m in self.models for token in self.solvers for n in self.nfe_of(token)),
        ]

    def definition(self, token: str) -> Classical | Learned:
        """What a token means; `teacher` is the teacher's solver."""
        return self.teacher.definition() if token == "teacher" else self.definitions[token]


def read_config(values: dict[str, Any]) -> Config:
    """Check a configuration, the existence of its models included.

    Raises:
        S4SError: one line for each problem: the key, what was given, what is allowed.
    """
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise S4SError(explain(error, "config")) from error
    for model in config.models:
        model_path(model)
    return config


def schema() -> str:
    """The JSON Schema of the config; workflow/schemas/config.schema.json holds it."""
    return json.dumps(Config.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
