# The checked config, its cells, and what every rule needs. No torch, no network, no globbing here.
import atexit
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE, Popen

from snakemake.exceptions import WorkflowError

from s4s.config import Learned, read_config
from s4s.errors import S4SError
from s4s.models.files import model_path, read_model_file

try:
    CONFIG = read_config(config)
    MODEL_FILES = {model: str(model_path(model)) for model in CONFIG.models}
    WEIGHTS = {model: read_model_file(model) for model in CONFIG.models}
except S4SError as error:
    raise WorkflowError(str(error)) from None

CELLS = CONFIG.cells()
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
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["PYTHONPATH"] = os.pathsep.join(
    [f"{workflow.basedir}/src", *filter(None, [os.environ.get("PYTHONPATH")])]
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


MODEL = [
    f"models/{name}"
    for name in ("denoiser", "edm", "unet", "embedded", "files", "load")
]
SOLVERS = ["models/paths", "levels/__init__", "levels/grids"]
SOLVERS += [
    f"solvers/{name}"
    for name in ("__init__", "exponential", "ddim", "dpmpp", "ipndm", "unipc")
]
SAMPLING = ["tableau", "sampling", "seeds", "store", *MODEL]
SCRIPTS = "../../workflow/scripts"
FITTING = [
    f"fitting/{name}"
    for name in ("fit", "distances", "drivers", "relaxed", "settings", "state")
]
STAGES = {
    "tableau": [f"{SCRIPTS}/tableau", "tableau", *SOLVERS],
    "teacher": [
        f"{SCRIPTS}/teacher_shard",
        f"{SCRIPTS}/teacher_pairs",
        f"{SCRIPTS}/teacher_convergence",
        "teacher",
        *SAMPLING,
        *SOLVERS,
        "metrics/global_error",
    ],
    "fit": [
        f"{SCRIPTS}/fit",
        *FITTING,
        "families/lms",
        "levels/clock",
        "solvers/exponential",
        "solvers/ipndm",
        "models/classifier",
        *SAMPLING,
    ],
    "sample": [f"{SCRIPTS}/sample", f"{SCRIPTS}/teacher_samples", "samples", *SAMPLING],
    "score": [
        f"{SCRIPTS}/score",
        "store",
        "models/classifier",
        *(f"metrics/{name}" for name in ("score", "features", "fid", "global_error")),
    ],
    "tables": [f"{SCRIPTS}/scores_csv", f"{SCRIPTS}/comparison_table", "tables"],
    "figures": [f"{SCRIPTS}/figure", "figures", "tables"],
    "report": [f"{SCRIPTS}/report", "report", "tables"],
}


def code(stage):
    """The fingerprint of a stage's code: an edit of its files reruns the stage, a touch does not."""
    return f"results/code/{stage}.sha256"


rule code_fingerprint:
    """Checksums of the scripts and package files that a stage uses: one small input for its jobs instead of many."""
    input:
        lambda wildcards: [
            os.path.normpath(f"{REPOSITORY}/src/s4s/{name}.py")
            for name in STAGES[wildcards.stage]
        ],
    output:
        "results/code/{stage}.sha256",
    log:
        "results/logs/code/{stage}.log",
    wildcard_constraints:
        stage="|".join(STAGES),
    priority: 50
    localrule: True
    shell:
        "sha256sum {input} > {output} 2> {log}"


def model_files(wildcards):
    """A model's description and its weights."""
    return [
        MODEL_FILES[wildcards.model],
        os.path.relpath(WEIGHTS[wildcards.model].path),
    ]


def feature_files(wildcards):
    """The weights of the feature network that a model is scored with."""
    return os.path.relpath(WEIGHTS[wildcards.model].features.path)


def perceptual_files(wildcards):
    """The weights of a model's perceptual network, if it has one."""
    perceptual = WEIGHTS[wildcards.model].perceptual
    return [os.path.relpath(perceptual.path)] if perceptual else []


# One process imports torch once and forks the short jobs (s4s/warm.py). It ends with this one; without it, as on
# another machine of a cluster, jobs import torch themselves.
onstart:
    if (
        not workflow.deployment_settings.deployment_method
    ):  # conda's jobs need their own interpreter
        folder = tempfile.mkdtemp(prefix="s4s-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["S4S_WARM"] = f"{folder}/socket"
        WARM.append(
            Popen(
                [sys.executable, "-m", "s4s.warm", "--serve", f"{folder}/socket"],
                stdin=PIPE,
                start_new_session=True,
            )
        )


WARM = []  # keeps the server's standard input open
