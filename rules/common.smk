# The checked config, its cells, and what every rule needs. No torch, no network, no globbing here.
import atexit
import json
import os
import shutil
import sys
import tempfile
from subprocess import PIPE, Popen

from snakemake.exceptions import WorkflowError

from s4s.config import read_config, resolve_models
from s4s.definitions import Learned
from s4s.errors import S4SError
from s4s.families import FAMILIES
from s4s.levels import GRIDS
from s4s.models.files import read_model_file
from s4s.plan import summary
from s4s.solvers import SOLVERS

try:
    CONFIG, MODEL_FILES = resolve_models(read_config(config))
    WEIGHTS = {model: read_model_file(path) for model, path in MODEL_FILES.items()}
    # the settings of each model: the config's, changed by its own file, changed by per_model
    STUDIES = {
        model: CONFIG.of_model(
            model, WEIGHTS[model].study, CONFIG.per_model.get(model, {})
        )
        for model in MODEL_FILES
    }
except S4SError as error:
    raise WorkflowError(str(error)) from None

CELLS = [cell for study in STUDIES.values() for cell in study.cells()]
LEARNED = [
    token for token in CONFIG.solvers if isinstance(CONFIG.definition(token), Learned)
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


def program(name):
    """Path of a script from the working directory."""
    return os.path.normpath(f"{REPOSITORY}/workflow/scripts/{name}.py")


def code(stage):
    """The fingerprint of a stage's code: an edit of its files reruns the stage, a touch does not."""
    return f"results/code/{stage}.sha256"


def model_files(wildcards):
    """A model's description and its weights."""
    own = WEIGHTS[wildcards.model].own_files()
    return [MODEL_FILES[wildcards.model], *(os.path.relpath(file.path) for file in own)]


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
    return [MODEL_FILES[wildcards.model]]


def feature_files(wildcards):
    """The feature network that a model is scored with, and the statistics of the real data."""
    own = WEIGHTS[wildcards.model].features.own_files()
    return [os.path.relpath(file.path) for file in own]


def reference_files(wildcards):
    """The moments of the real images, where they are computed here."""
    images = WEIGHTS[wildcards.model].features.images
    return [f"results/reference/{wildcards.model}.npz"] if images else []


def perceptual_files(wildcards):
    """The weights of a model's perceptual network, if it has one."""
    perceptual = WEIGHTS[wildcards.model].perceptual
    return [os.path.relpath(perceptual.path)] if perceptual else []


TEACHER_SPLITS = ["train", "val", *TEST_SPLITS]


def study(wildcards):
    """The settings of a job's model."""
    return STUDIES[wildcards.model]


def teacher_tableau(wildcards):
    """The teacher of a model."""
    steps = study(wildcards).teacher.steps
    return f"results/tableaux/{wildcards.model}/teacher/nfe~{steps}.json"


def fit_pairs(split):
    """The pairs of a fit: the teacher's, or those of one that is some steps ahead of the student."""

    def path(wildcards):
        ahead = study(wildcards).teacher.ahead
        folder = f"steps~{int(wildcards.nfe) + ahead}" if ahead else "shards"
        return f"results/teacher/{wildcards.model}/{folder}/{split}.h5"

    return path


def classical_spec(wildcards, token):
    """What the config says of a classical solver, as JSON."""
    definition = study(wildcards).definition(token)
    spec = {
        "solver": definition.solver,
        "solver_options": definition.solver_options(),
        "levels": definition.levels,
        "level_options": definition.level_options(),
    }
    return json.dumps(spec, sort_keys=True)


def search_spec(wildcards):
    """The teacher's solver on the levels that a search chooses from, as JSON."""
    spec = json.loads(classical_spec(wildcards, "teacher"))
    spec.update(levels=study(wildcards).search.levels, level_options={})
    return json.dumps(spec, sort_keys=True)


def searched_files(wildcards):
    """Option and path of what a classical solver needs that is computed from trajectories."""
    return {
        option: f"results/search/{wildcards.model}/{option}.json"
        for option in CONFIG.definition(wildcards.solver).files
    }


def split_size(wildcards):
    """Number of pairs of a split."""
    own = study(wildcards)
    sizes = {"train": own.teacher.train, "val": own.teacher.val}
    return sizes.get(wildcards.split, own.samples)


def fit_spec(wildcards):
    """What the config says of a learned solver, as JSON."""
    definition = CONFIG.definition(wildcards.solver)
    recipe = definition.recipe
    spec = {
        "family": definition.family,
        "base": definition.base,
        "weights": recipe.weights,
        "options": definition.family_options,
        "driver": recipe.driver,
        "decoupled": recipe.decoupled,
        "first_node": definition.first_node,
        "settings": study(wildcards)
        .fit_settings(wildcards.solver)
        .model_dump(mode="json"),
    }
    return json.dumps(spec, sort_keys=True)


def warm_start(wildcards):
    """The learned solver that a fit starts near: the one at the next smaller NFE, a file, or none."""
    named, nfe = CONFIG.definition(wildcards.solver).warm_start, int(wildcards.nfe)
    if named != "previous":
        return [named.replace("{nfe}", str(nfe))] if named else []
    smaller = [n for n in study(wildcards).nfe_of(wildcards.solver) if n < nfe]
    cell = f"{wildcards.model}/{wildcards.solver}"
    return [f"results/tableaux/{cell}/nfe~{max(smaller)}.json"] if smaller else []


def memory(embedded):
    """Memory of a job in MB, that of an embedded model given: others hold all samples of a seed, and networks."""
    return lambda wildcards: (
        embedded if WEIGHTS[wildcards.model].kind == "embedded" else 32000
    )


def minutes(embedded):
    """Longest time of a job, that of an embedded model given: a day for others."""
    return lambda wildcards: (
        embedded if WEIGHTS[wildcards.model].kind == "embedded" else 1440
    )


def sample_file(path):
    """An output of samples, kept or not."""
    checked = ensure(path, non_empty=True)
    return checked if CONFIG.keep_samples else temp(checked)


def figure_model(wildcards):
    """The model of a figure of samples, if they are latent states, which it decodes."""
    kind, _, model = wildcards.name.partition("-")
    latent = ("latent_diffusion", "diffusers", "stable_diffusion")
    if kind != "samples" or WEIGHTS[model].kind not in latent:
        return []
    return [
        MODEL_FILES[model],
        *(os.path.relpath(file.path) for file in WEIGHTS[model].own_files()),
    ]


def schedule_of(model, token):
    """Name of a solver's schedule: its grid, or that the schedule is learned."""
    definition = STUDIES[model].definition(token)
    if token in LEARNED:
        return (
            CONFIG.definition(definition.base).levels
            if definition.recipe.driver == "coefficients"
            else "learned"
        )
    return definition.levels


def search_evaluations(model, token):
    """Evaluations of trajectories (and for statistics a gradient, which counts 2 more) that a solver or its base is based on."""
    if token == "teacher":
        return 0
    search = STUDIES[model].search
    passes = 2 if getattr(WEIGHTS[model], "guidance", 1.0) != 1.0 else 1
    size = search.trajectories * search.steps * passes
    files = CONFIG.classical(token).files
    return size * (len(files) > 0) + 3 * size * ("statistics" in files)


def describe(model, token):
    """What scores.csv says of a solver of a model beside its scores."""
    definition = STUDIES[model].definition(token)
    family = "teacher" if token == "teacher" else definition.family
    return {
        "family": family,
        "base": getattr(definition, "base", ""),
        "schedule": schedule_of(model, token),
        "search_evaluations": search_evaluations(model, token),
    }


def shown_solvers(model, model_nfe):
    """Solvers of the figures that show single cells: each learned one after its base."""
    own = STUDIES[model]
    tokens = []
    for token in LEARNED:
        if model_nfe in own.nfe_of(token):
            tokens += [CONFIG.definition(token).base, token]
    return (
        list(dict.fromkeys(tokens))
        or [token for token in own.solvers if model_nfe in own.nfe_of(token)][:8]
    )


if workflow.is_main_process and {"-n", "--dry-run", "--dryrun"} & {*sys.argv}:
    print(summary(STUDIES, WEIGHTS), file=sys.stderr)


# One process imports torch once and forks the short jobs (s4s/warm.py). It ends with this one; without it, as on
# another machine of a cluster, jobs import torch themselves.
onstart:
    if (
        not workflow.deployment_settings.deployment_method
    ):  # conda's jobs need their own interpreter
        folder = tempfile.mkdtemp(prefix="s4s-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ.update(S4S_WARM=f"{folder}/socket")
        WARM.append(
            Popen(
                [sys.executable, "-m", "s4s.warm", "--serve", f"{folder}/socket"],
                stdin=PIPE,
                start_new_session=True,
            )
        )


WARM = []  # keeps the server's standard input open
