"""report.html: one page on a comparison, from what was run to where every file lies. Images are in it, files are linked."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, StrictUndefined
from PIL import Image

from s4s import __version__
from s4s.errors import DamagedFile, one_line
from s4s.files.atomic import write_text
from s4s.files.checksum import read_bytes
from s4s.files.csv_file import read_csv
from s4s.files.named_function import function_of
from s4s.files.plain_text import WrittenHTML, html
from s4s.jobs.costs import by_job, read_usage
from s4s.metrics.measures import COMPARED
from s4s.metrics.score_file import Score
from s4s.models.model_files import read_model_file
from s4s.reporting.solver_names import names
from s4s.reporting.tables import NOT_FITTED, NOT_LEARNED, SPEED_UP_CAPTION, caption, comparison, read_scores, speed_up_cells
from s4s.reporting.verdicts import duels, in_words
from s4s.study.config import Config
from s4s.study.definitions import Learned
from s4s.study.questions import QUESTIONS
from s4s.study.study import MAIN, Study, folder_of
from s4s.study.targets import report_settings

# name of a figure, up to the model in it -> title, caption
FIGURES = {
    "fid": ("Fréchet distance", "Against NFE: learned and published solvers, training-free ones on their best "
            "schedules, the teacher's own value."),
    "global_error": ("Global error", "Against NFE: learned and published solvers, and training-free ones on their best "
                     "schedules."),
    "teacher_convergence": ("Convergence of the teacher", "Its own error against its number of steps: it should be far below "
                            "that of every compared solver."),
    "fit_curves": ("Convergence curves", "Validation loss of each fit against the evaluations that it took."),
    "levels_and_coefficients": ("Schedules and coefficients", "Left: noise schedule of each solver, dots for its conditioning "
                                "levels. Right: what its output is made of."),
    "coefficients": ("Coefficients", "What every node of a solver is made of: the initial noise and the outputs of the "
                     "network."),
    "samples": ("Samples", "The same initial noise for every solver; the teacher comes first."),
    "showcase": ("Samples beside the teacher's", "Of the same initial noise, by chosen solvers and the best training-free one, "
                 "with maps of their errors; right: global error against NFE."),
    "evaluations_saved": ("NFE speed-up", "How many times as many evaluations the best training-free solver needs. "
                          "Hollow: a lower bound."),
    "ablation": ("Ablation", "Global error over that of the first solver of each group, from the same initial noise; bars are "
                 "95 % intervals over sampling seeds."),
    "cost": ("Cost of fits", "Convergence curves: best validation loss so far over that at initialisation, against denoiser "
             "evaluations."),
    "generalisation": ("Generalisation", "Error over that of the best classical solver in the same case: below 1 the learned "
                       "solver still wins."),
    "teacher_gap": ("Distance from the teacher", "Fréchet distance of the best learned and the best training-free solver; "
                    "bars are 95 % intervals of its difference from the teacher's, dotted."),
    "tracking": ("Error propagation", "Errors carried to the end by the exact flow: of steps from exact states, of steps from "
                 "the solver's own, and of all steps so far."),
    "ranks": ("Ranks", "Average rank over models and NFE, the best on the left; bars join what is not significantly "
              "different."),
}  # fmt: skip
# pattern in the folder of results -> what it is
FILES = {
    "tables/*": "tables", "figures/*": "figures", "tableaux": "the solvers themselves", "samples": "samples",
    "scores": "scores of every cell", "fits": "convergence curves and costs of the fits", "teacher": "teacher pairs",
    "search": "searches",
    "logs": "logs of all jobs", "benchmarks": "Snakemake's record of all jobs",
}  # fmt: skip
COSTS = ["job", "jobs", "run now", "cache hits", "evaluations", "seconds", "processor seconds", "GPU-seconds",
         "peak memory (MB)", "peak GPU memory (MB)"]  # fmt: skip


class Place(NamedTuple):
    """Where the page is, and the folder of results that its links go into."""

    page: Path
    results: Path

    def link(self, *paths: str) -> str:
        """Link from the page to the first of these results that is there; "" if none is, as of samples that were deleted."""
        found = next((self.results / path for path in paths if (self.results / path).exists()), None)
        return Path(os.path.relpath(found, self.page.parent)).as_posix() if found else ""


def short_hash(values: Any) -> str:
    """The first 12 digits of the SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def cell_settings(own: Config, token: str) -> dict[str, Any]:
    """What the config of one model says that a solver's results depend on."""
    definition = own.definition(token)
    settings = own.model_dump(include={"seeds", "samples", "teacher", "search"}) | {"solver": definition.model_dump()}
    if isinstance(definition, Learned):
        bases = [own.definition(base).model_dump() for base in definition.bases]
        settings |= {"bases": bases, "fit": own.fit_settings(token).model_dump()}
    return settings


