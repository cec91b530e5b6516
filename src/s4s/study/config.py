"""The workflow's configuration: one pydantic model that checks it, generates its JSON Schema and lists its cells. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from s4s.errors import S4SError, explain
from s4s.files.json_file import Strict
from s4s.learning.settings import FitSettings
from s4s.models.model_files import model_path, read_model_file
from s4s.schedules import SCHEDULES
from s4s.solvers import EXPONENTIAL, SOLVERS
from s4s.study.comparison import Comparison
from s4s.study.definitions import Classical, Definition, Kind, Learned, ScheduleName
from s4s.study.described import Token
from s4s.study.paths import Cell
from s4s.study.published import Published
from s4s.study.questions import QUESTIONS


class Teacher(Strict):
    """The strong solver that defines the right answer."""

    solver: Kind = "unipc"
    order: int = Field(3, ge=1)
    levels: ScheduleName = "logsnr"
    steps: int = Field(64, ge=1, description="network evaluations of the teacher")
    train: int = Field(512, ge=1, lt=2**32, description="training pairs")
    val: int = Field(128, ge=1, lt=2**32, description="validation pairs")
    reference: int = Field(
        1024, ge=2, lt=2**32, description="samples to compare with, of models whose features say teacher: true"
    )
    ahead: int | None = Field(
        None, ge=1, description="steps beyond the NFE of a fit that its own teacher has; null: one for all"
    )
    trajectory: bool = Field(False, description="keep the states and the denoiser's outputs at all steps too")

    @model_validator(mode="after")
    def _possible(self) -> Teacher:
        possible = [name for name, schedule in SCHEDULES.items() if schedule.fixed]
        if self.levels not in possible:
            raise ValueError(f"the teacher's levels must be one of {', '.join(possible)}")
        if self.solver not in SOLVERS:
            raise ValueError(f"the teacher's solver must be one of {', '.join(SOLVERS)}")
        if files := SOLVERS[self.solver].files:
            raise ValueError(f"the teacher cannot be {self.solver}, whose {' and '.join(files)} are found with a teacher")
        return self

    @property
    def has_order(self) -> bool:
        """Whether its solver has an order to choose."""
        return "order" in SOLVERS[self.solver].options.model_fields

    def on(self, levels: str) -> Classical:
        """Its solver on some levels."""
        options = {"order": self.order} if self.has_order else {}
        return Classical(solver=self.solver, levels=levels, **options)

    def definition(self) -> Classical:
        return self.on(self.levels)


class Search(Strict):
    """Trajectories of the teacher's solver, for GITS levels and the statistics of DPM-Solver-v3."""

    levels: ScheduleName = Field("edm", description="levels to choose from")
    steps: int = Field(60, ge=2, description="their number, less one")
    trajectories: int = Field(64, ge=1, description="number of trajectories")

    @model_validator(mode="after")
    def _possible(self) -> Search:
        possible = [name for name, schedule in SCHEDULES.items() if schedule.fixed and schedule.continuous]
        if self.levels not in possible:
            raise ValueError(f"search.levels must be one of {', '.join(possible)}")
        return self


# what a model may have its own settings of
OWN = ("nfe", "more_nfe", "samples", "batch_size", "shard", "teacher", "search", "fit")


