"""config/models/*.yaml: finding, reading and checking a model's description. Imports no torch; docs/models.md explains the keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, model_validator

from s4s.errors import S4SError, explain

SHIPPED = Path(__file__).parents[3] / "config" / "models"

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _beside_the_yaml(path: Path, info: ValidationInfo) -> Path:
    """A relative path counts from the YAML's own folder."""
    return ((info.context or {}).get("folder", Path()) / path.expanduser()).resolve()


LocalPath = Annotated[Path, AfterValidator(_beside_the_yaml)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightFile(Strict):
    """A file (or a folder, for diffusers) on this machine, and where `snakemake` gets it from if it is not there."""

    path: LocalPath
    url: str | None = Field(None, description="https://..., or hf://owner/repository[@revision] for a folder")
    sha256: Sha256 | None = None
    member: str | None = Field(None, description="name of the file inside the zip that the url is")


class Reference(Strict):
    """The real data that samples are compared with: statistics, or images."""

    statistics: WeightFile | None = Field(None, description=".npz with mu and sigma of the features")
    images: LocalPath | None = Field(None, description="folder of images")

    @model_validator(mode="after")
    def _one(self) -> Reference:
        if (self.statistics is None) == (self.images is None):
            raise ValueError("give either statistics or images")
        return self


class Features(WeightFile):
    """The network whose features the Fréchet distance is measured on, and the real data."""

    kind: Literal["classifier", "inception", "torchscript"] = "classifier"
    name: str | None = Field(None, description="of kind torchscript, for tables")
    resize: Literal["clean", "legacy_tensorflow"] = Field("clean", description="of kind inception: clean-fid's mode")
    reference: Reference | None = Field(None, description="not for kind classifier, whose reference is the held-out digits")

    @model_validator(mode="after")
    def _complete(self) -> Features:
        if (self.reference is None) != (self.kind == "classifier"):
            raise ValueError("kinds inception and torchscript need a reference; kind classifier has its own")
        return self


class Model(Strict):
    """What the description of every model may hold."""

    name: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="results are filed under it")
    licence: str | None = Field(None, description="of the weights, in a few words")
    features: Features | None = Field(None, description="what FID is measured on; the workflow needs it")
    perceptual: WeightFile | None = Field(None, description="network of the fit's perceptual distance")
    throughput: float | None = Field(None, gt=0, description="states a second through the network on one GPU, for plans")
    study: dict[str, Any] = Field({}, description="nfe, samples, batch_size, teacher, fit: instead of the config's")

    def weight_files(self) -> Iterator[WeightFile]:
        """Every file that the model needs, its feature network and reference included."""
        yield from _weight_files(self)


class EmbeddedModel(Model, WeightFile):
    """Weights made by `snakemake train_embedded`."""

    kind: Literal["embedded"]


class EDMModel(Model, WeightFile):
    """A pickle of NVlabs/edm."""

    kind: Literal["edm"]
    s_min: float = Field(0.002, gt=0)
    s_max: float = Field(80.0, gt=0)


class Prompts(WeightFile):
    """Captions: a text file with one a line, or COCO's captions_*.json."""


class Conditional(Model):
    """A model that may be conditioned, with classifier-free guidance."""

    classes: int | None = Field(None, ge=1, description="number of classes; samples take each class equally often")
    prompts: Prompts | None = None
    guidance: float = Field(1.0, description="classifier-free guidance scale; 1 for none")
    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="of the weights; states are float32")
    decode_batch: int = Field(8, ge=1, description="latents decoded at a time")
    s_min: float | None = Field(None, gt=0, description="lowest noise level; by default that of the model's first time")
    s_max: float | None = Field(None, gt=0, description="highest noise level; by default that of its last time")

    @model_validator(mode="after")
    def _conditions(self) -> Conditional:
        if self.classes is not None and self.prompts is not None:
            raise ValueError("give either classes or prompts")
        if self.guidance != 1 and self.classes is None and self.prompts is None:
            raise ValueError("guidance needs classes or prompts")
        return self


class LatentDiffusionModel(Conditional, WeightFile):
    """A checkpoint of CompVis/latent-diffusion; `unet`, `first_stage` and `betas` as in its published configuration."""

    kind: Literal["latent_diffusion"]
    unet: dict[str, Any]
    first_stage: dict[str, Any]
    first_stage_weights: WeightFile | None = Field(None, description="the first stage, if not in the same checkpoint")
    betas: tuple[float, float] = Field(description="linear_start and linear_end; their roots are evenly spaced")
    times: int = Field(1000, ge=2)
    scale_factor: float = 1.0


class StableDiffusionModel(Conditional, WeightFile):
    """Stable Diffusion v1.x: a pipeline folder, or a single file with a folder of configurations and the tokenizer."""

    kind: Literal["stable_diffusion"]
    config: WeightFile | None = Field(None, description="pipeline folder that a single file takes all but weights from")


class DiffusersModel(Conditional, WeightFile):
    """Any diffusers pipeline folder, or the folder of a UNet or transformer."""

    kind: Literal["diffusers"]
    scheduler: LocalPath | None = Field(None, description="folder with scheduler_config.json, if not in the pipeline's")
    prediction: Literal["epsilon", "v_prediction", "sample", "flow"] | None = Field(
        None, description="what the network predicts, if not as its scheduler says"
    )
    null_class: int | None = Field(None, ge=0, description="class label of the unconditional branch; by default `classes`")


class PythonModel(Conditional):
    """A Python function that returns a Denoiser."""

    kind: Literal["python"]
    function: str = Field(pattern=r"^[\w.]+:\w+$", description="module:function, called with this description and a device")
    options: dict[str, Any] = Field({}, description="for the function")
    files: dict[str, WeightFile] = Field({}, description="files that the function reads")


AnyModel = Annotated[
    EmbeddedModel | EDMModel | LatentDiffusionModel | StableDiffusionModel | DiffusersModel | PythonModel,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[AnyModel] = TypeAdapter(AnyModel)


def _weight_files(value: Any) -> Iterator[WeightFile]:
    if isinstance(value, WeightFile):
        yield value
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict):
        for inner in value.values():
            yield from _weight_files(inner)


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
        S4SError: if it cannot be found, is not YAML, or a key is wrong.
    """
    path = model_path(name_or_path)
    try:
        return _ADAPTER.validate_python(yaml.safe_load(path.read_text()), context={"folder": path.parent})
    except yaml.YAMLError as error:
        raise S4SError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        raise S4SError(explain(error, str(path))) from error


def check_file(weights: WeightFile) -> Path:
    """The path of a file of weights, after its sha256 was compared with the one in the YAML.

    Raises:
        S4SError: if the file is missing or its sha256 is another.
    """
    path = weights.path
    if path.is_dir():
        return path
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest() if weights.sha256 else None
    except OSError as error:
        raise S4SError(f"{path}: cannot read these weights: {error.strerror}{where_from(weights)}") from error
    if found != weights.sha256:
        raise S4SError(
            f"{path}: wrong sha256: the model file expects {weights.sha256}, the file has {found}; "
            "restore the file, or change sha256 if you replaced it on purpose"
        )
    return path


def where_from(weights: WeightFile) -> str:
    """How to get a missing file, to go after "missing"."""
    if weights.url is None:
        return "; put the file there, or change the path in the model's YAML file"
    part = f" (its member {weights.member})" if weights.member else ""
    return f"; run snakemake on a machine with internet, or get {weights.url}{part} yourself and put it there"


def checked_bytes(weights: WeightFile) -> bytes:
    """The content of a file of weights after `check_file`."""
    return check_file(weights).read_bytes()
