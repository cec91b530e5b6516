"""What several tests share: exact denoisers, the embedded model, small teacher pairs, finished studies; and which are units.

A test is a unit, and part of `make quick`, unless its module stands in `NOT_UNITS` or it is marked `slow`, `suite` or
`nightly`. A unit starts no process; that is enforced below.
"""

import os
import sys
from collections import Counter

import numpy as np
import pytest
import torch

import s4s
from s4s.learning.teacher import TeacherPairs, make_pairs
from s4s.models.denoiser import Denoiser
from s4s.models.denoiser_check import take_as_checked
from s4s.models.embedded.mixture import MixtureDenoiser
from s4s.models.seeds import sample_seeds
from tests.builders import studies

NOT_UNITS = {
    # Snakemake, other processes, a browser
    "test_budgets", "test_cluster", "test_fork_server", "test_lease", "test_package", "test_real_programs", "test_reliability",
    "test_report_browser", "test_tutorial", "test_workflow",
    # networks of other packages, trainings, fits: seconds each, or many
    "test_cli", "test_diffusers", "test_edm", "test_embedded", "test_export_diffusers", "test_fitting", "test_formats",
    "test_latent_diffusion", "test_ld3", "test_optimisers", "test_pipelines", "test_questions", "test_weight_formats",
    "test_cli_pipeline", "test_gpu_check", "test_hub", "test_live_pipeline", "test_live_pipelines_gpu", "test_loading",
    "test_no_waiting", "test_pipeline_fit", "test_pipeline_matrix", "test_scheduler_config", "test_tiny_pipelines",
    "test_whole_pipeline",
}  # fmt: skip
ONE_WORKER = {"test_live_pipeline", "test_pipeline_fit", "test_whole_pipeline"}  # their fixtures take seconds
LONGEST_FIRST = ("nightly", "suite", "", "unit")
_running: list[str] = []  # the unit that runs now
torch.set_num_threads(1)  # for fixtures of modules too, which are made before those of tests: other threads, other last bits


def pytest_ignore_collect(collection_path, config):
    """Where only units are asked for, the packages that others import are not imported."""
    return True if collection_path.stem in NOT_UNITS and config.option.markexpr == "unit" else None


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by marker, and before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Marks units, and says what one worker runs together: a module of units or of `ONE_WORKER`, the cases of any other test.

    What takes longest comes first, for the end of a run is better filled with short tests; of the modules of units those with
    most tests. Of the tests of a kind that use the finished study one comes first, to make it, and the others come when it is
    there.
    """
    first: dict[str, str] = {}  # kind -> the group that makes the finished study

    def kind(item):
        return next((name for name in LONGEST_FIRST if name and item.get_closest_marker(name)), "")

    for item in items:
        module, function = item.module.__name__.rpartition(".")[2], item.originalname
        unit = module not in NOT_UNITS and not any(item.get_closest_marker(name) for name in ("slow", "suite", "nightly"))
        if unit:
            item.add_marker(pytest.mark.unit)
        item.add_marker(pytest.mark.xdist_group(module if unit or module in ONE_WORKER else f"{module}.{function}"))

    sizes = Counter(item.get_closest_marker("xdist_group").args[0] for item in items)

    def place(item):
        uses, group = "tiny" in item.fixturenames, item.get_closest_marker("xdist_group").args[0]
        makes = uses and first.setdefault(kind(item), group) == group
        largest_first = -sizes[group] if item.get_closest_marker("unit") else 0
        return LONGEST_FIRST.index(kind(item)), 0 if makes else 2 if uses else 1, largest_first

    items.sort(key=place)


def pytest_collection_finish(session):
    """Groups that do not take effect cost minutes: two workers make the same fixtures, or wait for each other's."""
    if getattr(session.config.option, "loadgroup", False):  # of pytest-xdist, in a worker
        assert all("@" in item.nodeid for item in session.items), "pytest-xdist does not group by xdist_group"


def _no_process_in_a_unit(event, arguments):
    if event == "subprocess.Popen" and _running:
        raise AssertionError(f"{_running[-1]} starts {arguments[0]}; mark it slow, or name its module in tests/conftest.py")


sys.addaudithook(_no_process_in_a_unit)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    if item.get_closest_marker("unit"):
        _running.append(item.nodeid)
    try:
        return (yield)
    finally:
        _running.clear()


class CountingDenoiser(Denoiser):
    """A denoiser that counts the rows through it, and the most at a time; `broken(call)` says at which calls it returns nan."""

    def __init__(self, inner, broken=lambda call: False):
        for name in ("name", "shape", "s_min", "s_max", "device", "dtype", "path"):
            setattr(self, name, getattr(inner, name))
        self.inner, self.broken, self.rows, self.calls, self.largest = inner, broken, 0, 0, 0
        take_as_checked(self)  # what is counted are evaluations of results

    def __call__(self, y, s, condition=None):
        call, self.calls, self.rows = self.calls, self.calls + 1, self.rows + len(y)
        self.largest = max(self.largest, len(y))
        output = self.inner(y, s, condition)
        return output * float("nan") if self.broken(call) else output

    def decode(self, y_0):
        return self.inner.decode(y_0)


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """What a test draws from torch and NumPy without a seed does not depend on the tests before it."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _one_thread():
    """Also after a test of the command, which takes a thread a core: where workers share cores they wait for each other."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Folders that are made once for all workers (tests/builders/studies.py)."""
    root = tmp_path_factory.getbasetemp()
    made = studies.Shared((root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "shared")
    yield made
    made.check()


@pytest.fixture(scope="session")
def tiny(shared):
    """A copy of the repository with the tiny config, after one full run; not to be changed."""
    return shared("tiny", studies.tiny)


@pytest.fixture
def study(tiny, tmp_path):
    """The same to change."""
    return studies.linked(tiny, tmp_path / "study")


@pytest.fixture(scope="session")
def compared(tiny, shared):
    """The same after its further comparison `main` too; not to be changed."""
    return shared("compared", lambda folder: studies.compare(tiny, folder))


@pytest.fixture(scope="session")
def mixture():
    """Two well separated Gaussians and a third between them, in the plane, in float64."""
    means = torch.tensor([[-1.0, 0.3], [0.8, -0.5], [0.1, 0.9]], dtype=torch.float64)
    return MixtureDenoiser(means, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), std=0.3, s_min=0.05, s_max=20.0)


@pytest.fixture(scope="session")
def digits():
    return s4s.load_model("digits")


@pytest.fixture(scope="session")
def mixture_pairs(mixture):
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 40, mixture), order=3)
    return TeacherPairs(*(make_pairs(mixture, teacher, sample_seeds(split, 64)) for split in ("train", "val")))


@pytest.fixture(scope="session")
def mixture_paths(mixture):
    """Pairs with the teacher's states and outputs at all steps, its levels and the model's name."""
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 40, mixture), order=3)
    splits = (make_pairs(mixture, teacher, sample_seeds(split, 16), trajectory=True) for split in ("train", "val"))
    return TeacherPairs(*splits, mixture.name, teacher.levels)


@pytest.fixture(scope="session")
def mixture_test(mixture):
    """Pairs from noise that no fit sees."""
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 40, mixture), order=3)
    return make_pairs(mixture, teacher, sample_seeds("test", 200))


@pytest.fixture(scope="session")
def digits_pairs(digits):
    teacher = s4s.solver("unipc", s4s.levels("edm", 20, digits), order=3)
    return TeacherPairs(*(make_pairs(digits, teacher, sample_seeds(split, n)) for split, n in {"train": 48, "val": 16}.items()))