def cost_table(usage: pd.DataFrame, run: str, results: Path) -> dict[str, Any]:
    """What all jobs whose logs are there cost, by kind of job, and how many of them this run found done."""
    table = by_job(usage, run)
    shared = sum(path.is_symlink() for path in results.glob("teacher/*/*/*.h5"))
    total = table.agg(dict.fromkeys(["jobs", "here", "reused", "evaluations", "seconds", "processor", "gpu_seconds"], "sum"))
    total = total.reindex(table.columns).fillna({"memory": table.memory.max(), "gpu_memory": table.gpu_memory.max()})
    table.loc["all"] = total.fillna(0)
    return {
        "caption": "Jobs of this folder of results up to this page: run now, or done before and found up to date (cache hits). "
        "Seconds are those of the jobs' own work, without start and imports; evaluations are states through the network of the "
        "diffusion model, two for a step with guidance, and two more for a gradient."
        + (
            f" {shared} shards of teacher pairs were taken from or put into a cache that other folders share." if shared else ""
        ),
        "columns": COSTS,
        "rows": [[job, *(f"{value:,.0f}" for value in row)] for job, row in zip(table.index, table.to_numpy(), strict=True)],
    }


def _cell(row: Any, own: Config, place: Place, usage: pd.DataFrame) -> dict[str, Any]:
    """Where a cell comes from: its files, and when, on what and with which versions its jobs were done."""
    name = f"{row.model}/{row.solver}/nfe~{row.nfe}"
    score = place.link(f"scores/{name}.json")
    known = Score.load(place.page.parent / score).model_dump() if score else {}
    jobs = usage[usage.log.str.match(rf"(tableau|fit|sample|score)/{re.escape(name)}(\.log|/)")]
    return {
        "model": row.model, "solver": row.solver, "nfe": row.nfe, "score": score,
        "tableau": place.link(f"tableaux/{name}.json"), "samples": place.link(f"samples/{name}.h5", f"samples/{name}"),
        "fit": place.link(f"fits/{name}.json"), "digest": known.get("tableau", ""),
        "seeds": ", ".join(map(str, known.get("seeds", own.seeds))),
        "config": short_hash(cell_settings(own, row.solver)), "versions": _all(map(_versions, jobs.versions.dropna())),
        "device": _all(jobs.device.dropna()), "ended": jobs.ended.dropna().max() if jobs.ended.notna().any() else "",
        "seconds": jobs.seconds.sum() if len(jobs) else None,
    }  # fmt: skip


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _all(values: Any) -> str:
    return "; ".join(dict.fromkeys(values))


def _grid(title: str, text: str, cells: pd.DataFrame) -> dict[str, Any]:
    rows = [(solver, list(row)) for solver, row in zip(cells.index, cells.to_numpy(), strict=True)]
    corner = cells.index.name or "solver"
    return {"title": title, "caption": text, "corner": corner, "columns": list(cells.columns), "rows": rows}


def _tables(scores: pd.DataFrame, saved: str | Path | None, figures: Sequence[str]) -> list[dict[str, Any]]:
    """The comparison tables of each model, the NFE speed-up where it was computed, and what the questions found."""
    tables = []
    for model, block in scores.groupby("model", sort=False):
        for metric, measure in COMPARED.items():
            cells, teacher = comparison(block, metric, lambda value: WrittenHTML(f"<b>{html(value)}</b>"))
            tables.append(_grid(f"{measure.name.capitalize()}, {model}", caption(block, metric, teacher), cells))
    if saved:
        for model, block in read_csv(saved).groupby("model", sort=False):
            tables.append(_grid(f"NFE speed-up, {model}", SPEED_UP_CAPTION, speed_up_cells(block)))
    for path in map(Path, figures):
        if path.stem in (*QUESTIONS, "ablation"):
            shown = function_of(f"s4s.reporting.questions.{path.stem}:tables")(read_csv(path.with_suffix(".csv")))
            tables += [
                _grid(f"{FIGURES[path.stem][0]}: {own.title}", own.caption, own.table.set_index(own.table.columns[0]))
                for own in shown
            ]
    return tables


