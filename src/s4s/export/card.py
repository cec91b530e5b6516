"""A solver's card: a Markdown page for a model hub, written from what the tableaux and the table of scores say."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from s4s.errors import S4SError, one_line, shown
from s4s.export.collection import listed
from s4s.files.bounded import CSV_BYTES, check_size
from s4s.files.checksum import read_with_checksum
from s4s.files.plain_text import Written, in_markdown, markdown_table, quoted
from s4s.metrics.measures import COMPARED, MEAN_AND_SPREAD, lacking, with_spread
from s4s.models.provenance import guidance, part, validated
from s4s.tableau import Tableau

DIFFUSERS = """```python
import s4s
{pipe}
pipe.scheduler = s4s.S4SScheduler.from_pretrained({repo})
images = pipe("a photo of a cat", {options}).images
```"""
PIPE = """from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained({base_model})"""
PLACEHOLDER = "owner/name"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
OUTSIDE = re.compile(r"\s*(?:[A-Za-z]:[\\/]|[~/\\]|\.{1,2}[\\/]|file:)")  # how a path that is not relative begins
COMFYUI = """In ComfyUI, with the node S4S Solver, which `s4s export comfyui` puts there: choose the model and one of these
files in the node, and connect its SAMPLER and SIGMAS to SamplerCustom or SamplerCustomAdvanced."""
WHAT = (
    "A solver for a pre-trained diffusion model: coefficients and noise levels with which it samples in few evaluations of its "
    "network. Its name is {token}. It was made for {model} and belongs to no other model, whose weights are not part of it."
)
MEASURED = (
    "{spread} {n_seeds} sampling seeds of {n_samples} samples. The Fréchet distance is on the features of {features}; the "
    "global error is the root-mean-square difference from the teacher's final sample for the same initial noise. Both are "
    "lower for better solvers."
)
COMPARED_WITH = (
    "On noise and, where there were four prompts or more, on prompts that the fit has not seen: how far samples are from those "
    "of the teacher with all of its steps, from the same noise."
)
RIGHT = "---:"  # numbers
OF_ALL = ["model", "solver", "nfe", "n_seeds", "n_samples", "features"]
COLUMNS = OF_ALL + [column for measure in COMPARED.values() for column in (measure.mean, measure.spread)]


def card(
    tableaux: Mapping[int, Tableau],
    use: str,
    licence: str,
    scores: str | Path | None = None,
    base_model: str | None = None,
    library: str = "s4s",
) -> str:
    """The page, with metadata of the hub at its head.

    Args:
        tableaux: one solver at several numbers of evaluations, as `read_tableaux` gives them.
        use: how it is used: `use_in_diffusers(...)` or COMFYUI.
        licence: identifier of the licence, as the hub spells it.
        scores: results/tables/scores.csv, whose rows on this model and solver are shown.
        base_model: the model's repository on the hub, owner/name.
        library: by which the hub files the page: diffusers for a scheduler, as diffusers' own are.
    Raises:
        S4SError: if base_model is no repository,
            the tableaux are not of one model and solver, or the scores cannot be read or hold none of it.
    """
    model, token = (_common(tableaux, key) for key in ("model", "token"))
    about: dict[str, Any] = {"license": licence, "library_name": library}
    base_model = base_model or base_model_of(tableaux)
    if base_model is not None:  # adapter is the nearest of the hub's relations; without one it says finetune
        about |= {"base_model": repository("base_model", base_model), "base_model_relation": "adapter"}
    head = yaml.safe_dump({**about, "tags": ["diffusion", "solver", "s4s"]}, sort_keys=False)
    name = without_folders(model)
    parts = [
        f"---\n{head}---",
        in_markdown("# A solver for {model} in {steps} steps", model=name, steps=listed(tableaux)),
        in_markdown(WHAT, token=without_folders(token), model=f"{name}{_guided(tableaux)}"),
        markdown_table(
            [
                "evaluations",
                "teacher",
                "pairs to learn from and to validate on",
                "validation loss",
                "cost of the fit",
                "digest",
            ],
            [_made(tableau) for tableau in tableaux.values()],
            RIGHT,
        ),
    ]
    parts += _compared(tableaux)
    if scores is not None:
        parts += ["## Scores", *_scores(Path(scores), model, token, tableaux)]
    parts += ["## Use", use]
    return "\n\n".join(parts) + "\n"


def base_model_of(tableaux: Mapping[int, Tableau]) -> str | None:
    """The repository of the model, where all of the solvers were fitted on a pipeline that came from it."""
    found = {part(tableau, "pipeline").get("base_model") for tableau in tableaux.values()}
    name = found.pop() if len(found) == 1 else None
    return name if isinstance(name, str) and REPOSITORY.fullmatch(name) else None


def _compared(tableaux: Mapping[int, Tableau]) -> list[str]:
    """What a fit on a pipeline found when it compared the solver with what the pipeline has; nothing for other fits."""
    rows, verdicts = [], []
    for nfe, tableau in tableaux.items():
        check = part(tableau, "check")
        names, verdict = check.get("names"), check.get("verdict")
        measures = [check.get(measure) for measure in ("rms", "psnr", "lpips")]
        if not isinstance(names, dict) or not isinstance(measures[0], dict):
            continue
        for solver in measures[0]:
            values = [measure.get(solver) if isinstance(measure, dict) else None for measure in measures]
            shown_values = [f"{value:.4g}" if isinstance(value, int | float) else "-" for value in values]
            rows.append([nfe, check.get("passes", "-"), without_folders(names.get(solver, solver)), *shown_values])
        verdicts.append(in_markdown("* {verdict}", verdict=without_folders(verdict or "-")))
    if not rows:
        return []
    kinds = ["evaluations", "passes", "solver", "RMS of states", "PSNR, dB", "LPIPS"]
    return ["## Compared with what the pipeline has", COMPARED_WITH, "\n".join(verdicts), markdown_table(kinds, rows, RIGHT)]


def repository(what: str, given: str) -> str:
    """The name of a repository on a hub.

    Raises:
        S4SError: if it is none.
    """
    if not REPOSITORY.fullmatch(given):
        raise S4SError(f"{what} must be a repository on the hub, owner/name, not {shown(given)}")
    return given


def without_folders(value: object) -> str:
    """What a file says, as a public page may show it: of each path its last part."""
    text = str(value)
    if OUTSIDE.match(text) and "," not in text:
        return _last(text)
    return re.sub(r"[^\s,;()]*[/\\][^\s,;()]*", lambda found: _last(found[0]), text)


def _last(path: str) -> str:
    return path if REPOSITORY.fullmatch(path) else next(filter(None, reversed(re.split(r"[/\\]", path))), "-")


def use_in_diffusers(repo: str, tableaux: Mapping[int, Tableau], base_model: str | None = None) -> str:
    """How it is used in diffusers, loaded from a repository on the hub."""
    nfe, tableau = next(iter(tableaux.items()))
    scale = guidance(tableau)
    options = f"num_inference_steps={nfe}" + ("" if scale is None else f", guidance_scale={scale:g}")
    pipe = "" if base_model is None else PIPE.format(base_model=quoted(base_model))
    return DIFFUSERS.format(pipe=pipe, repo=quoted(repo), options=options)


def _guided(tableaux: Mapping[int, Tableau]) -> str:
    scales = sorted({f"{scale:g}" for tableau in tableaux.values() if (scale := guidance(tableau)) is not None})
    return f" with guidance {' and '.join(scales)}" if scales else ""


def _common(tableaux: Mapping[int, Tableau], key: str) -> str:
    found = {str(tableau.meta.get(key) or "unknown") for tableau in tableaux.values()}
    if len(found) > 1:
        raise S4SError(f"tableaux of different {key}s cannot share a card: {', '.join(sorted(found))}; export each on its own")
    return found.pop()


def _made(tableau: Tableau) -> list[Any]:
    meta = tableau.meta
    pairs = part(tableau, "pairs")
    counts = f"{pairs['train']} and {pairs['val']}" if {"train", "val"} <= {*pairs} else "-"
    costs = [meta.get(key) for key in ("evaluations", "evaluations_total")]
    fit = f"{costs[0]:,} passes" if isinstance(costs[0], int) else "-"
    fit += f", {costs[1]:,} with pairs and searches" if isinstance(costs[1], int) else ""
    teacher = without_folders(meta.get("teacher") or "-")
    return [tableau.nfe, teacher, counts, without_folders(validated(tableau) or "-"), fit, Written(f"`{tableau.digest()}`")]


def _scores(file: Path, model: str, token: str, tableaux: Mapping[int, Tableau]) -> list[str]:
    try:
        check_size(file, CSV_BYTES)
        text = read_with_checksum(file, "this table of scores").decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if problem := lacking(reader.fieldnames or (), COLUMNS):
            raise ValueError(problem)
        rows = [row for row in reader if (row["model"], row["solver"]) == (model, token)]
        if any(value is None for row in rows for value in row.values()):
            raise ValueError("a row is cut off")
        rows = [row for row in rows if int(row["nfe"]) in tableaux]
        found = [
            [row["nfe"], *(_value(row[measure.mean], row[measure.spread]) for measure in COMPARED.values())] for row in rows
        ]
        about = [{key: row[key] for key in ("n_seeds", "n_samples", "features")} for row in rows]
    except FileNotFoundError:
        raise S4SError(f"{file}: no such file; the workflow writes results/tables/scores.csv") from None
    except S4SError:
        raise
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise S4SError(f"{file}: not a table of scores that the workflow wrote: {one_line(error)}") from error
    if not rows:
        raise S4SError(f"{file}: no scores of solver {token} on model {model} for {listed(tableaux)} evaluations")
    words = in_markdown(MEASURED, spread=MEAN_AND_SPREAD, **{key: without_folders(value) for key, value in about[0].items()})
    return [words, markdown_table(["evaluations", *(measure.name for measure in COMPARED.values())], found, RIGHT)]


def _value(mean: str, spread: str) -> str:
    """Two fields of scores.csv as text; the spread is empty for one sampling seed."""
    return with_spread(float(mean or "nan"), float(spread or "nan")) or "-"
