"""Tables, figures and pages of a study: which there are, and what each shows. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s4s.metrics.measures import COMPARED
from s4s.models.published import datasets
from s4s.study import paths
from s4s.study.definitions import Classical, Learned
from s4s.study.paths import Cell
from s4s.study.plan import passes
from s4s.study.published import Published
from s4s.study.study import MAIN, Study, folder_of

ANALYSES = ("evaluations_saved", "ranks")
ABLATION = "ablation"  # a question that is answered from the scores alone
SHOWN_NFE = 5  # figures of single cells show the one nearest to it
# kinds of models whose samples a decoder makes images of
LATENT = ("latent_diffusion", "diffusers", "pipeline", "galaxygrad")
# width of a paper's figures, in inches: a column or the page
PAPER_WIDTHS = {"fid": 3.25, "global_error": 3.25, "schedules": 3.25, "samples": 6.75, "coefficients": 6.75}


def describe(study: Study, folder: str = MAIN) -> dict[str, dict[str, dict[str, Any]]]:
    """What scores.csv says of each model's solvers beside their scores: family, search_evaluations, and schedules by bases.

    A learned solver has the bases that it may have started from, any other none, "".
    """
    return {
        model: {token: _described(study, model, token) for token in ["teacher", *own.solvers]}
        for model, own in study.compared[folder].items()
    }


def _described(study: Study, model: str, token: str) -> dict[str, Any]:
    own = study.settings[model]
    definition = own.definition(token)
    schedules = {"": definition.levels if isinstance(definition, Classical) else ""}
    if isinstance(definition, Learned):
        fixed = definition.recipe.driver == "coefficients"
        schedules = {base: own.classical(base).levels if fixed else "learned" for base in definition.bases}
    return {
        "family": "teacher" if token == "teacher" else definition.family,
        "schedules": schedules,
        "search_evaluations": _search_evaluations(study, model, token),
    }


def _search_evaluations(study: Study, model: str, token: str) -> int:
    """Evaluations of trajectories, and for statistics a gradient, which counts 2 more, that a solver or its base needs."""
    if token == "teacher":
        return 0
    own = study.settings[model]
    search, needed = own.search, {option for base in own.bases(token) for option in own.classical(base).files}
    size = search.trajectories * search.steps * passes(study.models[model])
    return size * (len(needed) > 0) + 3 * size * ("statistics" in needed)


def figures(study: Study) -> dict[str, dict[str, str]]:
    """Figure of the main comparison -> name in the figure -> file of what it shows beside the scores."""
    config = study.config
    found: dict[str, dict[str, str]] = {name: {} for name in COMPARED}
    found["teacher_convergence"] = {model: paths.teacher(model, "convergence.csv") for model in config.models}
    if fits := study.fits():
        found["fit_curves"] = {"/".join(map(str, cell)): paths.fit(cell) for cell in fits}
    for model in config.models:
        own = study.settings[model]
        nfe = shown_nfe(study, model)
        cells = {token: Cell(model, token, nfe) for token in shown_solvers(study, model, nfe)}
        tableaux = {token: paths.tableau(cell) for token, cell in cells.items()}
        teacher = Cell(model, "teacher", own.teacher.steps)
        found[f"levels_and_coefficients-{model}"] = found[f"coefficients-{model}"] = tableaux
        found[f"samples-{model}"] = {
            "teacher": paths.samples(teacher),
            **{token: paths.samples(cell) for token, cell in cells.items()},
        }
    return found


def shown_nfe(study: Study, model: str) -> int:
    """The NFE of the figures that show single cells."""
    return min(study.settings[model].nfe, key=lambda each: abs(each - SHOWN_NFE))


def shown_solvers(study: Study, model: str, nfe: int) -> list[str]:
    """Solvers of the figures that show single cells: each learned one after its base, and published ones."""
    own, tokens = study.settings[model], list[str]()
    here = [token for token in own.solvers if nfe in own.nfe_of(token)]
    for token in here:
        definition = own.definition(token)
        if isinstance(definition, Learned):
            tokens += [definition.base, token]
        elif isinstance(definition, Published):
            tokens += [token]
    return list(dict.fromkeys(tokens)) or here[:8]


def figure_shards(study: Study, name: str) -> list[str]:
    """The data behind the joined files of samples that a figure shows; they must be there when it is drawn."""
    kind, _, model = name.partition("-")
    if kind != "samples":
        return []
    shown = [token for token in figures(study)[name] if token != "teacher" and not study.is_whole(model)]
    nfe = shown_nfe(study, model)
    shards = [path for token in shown for path in study.samples(Cell(model, token, nfe))]
    return [*study.test_pairs(model), *shards]


def decoded_model(study: Study, name: str) -> str | None:
    """The model whose decoder a figure of samples needs; None where states are images."""
    kind, _, model = name.partition("-")
    if kind != "samples":
        return None
    own = study.models[model]
    return model if own.kind in LATENT or getattr(own, "autoencoder", None) is not None else None


def tables(study: Study) -> list[str]:
    """The tables of the main comparison."""
    metrics = [f"results/tables/{metric}.{ending}" for metric in COMPARED for ending in ("md", "tex")]
    return ["results/tables/scores.csv", "results/tables/metrics.csv", *metrics]


def drawn(study: Study) -> list[str]:
    """The files of the main comparison's figures."""
    return [f"results/figures/{name}.{ending}" for name in figures(study) for ending in ("pdf", "png")]


