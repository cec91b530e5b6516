"""Prints docs/solvers.md, made from the docstrings:  python -m s4s.solvers > docs/solvers.md"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

from s4s.levels import GRIDS, grid_function
from s4s.models import paths
from s4s.solvers import SOLVERS, make_function

HEAD = """# Solvers, levels and paths

Made from the docstrings by `python -m s4s.solvers > docs/solvers.md`; a test fails when it drifts.

All formulas are in y = x/alpha and s = sigma/alpha. One step goes from y at level s to y' at level s'; D is the denoiser's
output at (y, s), e = (y - D)/s its noise prediction; lambda = -ln s, h = lambda' - lambda, r = s'/s. A name here is what stands
after `solver:` and `levels:` in [config/config.yaml](../config/config.yaml), and the first argument of `s4s.solver` and
`s4s.levels`.
"""

ANY_SOLVER = """
Options of every solver:

* `analytic_first_step`: the first step takes e = y/sqrt(1 + s^2) instead of an evaluation, so that there is one step more
  (Dockhorn et al. 2022, arXiv 2210.05475). It supposes data of mean 0 and variance 1.
* `to_zero`, an option of all levels: the last evaluation is a final denoising step to the level 0; its output is the result.

A step with several evaluations goes over as many levels of its grid. What is left at the end is a step of lower order.
"""


def document(title: str, function: Callable[..., object]) -> str:
    """A section from a docstring: its first line, its fields "Name: text" as a list, and its other paragraphs."""
    first, *paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    parts = [f"### `{title}`", first.replace("\n", " ")]
    for paragraph in paragraphs:
        if re.match(r"[A-Z][A-Za-z ]*: ", paragraph) and not paragraph.startswith(("Args:", "Raises:")):
            fields = re.sub(r"\n +", " ", paragraph).split("\n")
            parts.append("\n".join(f"* **{name}:** {text}" for name, text in (field.split(": ", 1) for field in fields)))
        elif not paragraph.startswith(("Args:", "Raises:", "Returns:")):
            parts.append(paragraph.replace("\n", " "))
    return "\n\n".join(parts)


def options(allowed: dict[str, tuple[object, ...]], function: Callable[..., object]) -> str:
    """One line with the values that each option takes, the default first in bold."""
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    texts = []
    for name, values in allowed.items():
        shown = [f"**{value}**" if value == defaults[name] else str(value) for value in values]
        texts.append(f"`{name}` {', '.join(shown).lower()}")
    return f"* **Options:** {'; '.join(texts)}" if texts else "* **Options:** none"


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Solvers", ANY_SOLVER]
    for kind, entry in SOLVERS.items():
        function = make_function(kind)
        parts.append(document(kind, function) + "\n" + options(entry.options, function))
    parts.append("## Levels")
    for kind, grid in GRIDS.items():
        text = document(kind, grid_function(kind))
        parts.append(text + (f"\n* **Options:** {', '.join(f'`{name}`' for name in grid.options)}" if grid.options else ""))
    parts.append("## Gaussian paths")
    parts.append(inspect.cleandoc(paths.__doc__ or ""))
    for path in (paths.VPLinear, paths.VPDiscrete, paths.VPCosine, paths.VE, paths.FlowMatching):
        parts.append(document(path.__name__, path))
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
