"""A small score network in the file format of galaxygrad: arrays one after another, as equinox writes them."""

from pathlib import Path

import numpy as np

SIZE, PATCH, CHANNELS, WIDTHS, T_1 = 16, 4, 8, ((12, 20), (12, 20)), 10.0


def shapes(size: int = SIZE) -> list[tuple[int, ...]]:
    """Of all arrays but the last, in the file's order."""
    patches = (size // PATCH) ** 2
    found: list[tuple[int, ...]] = [(CHANNELS, 2, PATCH, PATCH), (CHANNELS, 1, 1), (1, CHANNELS, PATCH, PATCH), (1, 1, 1)]
    for wide, deep in WIDTHS:
        found += [
            (wide, patches),
            (wide,),
            (patches, wide),
            (patches,),
            (deep, CHANNELS),
            (deep,),
            (CHANNELS, deep),
            (CHANNELS,),
        ]
        found += [(CHANNELS, patches)] * 2 + [(patches, CHANNELS)] * 2
    return [*found, (CHANNELS, patches), (CHANNELS, patches)]


def arrays(size: int = SIZE) -> list[np.ndarray]:
    """Numbers that depend on the place in the file alone, and the last time."""
    found = []
    for place, shape in enumerate(shapes(size)):
        values = np.random.Generator(np.random.Philox(key=place)).standard_normal(shape).astype(np.float32)
        found.append(values / np.float32(max(1, np.prod(shape[1:])) ** 0.5))
    return [*found, np.asarray(T_1)]


def write(path: Path, content: list[np.ndarray]) -> Path:
    """These arrays in a file."""
    with path.open("wb") as file:
        for array in content:
            np.save(file, array)
    return path


def noisy(size: int, rows: int = 2) -> np.ndarray:
    """States x, float32 [rows, 1, size, size]."""
    return np.random.Generator(np.random.Philox(key=size)).standard_normal((rows, 1, size, size)).astype(np.float32)
