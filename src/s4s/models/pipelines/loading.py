"""Any pipeline of diffusers, from a folder that save_pretrained wrote or from a single file. Nothing is fetched or run.

Each part is read by the class that model_index.json names, if that is one of diffusers or transformers, within the budgets of
`torch_checkpoint`, and must have all its weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from s4s.errors import S4SError, needed_for, one_line, shown
from s4s.files.checksum import check_unchanged
from s4s.models.description import REPOSITORY
from s4s.models.pipelines.diffusers_folder import INDEX, STEM, read_network, read_settings
from s4s.models.pipelines.single_file import SingleFile
from s4s.models.pipelines.transformers_folder import STEMS, read_model, read_settings_of
from s4s.models.torch_checkpoint import check_sizes
from s4s.models.weight_formats import CHECKPOINT, CHECKPOINTS, OLD_CHECKPOINT, SAFETENSORS, WEIGHTS, instead_of, variants

DTYPES = ("float32", "bfloat16", "float16")
CAN_DO_WITHOUT = ("text_encoder_3", "tokenizer_3", "safety_checker", "feature_extractor", "image_encoder")
WITH_SETTINGS = (
    diffusers.SchedulerMixin, transformers.PreTrainedTokenizerBase, transformers.ProcessorMixin,
    transformers.FeatureExtractionMixin, transformers.image_processing_base.ImageProcessingMixin,
)  # fmt: skip


def load_pipeline(
    path: str | Path,
    *,
    dtype: str = "float32",
    device: str | torch.device = "cpu",
    variant: str | None = None,
    config: str | Path | None = None,
    lora: Sequence[str | Path] = (),
    components: Mapping[str, Any] | None = None,
    sha256: str | None = None,
) -> Any:
    """A pipeline from this machine.

    Args:
        path: a folder with a model_index.json; a single file of Stable Diffusion 1, 2, XL or 3 or of Flux; or
            owner/name of a repository on huggingface.co that is in the local cache.
        dtype: of the weights: float32, bfloat16 or float16.
        variant: of the files of weights, such as fp16; by default the plain ones, or the only variant that there is.
        config: of a single file: the folder of its pipeline, which needs no weights, for all that is not in the file.
        lora: files of LoRAs, which are loaded into it.
        components: parts that are there already, by their names; None for one that it does without.
        sha256: of a single file, which must have it.
    Raises:
        S4SError: if it is not there, damaged, incomplete, or names what is neither of diffusers nor of transformers.
    """
    if dtype not in DTYPES:
        raise S4SError(f"dtype must be one of {', '.join(DTYPES)}, got {shown(dtype)}")
    given, weights = dict(components or {}), getattr(torch, dtype)
    source = Path(path).expanduser()
    if source.is_file():
        pipe = _of_file(source, config, weights, given, sha256)
    else:
        if config is not None:
            raise S4SError(f"{path}: a folder of configurations belongs to a single file of weights alone; leave it out")
        pipe = _of_folder(_folder(str(path), source), weights, variant, given)
    for number, file in enumerate(lora):
        _add_lora(pipe, Path(file).expanduser(), f"lora_{number}", source)
    if len(lora) > 1:
        pipe.set_adapters([f"lora_{number}" for number in range(len(lora))])
    with _in_one_line(path, "put it on another device, or take a smaller dtype"):
        pipe.to(device)
    return pipe


def _folder(named: str, folder: Path) -> Path:
    """The folder itself, or that of a repository in the local cache."""
    if folder.is_dir():
        return folder
    if re.fullmatch(REPOSITORY, named):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(named, local_files_only=True))
        except LocalEntryNotFoundError:
            raise S4SError(f"{named}: neither a folder nor in the local cache; get it: hf download {named}") from None
    raise S4SError(f"{named}: no such folder or file of a pipeline")


def _cached(folder: Path) -> bool:
    """Whether a folder is one of huggingface.co's local cache, whose names are checksums."""
    return folder.parent.name == "snapshots"


def _first_use(path: Path) -> None:
    try:
        check_unchanged(path)
    except OSError as error:
        raise S4SError(f"{path}: cannot be read: {error.strerror}") from error


