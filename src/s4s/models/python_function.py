"""Models that a user's own Python function makes."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from s4s.errors import S4SError
from s4s.files.named_function import function_of
from s4s.models.denoiser import Denoiser
from s4s.models.denoiser_check import check_attributes
from s4s.models.description import PythonModel
from s4s.models.model_files import check_file
from s4s.models.paths import Path


def load_denoiser(model: PythonModel, device: torch.device) -> Denoiser:
    """What module:function returns, called as function(name=..., device=..., files={name: path}, **options).

    The module is looked for in the working directory first. Files are checked against their sha256 before.

    Raises:
        S4SError: if the function cannot be imported, or returns no Denoiser of the model's name or one without its attributes.
    """
    files = {name: check_file(file) for name, file in model.files.items()}
    try:
        make = function_of(model.function)
    except S4SError as error:
        raise S4SError(f"model {model.name}: {error}") from error
    arguments = {"name": model.name, "device": device, "files": files, **model.options}
    try:
        inspect.signature(make).bind(**arguments)
    except ValueError:  # it is a type or a function of C's without a signature
        pass
    except TypeError as error:
        given = f"name, device, files and the file's options {', '.join(model.options) or '(none)'}"
        raise S4SError(f"model {model.name}: {model.function} cannot be called with {given}: {error}") from error
    made = make(**arguments)
    if isinstance(made, Denoiser):
        check_attributes(made)
    if not isinstance(made, Denoiser) or made.name != model.name:
        raise S4SError(f"model {model.name}: {model.function} must return an s4s.Denoiser with this name, not {made!r}")
    return made


def outline(model: PythonModel) -> tuple[float, float, Path, dict[str, Any]]:
    """s_min, s_max, the path and the parametrisation, of the loaded model."""
    made = load_denoiser(model, torch.device("cpu"))
    return made.s_min, made.s_max, made.path, made.parametrisation
