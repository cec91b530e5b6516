"""The images of a folder as what they show, in 8 bits; one that shows nothing certain is refused by its name.

Of plain 8-bit images this is what clean-fid's reader gives. Of 16 bits the upper eight count, EXIF's orientation is followed,
and colour profiles are ignored, as they are by clean-fid.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from s4s.errors import S4SError, S4SWarning, one_line
from s4s.files.stray_files import is_stray
from s4s.jobs.progress_bar import progress

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
ALLOWED = f"allowed: {', '.join(sorted(SUFFIXES))}"
PIXELS = 1 << 24  # of an image
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of 12 and 16 bits
WITH_ALPHA = ("P", "PA", "LA", "La", "RGBA", "RGBa")
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, SIGNED = 0, 2


def read_images(folder: Path) -> Iterator[Tensor]:
    """The images of a folder and those below it, by name, uint8 [3, H, W] each.

    Raises:
        S4SError: if there are none, or one cannot be read or does not say what it shows.
    """
    paths = image_files(folder)
    with progress(total=len(paths), desc="real images", unit="image") as bar:
        for path in paths:
            yield torch.from_numpy(read_image(path)).permute(2, 0, 1)
            bar.update()


def image_files(folder: Path) -> list[Path]:
    """The images of a folder and those below it, by name, without stray files; a warning counts files that are no images.

    Raises:
        S4SError: if there are none, one has a name or a format that is not read, or a folder cannot be looked into.
    """
    files = sorted(_files(folder)) if folder.is_dir() else []
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    others = [path for path in files if path.suffix.lower() not in SUFFIXES and path.is_file()]
    for path in others:
        if (kind := _format(path)) is not None:
            raise S4SError(f"{path}: an image ({kind}) of a name that is not read; {ALLOWED}; convert, rename or move it")
    if not found:
        raise S4SError(f"{folder}: no images; {ALLOWED}")
    if others:
        message = f"{folder}: {len(others)} files are no images and not read, the first {others[0].name}"
        warnings.warn(message, S4SWarning, stacklevel=2)
    return found


def _files(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise S4SError(f"{error.filename}: cannot look into this folder: {error.strerror}") from error

    for where, below, names in os.walk(folder, onerror=refuse):
        below[:] = [name for name in below if not is_stray(Path(name))]
        for name in below:
            if (path := Path(where, name)).is_symlink():
                raise S4SError(f"{path}: a link to a folder, which is not followed; put the images themselves there")
        yield from (Path(where, name) for name in names if not is_stray(Path(name)))


def _format(path: Path) -> str | None:
    """Pillow's name of the format of any image; None for other files."""
    try:
        with Image.open(path) as image:
            return image.format
    except Exception:  # Pillow's formats raise what they like
        return None


def read_image(path: Path) -> np.ndarray:
    """What an image shows, uint8 [H, W, 3].

    Raises:
        S4SError: if it cannot be read, or has several pages, transparent pixels or numbers without an agreed range.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > PIXELS:
                raise _NotCertain(f"too large: {image.width * image.height:,} pixels, of {PIXELS:,} at most; make it smaller")
            return _shown(image)
    except _NotCertain as error:
        raise S4SError(f"{path}: {error}") from error
    except Image.DecompressionBombError as error:
        raise S4SError(f"{path}: too large: {one_line(error)}; make it smaller") from error
    except Exception as error:  # Pillow's formats raise what they like
        raise S4SError(f"{path}: cannot read this image: {one_line(error)}; restore or convert it") from error


class _NotCertain(Exception):
    """Why it is not certain what an image shows, and what to do."""


def _shown(image: Image.Image) -> np.ndarray:
    pages, tags = getattr(image, "n_frames", 1), dict(getattr(image, "tag_v2", {}))
    if pages > 1 and image.format != "MPO":  # whose first is the photograph, the others are previews of it
        raise _NotCertain(f"has {pages} pages or frames; save the one that counts as a file of its own")
    deep = image.mode in DEEP or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if (image.mode in ("I", "F") and not deep) or SIGNED in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1)):
        raise _NotCertain("has signed numbers or ones of 32 bits, whose black and white nobody says; save it in 8 or 16 bits")
    # in PNGs that are not read as they lie in the file, the colour that counts as transparent is of another depth
    vague = "transparency" in image.info and image.mode in ("L", "RGB") and getattr(image, "tile", [])[0][3] != image.mode
    image = ImageOps.exif_transpose(image)
    if deep:
        bits = int(np.atleast_1d(tags.get(BITS, 16))[0])
        values, opaque = _deep(image, bits, inverted=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)
    else:
        values, opaque = _plain(image)
    if vague or not opaque:
        raise _NotCertain("has transparent pixels, which show what lies behind; save it without transparency")
    return values


def _deep(image: Image.Image, bits: int, inverted: bool) -> tuple[np.ndarray, bool]:
    """Grey of more than 8 bits, of which the upper ones count, as in what Pillow makes of such colours; is all of it opaque?"""
    values = np.asarray(image).astype(np.int64)
    grey = (values >> (bits - 8)).astype(np.uint8)
    return np.stack([255 - grey if inverted else grey] * 3, axis=2), not (values == image.info.get("transparency", -1)).any()


def _plain(image: Image.Image) -> tuple[np.ndarray, bool]:
    """As Pillow converts it; is all of it opaque?"""
    if image.mode not in WITH_ALPHA and "transparency" not in image.info:
        return np.array(image.convert("RGB")), True
    image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return np.array(image.convert("RGB")), image.getchannel("A").getextrema() == (255, 255)