def read_index(folder: Path) -> tuple[Any, dict[str, list[Any]]]:
    """The class of a folder's pipeline, and [library, class] of each of its parts that is not left out.

    Raises:
        S4SError: if there is no model_index.json, or it names a pipeline that is not one of diffusers.
    """
    if not (folder / INDEX).is_file():
        alone = (folder / "config.json").is_file()
        hint = "it holds one network alone, which `kind: diffusers` reads" if alone else "name the folder of a whole pipeline"
        raise S4SError(f"{folder}: has no {INDEX}; {hint}")
    index = read_settings(folder, INDEX)
    known = getattr(diffusers, index["_class_name"], None)
    if not isinstance(known, type) or not issubclass(known, diffusers.DiffusionPipeline):
        raise S4SError(f"{folder / INDEX}: {shown(index['_class_name'])} is no pipeline of diffusers {diffusers.__version__}")
    expected, _ = known._get_signature_keys(known)
    return known, {
        name: value for name, value in index.items()
        if name in expected and isinstance(value, list) and len(value) == 2 and value[1] is not None
    }  # fmt: skip


def _class(folder: Path, name: str, library: Any, kind: Any) -> Any:
    """The class of a part, of diffusers, of one of its pipelines, or of transformers; no other library is imported.

    Raises:
        S4SError: if it is something else.
    """
    module: Any = {"diffusers": diffusers, "transformers": transformers}.get(library) if isinstance(library, str) else None
    if module is None and isinstance(library, str) and library.isidentifier():
        place = f"diffusers.pipelines.{library}"
        module = import_module(place) if find_spec(place) is not None else None
    known = getattr(module, kind, None) if module is not None and isinstance(kind, str) else None
    if not isinstance(known, type) or not issubclass(
        known, (diffusers.ModelMixin, transformers.PreTrainedModel, *WITH_SETTINGS)
    ):
        raise S4SError(
            f"{folder / INDEX}: {name}: {shown(library)}, {shown(kind)} is no part of diffusers {diffusers.__version__} or "
            f"transformers {transformers.__version__}, and no other library is "
            "imported; load it yourself, and give it as one of components"
        )
    return known


def _of_folder(folder: Path, dtype: torch.dtype, variant: str | None, given: dict[str, Any]) -> Any:
    known, parts = read_index(folder)
    if not _cached(folder):
        _first_use(folder)
    _check_given(known, given, folder)
    classes = {name: _class(folder, name, *value) for name, value in parts.items() if name not in given}
    _check_variant(folder, classes, variant)
    for name, kind in classes.items():
        place = folder / name
        if place.is_dir() and any(place.iterdir()):
            given[name] = _part(kind, place, dtype, variant)
        else:
            _check_without(folder, name)
            given[name] = None
    return _assembled(known, folder, given)


def _of_file(path: Path, config: str | Path | None, dtype: torch.dtype, given: dict[str, Any], sha256: str | None) -> Any:
    if path.suffix.lower() not in CHECKPOINTS:
        known = instead_of(path, SAFETENSORS, CHECKPOINT, OLD_CHECKPOINT)
        raise S4SError(f"{path}: its name must end with {', '.join(CHECKPOINTS)} to be read as weights{known}")
    if config is None:
        raise S4SError(
            f"{path}: a single file holds weights alone; name as config the folder of its pipeline with configurations and "
            "tokenizers, which needs no weights (--config-folder; config in a model's YAML file)"
        )
    folder = Path(config).expanduser()
    if not folder.is_dir():
        raise S4SError(f"{folder}: no such folder of configurations")
    kind, parts = read_index(folder)
    _check_given(kind, given, folder)
    classes = {name: _class(folder, name, *value) for name, value in parts.items() if name not in given}
    file = SingleFile(path, kind.__name__, folder, sha256)
    for name, known in classes.items():
        weights, there = not issubclass(known, WITH_SETTINGS), (folder / name).is_dir()
        if weights and there and file.prefix(name) is not None:
            given[name] = file.network(name, known, dtype)
        elif there and (not weights or _variants(known, folder / name)):
            given[name] = _part(known, folder / name, dtype, None)
        else:
            _check_without(path if weights and there else folder, name)
            given[name] = None
    return _assembled(kind, folder, given)


