"""How each solver looks in every figure: a style depends on the solver's name alone, never on what is drawn beside it."""

from __future__ import annotations

import zlib
from typing import Any

# learned families: Paul Tol's "muted" colours, safe for colour-blind readers; in grey they differ by markers and lightness
FAMILIES = {
    "s4s_alt": ("#CC6677", "D"), "s4s_lms": ("#44AA99", "o"), "s4s_pc": ("#117733", "s"), "s4s_ss": ("#999933", "P"),
    "joint": ("#332288", "v"), "ld3": ("#88CCEE", "^"), "gs": ("#AA4499", "X"), "dyweight": ("#882255", "*"),
    "bns": ("#DDCC77", "p"), "cached": ("#7E2954", "h"),
}  # fmt: skip
# solvers of the zoo that are of no family above
PUBLISHED = {
    "ays": ("#BBBB44", "o"), "epd": ("#CC3311", "s"), "epdpp": ("#EE7733", "d"), "gas": ("#0077BB", "X"),
    "gits": ("#009988", "^"),
}  # fmt: skip
PUBLISHED_LINE = (0, (3, 1, 1, 1, 1, 1))
DASHES = [(4, 1), (1, 1), (4, 1, 1, 1), (6, 2), (2, 2), (8, 1, 1, 1, 1, 1), (1, 3), (9, 3)]
LINES = ["-", *((0, dashes) for dashes in DASHES)]
# of a family, in the order of LINES
VARIANTS = ["", "-time_quadratic", "-edm", "-logsnr", "-time_uniform", "-dmn", "_long", "_pairs32", "_pairs128"]
# training-free solvers: a shade of grey and a marker each
METHODS = {
    "ddim": ("0.55", "o"), "dpmpp3m": ("0.4", "s"), "dpmpp2m": ("0.5", "d"), "ipndm3": ("0.25", "D"), "ipndm2": ("0.35", "^"),
    "ipndm4": ("0.2", "v"), "unipc3": ("0.1", "P"), "unipc2": ("0.3", "X"), "heun": ("0.45", "*"),
}  # fmt: skip


def learned_style(solver: str) -> dict[str, Any]:
    """Colour, marker and line of a learned or published solver: of the family that its name begins with, and what follows."""
    if solver.endswith("_published") and (own := ({**FAMILIES, **PUBLISHED}).get(solver.removesuffix("_published"))):
        return {"color": own[0], "marker": own[1], "linestyle": PUBLISHED_LINE}
    family = max((name for name in FAMILIES if solver.startswith(name)), key=len, default="")
    colour, marker = FAMILIES[family] if family else _any(FAMILIES, solver)
    rest = solver.removeprefix(family)
    line = LINES[VARIANTS.index(rest)] if rest in VARIANTS else _any(dict(enumerate(LINES)), rest)
    return {"color": colour, "marker": marker, "linestyle": line}


def plain_style(method: str) -> dict[str, Any]:
    """Shade of grey and marker of a training-free solver, by its token without its schedule."""
    shade, marker = METHODS.get(method) or _any(METHODS, method)
    return {"color": shade, "marker": marker}


def solver_style(solver: str) -> dict[str, Any]:
    """Style of a solver of which only the token is known: plain if it begins with that of a training-free method."""
    method, _, _ = solver.partition("-")
    return {**plain_style(method), "linestyle": "--"} if method in METHODS else learned_style(solver)


def nth_style(i: int) -> dict[str, Any]:
    """Colour, marker and line of the i-th of things that are not solvers, such as models."""
    styles = [*FAMILIES.values()]
    colour, marker = styles[i % len(styles)]
    return {"color": colour, "marker": marker, "linestyle": LINES[i // len(styles) % len(LINES)]}


def _any(choices: dict[Any, Any], name: str) -> Any:
    """One of some choices for a name that has none of its own, the same in every run."""
    return [*choices.values()][zlib.crc32(name.encode()) % len(choices)]
