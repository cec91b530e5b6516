"""s4s fit: learn a solver for one model, without the workflow."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from s4s.config import Config, read_config, resolve_models
from s4s.definitions import Learned
from s4s.errors import S4SError, one_line

if TYPE_CHECKING:
    from s4s.models.denoiser import Denoiser
    from s4s.tableau import Tableau

SHIPPED = Path(__file__).parents[3] / "config" / "config.yaml"


def fit(
    model: Annotated[str, typer.Argument(help="The model: a name in config/models, or a path of its YAML file.")],
    nfe: Annotated[list[int], typer.Option(help="Number of network evaluations; give it again for further solvers.", min=1)],
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
        str | None, typer.Option(help="Between end points, if not as the config says: l2, l1, lpips, features, perceptual.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="Folder that keeps the teacher's pairs; by default OUT/pairs.")] = None,
    threads: Annotated[int, typer.Option(help="Of the CPU; 0 for all.", min=0)] = 0,
) -> None:
    """Learn a solver for one model: make the teacher's pairs, then fit, on the GPUs of this machine or its CPU.

    What is learned and how stands in config/config.yaml, as for the workflow: joint learns noise levels and coefficients at
    once, s4s_alt in turns as the paper does, ld3 levels alone. An interrupted command goes on where it was; pairs are made
    once for all solvers that share **--pairs**.

    Examples:

    `s4s fit digits --nfe 5 --out my-solver`

    `s4s fit my-model.yaml --nfe 4 --nfe 6 --solver s4s_alt --train 256 --val 64 --out my-solver`
    """
    from s4s.script import use_device

    teacher = {name: count for name, count in (("train", train), ("val", val)) if count is not None}
    changes = {"teacher": teacher, "fit": {} if distance is None else {"distance": distance}}
    study, definition, file = _study(model, solver, config, sorted(nfe), changes)
    device = use_device(threads or os.cpu_count() or 1)
    from s4s.atomic import write_json
    from s4s.from_spec import learned
    from s4s.models.load import load_model
    from s4s.provenance import validated
    from s4s.tableau import Tableau

    denoiser = load_model(file, device)
    spec, previous = definition.spec(study.fit_settings(solver)), None
    for job in _jobs(study, definition, solver, denoiser, file, out):
        if job.path.exists():
            print(f"{job.path}: is there already")
        else:
            near = previous if definition.warm_start == "previous" else job.near
            made = _pairs(denoiser, job.teacher, study, file, pairs or out / "pairs")
            state = out / "fits" / f"{job.path.stem}.state"
            result = learned(spec, denoiser, job.base, made, solver, file, near, state_path=state)
            course = {"evaluations": result.tableau.meta["evaluations"], "seconds": result.seconds, "history": result.history}
            write_json(state.with_suffix(".json"), course)
            result.tableau.with_meta(identity=job.identity).save(job.path)
            state.unlink(missing_ok=True)
            print(f"{job.path}: validation error {validated(result.tableau)}, {result.seconds:.0f} s")
        previous = Tableau.load(job.path)


class Job(NamedTuple):
    """One solver to learn.

    Attributes:
        path: the file for it.
        base: the classical solver that it starts from.
        teacher: what its pairs are made with.
        near: the learned solver of a file that it starts near instead.
        identity: of all that it depends on.
    """

    path: Path
    base: Tableau
    teacher: Tableau
    near: Tableau | None
    identity: str


def _jobs(study: Config, definition: Learned, solver: str, denoiser: Denoiser, file: str, out: Path) -> list[Job]:
    """What is to be done.

    Raises:
        S4SError: if a file is there that another command wrote.
    """
    from s4s.from_spec import classical
    from s4s.tableau import Tableau

    jobs: list[Job] = []
    for n in study.nfe:
        base = classical(study.classical(solver).spec(), n, denoiser, definition.base)
        steps = n + study.teacher.ahead if study.teacher.ahead else study.teacher.steps
        teacher = classical(study.teacher.definition().spec(), steps, denoiser, "teacher", "teacher")
        near, origin = None, jobs[-1].identity if jobs and definition.warm_start == "previous" else ""
        if definition.warm_start not in (None, "previous"):
            near = Tableau.load(definition.warm_start.replace("{nfe}", str(n)))
            origin = near.digest()
        spec = definition.spec(study.fit_settings(solver))
        identity = _identity(file, teacher, base.digest(), spec, origin, study.teacher.train, study.teacher.val)
        path = out / f"nfe~{n}.json"
        if path.exists() and Tableau.load(path).meta.get("identity") != identity:
            raise S4SError(f"{path} is there and was made otherwise; give another --out, or remove it")
        jobs.append(Job(path, base, teacher, near, identity))
    return jobs


def _study(
    model: str, solver: str, config: Path | None, nfe: list[int], changes: dict[str, Any]
) -> tuple[Config, Learned, str]:
    """The config of this fit alone, the solver's definition, and the model's file.

    `changes` go before what the config and the model's file say.
    """
    from s4s.models.files import read_model_file

    values = _read(SHIPPED)
    if config is not None:
        values = _merged(values, _read(config))
    definitions, own = values.get("definitions") or {}, values.get("per_model") or {}
    known = [token for token, definition in definitions.items() if isinstance(definition, dict) and "family" in definition]
    if solver not in known:
        raise S4SError(f"--solver {solver}: not among the learned solvers that the config defines: {', '.join(known)}")
    alone = {"models": [model], "nfe": nfe, "solvers": [solver], "per_model": {}}
    checked, files = resolve_models(read_config({**values, **alone}))
    name, file = next(iter(files.items()))
    study = checked.of_model(name, read_model_file(file).study, own.get(name, {}), {"nfe": nfe, **changes})
    if missing := sorted({*nfe} - {*study.nfe_of(solver)}):
        raise S4SError(f"--nfe {missing[0]}: the config defines {solver} for other numbers of evaluations only (min_nfe)")
    if study.classical(solver).files:
        raise S4SError(
            f"--solver {solver}: its base needs searches that only the workflow makes; run snakemake, or take another"
        )
    definition = study.definitions[solver]
    assert isinstance(definition, Learned)
    return study, definition, file


def _read(config: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(config.read_text())
    except FileNotFoundError:
        raise S4SError(f"{config}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise S4SError(f"{config}: cannot be read: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise S4SError(f"{config}: must hold keys and values, as config/config.yaml does")
    return values


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Values with changes, key by key at every depth, as Snakemake merges configs."""
    both = {key: _merged(values[key], new) for key, new in changes.items()
            if isinstance(new, dict) and isinstance(values.get(key), dict)}  # fmt: skip
    return {**values, **changes, **both}


def _pairs(denoiser: Denoiser, teacher: Tableau, study: Config, file: str, folder: Path) -> Any:
    """The teacher's pairs of both splits, made where they are not there yet."""
    from s4s.seeds import sample_seeds
    from s4s.teacher import TeacherPairs, write_pairs

    paths = {}
    for split, count in (("train", study.teacher.train), ("val", study.teacher.val)):
        key = _identity(file, teacher, count, study.teacher.trajectory)
        paths[split] = folder / f"{denoiser.name}-{split}-{key[:12]}.h5"
        if not paths[split].exists():
            seeds, trajectory = sample_seeds(split, count), study.teacher.trajectory
            write_pairs(denoiser, teacher, split, seeds, study.batch_size, paths[split], trajectory, key)
    return TeacherPairs.load(paths["train"], paths["val"])


def _identity(file: str, teacher: Tableau, *others: Any) -> str:
    """Of a model with its weights, its teacher and what else a result depends on."""
    from importlib.metadata import version

    from s4s.models.files import identity

    about = (version("s4s"), identity(file), teacher.digest(), *others)
    return hashlib.sha256(repr(about).encode()).hexdigest()
