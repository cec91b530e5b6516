# The checked config, its cells, and what every rule needs. No torch, no network, no globbing here.
import json
import os
import re
import sys

from snakemake.exceptions import WorkflowError

from s4s.study.config import read_config, resolve_models
from s4s.study.definitions import Learned
from s4s.errors import S4SError
from s4s.learning.families import FAMILIES
from s4s.schedules import GRIDS
from s4s.models.description import read_model_file
from s4s.models.embedded.recipes import EMBEDDED_FILES
from s4s.models.published import PUBLISHED, datasets
from s4s.study.questions import QUESTIONS
from s4s.solvers import SOLVERS

try:
    CONFIG, MODEL_FILES = resolve_models(read_config(config))
    WEIGHTS = {model: read_model_file(path) for model, path in MODEL_FILES.items()}

    def studies(compared, models):
        """The settings of each model: the config's, changed by its own file, changed by per_model."""
        return {
            model: compared.of_model(
                model, WEIGHTS[model].study, CONFIG.per_model.get(model, {})
            )
            for model in models
        }

    STUDIES = studies(CONFIG, MODEL_FILES)
except S4SError as error:
    raise WorkflowError(str(error)) from None

# the further comparisons; one that is wrong is an error only where it is asked for
COMPARISONS, WRONG = {}, {}
for name in CONFIG.comparisons:
    try:
        own, files = resolve_models(CONFIG.comparison(name))
        for model, path in files.items():
            if MODEL_FILES.setdefault(model, path) != path:
                raise S4SError(
                    f"config: comparisons.{name}: {MODEL_FILES[model]} and {path} both have the name {model!r}"
                )
            WEIGHTS.setdefault(model, read_model_file(path))
        COMPARISONS[name] = studies(own, files)
        STUDIES.update(studies(CONFIG, [m for m in files if m not in STUDIES]))
    except S4SError as error:
        WRONG[name] = str(error)
ASKED = [name for name in CONFIG.comparisons if {name, "study"} & {*sys.argv}]
for name in set(ASKED) & WRONG.keys():
    raise WorkflowError(WRONG[name])

# folder of tables -> model -> its settings; the config's own comparison, and the further ones
COMPARED = {
    "tables": {model: STUDIES[model] for model in CONFIG.models},
    **{f"study/{name}": own for name, own in COMPARISONS.items()},
}
COMPARED_CELLS = {
    folder: [cell for own in compared.values() for cell in own.cells()]
    for folder, compared in COMPARED.items()
}
CELLS = COMPARED_CELLS["tables"]
LEARNED = [
    token
    for token in CONFIG.definitions
    if isinstance(CONFIG.definition(token), Learned)
]
CLASSICAL = [
    token
    for token in ["teacher", *CONFIG.definitions]
    if not isinstance(CONFIG.definition(token), Learned)
]
FITS = [cell for cell in CELLS if cell.solver in LEARNED]
TEST_SPLITS = [f"test~{seed}" for seed in CONFIG.seeds]

# scripts run in the environment that runs snakemake, also when it was not activated
os.environ.update(
    PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
    PYTHONPATH=os.pathsep.join(
        [f"{workflow.basedir}/src", os.environ.get("PYTHONPATH", "")]
    ).rstrip(os.pathsep),
)
REPOSITORY = os.path.relpath(workflow.basedir)


wildcard_constraints:
    model="[A-Za-z0-9][A-Za-z0-9_.-]*",
    solver="[A-Za-z0-9][A-Za-z0-9_-]*",
    nfe="[0-9]+",
    split="train|val|test~[0-9]+",
    seed="[0-9]+",
    shard="[0-9]+",


def program(name):
    """Path of a script from the working directory."""
    return os.path.normpath(f"{REPOSITORY}/workflow/scripts/{name}.py")


def code(stage):
    """The fingerprint of a stage's code: an edit of its files reruns the stage, a touch does not."""
    return f"results/code/{stage}.sha256"


def on_this_machine(*paths):
    """Files of the repository and of the user, which lie where they are, also with --default-storage-provider."""
    return [local(os.path.relpath(path)) for path in paths]


def model_files(wildcards):
    """A model's description and its weights."""
    own = WEIGHTS[wildcards.model].own_files()
    return on_this_machine(MODEL_FILES[wildcards.model], *(file.path for file in own))


def has_prompts(model):
    """Whether a model is conditioned on texts."""
    return getattr(WEIGHTS[model], "prompts", None) is not None


def embedding_files(wildcards):
    """The text embeddings of a model with prompts."""
    model = wildcards.model
    return [f"results/teacher/{model}/embeddings.h5"] if has_prompts(model) else []


def embedding_option(wildcards, input):
    """Option of a script for the text embeddings."""
    return f"--embeddings {input.embeddings}" if input.embeddings else ""


def model_yaml(wildcards):
    """A model's description."""
    return on_this_machine(MODEL_FILES[wildcards.model])


def feature_files(wildcards):
    """The feature network that a model is scored with, and the statistics of the real data."""
    own = WEIGHTS[wildcards.model].features.own_files()
    return on_this_machine(*(file.path for file in own))


def reference_files(wildcards):
    """The moments of the real data, where they are computed here."""
    features = WEIGHTS[wildcards.model].features
    computed = features.images or features.kind == "classifier"
    return [f"results/reference/{wildcards.model}.npz"] if computed else []


def perceptual_files(wildcards):
    """The weights of a model's perceptual network, if it has one."""
    perceptual = WEIGHTS[wildcards.model].perceptual
    return on_this_machine(perceptual.path) if perceptual else []


TEACHER_SPLITS = ["train", "val", *TEST_SPLITS]


