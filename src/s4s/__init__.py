"""S4S: learned solvers for pre-trained diffusion models, in 3 to 10 network evaluations.

The public names are loaded on first use, so that `import s4s` is cheap where torch is not needed.
"""

from importlib import import_module
from typing import Any

from s4s.models.torchvision_operators import TorchvisionFinder

_PUBLIC = {
    "load_model": "s4s.models.load",
    "from_pipeline": "s4s.models.pipelines.live",
    "initial_noise": "s4s.sampling",
    "sample": "s4s.sampling",
    "levels": "s4s.schedules",
    "solver": "s4s.solvers",
    "fit": "s4s.learning.fit",
    "FitResult": "s4s.learning.result",
    "FitSettings": "s4s.learning.settings",
    "TeacherPairs": "s4s.learning.teacher",
    "fit_pipeline": "s4s.export.pipeline_fit",
    "Tableau": "s4s.tableau",
    "Denoiser": "s4s.models.denoiser",
    "S4SError": "s4s.errors",
    "S4SScheduler": "s4s.export.scheduler",
}

_OF_DIFFUSERS = {"SchedulerMixin": "diffusers"}  # which asks the module of a class in model_index.json for its base

__all__ = list(_PUBLIC)
__version__ = "0.2.0.dev0"  # pyproject.toml and provenance take it from here


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name) or _OF_DIFFUSERS.get(name)
    if module is None:
        raise AttributeError(f"module 's4s' has no attribute {name!r}")
    from s4s.errors import needed_for

    with needed_for(f"s4s.{name}"):
        return getattr(import_module(module), name)


TorchvisionFinder.install()