def _model(path: str | Path, own: Config, scores: pd.DataFrame) -> dict[str, Any]:
    """What was run on a model; its description is the comment that its YAML file begins with."""
    lines = Path(path).read_text().splitlines()
    comment = lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)]
    known, row = read_model_file(path), scores.iloc[0]
    return {
        "name": known.name, "description": " ".join(line.lstrip("# ") for line in comment), "licence": known.licence,
        "teacher": f"{own.teacher.solver} on {own.teacher.levels} levels, {own.teacher.steps} evaluations",
        "nfe": sorted({cell.nfe for cell in own.cells() if cell.solver != "teacher"}),
        "samples": row.n_samples, "features": row.features,
    }  # fmt: skip


def _figure(path: str, place: Place) -> dict[str, str]:
    name, _, model = Path(path).stem.partition("-")
    title, text = FIGURES.get(name, (name.replace("_", " "), ""))
    folder = Path(os.path.relpath(Path(path).parent, place.results))
    return {
        "title": f"{title}, {model}" if model else title, "caption": text,
        "pdf": place.link(f"{folder.as_posix()}/{Path(path).stem}.pdf"),
        "image": base64.b64encode(_picture(path)).decode(),
    }  # fmt: skip


def _picture(path: str) -> bytes:
    """A PNG file, after the checksums that it has itself were compared."""
    content = read_bytes(path, "this figure")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError) as error:
        raise DamagedFile(path, f"this figure is damaged ({one_line(error)}); draw it again") from error
    return content


def write_report(
    study: Study,
    folder: str,
    scores_path: str | Path,
    figures: Sequence[str],
    path: str | Path,
    logs: str | Path,
    run: str = "",
    saved: str | Path | None = None,
) -> None:
    """Write the page, to results/report.html or, for a further comparison, to results/study/NAME/report.html.

    Args:
        folder: of the comparison's tables: tables, or study/NAME of a further one.
        figures: PNG files.
        logs: folder of the jobs' logs.
        run: what jobs of this run call it in their logs.
        saved: evaluations_saved.csv of the further comparison.
    Raises:
        S4SError: if the scores or a model's file cannot be read.
    """
    page, scores, usage = Path(path), read_scores(scores_path), read_usage(logs)
    name = "" if folder == MAIN else folder.removeprefix("study/")
    place = Place(page, page.parents[2] if name else page.parent)
    studies, settings = study.compared[folder], report_settings(study, folder)
    config = study.config.comparison(name) if name else study.config
    blocks = {model: scores[scores.model == model] for model in studies}
    fought = {model: {metric: duels(block, metric) for metric in COMPARED} for model, block in blocks.items()}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        missing=lambda value: "" if pd.isna(value) else value,
        named=lambda token, names: names.get(token, token), when=lambda ended: ended.replace("T", " ").removesuffix("+00:00"),
    )  # fmt: skip
    template = environment.from_string(resources.files("s4s.reporting").joinpath("report.html").read_text(encoding="utf-8"))
    text = template.render(
        name=name,
        models=[_model(study.files[model], own, blocks[model]) for model, own in studies.items()],
        config=config,
        settings=json.dumps(settings, indent=2),
        config_hash=short_hash(settings),
        learned={*study.tokens(learned=True)},
        published=[*scores.solver[scores.family == "published"].drop_duplicates()],
        training_free={token for token in config.solvers if study.is_training_free(token)},
        versions=", ".join([f"s4s {__version__}", *(f"{of} {version(of)}" for of in ("torch", "snakemake", "clean-fid"))]),
        seconds=usage.seconds.sum(),
        ended=usage.ended.dropna().max() if usage.ended.notna().any() else "",
        readings=[(model, in_words(model, found), found) for model, found in fought.items()],
        scores=list(scores.itertuples()),
        tables=_tables(scores, saved, figures),
        figures=[_figure(figure, place) for figure in figures],
        cost=cost_table(usage, run, place.results),
        cells=[_cell(row, studies[row.model], place, usage) for row in scores.itertuples()],
        files=_files(place, page.parent),
        further={other: place.link(f"{folder_of(other)}/report.html") for other in study.config.comparisons if not name},
        main=place.link("report.html") if name else "",
        not_learned=NOT_LEARNED,
        not_fitted=NOT_FITTED,
        measures=COMPARED,
        names=names(scores.solver.drop_duplicates(), scores),
    )
    write_text(path, text)


def _files(place: Place, own: Path) -> list[tuple[str, str, str]]:
    """Name, link and description of the files and folders that are there; of a further comparison its own files first."""
    patterns = FILES if own == place.results else {f"{own.relative_to(place.results).as_posix()}/*": "this comparison"} | FILES
    found = [(path, what) for pattern, what in patterns.items() for path in sorted(place.results.glob(pattern))]
    names = [(path.relative_to(place.results).as_posix(), what) for path, what in found if not path.name.startswith(".")]
    return [(name, place.link(name), what) for name, what in names if place.results / name != place.page]