def study(wildcards):
    """The settings of a job's model."""
    return STUDIES[wildcards.model]


def teacher_tableau(wildcards):
    """The teacher of a model."""
    steps = study(wildcards).teacher.steps
    return f"results/tableaux/{wildcards.model}/teacher/nfe~{steps}.json"


def shards(model, count):
    """The shards that a number of samples is cut into."""
    return STUDIES[model].shards(count, WEIGHTS[model].block)


def shard_size(wildcards):
    """Samples of a shard."""
    return study(wildcards).shard_size(WEIGHTS[wildcards.model].block)


# model -> names of the shards of its test samples: the split and a number
TEST_SHARDS = {
    model: [
        f"{split}-{shard}"
        for split in TEST_SPLITS
        for shard in shards(model, own.samples)
    ]
    for model, own in STUDIES.items()
}
WHOLE = [model for model in STUDIES if len(TEST_SHARDS[model]) == len(TEST_SPLITS)]
SHARDED = [model for model in STUDIES if model not in WHOLE]
STUDENT = "(?!teacher/)[A-Za-z0-9][A-Za-z0-9_-]*"
# files of samples that no other target needs
JOINED = [
    f"results/samples/{cell.model}/{cell.solver}/nfe~{cell.nfe}.h5"
    for cell in CELLS
    if cell.model in SHARDED and CONFIG.keep_samples
]


def one_of(names):
    """A wildcard constraint to some names."""
    return "|".join(map(re.escape, names)) or "no such name"


def teacher_shards(model, split, folder="shards"):
    """The files of a split of the teacher's pairs."""
    numbers = shards(model, split_count(model, split))
    return [f"results/teacher/{model}/{folder}/{split}-{shard}.h5" for shard in numbers]


def shard_path(wildcards, name):
    """A shard of a solver's test samples; the teacher's are those of its pairs."""
    if wildcards.solver == "teacher":
        return f"results/teacher/{wildcards.model}/shards/{name}.h5"
    return f"results/samples/{wildcards.model}/{wildcards.solver}/nfe~{wildcards.nfe}/{name}.h5"


def figure_shards(wildcards):
    """The data behind the joined files of samples that a figure shows; they must not be deleted before it is drawn."""
    kind, _, model = wildcards.name.partition("-")
    if kind != "samples":
        return []
    paths = teacher_shards(model, TEST_SPLITS[0])
    if model in SHARDED:
        for path in FIGURE_FILES[wildcards.name].values():
            if "/teacher/" not in path:
                paths += [
                    f"{path.removesuffix('.h5')}/{n}.h5" for n in TEST_SHARDS[model]
                ]
    return paths


def reference_option(wildcards, input):
    """Option of a script for the moments of the real data."""
    return f"--reference {input.reference}" if input.reference else ""


def fit_pairs(split):
    """The pairs of a fit: the teacher's, those of one that is some steps ahead of the student, or of as many as it says."""

    def paths(wildcards):
        ahead = study(wildcards).teacher.ahead
        steps = CONFIG.definition(wildcards.solver).teacher_steps
        steps = steps or (int(wildcards.nfe) + ahead if ahead else None)
        folder = f"steps~{steps}" if steps else "shards"
        return teacher_shards(wildcards.model, split, folder)

    return paths


def classical_definition(wildcards, token):
    """What the config says of a classical solver, as JSON."""
    return study(wildcards).definition(token).to_json()


def search_definition(wildcards):
    """The teacher's solver on the levels that a search chooses from, as JSON."""
    return study(wildcards).searched_along().to_json()


def searched_files(wildcards):
    """Option and path of what a classical solver needs that is computed from trajectories."""
    return {
        option: f"results/search/{wildcards.model}/{option}.json"
        for option in CONFIG.definition(wildcards.solver).files
    }


def split_count(model, split):
    """Number of pairs of a split."""
    own = STUDIES[model]
    return {"train": own.teacher.train, "val": own.teacher.val}.get(split, own.samples)


def split_size(wildcards):
    """Number of pairs of a split."""
    return split_count(wildcards.model, wildcards.split)


def fit_definition(wildcards):
    """What the config says of a learned solver and of its fit, as JSON."""
    settings = study(wildcards).fit_settings(wildcards.solver)
    return CONFIG.definition(wildcards.solver).settled(settings).to_json()


def warm_start(wildcards):
    """The learned solver that a fit starts near: the one at the next smaller NFE, a file, or none."""
    named, nfe = CONFIG.definition(wildcards.solver).warm_start, int(wildcards.nfe)
    if named != "previous":
        return on_this_machine(named.replace("{nfe}", str(nfe))) if named else []
    smaller = [n for n in study(wildcards).nfe_of(wildcards.solver) if n < nfe]
    cell = f"{wildcards.model}/{wildcards.solver}"
    return [f"results/tableaux/{cell}/nfe~{max(smaller)}.json"] if smaller else []


def not_empty(path):
    """An output that must have content. Snakemake 9.27 looks for it in storage before it is stored there, so not with storage."""
    remote = workflow.storage_settings.default_storage_provider
    return path if remote else ensure(path, non_empty=True)


def sample_file(path):
    """An output of samples, kept or not."""
    return not_empty(path) if CONFIG.keep_samples else temp(not_empty(path))


def figure_model(wildcards):
    """The model of a figure of samples, if they are latent states, which it decodes."""
    kind, _, model = wildcards.name.partition("-")
    if kind != "samples":
        return []
    own = WEIGHTS[model]
    latent = own.kind in ("latent_diffusion", "diffusers", "stable_diffusion")
    if not latent and getattr(own, "autoencoder", None) is None:
        return []
    return on_this_machine(MODEL_FILES[model], *(file.path for file in own.own_files()))
