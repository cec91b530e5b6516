"""config/models/*.yaml: finding, reading and checking a model's description. Imports no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from s4s.errors import S4SError, explain

SHIPPED = Path(__file__).parents[3] / "config" / "models"

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class WeightFile(BaseModel):
    """A file of weights; a relative path counts from the YAML's own folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: Path
    sha256: Sha256 | None = None


class ModelFile(WeightFile):
    """One model. `kind` names the adapter that reads the weights."""

    name: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    kind: Literal["embedded"]
    features: WeightFile = Field(description="feature network of the Fréchet distance")
    perceptual: WeightFile | None = Field(None, description="network of the fit's perceptual distance")


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


def read_model_file(name_or_path: str | Path) -> ModelFile:
    """Read and check a model's YAML; paths in the result are absolute.

    Raises:
        S4SError: if it cannot be found, is not YAML, or a key is wrong.
    """
    path = model_path(name_or_path)
    try:
        model = ModelFile.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise S4SError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        raise S4SError(explain(error, str(path))) from error

    def absolute(weights: Path) -> Path:
        return (path.parent / weights).resolve()

    nested = {
        key: weights.model_copy(update={"path": absolute(weights.path)})
        for key in ("features", "perceptual")
        if (weights := getattr(model, key)) is not None
    }
    return model.model_copy(update={"path": absolute(model.path), **nested})


def checked_bytes(weights: WeightFile) -> bytes:
    """The content of a file of weights, after its sha256 was compared with the one in the YAML.

    Raises:
        S4SError: if the file is missing or its sha256 is another.
    """
    try:
        content = weights.path.read_bytes()
    except OSError as error:
        raise S4SError(f"{weights.path}: cannot read these weights: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if weights.sha256 is not None and found != weights.sha256:
        raise S4SError(
            f"{weights.path}: wrong sha256: the model file expects {weights.sha256}, the file has {found}; "
            "restore the file, or change sha256 if you replaced it on purpose"
        )
    return content
