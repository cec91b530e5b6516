"""Folders of real images: every mode and depth is read as what it shows, or named; what systems leave there is no matter."""

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageCms

from s4s import S4SError
from s4s.errors import S4SWarning
from s4s.files.checksum import digests
from s4s.metrics.real_images import image_files, read_image, read_images
from s4s.models.model_files import looks
from s4s.study.content import path_digest
from tests.builders.images import COLOUR, COLOUR_ALPHA, GREY, GREY_ALPHA, PALETTE, png, tiff

H, W = 16, 24
GREYS = np.linspace(0, 255, H * W).astype(np.uint8).reshape(H, W)
COLOURS = np.stack([GREYS, np.flip(GREYS), np.full((H, W), 90, np.uint8)], axis=2)
FOUR = GREYS // 85  # 2 bits
WIDE = GREYS.astype(np.int64)
TWELVE, SIXTEEN, COLOURS_16 = WIDE * 16 + WIDE // 16, WIDE * 257, COLOURS.astype(np.int64) * 257
SOLID, GLASS = np.full((H, W, 1), 255), np.full((H, W, 1), 255) - (np.arange(H * W) == 5).reshape(H, W, 1)
SOFT = COLOURS // 2 + 64
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LEVELS = np.stack([np.arange(256)] * 3, axis=1).astype(np.uint8)


def saved(image, form, mode=None, **options):
    """The bytes that Pillow writes."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, form, **options)
    return file.getvalue()


def with_alpha(colours, alpha, scale=1):
    return np.concatenate([colours if colours.ndim == 3 else colours[..., None], alpha], axis=2).astype(np.int64) * scale


def lab(colours):
    srgb, profile = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(Image.fromarray(colours), srgb, profile, outputMode="LAB")


def in_steps(shown, depth):
    """Numbers of `depth` bits that show this."""
    return shown // (255 // (2**depth - 1))


def turned(form, orientation):
    """Stored on its side, and said to be so."""
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(COLOURS).transpose({6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}[orientation])
    return saved(stored, form, exif=exif, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {"lossless": True}))


def ycck():
    """A CMYK file of Adobe's whose first three components are YCbCr of its inverted ink."""
    ink = np.asarray(Image.fromarray(255 - COLOURS).convert("YCbCr"))
    stored = Image.fromarray(255 - np.concatenate([ink, np.full((H, W, 1), 255, np.uint8)], axis=2), "CMYK")
    content = saved(stored, "JPEG", quality=100, subsampling=0)
    place = content.index(b"Adobe") + 11
    assert content[place] == 0
    return content[:place] + b"\2" + content[place + 1 :]


