"""PNG and TIFF files of kinds that Pillow reads and does not write, byte by byte."""

import struct
import zlib

import numpy as np

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6  # colour types of PNG


def png(values: np.ndarray, depth: int, colour: int, **chunks: bytes) -> bytes:
    """Of numbers [H, W, channels] of 1, 2, 4, 8 or 16 bits; `chunks` go before the data, such as tRNS."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + packed(row.reshape(-1), depth, ">") for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    others = b"".join(chunk(name.encode(), content) for name, content in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + header + others + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values: np.ndarray, depth: int, photometric: int, order: str = "<", **tags: list[int]) -> bytes:
    """Of numbers [H, W, channels], uncompressed; `tags` such as _338=[2], extra samples."""
    height, width, channels = values.shape
    content = b"".join(packed(row.reshape(-1), depth, order) for row in values)
    own = {256: [width], 257: [height], 258: [depth] * channels, 259: [1], 262: [photometric], 273: [8], 277: [channels],
           278: [height], 279: [len(content)]}  # fmt: skip
    content += b"\0" * (len(content) % 2)
    own |= {int(name[1:]): numbers for name, numbers in tags.items()}
    start, entries, beyond = 8 + len(content), b"", b""
    for tag, numbers in sorted(own.items()):
        short = struct.pack(f"{order}{len(numbers)}H", *numbers)
        if len(short) > 4:
            where = start + 2 + 12 * len(own) + 4 + len(beyond)
            beyond, short = beyond + short, struct.pack(f"{order}I", where)
        entries += struct.pack(f"{order}HHI", tag, 3, len(numbers)) + short.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + content + struct.pack(f"{order}H", len(own)) + entries + struct.pack(f"{order}I", 0) + beyond


def packed(numbers: np.ndarray, depth: int, order: str) -> bytes:
    """One row, its end filled up to a whole byte."""
    if depth >= 8 and depth % 8 == 0:
        return numbers.astype(f"{order}{'f' if numbers.dtype.kind == 'f' else 'u'}{depth // 8}").tobytes()
    bits = (numbers[:, None].astype(np.int64) >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()
