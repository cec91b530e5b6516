"""What a file of weights is, by its first bytes and the names of its tensors, and what to do with one that is not read here.

Nothing is loaded and nothing of the file is run. Every reader's refusal says it (`instead_of`, `by_names`).
"""

from __future__ import annotations

import itertools
import re
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from s4s.errors import S4SError, shortened
from s4s.files.bounded import safetensors_header


class Format(NamedTuple):
    """What a file is, and what to do with it where it is not what is read."""

    what: str
    do: str

    def __str__(self) -> str:
        return f"it is {self.what}; {self.do}"


HEAD = 4096  # bytes that are looked at
LONGEST_HEADER = 100_000_000  # of safetensors; as its own reader has it
GET = "get the weights themselves"
ANEW = "write it anew: torch.save(torch.load(path, weights_only=True), path)"
WHOLE = "name the file of the whole model"
OTHER_FRAMEWORK = "get the publisher's weights for PyTorch, .safetensors"

CHECKPOINTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")  # endings of a whole pipeline in a single file
WEIGHTS = (".safetensors", ".bin", ".msgpack", ".onnx", ".gguf", ".h5", ".xml", ".pb")  # endings

SAFETENSORS = Format("a file of safetensors", "give it a name that ends with .safetensors")
CHECKPOINT = Format(
    "a checkpoint of torch.save", "give it a name that ends with .ckpt or .pt, and the kind of model that reads it"
)
OLD_CHECKPOINT = Format("a checkpoint in torch.save's old serialisation (before torch 1.6)", ANEW)
PICKLE = Format("a pickle, not a checkpoint of torch.save", "NVlabs/edm publishes such files; `kind: edm` reads theirs")
TORCHSCRIPT = Format("a TorchScript program", GET)

OLD_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch.save's old serialisation begins with, pickled
STARTS: list[tuple[bytes, Format]] = [
    (b"version https://git-lfs", Format("a pointer of Git LFS, not the file", "run `git lfs pull`, or download the file")),
    (b"GGUF", Format("a GGUF file, quantised weights", "get those that it was made from, .safetensors")),
    (b"\x89HDF\r\n\x1a\n", Format("an HDF5 file, as Keras writes it", OTHER_FRAMEWORK)),
    (b"\x93NUMPY", Format("an array of NumPy", GET)),
    *((start, Format(f"a {name} archive", "unpack it, and name the file in it"))
      for start, name in ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"(\xb5/\xfd", "zstandard"),
                          (b"7z\xbc\xaf\x27\x1c", "7-zip"), (b"Rar!", "RAR"))),
]  # fmt: skip


class Names(NamedTuple):
    """A kind of network, by names of tensors that no other has; the pipeline of diffusers that a single file of it is of."""

    pattern: str
    format: Format
    pipeline: str | None = None


SD, SDXL, SD3 = "StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline"


def _whole(name: str) -> Format:
    return Format(f"{name} in a single file", "`kind: pipeline` reads it, with the folder of its configurations as `config`")


FUSE = "pipe.fuse_lora(); pipe.unload_lora_weights(); pipe.save_pretrained(folder)"
LORA = r"(^|[._])(lora|lokr|loha)[._]|\.lora_|\.hada_w|\.base_layer\."
LATENT_DIFFUSION = Format(
    "a checkpoint of CompVis/latent-diffusion's kind", "`kind: latent_diffusion` reads those with their configuration"
)
CONTROL_NET = Format("a ControlNet, which steers another network", "name that other network's file")
PART_OF_FOLDER = Format("a network of diffusers alone", "name the folder of its whole pipeline, with `kind: pipeline`")
TEXT_ENCODER = Format("a text encoder alone", WHOLE)
AUTOENCODER = Format("an autoencoder alone", WHOLE)
NAMES = [
    Names(r"^conditioner\.embedders\.", _whole("Stable Diffusion XL"), SDXL),
    Names(r"(^|\.)joint_blocks\.", _whole("Stable Diffusion 3"), SD3),
    Names(r"(^|\.)double_blocks\.", _whole("Flux, or a network like it,"), "FluxPipeline"),
    Names(r"^cond_stage_model\.model\.", _whole("Stable Diffusion v2"), SD),
    Names(r"^cond_stage_model\.transformer\.", _whole("Stable Diffusion v1"), SD),
    Names(r"^control_model\.|controlnet_cond_embedding", CONTROL_NET),
    Names(r"^model\.diffusion_model\.|^first_stage_model\.", LATENT_DIFFUSION),
    Names(r"^(down_blocks|transformer_blocks|time_embedding)\.", PART_OF_FOLDER),
    Names(r"(^|\.)text_model\.encoder\.|^encoder\.block\.0\.layer", TEXT_ENCODER),
    Names(r"^(encoder|decoder)\.(conv_in|down|up|mid)", AUTOENCODER),
]


