# The study that the config means, and how rules ask it. No maths, no torch, no network, no globbing here.
import json
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from s4s.errors import S4SError
from s4s.files.path_names import as_argument, check_places, check_submitted
from s4s.metrics.measures import COMPARED
from s4s.models.adapters import ADAPTERS
from s4s.models.model_files import check_fetchable, weights_folders
from s4s.study import code, content, paths, plan, targets
from s4s.study.questions import QUESTIONS
from s4s.study.study import MAIN, Study, folder_of

try:
    STUDY = Study.read(config)
    WEIGHTS = weights_folders(STUDY.config.downloads)
    PLACES = (
        workflow.basedir,
        sys.executable,
        [
            *workflow.overwrite_configfiles,
            *STUDY.files.values(),
            *(file.path for own in STUDY.models.values() for file in own.all_files()),
        ],
    )
    check_places(*PLACES)
    if workflow.deployment_settings.deployment_method:
        check_submitted(*PLACES)
except S4SError as error:
    raise WorkflowError(str(error)) from None

CONFIG = STUDY.config
LEARNED, NOT_FITTED = STUDY.tokens(learned=True), STUDY.tokens(learned=False)
COMPARISONS = [name for name in CONFIG.comparisons if name not in STUDY.wrong]
SHARDED = [model for model in STUDY.models if not STUDY.is_whole(model)]
PROGRAMS = f"{workflow.basedir}/workflow/scripts"

# scripts run in the environment that runs snakemake, also when it was not activated
os.environ.update(
    S4S_PROGRAMS=PROGRAMS,
    PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
    PYTHONPATH=os.pathsep.join(
        [f"{workflow.basedir}/src", os.environ.get("PYTHONPATH", "")]
    ).rstrip(os.pathsep),
)


def one_of(names):
    """A wildcard constraint to some names."""
    return "|".join(map(re.escape, names)) or "no such name"


wildcard_constraints:
    model="[A-Za-z0-9][A-Za-z0-9_.-]*",
    solver="[A-Za-z0-9][A-Za-z0-9_-]*",
    nfe="[0-9]+",
    split="train|val|reference|test~[0-9]+",
    shard="[0-9]+",
    tables=one_of([MAIN, *map(folder_of, COMPARISONS)]),
    comparison=one_of(COMPARISONS),


def asked(answer):
    """An answer of the study as a function of a job's wildcards; what is wrong with the question ends the run in one line."""

    def function(wildcards):
        try:
            return answer(**wildcards)
        except S4SError as error:
            # Snakemake shows a traceback for any exception of a function of wildcards
            logger.error(f"error: {error}")
            sys.exit(1)

    return function


def inputs(stage):
    """The results that a job of a stage reads, to be unpacked."""
    return asked(lambda **names: STUDY.inputs(stage, **names))


def program(name, *others):
    """Digest of the code of a program: an edit of a file that it uses reruns its jobs, another clone of it does not.

    Adapters of other kinds of models do not count where the job is about one.
    """

    def digest(wildcards):
        own = getattr(wildcards, "model", None)
        unused = (
            frozenset(ADAPTERS.values()) - {ADAPTERS[STUDY.models[own].kind]}
            if own in STUDY.models
            else frozenset()
        )
        return code.digest(
            Path(f"{PROGRAMS}/{name}.py"),
            others=tuple(map(Path, others)),
            without=unused,
        )

    return digest


def model(*parts):
    """Digest of a job's model and of further parts of its description: other weights rerun its jobs, another path does not."""
    return asked(lambda **names: content.of_model(STUDY.models[names["model"]], *parts))


def outside(*paths):
    """Files of the repository and of the user. They lie where they are, also with --default-storage-provider, and count by
    the digests in params: their times and places do not matter."""
    return [ancient(local(as_argument(path))) for path in paths]


def fetched(file):
    """The path of a model's file, which is there or has a rule that fetches it."""
    if not file.path.exists():
        if not file.url:
            raise S4SError(
                f"{os.path.relpath(file.path)}: no such file; put it there, or change its path in the model's YAML file"
            )
        check_fetchable(file, WEIGHTS)
    return file.path


def described(*parts):
    """A model's description, with the files that it names for its denoiser (weights), features or perceptual network."""

    def files(**names):
        own = STUDY.models[names["model"]]
        of_part = {
            "weights": own.own_files,
            "features": own.features.own_files if own.features else list,
            "perceptual": lambda: [own.perceptual] if own.perceptual else [],
        }
        there = [fetched(file) for part in parts for file in of_part[part]()]
        return outside(STUDY.files[names["model"]], *there)

    return asked(files)


def definition(token=None):
    """What the config says of a solver, as one JSON text that the program validates; by default of the job's own."""
    return asked(
        lambda **names: STUDY.definition_json(names["model"], token or names["solver"])
    )


def own_code(token=None):
    """Digests of a user's own modules that make a solver, the job's own by default: an edit of one reruns its jobs."""
    return asked(
        lambda **names: [
            content.path_digest(path)
            for path in STUDY.own_modules(names["model"], token or names["solver"])
        ]
    )


def checksums(*tables):
    """The files beside tables with their checksums."""
    return [f"{path}.sha256" for path in tables if path.endswith(".csv")]


def memory(stage):
    """Memory of a job in MB. Grows with each retry."""
    return lambda wildcards, attempt: round(
        attempt * plan.memory_mb(STUDY, stage, wildcards.model)
    )


def minutes(stage):
    """Longest time of a job. Grows with each retry."""
    return lambda wildcards, attempt: round(
        attempt * plan.minutes(STUDY, stage, **wildcards)
    )


def own(name):
    """A setting of a job's model, as a.b."""

    def value(**names):
        found = STUDY.settings[names["model"]]
        for part in name.split("."):
            found = getattr(found, part)
        return found

    return asked(value)


def sample_file(path):
    """An output of samples, kept or not."""
    return path if CONFIG.keep_samples else temp(path)


def decoder(name):
    """The description of the model whose decoder a figure of samples needs."""
    decoded = targets.decoded_model(STUDY, name)
    if decoded is None:
        return []
    files = [fetched(file) for file in STUDY.models[decoded].own_files()]
    return outside(STUDY.files[decoded], *files)


def of_page(wildcards):
    """The folder of the tables that a report is of."""
    return wildcards.page.rstrip("/") or MAIN


def speed_ups_of_page(wildcards):
    """The table of evaluations that are saved, where a report shows it."""
    return [
        path.replace(".md", ".csv")
        for path in files_of_page(wildcards)
        if path.endswith("evaluations_saved.md")
    ]


def files_of_page(wildcards):
    """The files of a report's comparison."""
    name = wildcards.page.removeprefix("study/").rstrip("/")
    return targets.comparison_files(STUDY, name) if name else targets.drawn(STUDY)


def scores_of_figure(wildcards):
    """The table of scores, for a figure that shows them."""
    others = "-" in wildcards.name or wildcards.name == "fit_curves"
    return [] if others else ["results/tables/scores.csv"]


def scores_of_paper_figure(wildcards):
    """The table of scores, for a figure that shows no other files."""
    others = targets.paper_figure_files(STUDY, wildcards.name)
    return [] if others else ["results/tables/scores.csv"]
