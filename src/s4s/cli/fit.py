"""s4s fit: learn a solver for one model or pipeline, without the workflow."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from pydantic import ValidationError

from s4s.cli.checks import check_folder
from s4s.cli.fit_pipeline import check_options, fit_of_pipeline, is_pipeline, numbers, size
from s4s.errors import S4SError, explain, one_line
from s4s.files.shipped import shipped
from s4s.files.yaml_file import read_yaml
from s4s.learning.settings import FitSettings
from s4s.study.paths import Cell
from s4s.study.study import Study

if TYPE_CHECKING:
    from s4s.learning.teacher import TeacherPairs
    from s4s.models.denoiser import Denoiser
    from s4s.tableau import Tableau

SHIPPED = shipped("config/config.yaml")
PIPELINES = "Options of pipelines"


def fit(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="A model: a name in config/models, or a path of its YAML file. Or a pipeline: a folder with model_index.json, "
            "a single file of weights, or owner/name in the local cache of huggingface.co."
        ),
    ],
    nfe: Annotated[
        list[str],
        typer.Option(
            help="Numbers of network evaluations, such as 5, 4-8 or 4,6; at least the order of the start, 3 for joint.",
            metavar="NUMBERS",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the solvers, nfe~N.json each; fits and pairs in it keep what they came from.")
    ],
    solver: Annotated[str, typer.Option(help="A learned solver that the config defines.")] = "joint",
    config: Annotated[
        Path | None, typer.Option(help="YAML file with what differs from config/config.yaml: definitions, teacher, fit, ...")
    ] = None,
    train: Annotated[int | None, typer.Option(help="Teacher pairs to learn from, if not as the config says.", min=1)] = None,
    val: Annotated[int | None, typer.Option(help="Teacher pairs to validate on, likewise.", min=1)] = None,
    distance: Annotated[
        str | None,
        typer.Option(help="The loss between final samples, if not as the config says: l2, l1, lpips, features, perceptual."),
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="Folder that keeps the teacher's pairs; by default OUT/pairs.")] = None,
    threads: Annotated[int, typer.Option(help="Of the CPU; 0 for all.", min=0)] = 0,
    prompts: Annotated[Path | None, typer.Option(help="Text file with a prompt a line.", rich_help_panel=PIPELINES)] = None,
    guidance: Annotated[float | None, typer.Option(help="Scale of guidance.", rich_help_panel=PIPELINES)] = None,
    size_: Annotated[
        str | None, typer.Option("--size", help="Pixels: 512, or HxW.", metavar="SIZE", rich_help_panel=PIPELINES)
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.", rich_help_panel=PIPELINES)] = "float32",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1; by default the GPU if there is one.", rich_help_panel=PIPELINES)
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Of the files of weights: fp16.", rich_help_panel=PIPELINES)] = None,
    lora: Annotated[
        list[Path] | None, typer.Option(help="File of a LoRA; give it again for more.", rich_help_panel=PIPELINES)
    ] = None,
    config_folder: Annotated[
        Path | None,
        typer.Option(help="Of a single file: folder of its pipeline's configurations.", rich_help_panel=PIPELINES),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Time for all of it: 10min.", rich_help_panel=PIPELINES)] = None,
) -> None:
    """Learn a solver for one model or pipeline: make the teacher's pairs, then fit, on the GPUs of this machine or its CPU.

    What is learned and how stands in config/config.yaml, as for the workflow: joint learns noise levels and coefficients at
    once, s4s_alt alternating as the paper does, ld3 levels alone. An interrupted command, given again, goes on where it was,
    but for the last minute of pairs; these are made once for all solvers that share **--pairs**.

    Of a pipeline of diffusers a joint solver is learned for how it is called here, and compared with the pipeline's own
    scheduler on prompts that the fit did not see. Its options stand below; **--solver**, **--config**, **--val**,
    **--distance** and **--pairs** are for models.

    Examples:

    `s4s fit digits --nfe 5 --out my-solver`

    `s4s fit my-model.yaml --nfe 4 --nfe 6 --solver s4s_alt --distance l2 --train 256 --val 64 --out my-solver`

    `s4s fit my-pipeline/ --prompts prompts.txt --nfe 4-8 --guidance 3.5 --size 512 --dtype bfloat16 --out my-solver`

    `s4s fit xl.safetensors --config-folder xl-config --lora style.safetensors --prompts prompts.txt --nfe 6 --out my-solver`
    """
    from s4s.jobs.script import use_device

    steps, pipeline = numbers(nfe), is_pipeline(model)
    check_options((name.rstrip("_") for name in context.params if _given(context, name)), pipeline)
    if pipeline:
        found = use_device(threads or os.cpu_count() or 1)
        return fit_of_pipeline(
            model, steps, out, prompts=prompts, guidance=guidance, pixels={} if size_ is None else size(size_), dtype=dtype,
            device=device or found, variant=variant, lora=lora or [], config_folder=config_folder, pairs=train, budget=budget,
        )  # fmt: skip
    counts = {name: count for name, count in (("train", train), ("val", val)) if count is not None}
    study = _study(model, solver, config, steps, counts)
    cells, store = [cell for cell in study.cells() if cell.solver == solver], pairs or out / "pairs"
    settings = _settings(study, cells[0], distance)
    for option, folder in (("--out", out), ("--out", out / "fits"), ("--pairs", store)):
        check_folder(option, folder)
    device = use_device(threads or os.cpu_count() or 1)
    from s4s.learning.fit_record import FitRecord
    from s4s.models.load import load_model
    from s4s.models.provenance import validated
    from s4s.study.make import learned
    from s4s.tableau import Tableau

    file = study.files[cells[0].model]
    denoiser, solvers = load_model(file, device), dict[Cell, Tableau]()
    jobs = _jobs(study, cells, settings, denoiser, out)
    _check(study, cells[0].model, settings, denoiser)
    for job in jobs:
        if job.path.exists():
            print(f"{job.path}: is there already")
        else:
            near = solvers[job.near] if isinstance(job.near, Cell) else job.near
            made = _pairs(denoiser, job.teacher, study, store)
            state = out / "fits" / f"{job.path.stem}.state"
            definition = study.learned(solver)
            result = learned(definition, settings, denoiser, job.bases, made, solver, file, near, state_path=state)
            FitRecord.of(result).save(state.with_suffix(".json"))
            result.tableau.with_meta(identity=job.identity).save(job.path)
            state.unlink(missing_ok=True)
            print(f"{job.path}: validation loss {validated(result.tableau)}, {result.seconds:.0f} s")
        solvers[job.cell] = Tableau.load(job.path)


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


class Job(NamedTuple):
    """One solver to learn.

    Attributes:
        path: the file for it.
        bases: the classical solvers that it may start at.
        teacher: what its pairs are made with.
        near: the learned solver that it starts near instead: one of this command's, or that of a file.
        identity: of all that it depends on.
    """

    cell: Cell
    path: Path
    bases: list[Tableau]
    teacher: Tableau
    near: Cell | Tableau | None
    identity: str


def _jobs(study: Study, cells: list[Cell], settings: FitSettings, denoiser: Denoiser, out: Path) -> list[Job]:
    """What is to be done.

    Raises:
        S4SError: if a file is there that another command wrote.
    """
    from s4s.models.model_files import looks
    from s4s.study.make import classical
    from s4s.tableau import Tableau

    solver, model = cells[0].solver, cells[0].model
    own, file, perceptual = study.settings[model], study.files[model], study.models[model].perceptual
    there = {path: Tableau.load(path).meta for path in sorted(out.glob("nfe~*.json"))}
    files = (perceptual.path if perceptual else None, settings.lpips_weights)
    seen = [looks(path) for path in files if path is not None and path.exists()]
    jobs: dict[Cell, Job] = {}
    for cell in cells:
        initial, origin = study.initialisation_of(cell), ""
        near: Cell | Tableau | None = None
        bases = [classical(own.classical(base.solver), cell.nfe, denoiser, base.solver) for base in initial.bases]
        teacher = classical(own.teacher.definition(), study.teacher_of(cell).nfe, denoiser, "teacher")
        if isinstance(initial.near, Cell):
            near, origin = initial.near, jobs[initial.near].identity
        elif initial.near is not None:
            near = loaded = Tableau.load(initial.near)
            origin = loaded.digest()
        wish = study.learned(solver).record(settings), seen, origin
        identity = _identity(file, teacher, [base.digest() for base in bases], *wish, own.teacher.train, own.teacher.val)
        jobs[cell] = Job(cell, out / f"nfe~{cell.nfe}.json", bases, teacher, near, identity)
    wanted = {job.path: job.identity for job in jobs.values()}
    for path, meta in there.items():
        if meta.get("token") != solver or meta.get("identity") != wanted.get(path, meta.get("identity")):
            raise S4SError(
                f"{path} is there, of another solver, or of other settings, weights or pairs; give another --out, or remove it"
            )
    return list(jobs.values())


def _check(study: Study, model: str, settings: FitSettings, denoiser: Denoiser) -> None:
    """Raise S4SError where the fit, after the teacher's work, would."""
    from s4s.learning.fit import distance_of
    from s4s.models.load import load_perceptual
    from s4s.models.seeds import sample_seeds

    distance_of(settings, load_perceptual(study.files[model], denoiser.device), denoiser)
    for split in ("train", "val"):
        denoiser.conditions(sample_seeds(split, study.split_size(model, split))[-1:])  # are there prompts enough?