def of_file(path: Path) -> Format | None:
    """What a file is, by its first bytes; None where that is not known, or it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    if not head.strip(b"\0"):
        what = "an empty file" if not head else "a file of zeros"
        return Format(what, "its download or copy was interrupted; get it again")
    for start, found in STARTS:
        if head.startswith(start):
            return found
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return OLD_CHECKPOINT if head[2:].startswith(OLD_MAGIC) else PICKLE
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") <= LONGEST_HEADER:
        return SAFETENSORS
    if path.suffix == ".onnx" or (head[:1] == b"\x08" and re.search(rb"pytorch|onnx|tf2onnx", head[:64])):
        return Format("an ONNX model", OTHER_FRAMEWORK)
    if path.suffix == ".msgpack" or (head[0] in range(0x81, 0x90) and head[1] in (*range(0xA1, 0xC0), 0xD9)):
        return Format("weights of Flax, in MessagePack", OTHER_FRAMEWORK)
    if head[4:8] == b"TFL3" or path.suffix in (".index", ".h5", ".pb", ".tflite") or ".data-0" in path.name:
        return Format("a file of TensorFlow", OTHER_FRAMEWORK)
    if head[257:262] == b"ustar":
        return Format("a tar archive", "unpack it, and name the file in it")
    return _text(head)


def instead_of(path: Path, *read: Format) -> str:
    """ "; it is ..." of a file that should be one of `read`, for the end of a message; empty where it is, or is not known."""
    found = of_file(path)
    return "" if found is None or found in read else f"; {found}"


def by_names(names: Iterable[str], *read: Format) -> str:
    """The same, by the names of its tensors: a LoRA first, then what network it is."""
    names = list(names)
    if lora := with_lora(names):
        return lora
    found = _kind(names)
    return "" if found is None or found.format in read else f"; {found.format}"


def pipeline_of(names: Iterable[str]) -> str | None:
    """The pipeline of diffusers that a single file with these tensors is of; None for a LoRA and for what is not known."""
    names = list(names)
    found = None if with_lora(names) else _kind(names)
    return found and found.pipeline


def _kind(names: list[str]) -> Names | None:
    return next((known for known in NAMES if any(re.search(known.pattern, name) for name in names)), None)


def with_lora(names: Collection[str]) -> str:
    """The same, of a LoRA alone."""
    lora = [name for name in names if re.search(LORA, name)]
    if lora and len(lora) == len(names):
        return f"; it is a LoRA alone, no network; load it into its pipeline, pipe.load_lora_weights(file), then {FUSE}"
    return f"; a LoRA was left in it ({lora[0]}); fuse it into the weights and save them again: {FUSE}" if lora else ""


def names_in(path: Path) -> list[str]:
    """The names of the tensors of a file of safetensors, from its header alone; none of any other file."""
    return [name for name in safetensors_header(path) if name != "__metadata__"]


def variants(folder: Path, *stems: str) -> list[str]:
    """The variants of the weights in a folder of one part of a pipeline, such as fp16; "" for the plain ones."""
    of_file = rf"(?:{'|'.join(stems)})(?:\.(?!\S*-\d+-of-)([\w-]+))?\.(?:safetensors|bin)"
    of_index = rf"(?:{'|'.join(stems)})\.(?:safetensors|bin)\.index(?:\.([\w-]+))?\.json"
    names = [path.name for path in folder.glob("*")]
    found = [re.fullmatch(of_file, name) or re.fullmatch(of_index, name) for name in names]
    return sorted({match[1] or "" for match in found if match})


def check_has_weights(folder: Path, *stems: str, variant: str | None = None) -> None:
    """Refuse a folder of one part of a pipeline without weights under the names that are read, STEM.safetensors or .bin.

    Args:
        variant: of the weights, where it is not the plain ones that are read: STEM.fp16.safetensors.
    Raises:
        S4SError: what is there instead, and what to do.
    """
    if variant in variants(folder, *stems):
        return
    for stem, suffix in itertools.product(stems, (".safetensors", ".bin")):
        whole, index = folder / f"{stem}{suffix}", folder / f"{stem}{suffix}.index.json"
        if whole.is_file() or index.is_file():
            for path in [whole] if whole.is_file() else sorted(folder.glob(f"{stem}-*{suffix}")):
                if known := instead_of(path, SAFETENSORS, CHECKPOINT, OLD_CHECKPOINT):
                    raise S4SError(f"{path}: cannot be read{known}")
            return
    absent = f"{folder}: cannot be read: it has no {stems[0]}.safetensors or {stems[-1]}.bin"
    others = sorted(path for path in folder.glob("*") if path.suffix in WEIGHTS)
    marked = [re.match(rf"(?:{'|'.join(stems)})\.(\w+)[.-](.*\.)?(safetensors|bin)$", path.name) for path in others]
    if variant := next((match[1] for match in marked if match), None):
        raise S4SError(
            f"{absent}, but the variant {variant}; save it without one: "
            f'diffusers.DiffusionPipeline.from_pretrained(path, variant="{variant}").save_pretrained(folder)'
        )
    if others:
        known = instead_of(others[0], SAFETENSORS, CHECKPOINT, OLD_CHECKPOINT)
        raise S4SError(f"{absent}, but {others[0].name}{known or '; get the whole folder'}")
    raise S4SError(f"{absent}; get the whole folder")


def misfit(network: str, own: Collection[str], names: Collection[str], misshapen: Collection[str] = ()) -> str | None:
    """What a file with these tensors lacks of a network's own, has besides, or has in another shape; None if all fit."""
    differences = ({*own} - {*names}, "missing"), ({*names} - {*own}, "unknown"), (misshapen, "of another shape")
    found = [
        f"{len(which)} {what} ({', '.join(shortened(name) for name in sorted(which)[:3])}{', ...' * (len(which) > 3)})"
        for which, what in differences
        if which
    ]
    hint = with_lora(names) if {*own} & {*names} else by_names(names)  # a network with one wrong name is still that network
    return f"the weights do not fit {network}: {', '.join(found)}{hint}" if found else None