def kept(study: Study, folder: str = MAIN) -> list[str]:
    """All results that stay when a comparison is done, so that one which was deleted is noticed and made again."""
    cells, found = study.cells(folder), list[str]()
    for model, own in study.compared[folder].items():
        teachers = {study.teacher_of(cell) for cell in cells if cell.model == model and study.is_learned(cell.solver)}
        teachers -= {study.teacher_of(Cell(model, "teacher", 0))}
        for teacher in sorted(teachers):
            found += [paths.tableau(teacher), *study.pairs(teacher, "train", "val")]
        found += study.inputs("all_pairs", model=model)["shards"]
        found += [paths.teacher(model, "pairs.h5"), *study.inputs("reference", model=model)["pairs"], *study.reference(model)]
        classical = [base for token in own.solvers for base in own.bases(token)]
        options = {option: file for token in classical for option, file in study.searches(model, token).items()}
        found += [path for files in options.values() for path in files]
        found += [paths.search(model, "trajectories.h5")] if options else []
    for cell in cells:
        learned = study.is_learned(cell.solver)
        found += [paths.tableau(cell), paths.score(cell)]
        found += [paths.fit(cell), *map(paths.tableau, study.initialisation_of(cell).bases)] if learned else []
        if study.config.keep_samples:
            found += [paths.samples(cell), *study.samples(cell)]
    return list(dict.fromkeys(found))


def comparison_files(study: Study, name: str) -> list[str]:
    """The files of a further comparison: ranks need three solvers and two cells, speed-ups both learned solvers and others.

    Raises:
        S4SError: if the comparison contradicts the rest of the config.
    """
    study.cells(folder_of(name))
    own, compared = study.config.comparisons[name], study.compared[folder_of(name)]
    saved = has_speedups(study, name)
    shown = [*COMPARED, *(["evaluations_saved"] if saved else [])]
    shown += ["ranks"] if len(own.solvers) > 2 and sum(len(each.nfe) for each in compared.values()) > 1 else []
    asked = [*own.questions, *([ABLATION] if own.groups else [])]
    names = ["report.html", "scores.csv", "metrics.csv", "measures.md", *(["evaluations_saved.md"] if saved else [])]
    names += [f"{question}.md" for question in asked]
    names += [f"{metric}.{ending}" for metric in COMPARED for ending in ("md", "tex")]
    shown += ["showcase"] if own.showcase else []
    names += [f"{figure}.{ending}" for figure in [*shown, *asked] for ending in ("pdf", "png")]
    return [f"results/{folder_of(name)}/{file}" for file in names]


