"""Model files, config/models/*.yaml, and the weights that they name: found, read, checked, told apart. Imports no torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from s4s.errors import S4SError, explain, one_line
from s4s.files.checksum import check_unchanged, file_digest
from s4s.files.shipped import shipped
from s4s.files.stray_files import files_below
from s4s.files.yaml_file import read_yaml
from s4s.models.description import AnyModel, PythonModel, WeightFile

SHIPPED = shipped("config/models")
WEIGHTS = "resources/weights"  # where files are fetched to

_ADAPTER: TypeAdapter[AnyModel] = TypeAdapter(AnyModel)


def model_path(name_or_path: str | Path, folder: Path | None = None) -> Path:
    """The YAML file of a model: a path to one, or a name in ./config/models or in the models that ship."""
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        path = Path(text)
        if not path.is_file():
            raise S4SError(f"{path}: no such model file")
        return path
    folders = [folder] if folder else [Path("config/models"), SHIPPED]
    for candidate in folders:
        if (candidate / f"{text}.yaml").is_file():
            return candidate / f"{text}.yaml"
    known = sorted({path.stem for candidate in folders for path in candidate.glob("*.yaml")})
    raise S4SError(f"unknown model {text!r}; known: {', '.join(known) or 'none'}; or give the path of a model's YAML file")


def read_model_file(name_or_path: str | Path) -> AnyModel:
    """Read and check a model's YAML; paths in the result are absolute.

    Raises:
        S4SError: if it cannot be found, is not YAML, is beyond what such a file needs, or a key is wrong.
    """
    path = model_path(name_or_path)
    try:
        return _ADAPTER.validate_python(read_yaml(path), context={"folder": path.parent})
    except OSError as error:
        raise S4SError(f"{path}: cannot be read: {one_line(error)}") from error
    except ValidationError as error:
        raise S4SError(explain(error, str(path))) from error


def check_file(weights: WeightFile) -> Path:
    """The path of a file of weights or of a folder, after its sha256 was compared with the one in the YAML.

    Where the YAML says none, it is compared with that of its first use, which is kept beside the file.

    Raises:
        S4SError: if the file is missing or its sha256 is another.
    """
    path = weights.path
    try:
        if weights.sha256 is None:
            check_unchanged(path)
            return path
        found = file_digest(path)
    except OSError as error:
        raise S4SError(
            f"{path}: cannot read these weights: {error.strerror}; {where_from(weights)}put the file there, "
            "or change its path in the model's YAML file"
        ) from error
    if found != weights.sha256:
        raise S4SError(
            f"{path}: wrong sha256: the model file expects {weights.sha256}, the file has {found}; "
            "restore the file, or change sha256 if you replaced it on purpose"
        )
    return path


def where_from(weights: WeightFile) -> str:
    """Where a missing file is published, to go before "put it there"."""
    if weights.url is None:
        return ""
    return f"get {weights.url}" + (f", take {weights.member} out of it" if weights.member else "") + " and "


def weights_folders(named: str | None = None) -> list[Path]:
    """The folders that files may be fetched to: resources/weights, of this package and of the working directory, and one that
    the user named.

    A link takes the first and the last elsewhere as their owner says. That of the working directory, which may have come from
    anyone, is left out where it leads out of there.
    """
    own = Path(WEIGHTS).resolve()
    there = [own] if own.is_relative_to(Path.cwd().resolve()) else []
    try:
        given = [Path(named).expanduser().resolve()] if named else []
    except RuntimeError as error:  # no such user
        raise S4SError(f"config: downloads: {named}: {one_line(error)}") from error
    return [*dict.fromkeys([shipped(WEIGHTS).resolve(), *there, *given])]


def check_fetchable(file: WeightFile, below: Sequence[str | Path]) -> None:
    """Raise S4SError if the path of a file with a url is not below one of these folders, all links followed."""
    path, folders = file.path.resolve(), [Path(folder).resolve() for folder in below]
    if not any(folder in path.parents for folder in folders):
        raise S4SError(
            f"{file.path}: not fetched, for downloads go below {' or '.join(map(str, folders))} alone; change its path in the "
            f"model's YAML file, name its folder in the config (downloads: {path.parent}), or put {file.url} there yourself"
        )


def fetch_name(path: str | Path) -> str:
    """A name, of letters that any program takes, for the job that fetches a file: part of the file's own, and a digest."""
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', Path(path).name)[:80]}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def checked_bytes(weights: WeightFile) -> bytes:
    """The content of a file of weights after `check_file`."""
    return check_file(weights).read_bytes()


def identity(name_or_path: str | Path) -> str:
    """Hash of what a denoiser's description says and of how its files look from outside.

    Of a model that a Python function makes, the content of the function's module too; not of what that imports.
    """
    model = read_model_file(name_or_path)
    description = model.model_dump_json(exclude={"study", "features", "perceptual", "throughput", "licence", "published"})
    weights = [look for file in model.own_files() for look in looks(file.path)]
    module = model.module_file() if isinstance(model, PythonModel) else None
    content = [] if module is None else [module.read_bytes().hex()]
    return hashlib.sha256(repr((description, weights, content)).encode()).hexdigest()


def looks(path: Path) -> list[tuple[str, int, int]]:
    """Path, size and time of change of a file, or of all files in a folder, stray ones aside."""
    files = [path]
    if path.is_dir():
        files = files_below(path)
    return [(str(file), status.st_size, status.st_mtime_ns) for file in files if (status := file.stat())]