class Config(Strict):
    """config/config.yaml; every key is explained there."""

    models: list[str] = Field(min_length=1)
    nfe: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    solvers: list[Token] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0, lt=2**24)]] = Field(min_length=1, description="sampling seeds of the test")
    samples: int = Field(256, ge=2, lt=2**32, description="samples for each sampling seed")
    batch_size: int = Field(128, ge=1, description="samples in memory at a time")
    shard: int = Field(10000, ge=1, description="samples of one job; more are cut into several")
    keep_samples: bool = Field(True, description="false: samples are deleted when scores and figures no longer need them")
    downloads: str | None = Field(None, description="folder that files may be fetched to, besides resources/weights")
    teacher: Teacher = Teacher()
    search: Search = Search()
    fit: FitSettings = FitSettings()
    per_model: dict[str, dict[str, Any]] = Field({}, description="settings of single models: those of OWN, by a model's name")
    definitions: dict[Token, Definition]
    comparisons: dict[Token, Comparison] = Field({}, description="further comparisons by name, each a target")
    more_nfe: list[Annotated[int, Field(ge=1)]] = Field(
        [], description="numbers of evaluations for training-free and published solvers alone"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        for name in ("models", "nfe", "solvers", "seeds"):
            values = [*getattr(self, name), *(self.more_nfe if name == "nfe" else [])]
            if len(set(values)) < len(values):
                raise ValueError(f"{name} lists an entry twice: {values}")
        too_large = [n for n in [*self.nfe, *self.more_nfe] if n >= self.teacher.steps]
        if too_large:
            raise ValueError(f"nfe {too_large} must be smaller than the teacher's {self.teacher.steps} steps")
        least = min(self.nfe) + (self.teacher.ahead or self.teacher.steps)
        if self.teacher.has_order and least < self.teacher.order:
            raise ValueError(f"teacher.ahead: {least} steps are too few for order {self.teacher.order}; lower teacher: order")
        for token in self.solvers:
            self._check_token(token)
        if not any(True for _ in self.cells()):
            raise ValueError("no cell is left: every solver has min_nfe above the largest nfe, or no explicit levels for any")
        return self

    def _check_token(self, token: str) -> None:
        if token == "teacher" or token not in self.definitions:
            known = ", ".join(sorted(self.definitions))
            raise ValueError(f"solvers: unknown solver {token!r}; defined: {known}; add it under definitions")
        definition = self.definitions[token]
        if isinstance(definition, Published):
            return  # its numbers are held against the model when they are read
        if isinstance(definition, Learned):
            for each in definition.bases:
                self._check_base(f"definitions.{token}.{'base' if each == definition.base else 'starts'}", definition, each)
            for n in self.nfe_of(token):
                if problem := definition.nothing_to_learn(n):
                    raise ValueError(f"definitions.{token}: {problem}")
            self._check_fit(token)
        compared = self.classical(token)
        order = max(definition.order, compared.order)
        bad = [n for n in self.nfe_of(token) if n < order]
        if bad:
            whose = ""
            if isinstance(definition, Learned) and order > definition.order:
                whose = f" of its base {definition.base}"
            raise ValueError(
                f"definitions.{token}: order {order}{whose} is larger than nfe {bad}; "
                f"lower the order, raise the nfe, or set min_nfe: {order} to leave these cells out"
            )
        if any(compared.steps(n) < 1 for n in self.nfe_of(token)):
            raise ValueError(f"definitions.{token}: to_zero needs an nfe of at least 2; set min_nfe: 2 to leave out nfe 1")
        needed = [self.classical(each) for each in self.bases(token)]
        if any(each.files for each in needed) and self.teacher.solver not in EXPONENTIAL:
            raise ValueError(
                f"definitions.{token} needs trajectories of the teacher's solver, which must be one of {', '.join(EXPONENTIAL)}"
            )
        for own in needed:
            self._check_search(token, own)

    def _check_search(self, token: str, classical: Classical) -> None:
        longest = max(map(classical.steps, self.nfe_of(token)), default=0)
        if classical.schedule.files and longest > self.search.steps:
            raise ValueError(
                f"definitions.{token}: {longest} {classical.levels} levels cannot be chosen from search.steps "
                f"{self.search.steps}; raise it"
            )

    def _check_base(self, key: str, definition: Learned, token: str) -> None:
        base = self.definitions.get(token)
        if not isinstance(base, Classical):
            classical = ", ".join(sorted(t for t, d in self.definitions.items() if isinstance(d, Classical)))
            raise ValueError(f"{key}: {token!r} is not a classical solver; defined: {classical}")
        if problem := definition.cannot_start(base):
            raise ValueError(f"{key}: a learned solver cannot start at {token!r}: {problem}")

    def _check_fit(self, token: str) -> None:
        """Raise ValueError if a fit cannot be made with the teacher's pairs."""
        settings, teacher = self.fit_settings(token), self.teacher
        learned = self.definitions[token]
        assert isinstance(learned, Learned)
        if problem := learned.cannot_search(settings):
            raise ValueError(f"definitions.{token}: {problem}")
        for name, wanted, there in (("train", settings.train_pairs, teacher.train), ("val", settings.val_pairs, teacher.val)):
            if wanted is not None and wanted > there:
                raise ValueError(
                    f"definitions.{token}: its fit needs {name}_pairs {wanted}, but teacher.{name} is {there}; raise "
                    f"teacher: {{{name}: {wanted}}}, or lower fit: {{{name}_pairs: {there}}} there"
                )
        steps = learned.teacher_steps
        if steps is not None and teacher.has_order and steps < teacher.order:
            raise ValueError(f"definitions.{token}: teacher_steps {steps} are too few for the teacher's order {teacher.order}")
        pairs = settings.train_pairs or teacher.train
        if settings.least_pairs > pairs:
            raise ValueError(
                f"definitions.{token}: its fit has a batch of {settings.batch}, but there are {pairs} training pairs; lower "
                "its batch, or make more pairs"
            )
        if settings.trajectory and not (teacher.trajectory and teacher.solver in EXPONENTIAL):
            raise ValueError(
                f"definitions.{token}: fit.trajectory needs teacher: {{trajectory: true}} and a teacher's solver with nothing "
                f"between its nodes, one of {', '.join(EXPONENTIAL)}"
            )

    def nfe_of(self, token: str, *models: str) -> list[int]:
        """The numbers of evaluations at which a solver is compared on one of some models, by default any of the config's."""
        definition = self.definitions[token]
        listed = [*self.nfe, *([] if isinstance(definition, Learned) else self.more_nfe)]
        if isinstance(definition, Published):
            return [n for n in listed if any(definition.fits(model, n) for model in models or self.models)]
        classical = self.classical(token)
        return [n for n in listed if n >= definition.min_nfe and classical.fits(n)]

    def bases(self, token: str) -> list[str]:
        """The classical solver that a token stands for, or those that it may start from; of a published one none."""
        definition = self.definition(token)
        if isinstance(definition, Published):
            return []
        return definition.bases if isinstance(definition, Learned) else [token]

    def bases_of(self, token: str, nfe: int) -> list[str]:
        """The classical solvers that a learned one may start from at a number of evaluations; its base is always there."""
        definition = self.definitions[token]
        assert isinstance(definition, Learned)
        others = [start for start in definition.bases[1:] if (own := self.classical(start)).fits(nfe) and own.order <= nfe]
        return [definition.base, *others]

    def classical(self, token: str) -> Classical:
        """A classical solver's own definition, or that of the base of a learned one."""
        definition = self.definitions[token]
        assert not isinstance(definition, Published)
        return self.classical(definition.base) if isinstance(definition, Learned) else definition

    def own_modules(self, token: str) -> list[Path]:
        """The files of one's own modules that a solver is made with, those of its base included: a fit may call both."""
        definition = self.definition(token)
        bases = map(self.classical, definition.bases) if isinstance(definition, Learned) else ()
        return [*dict.fromkeys([*definition.own_modules(), *(path for base in bases for path in base.own_modules())])]

    def fit_settings(self, token: str) -> FitSettings:
        """The settings of a learned solver's fit: `fit` with what its definition changes."""
        try:
            definition = self.definitions[token]
            changes = definition.fit if isinstance(definition, Learned) else {}
            return self.fit.changed(changes)
        except ValidationError as error:
            raise ValueError(explain(error, f"definitions.{token}.fit")) from error

    def cells(self) -> list[Cell]:
        """All cells of the comparison, the teacher's own row first."""
        return [
            *(Cell(model, "teacher", self.teacher.steps) for model in self.models),
            *(Cell(m, token, n) for m in self.models for token in self.solvers for n in self.nfe_of(token, m)),
        ]

    def of_model(self, model: str, *changes: dict[str, Any]) -> Config:
        """The config of one model alone, with changes of the settings in OWN, the later ones first.

        Raises:
            S4SError: if a change is not allowed.
        """
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        try:
            for change in changes:
                for key, value in change.items():
                    if key not in OWN:
                        raise S4SError(f"config: settings of model {model}: {key!r} is not among {', '.join(OWN)}")
                    if key in ("fit", "teacher", "search") and not isinstance(value, dict):
                        raise S4SError(f"config: settings of model {model}: {key} must hold keys and values, not {value!r}")
                    if key == "fit":
                        value = values[key].changed(value)
                    elif key in ("teacher", "search"):
                        value = type(values[key]).model_validate({**values[key].model_dump(), **value})
                    values[key] = value
            return Config.model_validate({**values, "models": [model], "per_model": {}})
        except ValidationError as error:
            raise S4SError(explain(error, f"config: settings of model {model}")) from error

    def comparison(self, name: str) -> Config:
        """The config whose cells are those of one of `comparisons`, with the models' own settings still to be applied.

        Raises:
            S4SError: if the comparison contradicts the rest of the config; it is checked only here, so that a change of the
                rest is never refused for a comparison that nobody asks for.
        """
        values: dict[str, Any] = {field: getattr(self, field) for field in type(self).model_fields}
        shared = Comparison.model_fields.keys() & values.keys()
        own = {field: getattr(self.comparisons[name], field) for field in shared}
        try:
            config = Config.model_validate({**values, **own, "comparisons": {}, "per_model": {}})
        except ValidationError as error:
            raise S4SError(explain(error, f"config: comparisons.{name}")) from error
        learned = any(isinstance(config.definition(token), Learned) for token in config.solvers)
        for question in self.comparisons[name].questions:
            if QUESTIONS[question].fits and not learned:
                raise S4SError(
                    f"config: comparisons.{name}: questions: {question} asks about fits, but no solver there is learned; "
                    "add one, or leave the question out"
                )
        return config

    def shard_size(self, block: int) -> int:
        """Samples of a shard: `shard`, rounded up to whole blocks of the model."""
        return -(-self.shard // block) * block

    def shards(self, count: int, block: int) -> range:
        """The shards that `count` samples are cut into."""
        return range(-(-count // self.shard_size(block)))

    def searched_along(self) -> Classical:
        """The solver of the trajectories that searches use: the teacher's, on the levels that are chosen from."""
        return self.teacher.on(self.search.levels)

    def definition(self, token: str) -> Classical | Learned | Published:
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


def resolve_models(config: Config) -> tuple[Config, dict[str, str]]:
    """The config with its models by the names in their files, under which results lie, and the file of each.

    Raises:
        S4SError: if a file is wrong, or two have the same name.
    """
    files: dict[str, str] = {}
    for model in config.models:
        path, name = str(model_path(model)), read_model_file(model).name
        if name in files:
            raise S4SError(f"config: models: {files[name]} and {path} both have the name {name!r}; change one of them")
        files[name] = path
    further = {model for own in config.comparisons.values() for model in own.models}
    unknown = sorted({*config.per_model} - {*files} - further)
    if unknown:
        raise S4SError(f"config: per_model: {unknown[0]!r} is none of the models {', '.join(files)}")
    return config.model_copy(update={"models": [*files]}), files


def schema() -> str:
    """The JSON Schema of the config; workflow/schemas/config.schema.json holds it."""
    return json.dumps(Config.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