def _settings(study: Study, cell: Cell, distance: str | None) -> FitSettings:
    try:
        settings = study.settings[cell.model].fit_settings(cell.solver)
        return settings if distance is None else settings.changed({"distance": distance})
    except ValidationError as error:
        raise S4SError(explain(error, "--distance")) from error


def _study(model: str, solver: str, config: Path | None, nfe: list[int], counts: dict[str, int]) -> Study:
    """The study of this fit alone.

    Args:
        counts: of pairs, which go before what the config and the model's file say.
    """
    from s4s.models.model_files import read_model_file

    values = _read(SHIPPED)
    if config is not None:
        values = _merged(values, _read(config))
    for key in ("definitions", "per_model", "teacher", "fit"):
        if not isinstance(values.setdefault(key, {}), dict):
            raise S4SError(f"config: {key}: must hold keys and values, not {values[key]!r}")
    known = [name for name, value in values["definitions"].items() if isinstance(value, dict) and "family" in value]
    if solver not in known:
        raise S4SError(f"--solver {solver}: not among the learned solvers that the config defines: {', '.join(known)}")
    described = read_model_file(model)
    own = values["per_model"].get(described.name, {})
    for change in (described.study, own):  # what is of a wrong type is named below
        if isinstance(change, dict) and isinstance(change.get("teacher"), dict):
            values["teacher"] = {**values["teacher"], **change["teacher"]}
    values["teacher"] |= counts
    if isinstance(own, dict) and isinstance(teacher := own.get("teacher") or {}, dict):
        own = {**own, "nfe": nfe, "teacher": {**teacher, **counts}}
    alone = {"models": [model], "nfe": nfe, "solvers": [solver], "comparisons": {}, "more_nfe": []}
    study = Study.read({**values, **alone, "per_model": {described.name: own}}, scored=False)
    settings = study.settings[described.name]
    if missing := sorted({*nfe} - {*settings.nfe_of(solver)}):
        raise S4SError(f"--nfe {missing[0]}: the config defines {solver} for other numbers of evaluations only (min_nfe)")
    if searched := [base for base in study.learned(solver).bases if settings.classical(base).files]:
        raise S4SError(
            f"--solver {solver}: {searched[0]}, which it may start at, needs searches that only the workflow makes; run "
            "snakemake, or take another"
        )
    return study