def _archive(path: Path) -> Format | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):  # its list of files, at the end, is not there
        return Format("the beginning of a zip archive", "its download or copy was interrupted; get it again")
    folders = {name.partition("/")[2] for name in names}
    if "constants.pkl" in folders:
        return TORCHSCRIPT
    if "data.pkl" in folders:
        return CHECKPOINT
    if all(name.endswith(".npy") for name in names):
        return Format("an .npz of NumPy", GET)
    if any(name.endswith(".weights.h5") for name in names):
        return Format("a model of Keras", OTHER_FRAMEWORK)
    return Format(f"a zip archive of {len(names)} files", "unpack it, and name the file in it")


def _text(head: bytes) -> Format | None:
    try:
        text = head[: HEAD - 4].decode()
    except UnicodeDecodeError:
        return None
    text = text.strip()
    if re.match(r"(?i)<(!doctype|html|\?xml|head|error)", text):
        return Format(
            "a web page, not the file",
            "the download was refused or led elsewhere (a login, a licence to accept?); get it again",
        )
    if '"weight_map"' in text:
        return Format(
            "the index of weights in several files", "name the folder, with `kind: diffusers`, or one file with all of them"
        )
    if text.isprintable() or "\n" in text:
        return Format(f"a text: {shortened(' '.join(text.split()))!r}", GET)
    return None
