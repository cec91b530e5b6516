# The checked config, its cells, and what every rule needs. No torch, no network, no globbing here.
import json
import os
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
LEARNED = [token for token in CONFIG.solvers if isinstance(CONFIG.definition(token), Learned)]
CLASSICAL = [token for token in ["teacher", *CONFIG.definitions] if not isinstance(CONFIG.definition(token), Learned)]
FITS = [cell for cell in CELLS if cell.solver in LEARNED]
TEST_SPLITS = [f"test~{seed}" for seed in CONFIG.seeds]

# scripts run in the environment that runs snakemake, also when it was not activated
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
REPOSITORY = os.path.relpath(workflow.basedir)


wildcard_constraints:
    model="[A-Za-z0-9][A-Za-z0-9_.-]*",
    solver="[A-Za-z0-9][A-Za-z0-9_-]*",
    nfe="[0-9]+",
    split="train|val|test~[0-9]+",


def script(name):
    """Path of a script from the working directory."""
    return os.path.normpath(f"{REPOSITORY}/workflow/scripts/{name}.py")


def package(*names):
    """Files of the package that a stage depends on: an edit reruns it, a touch does not (Snakemake compares checksums)."""
    return [os.path.normpath(f"{REPOSITORY}/src/s4s/{name}.py") for name in names]


CORE = ["tableau", "sampling", "seeds", "store", "models/denoiser", "models/edm", "models/unet", "models/embedded"]
SOLVERS = ["levels/__init__", "levels/grids", "models/paths", "solvers/__init__", "solvers/exponential"]
SOLVERS += [f"solvers/{name}" for name in ("ddim", "dpmpp", "ipndm", "unipc")]


def model_files(wildcards):
    """A model's description and its weights."""
    return [MODEL_FILES[wildcards.model], str(WEIGHTS[wildcards.model].path)]


def feature_files(wildcards):
    """The weights of the feature network that a model is scored with."""
    return str(WEIGHTS[wildcards.model].features.path)


# One process imports torch once and forks the short jobs (s4s/warm.py). It ends with this one; without it, as on
# another machine of a cluster, jobs import torch themselves.
onstart:
    socket = f"{tempfile.mkdtemp(prefix='s4s-')}/socket"
    os.environ["S4S_WARM"] = socket
    WARM.append(Popen([sys.executable, "-m", "s4s.warm", "--serve", socket], stdin=PIPE, start_new_session=True))


WARM = []