def showcase_cells(study: Study, comparison: str) -> list[Cell]:
    """The cells whose samples a showcase may show: those of the solvers named, all training-free ones, the teacher's."""
    asked = study.config.comparisons[comparison].showcase
    assert asked is not None
    return [
        cell
        for cell in study.cells(folder_of(comparison))
        if cell.model in asked.models
        and (cell.solver == "teacher" or cell.nfe in asked.nfe)
        and (cell.solver in asked.solvers or study.is_training_free(cell.solver))
    ]


def has_speedups(study: Study, name: str) -> bool:
    """Whether a further comparison can say how many evaluations learned solvers save."""
    compared, tokens = study.compared[folder_of(name)].values(), study.config.comparisons[name].solvers
    both = any(map(study.is_learned, tokens)) and any(map(study.is_training_free, tokens))
    return both and any(len({*own.nfe, *own.more_nfe}) > 1 for own in compared)


def question_rows(study: Study, comparison: str, question: str) -> list[str]:
    """The rows of each model that a question's table and figure are drawn from; an ablation is drawn from the scores."""
    if question == ABLATION:
        return []
    return [f"results/{folder_of(comparison)}/{question}/{model}.csv" for model in study.compared[folder_of(comparison)]]


def paper_tables(study: Study) -> list[str]:
    """Names of the tables in results/paper, in the order of its document."""
    names = [f"fid-{model}" for model in study.config.models] + [f"published-{dataset}" for dataset in datasets()]
    return names + (["fit_time"] if study.fits() else [])


def paper_figures(study: Study) -> list[str]:
    """Names of the figures in results/paper, in the order of its document."""
    return [f"{kind}-{model}" for model in study.config.models for kind in PAPER_WIDTHS]


def paper_figure_files(study: Study, name: str) -> dict[str, str]:
    """Name in the figure and file of what a figure for a paper shows of single cells."""
    kind, _, model = name.partition("-")
    shown = {"schedules": "coefficients"}.get(kind, kind)
    return figures(study).get(f"{shown}-{model}", {})


def paper_dataset(study: Study, name: str) -> str:
    """The data set that a paper's table is of, or that its model has published figures for; "" for none."""
    kind, _, own = name.partition("-")
    return {"fid": lambda: study.models[own].published or "", "published": lambda: own}.get(kind, str)()


def main_files(study: Study) -> list[str]:
    """All that the main comparison comes to, with the results that it is made from."""
    return [*tables(study), *drawn(study), *kept(study), "results/report.html"]


def report_settings(study: Study, folder: str) -> dict[str, Any]:
    """What a report says of the config: its own models, NFE and solvers, and the definitions that these use."""
    config = study.config if folder == MAIN else study.config.comparison(folder.removeprefix("study/"))
    used = {*config.solvers} | {base for token in config.solvers for base in config.bases(token)}
    settings = config.model_dump(mode="json", exclude={"definitions", "comparisons", "downloads"}) | {
        "per_model": study.config.per_model
    }
    if folder != MAIN and (nfe_of := study.config.comparisons[folder.removeprefix("study/")].nfe_of):
        settings |= {"nfe_of": nfe_of}
    definitions = {token: study.definition(token) for token in config.definitions if token in used}
    return settings | {
        "definitions": {token: own.model_dump(mode="json", exclude_none=True) for token, own in definitions.items()}
    }


def named_cells(cells: Sequence[Cell], local: Sequence[str]) -> list[str]:
    """MODEL/SOLVER/NFE=FILE for programs."""
    return named({"/".join(map(str, cell)): "" for cell in cells}, local)


def named(files: dict[str, str], local: Sequence[str]) -> list[str]:
    """NAME=FILE for programs, with the places where the files lie on this machine."""
    return [f"{name}={path}" for name, path in zip(files, local, strict=True)]


def local_root(path: str, own: str) -> str:
    """The folder in front of a result's own path, where storage has put it: "" in the usual case.

    Args:
        path: where it lies. own: its path in the results.
    """
    return str(Path(path)).removesuffix(own)