def _check_given(known: Any, given: Mapping[str, Any], folder: Path) -> None:
    expected, _ = known._get_signature_keys(known)
    if unknown := sorted({*given} - {*expected}):
        parts = ", ".join(sorted(expected))
        raise S4SError(f"{folder}: a {known.__name__} has no part {unknown[0]} as components name; it has {parts}")


def _check_without(source: Path, name: str) -> None:
    """Refuse a part that is not there, unless pipelines can do without it."""
    if name not in CAN_DO_WITHOUT:
        raise S4SError(f"{source}: its {name} is not there; get the whole pipeline from its publisher")


def _variants(known: Any, folder: Path) -> list[str]:
    if issubclass(known, WITH_SETTINGS):
        return []
    return variants(folder, *((STEM,) if issubclass(known, diffusers.ModelMixin) else STEMS))


def _check_variant(folder: Path, classes: Mapping[str, Any], variant: str | None) -> None:
    there = {each for name, known in classes.items() for each in _variants(known, folder / name)} - {""}
    if variant is not None and variant not in there:
        raise S4SError(
            f"{folder}: has no weights of the variant {shown(variant)}; "
            + (f"there are {', '.join(sorted(there))}" if there else "there are the plain ones alone: leave it out")
        )


def _chosen(known: Any, folder: Path, variant: str | None) -> str | None:
    """Which variant of a part is read: the one that is asked for, else the plain one, else the only one.

    Raises:
        S4SError: if there are several to choose from.
    """
    there = _variants(known, folder)
    if variant in there:
        return variant
    if "" in there or not there:
        return None
    if len(there) > 1:
        raise S4SError(f"{folder}: has no plain weights, but the variants {', '.join(there)}; choose one of them as variant")
    return there[0]


def _part(known: Any, folder: Path, dtype: torch.dtype, variant: str | None) -> Any:
    if issubclass(known, WITH_SETTINGS):
        return read_settings_of(known, folder)
    chosen = _chosen(known, folder, variant)
    if issubclass(known, transformers.PreTrainedModel):
        return read_model(known, folder, dtype, chosen)
    if "MultiControlNet" in known.__name__:  # beside the first one's folder are those of the others
        several = [folder, *sorted(folder.parent.glob(f"{folder.name}_[0-9]*"))]
        return known([read_network(one, dtype, variant=_chosen(known, one, variant)) for one in several]).eval()
    return read_network(folder, dtype, variant=chosen).eval().requires_grad_(False)


def _assembled(known: Any, folder: Path, parts: dict[str, Any]) -> Any:
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "low_cpu_mem_usage": False}
    if "requires_safety_checker" in known._get_signature_keys(known)[1] and parts.get("safety_checker") is None:
        options["requires_safety_checker"] = False
    with _in_one_line(folder, f"does it fit diffusers {diffusers.__version__}?"):
        return known.from_pretrained(folder, **options, **parts)


def _add_lora(pipe: Any, file: Path, name: str, source: Path) -> None:
    """Load the file of a LoRA into a pipeline that came from `source`.

    Raises:
        S4SError: if it cannot be read, or is not for this pipeline.
    """
    if not file.is_file():
        raise S4SError(f"{file}: no such file of a LoRA")
    if file.suffix not in WEIGHTS:
        raise S4SError(f"{file}: a LoRA's file must end with .safetensors or .bin")
    if not hasattr(pipe, "load_lora_weights"):
        raise S4SError(f"{file}: a {type(pipe).__name__} takes no LoRA")
    with needed_for("a LoRA"):
        import peft  # noqa: F401
    if source not in file.parents:  # else it is one of the folder's files, which are compared already
        _first_use(file)
    check_sizes(file.parent, [file])
    with _in_one_line(file, f"is it a LoRA for a {type(pipe).__name__}?"):
        pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name, local_files_only=True)
    if not any(name in found for found in pipe.get_list_adapters().values()):
        raise S4SError(f"{file}: nothing in it fits this {type(pipe).__name__}; is it a LoRA for another model?")


@contextmanager
def _in_one_line(where: Any, remedy: str) -> Iterator[None]:
    """What diffusers raises, as one line."""
    try:
        yield
    except S4SError:
        raise
    except Exception as error:
        raise S4SError(f"{where}: cannot be loaded: {one_line(error)}; {remedy}") from error