GREY_OF = {1: (GREYS > 127) * 255, 2: FOUR * 85, 4: GREYS // 17 * 17, 8: GREYS}
SHOWN = {  # what -> file, what it shows, by how much it may differ
    **{f"PNG grey {depth}": (png(in_steps(shown, depth), depth, GREY), shown, 0) for depth, shown in GREY_OF.items()},
    "PNG grey 16": (png(SIXTEEN, 16, GREY), GREYS, 0),
    "PNG grey 16, upper bits": (png(SIXTEEN // 256 * 256 + 77, 16, GREY), GREYS, 1),
    "PNG grey 16 by Pillow": (saved(SIXTEEN.astype(np.uint16), "PNG"), GREYS, 0),
    "PNG grey 16, a colour transparent that is not there": (png(SIXTEEN, 16, GREY, tRNS=b"\0\1"), GREYS, 0),
    "PNG grey and alpha 8": (png(with_alpha(GREYS, SOLID), 8, GREY_ALPHA), GREYS, 0),
    "PNG grey and alpha 16": (png(with_alpha(GREYS, SOLID, 257), 16, GREY_ALPHA), GREYS, 0),
    "PNG colour 8": (png(COLOURS, 8, COLOUR), COLOURS, 0),
    "PNG colour 8, a colour transparent that is not there": (png(COLOURS, 8, COLOUR, tRNS=bytes(6)), COLOURS, 0),
    "PNG colour 16": (png(COLOURS_16, 16, COLOUR), COLOURS, 0),
    "PNG colour and alpha 8": (png(with_alpha(COLOURS, SOLID), 8, COLOUR_ALPHA), COLOURS, 0),
    "PNG colour and alpha 16": (png(with_alpha(COLOURS, SOLID, 257), 16, COLOUR_ALPHA), COLOURS, 0),
    **{f"PNG palette {n}": (png(in_steps(shown, n), n, PALETTE, PLTE=LEVELS[:: 255 // (2**n - 1)].tobytes()), shown, 0)
       for n, shown in GREY_OF.items()},
    "PNG palette, all opaque": (png(GREYS, 8, PALETTE, PLTE=LEVELS.tobytes(), tRNS=b"\xff" * 256), GREYS, 0),
    "PNG with a profile": (saved(COLOURS, "PNG", icc_profile=PROFILE), COLOURS, 0),
    **{f"TIFF grey {n}": (tiff(in_steps(shown, n)[..., None], n, 1), shown, 0) for n, shown in GREY_OF.items()},
    **{f"TIFF grey {n}, white is 0": (tiff(in_steps(shown, n)[..., None], n, 0), 255 - shown, 0)
       for n, shown in GREY_OF.items()},
    "TIFF grey 12": (tiff(TWELVE[..., None], 12, 1), GREYS, 0),
    "TIFF grey 16": (tiff(SIXTEEN[..., None], 16, 1), GREYS, 0),
    "TIFF grey 16, upper byte first": (tiff(SIXTEEN[..., None], 16, 1, ">"), GREYS, 0),
    "TIFF grey 16, white is 0": (tiff(SIXTEEN[..., None], 16, 0), 255 - GREYS, 0),
    "TIFF grey 16 by Pillow": (saved(SIXTEEN.astype(np.uint16), "TIFF", compression="tiff_lzw"), GREYS, 0),
    "TIFF grey and alpha": (tiff(with_alpha(GREYS, SOLID), 8, 1, _338=[2]), GREYS, 0),
    "TIFF grey and multiplied alpha": (tiff(with_alpha(GREYS, SOLID), 8, 1, _338=[1]), GREYS, 0),
    "TIFF grey and something": (tiff(with_alpha(GREYS, GLASS), 8, 1, _338=[0]), GREYS, 0),
    "TIFF colour 8": (tiff(COLOURS, 8, 2), COLOURS, 0),
    "TIFF colour 16": (tiff(COLOURS_16, 16, 2), COLOURS, 0),
    "TIFF colour 16, upper byte first": (tiff(COLOURS_16, 16, 2, ">"), COLOURS, 0),
    "TIFF colour and alpha": (tiff(with_alpha(COLOURS, SOLID), 8, 2, _338=[2]), COLOURS, 0),
    "TIFF colour and multiplied alpha": (tiff(with_alpha(COLOURS, SOLID), 8, 2, _338=[1]), COLOURS, 0),
    "TIFF colour and alpha 16": (tiff(with_alpha(COLOURS, SOLID, 257), 16, 2, _338=[2]), COLOURS, 0),
    "TIFF colour and something": (tiff(with_alpha(COLOURS, GLASS), 8, 2, _338=[0]), COLOURS, 0),
    "TIFF palette": (saved(GREYS, "TIFF", "P"), GREYS, 0),
    "TIFF palette and alpha": (saved(Image.fromarray(GREYS).convert("P").convert("PA"), "TIFF"), GREYS, 0),
    "TIFF CMYK": (saved(COLOURS, "TIFF", "CMYK"), COLOURS, 0),
    "TIFF CMYK 16": (tiff(with_alpha(255 - COLOURS, 0 * SOLID, 257), 16, 5), COLOURS, 0),
    "TIFF YCbCr": (saved(COLOURS, "TIFF", "YCbCr"), COLOURS, 3),
    "TIFF LAB": (saved(lab(SOFT), "TIFF"), SOFT, 8),
    "TIFF of JPEG": (saved(COLOURS, "TIFF", compression="jpeg", quality=100), COLOURS, 12),
    "TIFF turned": (turned("TIFF", 6), COLOURS, 0),
    "JPEG grey": (saved(GREYS, "JPEG", quality=100), GREYS, 2),
    "JPEG colour": (saved(COLOURS, "JPEG", quality=100, subsampling=0), COLOURS, 3),
    "JPEG progressive": (saved(COLOURS, "JPEG", quality=100, subsampling=0, progressive=True), COLOURS, 3),
    "JPEG CMYK of Adobe": (saved(COLOURS, "JPEG", "CMYK", quality=100, subsampling=0), COLOURS, 3),
    "JPEG YCCK of Adobe": (ycck(), COLOURS, 4),
    "JPEG turned": (turned("JPEG", 6), COLOURS, 3),
    "JPEG upside down": (turned("JPEG", 3), COLOURS, 3),
    "MPO, a photograph and its preview": (
        saved(COLOURS, "MPO", quality=100, subsampling=0, save_all=True, append_images=[Image.fromarray(GREYS).convert("RGB")]),
        COLOURS, 3,
    ),
    "WebP": (saved(COLOURS, "WEBP", lossless=True), COLOURS, 0),
    "WebP and alpha": (saved(with_alpha(COLOURS, SOLID).astype(np.uint8), "WEBP", lossless=True, exact=True), COLOURS, 0),
    "WebP turned": (turned("WEBP", 6), COLOURS, 0),
    "BMP": (saved(COLOURS, "BMP"), COLOURS, 0),
    "BMP of 1 bit": (saved(GREY_OF[1].astype(np.uint8), "BMP", "1"), GREY_OF[1], 0),
    "PPM": (saved(COLOURS, "PPM"), COLOURS, 0),
    "PGM 16": (b"P5 %d %d 65535\n" % (W, H) + SIXTEEN.astype(">u2").tobytes(), GREYS, 0),
}  # fmt: skip
SECOND = {"save_all": True, "append_images": [Image.fromarray(255 - COLOURS)]}
REFUSED = {
    "PNG grey and alpha": (png(with_alpha(GREYS, GLASS), 8, GREY_ALPHA), "transparent pixels"),
    "PNG grey 16, a transparent colour": (png(SIXTEEN, 16, GREY, tRNS=b"\1\1"), "transparent pixels"),
    "PNG grey 4, a transparent colour": (png(GREYS // 17, 4, GREY, tRNS=b"\0\3"), "transparent pixels"),
    "PNG grey 8, a transparent colour": (png(GREYS, 8, GREY, tRNS=b"\0\7"), "transparent pixels"),
    "PNG colour, a transparent colour": (png(COLOURS, 8, COLOUR, tRNS=b"\0\0\0\xff\0\x5a"), "transparent pixels"),
    "PNG colour 16, a transparent colour": (png(COLOURS_16, 16, COLOUR, tRNS=bytes(4) + b"ZZ"), "transparent pixels"),
    "PNG colour and alpha": (png(with_alpha(COLOURS, GLASS), 8, COLOUR_ALPHA), "transparent pixels"),
    "PNG colour and alpha 16": (png(with_alpha(COLOURS, GLASS, 257), 16, COLOUR_ALPHA), "transparent pixels"),
    "PNG palette": (png(GREYS, 8, PALETTE, PLTE=LEVELS.tobytes(), tRNS=b"\0\x80"), "transparent pixels"),
    "PNG animated": (saved(COLOURS, "PNG", **SECOND), "2 pages or frames"),
    "TIFF grey and alpha": (tiff(with_alpha(GREYS, GLASS), 8, 1, _338=[2]), "transparent pixels"),
    "TIFF grey and multiplied alpha": (tiff(with_alpha(GREYS, GLASS), 8, 1, _338=[1]), "transparent pixels"),
    "TIFF colour and alpha": (tiff(with_alpha(COLOURS, GLASS), 8, 2, _338=[2]), "transparent pixels"),
    "TIFF colour and multiplied alpha": (tiff(with_alpha(COLOURS, GLASS), 8, 2, _338=[1]), "transparent pixels"),
    "TIFF of pages": (saved(COLOURS, "TIFF", **SECOND), "2 pages or frames"),
    "TIFF of numbers": (saved((GREYS / 255).astype(np.float32), "TIFF"), "32 bits, whose black and white"),
    "TIFF of numbers, white is 0": (tiff((GREYS / 255)[..., None], 32, 0, _339=[3]), "32 bits, whose black and white"),
    "TIFF grey 32": (tiff(WIDE[..., None] << 24, 32, 1), "cannot read|32 bits"),
    "TIFF grey 16, signed": (tiff(SIXTEEN[..., None] // 2, 16, 1, _339=[2]), "signed"),
    "TIFF grey 8, signed": (tiff(GREYS[..., None] // 2, 8, 1, _339=[2]), "signed"),
    "WebP and alpha": (saved(with_alpha(COLOURS, GLASS).astype(np.uint8), "WEBP", lossless=True), "transparent pixels"),
    "WebP animated": (saved(COLOURS, "WEBP", **SECOND), "2 pages or frames"),
    "GIF": (saved(COLOURS, "GIF"), "cannot read this image"),
    "no image": (b"no image", "cannot read this image"),
    "empty": (b"", "cannot read this image"),
    "PNG cut off": (png(COLOURS, 8, COLOUR)[:-300], "cannot read this image"),
    "PNG damaged": (png(COLOURS, 8, COLOUR).replace(b"IDAT", b"IDAX"), "cannot read this image"),
    "JPEG cut off": (saved(COLOURS, "JPEG", quality=100)[:-100], "cannot read this image"),
    "TIFF cut off": (tiff(COLOURS, 8, 2)[:600], "cannot read this image"),
    "WebP cut off": (saved(COLOURS, "WEBP", lossless=True)[:-60], "cannot read this image"),
    "a bomb": (b"P6 30000 30000 255\n", "too large"),
}  # fmt: skip


@pytest.mark.parametrize("what", SHOWN)
def test_every_mode_and_depth_is_read_as_what_it_shows(what, tmp_path):
    content, shown, close = SHOWN[what]
    (tmp_path / "a.png").write_bytes(content)  # what it is counts, not how it is called
    found = read_image(tmp_path / "a.png")
    wanted = shown if shown.ndim == 3 else np.stack([shown] * 3, axis=2)
    assert found.shape == (H, W, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - wanted).max() <= close


@pytest.mark.parametrize("what", REFUSED)
def test_images_that_show_nothing_certain_are_named(what, tmp_path):
    content, message = REFUSED[what]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(S4SError, match=rf"a\.png: .*({message})") as error:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "what", ["PNG grey 8", "PNG palette 8", "PNG colour 8", "JPEG colour", "JPEG CMYK of Adobe", "WebP", "BMP"]
)
def test_plain_images_are_read_as_clean_fid_does(what, tmp_path):
    (tmp_path / "a.png").write_bytes(SHOWN[what][0])
    assert np.array_equal(read_image(tmp_path / "a.png"), np.array(Image.open(tmp_path / "a.png").convert("RGB")))


STRAYS = [
    ".DS_Store", "._00.png", "Thumbs.db", "desktop.ini", "Icon\r", ".directory", "__MACOSX/._00.png", "__MACOSX/below/00.png",
    "@eaDir/00.png/SYNOPHOTO_THUMB_M.png", ".thumbnails/00.png", ".ipynb_checkpoints/00-checkpoint.png", "below/.DS_Store",
    "below/ehthumbs.db", ".Trash-1000/files/00.png", "$RECYCLE.BIN/00.png", "lost+found/00.png", "#recycle/00.png",
    "System Volume Information/IndexerVolumeGuid", ".Spotlight-V100/store.db", ".nfs000012.png",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Four images, here and below, of different sizes; made in another order than that of their names."""
    (tmp_path / "images.png").mkdir()
    for name, size in [("b.png", 5), ("images.png/c.JPG", 6), ("a.tiff", 7), ("images.png/d.webp", 8)]:
        Image.fromarray(np.full((size, 4, 3), 10 * size, np.uint8)).save(tmp_path / name, lossless=True, quality=100)
    return tmp_path


def heights(folder):
    return [image.shape[1] for image in read_images(folder)]


def test_images_here_and_below_come_by_name(folder):
    assert heights(folder) == [7, 5, 6, 8] and next(read_images(folder)).shape == (3, 7, 4)


def test_what_systems_leave_in_a_folder_is_no_matter(folder, recwarn):
    before, found = (path_digest(folder), digests(folder), looks(folder)), heights(folder)
    for stray in STRAYS:
        (folder / stray).parent.mkdir(parents=True, exist_ok=True)
        (folder / stray).write_bytes(b"\0\5\x16\7")
    assert heights(folder) == found and (path_digest(folder), digests(folder), looks(folder)) == before
    assert not recwarn.list


def test_a_folder_may_lie_below_a_hidden_one(tmp_path):
    (tmp_path / ".cache").mkdir()
    Image.fromarray(COLOURS).save(tmp_path / ".cache/a.png")
    assert heights(tmp_path / ".cache") == [H]


def test_files_that_are_no_images_are_counted(folder):
    (folder / "LICENSE").write_text("free")
    (folder / "images.png/labels.csv").write_text("c,1")
    with pytest.warns(S4SWarning, match="2 files are no images and not read, the first LICENSE"):
        assert len(heights(folder)) == 4


@pytest.mark.parametrize(
    ("name", "form"), [("e.gif", "GIF"), ("e", "PNG"), ("e.tga", "TGA"), ("e.jp2", "JPEG2000"), ("e.txt", "BMP")]
)
def test_images_that_would_be_left_out_are_named(folder, name, form):
    Image.fromarray(COLOURS).save(folder / name, form)
    with pytest.raises(
        S4SError, match=rf"{name}: an image \({form}\) of a name that is not read; allowed: \.bmp, .*; convert, rename"
    ):
        image_files(folder)


def test_links_are_read_or_named(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    Image.fromarray(COLOURS).save(other / "x.png")
    (folder / "z.png").symlink_to(other / "x.png")
    assert heights(folder)[-1] == H
    (folder / "y.png").symlink_to(other / "absent.png")
    with pytest.raises(S4SError, match=r"y\.png: cannot read this image: .*No such file"):
        heights(folder)
    (folder / "y.png").unlink()
    (folder / "link").symlink_to(other)
    with pytest.raises(S4SError, match="link: a link to a folder, which is not followed"):
        heights(folder)


def test_a_folder_without_images_says_so(tmp_path):
    (tmp_path / ".hidden.png").write_bytes(b"")
    with pytest.raises(S4SError, match=r"no images; allowed: \.bmp"):
        image_files(tmp_path)


def test_a_folder_that_cannot_be_looked_into_is_named(folder, monkeypatch):
    """As one of another user's; what root runs sees all."""
    look = os.scandir

    def scandir(path):
        if str(path).endswith("images.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(S4SError, match=r"images\.png: cannot look into this folder: Permission denied"):
        image_files(folder)