def _read(config: Path) -> dict[str, Any]:
    try:
        values = read_yaml(config, "cannot be read")
    except FileNotFoundError:
        raise S4SError(f"{config}: no such file") from None
    except OSError as error:
        raise S4SError(f"{config}: cannot be read: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise S4SError(f"{config}: must hold keys and values, as config/config.yaml does")
    return values


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Values with changes, key by key at every depth, as Snakemake merges configs."""
    both = {key: _merged(values[key], new) for key, new in changes.items()
            if isinstance(new, dict) and isinstance(values.get(key), dict)}  # fmt: skip
    return {**values, **changes, **both}


def _pairs(denoiser: Denoiser, teacher: Tableau, study: Study, folder: Path) -> TeacherPairs:
    """The teacher's pairs of both splits, made where they are not there yet."""
    from s4s.learning.teacher import TeacherPairs, write_pairs
    from s4s.models.seeds import sample_seeds

    paths, own, file = {}, study.settings[denoiser.name], study.files[denoiser.name]
    for split in ("train", "val"):
        count = study.split_size(denoiser.name, split)
        key = _identity(file, teacher, count, own.teacher.trajectory)
        paths[split] = folder / f"{denoiser.name}-{split}-{key[:12]}.h5"
        if not paths[split].exists():
            seeds = sample_seeds(split, count)
            write_pairs(denoiser, teacher, split, seeds, own.batch_size, paths[split], own.teacher.trajectory, key)
    return TeacherPairs.load(paths["train"], paths["val"])


def _identity(file: str, teacher: Tableau, *others: Any) -> str:
    """Of a model with its weights, its teacher and what else a result depends on."""
    from s4s import __version__
    from s4s.models.model_files import identity

    about = (__version__, identity(file), teacher.digest(), *others)
    return hashlib.sha256(repr(about).encode()).hexdigest()
