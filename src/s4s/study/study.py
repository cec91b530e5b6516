"""What a config means: its cells, the teacher, initialisation and inputs of each, and where everything lies. Pure, no torch.

Rules, the command `s4s fit`, the plan and the report ask a Study; nobody decides such a thing a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from s4s.errors import S4SError
from s4s.files.bounded import check_parts
from s4s.models.description import REFERENCE, AnyModel
from s4s.models.model_files import read_model_file
from s4s.schedules import SCHEDULES
from s4s.solvers import SOLVERS
from s4s.study import paths
from s4s.study.config import Config, read_config, resolve_models
from s4s.study.definitions import Classical, Learned
from s4s.study.demands import check_demands, check_showcase
from s4s.study.paths import Cell
from s4s.study.published import Published
from s4s.study.questions import QUESTIONS

MAIN = "tables"  # folder of the tables of the config's own comparison; those of a further one are in study/NAME
CONVERGENCE = 128  # samples that the teacher's own error is measured on, if there are so many pairs for validation
Files = dict[str, list[str]]


class Initialisation(NamedTuple):
    """What a fit starts from.

    Attributes:
        bases: the cells of the classical solvers that it may start at, its base first.
        near: the cell of the learned solver that it starts near instead, or the path of one; None for the base itself.
    """

    bases: list[Cell]
    near: Cell | str | None


@dataclass(frozen=True)
class Study:
    """A checked config with the descriptions of its models.

    Attributes:
        config: that of the whole; its models go by the names in their files.
        files: the YAML file of each model, those of further comparisons included.
        models: what these say.
        settings: of each model: the config's, changed by its own file, changed by per_model.
        compared: folder of tables -> model -> its settings with the NFE and solvers of that comparison.
        wrong: further comparisons that contradict the rest of the config, and why: an error where one is asked for.
    """

    config: Config
    files: Mapping[str, str]
    models: Mapping[str, AnyModel]
    settings: Mapping[str, Config]
    compared: Mapping[str, Mapping[str, Config]]
    wrong: Mapping[str, str]

    @classmethod
    def read(cls, values: dict[str, Any], scored: bool = True) -> Study:
        """Check a config and the models that it names.

        Args:
            scored: whether its samples will be scored, which makes demands of its models and numbers.
        Raises:
            S4SError: one line for each problem: the key, what was given, what is allowed.
        """
        check_parts(values, "config")
        config, files = resolve_models(read_config(values))
        models = {name: read_model_file(path) for name, path in files.items()}

        def settings(
            own: Config, described: Mapping[str, AnyModel], nfe_of: Mapping[str, list[int]] = MappingProxyType({})
        ) -> dict[str, Config]:
            last = {name: {"nfe": nfe, "more_nfe": []} for name, nfe in nfe_of.items()}
            return {
                name: own.of_model(name, it.study, config.per_model.get(name, {}), last.get(name, {}))
                for name, it in described.items()
            }

        def check(of: Mapping[str, Config], described: Mapping[str, AnyModel], where: Mapping[str, str]) -> None:
            for name, own in of.items() if scored else ():
                check_demands(where[name], described[name], own)

        own_settings = settings(config, models)
        check(own_settings, models, files)
        compared, wrong = {MAIN: {**own_settings}}, {}
        for name in config.comparisons:
            try:
                own, further = resolve_models(config.comparison(name))
                for model, path in further.items():
                    if files.get(model, path) != path:
                        raise S4SError(
                            f"config: comparisons.{name}: {files[model]} and {path} both have the name {model!r}; change one"
                        )
                new = {model: read_model_file(path) for model, path in further.items() if model not in models}
                of_new, asked = settings(config, new), config.comparisons[name].renamed(further)
                of_all = settings(own, {model: (models | new)[model] for model in further}, asked.nfe_of)
                check(of_all, models | new, further)
                check_showcase(f"config: comparisons.{name}", asked.showcase, models | new, of_all)
            except S4SError as error:
                wrong[name] = str(error)
                continue
            files, models, own_settings = files | further, models | new, own_settings | of_new
            compared[folder_of(name)] = of_all
            config = config.model_copy(update={"comparisons": {**config.comparisons, name: asked}})
        return cls(config, files, models, own_settings, compared, wrong)

    # cells

    def cells(self, folder: str = MAIN) -> list[Cell]:
        """The cells of a comparison, by models; the teacher's own comes first.

        Raises:
            S4SError: if the comparison contradicts the rest of the config.
        """
        name = folder.removeprefix("study/")
        if name in self.wrong:
            raise S4SError(self.wrong[name])
        return [cell for own in self.compared[folder].values() for cell in own.cells()]

    def definition(self, token: str) -> Classical | Learned | Published:
        """What a token means; `teacher` is the teacher's solver, which `settings` of a model say."""
        return self.config.definition(token)

    def learned(self, token: str) -> Learned:
        """What a token of a learned solver means."""
        definition = self.config.definition(token)
        assert isinstance(definition, Learned)
        return definition

    def is_learned(self, token: str) -> bool:
        """Whether a token stands for a solver that is fitted."""
        return token != "teacher" and isinstance(self.config.definition(token), Learned)

    def is_training_free(self, token: str) -> bool:
        """Whether a token stands for a classical solver, the teacher's included."""
        return isinstance(self.config.definition(token), Classical)

    def tokens(self, learned: bool) -> list[str]:
        """The tokens that the config defines: of learned solvers, or of the others with the teacher."""
        return [token for token in ["teacher", *self.config.definitions] if self.is_learned(token) == learned]

    def fits(self, folder: str = MAIN) -> list[Cell]:
        """The cells of learned solvers."""
        return [cell for cell in self.cells(folder) if self.is_learned(cell.solver)]

    def teacher_of(self, cell: Cell) -> Cell:
        """The teacher of a cell: that of its model, or for a fit one of its own: `ahead` of its NFE or of `teacher_steps`."""
        teacher = self.settings[cell.model].teacher
        definition = None if cell.solver == "teacher" else self.config.definition(cell.solver)
        if not isinstance(definition, Learned):
            return Cell(cell.model, "teacher", teacher.steps)
        own = definition.teacher_steps or (cell.nfe + teacher.ahead if teacher.ahead else teacher.steps)
        return Cell(cell.model, "teacher", own)

    def initialisation_of(self, cell: Cell) -> Initialisation:
        """The initialisation of the fit of a cell."""
        definition = self.learned(cell.solver)
        own = self.settings[cell.model]
        near: Cell | str | None = None
        if definition.warm_start == "previous":
            smaller = [nfe for nfe in own.nfe_of(cell.solver) if nfe < cell.nfe]
            near = Cell(cell.model, cell.solver, max(smaller)) if smaller else None
        elif definition.warm_start is not None:
            near = definition.warm_start.replace("{nfe}", str(cell.nfe))
        tokens = own.bases_of(cell.solver, cell.nfe) if near is None else [definition.base]
        return Initialisation([Cell(cell.model, token, cell.nfe) for token in tokens], near)

    def warm_start_file(self, model: str, solver: str, nfe: str) -> list[str]:
        """The file of the learned solver that a fit starts near, where that is none of this study."""
        near = self.initialisation_of(Cell(model, solver, int(nfe))).near
        return [near] if isinstance(near, str) else []

    def files_of_fit(self, model: str, solver: str, nfe: str) -> list[Path]:
        """The user's own files that a fit reads: what it starts near, the weights of LPIPS's trunk."""
        lpips = self.settings[model].fit_settings(solver).lpips_weights
        return [*map(Path, self.warm_start_file(model, solver, nfe)), *([lpips] if lpips else [])]

    def published(self, token: str) -> Published | None:
        """What a token of a published solver means; None for any other."""
        definition = self.config.definition(token)
        return definition if isinstance(definition, Published) else None

    def files_of_tableau(self, model: str, solver: str, nfe: str) -> list[Path]:
        """The files that a published solver's numbers are in; none of another."""
        own = self.published(solver)
        return own.files(model, int(nfe)) if own else []

    def definition_json(self, model: str, token: str) -> str:
        """What a job has to know of a solver, as JSON: its definition, of a learned one with all settings of its fit; `search`
        stands for the teacher's solver on the levels that searches choose from."""
        own = self.settings[model]
        if token == "search":
            return own.searched_along().to_json()
        definition = own.definition(token)
        if isinstance(definition, Published):
            return definition.of_model(model).to_json()
        return (definition.settled(own.fit_settings(token)) if isinstance(definition, Learned) else definition).to_json()

    def own_modules(self, model: str, token: str) -> list[Path]:
        """The files of the user's own modules that make a solver; `search` as above."""
        own = self.settings[model]
        return own.searched_along().own_modules() if token == "search" else own.own_modules(token)

    # pairs and shards

    @property
    def test_splits(self) -> list[str]:
        """The splits of the test noise, one for each sampling seed."""
        return [f"test~{seed}" for seed in self.config.seeds]

    def split_size(self, model: str, split: str) -> int:
        """Number of pairs or samples of a split."""
        own = self.settings[model]
        of_teacher = {"train": own.teacher.train, "val": own.teacher.val, REFERENCE: own.teacher.reference}
        return of_teacher.get(split, own.samples)

    def shard_size(self, model: str) -> int:
        """Samples of a shard."""
        return self.settings[model].shard_size(self.models[model].block)

    def shards(self, model: str, *splits: str) -> list[str]:
        """Names of the shards of some splits."""
        size = self.shard_size(model)
        return [f"{split}-{shard}" for split in splits for shard in range(-(-self.split_size(model, split) // size))]

    def is_whole(self, model: str) -> bool:
        """Whether one job draws all samples of a cell: no sampling seed has more than a shard."""
        return len(self.shards(model, *self.test_splits)) == len(self.test_splits)

    def pairs(self, teacher: Cell, *splits: str) -> list[str]:
        """The shards of a teacher's pairs."""
        own = self.settings[teacher.model].teacher.steps
        folder = "shards" if teacher.nfe == own else f"steps~{teacher.nfe}"
        return [paths.pairs(teacher.model, folder, name) for name in self.shards(teacher.model, *splits)]

    def test_pairs(self, model: str) -> list[str]:
        """The teacher's pairs of the test noise."""
        return self.pairs(self.teacher_of(Cell(model, "teacher", 0)), *self.test_splits)

    def samples(self, cell: Cell) -> list[str]:
        """The files that the samples of a cell are drawn into, in the order of their rows; the teacher's are its pairs."""
        if cell.solver == "teacher":
            return self.test_pairs(cell.model)
        if self.is_whole(cell.model):
            return [paths.samples(cell)]
        return [paths.samples(cell, name) for name in self.shards(cell.model, *self.test_splits)]

    # what files are made from, by stage

    def inputs(self, stage: str, **names: str) -> Files:
        """The results that a job of a stage reads, by what they are to it.

        Args:
            names: what the job is about: model, solver, nfe, split, ... as its rule's wildcards have them.
        """
        return _INPUTS[stage](self, names)

    def reference(self, model: str) -> list[str]:
        """The moments of a model's real data, where they are computed here."""
        features = self.models[model].features
        computed = features is not None and (features.images or features.teacher or features.kind == "classifier")
        return [paths.reference(model)] if computed else []

    def searches(self, model: str, token: str) -> Files:
        """Option and file of what a training-free solver needs that is computed from trajectories."""
        definition = self.settings[model].definition(token)
        if isinstance(definition, Published):
            return {}
        assert isinstance(definition, Classical)
        return {option: [paths.search(model, f"{option}.json")] for option in sorted(definition.files)}

    def question_cells(self, comparison: str, question: str, model: str) -> list[Cell]:
        """The cells that a question about one model of a comparison reads."""
        asked = QUESTIONS[question]
        return [
            cell
            for cell in self.cells(folder_of(comparison))
            if (cell.model == model or (asked.foreign and self.is_learned(cell.solver)))
            and (not asked.fits or cell.solver == "teacher" or self.is_learned(cell.solver))
        ]

    def question_fits(self, comparison: str, question: str, model: str) -> list[Cell]:
        """The cells whose fits' convergence curves a question about one model reads."""
        cells = self.question_cells(comparison, question, model) if QUESTIONS[question].fits else []
        return [cell for cell in cells if self.is_learned(cell.solver)]


def folder_of(comparison: str) -> str:
    """The folder of a further comparison's tables, in results."""
    return f"study/{comparison}"


def cell_of(names: Mapping[str, str]) -> Cell:
    """The cell that a job is about."""
    return Cell(names["model"], names["solver"], int(names["nfe"]))


def _fit(study: Study, names: Mapping[str, str]) -> Files:
    cell = cell_of(names)
    initial, teacher = study.initialisation_of(cell), study.teacher_of(cell)
    return {
        "bases": list(map(paths.tableau, initial.bases)),
        "near": [paths.tableau(initial.near)] if isinstance(initial.near, Cell) else [],
        "train": study.pairs(teacher, "train"),
        "val": study.pairs(teacher, "val"),
    }


def _tableau(study: Study, names: Mapping[str, str]) -> Files:
    possible = {option for solver in SOLVERS.values() for option in solver.files}
    possible |= {option for schedule in SCHEDULES.values() for option in schedule.files}
    return {option: [] for option in sorted(possible)} | study.searches(names["model"], names["solver"])


def _pairs(study: Study, names: Mapping[str, str]) -> Files:
    model, (_, _, steps) = names["model"], names["folder"].partition("~")
    teacher = Cell(model, "teacher", int(steps or study.settings[model].teacher.steps))
    return {"teacher": [paths.tableau(teacher)]}


def _all_pairs(study: Study, names: Mapping[str, str]) -> Files:
    own = study.teacher_of(Cell(names["model"], "teacher", 0))
    return {"shards": study.pairs(own, "train", "val", *study.test_splits)}


def _reference(study: Study, names: Mapping[str, str]) -> Files:
    model = names["model"]
    features = study.models[model].features
    own = study.teacher_of(Cell(model, "teacher", 0))
    return {"pairs": study.pairs(own, REFERENCE) if features is not None and features.teacher else []}


def _score_of_shard(study: Study, names: Mapping[str, str]) -> Files:
    cell, shards = cell_of(names), study.shards(names["model"], *study.test_splits)
    at = shards.index(names["name"]) if names["name"] in shards else None
    if at is None:
        raise S4SError(f"{names['name']}: no shard of {cell.model}; its shards: {shards[0]} to {shards[-1]}")
    return {
        "reference": study.reference(cell.model),
        "samples": [study.samples(cell)[at]],
        "pairs": [study.test_pairs(cell.model)[at]],
    }


def _score(study: Study, names: Mapping[str, str]) -> Files:
    cell = cell_of(names)
    if study.is_whole(cell.model):
        return {
            "reference": study.reference(cell.model),
            "samples": [paths.samples(cell)],
            "pairs": study.test_pairs(cell.model),
            "statistics": [],
        }
    shards = study.shards(cell.model, *study.test_splits)
    statistics = [paths.shard_score(cell, name) for name in shards]
    return {"reference": study.reference(cell.model), "samples": [], "pairs": [], "statistics": statistics}


def _tables(study: Study, names: Mapping[str, str]) -> Files:
    folder = names["tables"]
    return {"scores": list(map(paths.score, study.cells(folder))), "fits": list(map(paths.fit, study.fits(folder)))}


def _question(study: Study, names: Mapping[str, str]) -> Files:
    model, asked = names["model"], QUESTIONS[names["question"]]
    of_cell = {"tableaux": paths.tableau, "samples": paths.samples}[asked.files]
    return {
        "reference": study.reference(model),
        "cells": list(map(of_cell, study.question_cells(**names))),
        "fits": list(map(paths.fit, study.question_fits(**names))),
        "pairs": study.test_pairs(model) if asked.files == "samples" else [],
    }


_INPUTS: dict[str, Callable[[Study, Mapping[str, str]], Files]] = {
    "tableau": _tableau,
    "pairs": _pairs,
    "all_pairs": _all_pairs,
    "statistics": lambda study, names: {"trajectories": [paths.search(names["model"], "trajectories.h5")]},
    "fit": _fit,
    "sample": lambda study, names: {"tableau": [paths.tableau(cell_of(names))]},
    "all_samples": lambda study, names: {"shards": study.samples(cell_of(names))},
    "reference": _reference,
    "score_shard": _score_of_shard,
    "score": _score,
    "tables": _tables,
    "question": _question,
}
