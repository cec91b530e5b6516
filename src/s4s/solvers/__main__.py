"""Prints docs/solvers.md, made from the docstrings:  python -m s4s.solvers > docs/solvers.md"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import NamedTuple

from s4s.models import paths
from s4s.schedules import SCHEDULES, schedule_function
from s4s.schedules.registry import Options
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
  (Dockhorn et al. 2022, arXiv 2210.05475). It supposes that data of mean 0 hardly matter beside the noise of the first level.
* `cached`: a step cache. There are so many steps for each evaluation, and the others reuse what the network gave last;
  `s4s.solver` also takes a list of the evaluated steps. `reuse` says what: `easycache` (default) the network's output less its
  input, as rectified flow has both, added to the new input (EasyCache, arXiv 2507.02860, with a fixed choice of steps);
  `flow`, `noise` or `data` the output in that prediction. With `ddim` these three are one longer step. The family `cached`
  chooses the evaluated steps ([learned.md](learned.md)).
* `to_zero`, an option of all levels: the last evaluation is a final denoising step to the level 0; its output is the result.

A step with several evaluations goes over as many levels of its schedule. What is left at the end is a step of lower order.

Solvers and levels of one's own need no change of the package: `module:function` after `solver:` or `levels:`, of a module in
the working directory or on PYTHONPATH. A solver's function has levels [N + 1], a float64 tensor, as its first argument and
returns an `s4s.Tableau` on them; one of levels has the number of steps and the model's `Span` (s_max, s_min, path) and returns
N + 1 levels. A solver's argument `path` is the model's Gaussian path; all further arguments are options, which a definition has
under `options:` and `levels_options:`:

    # mine.py
    from s4s.solvers.exponential import data_tableau, ratios

    def damped(levels, factor=1.0):
        return data_tableau(levels, factor * (1 - ratios(levels)).diag())

    # in the config
    definitions:
      damped-edm: {solver: "mine:damped", options: {factor: 0.98}, levels: edm}

The order is that of a step with its full history. The first steps of a multistep solver have less, which limits the whole to
order 2 (UniPC: 3) unless the denoiser hardly changes at the highest levels, as is usual.
"""


class Description(NamedTuple):
    """What a docstring says: its first paragraph, its fields "Name: text", and its other paragraphs."""

    title: str
    fields: dict[str, str]
    rest: list[str]


def describe(function: Callable[..., object]) -> Description:
    """Read a docstring; sections on arguments and errors are left out."""
    title, *paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    fields: dict[str, str] = {}
    rest = []
    for paragraph in paragraphs:
        if re.match(r"(Formula|Order|NFE per step|Source|Use): ", paragraph):
            for line in re.sub(r"\n +", " ", paragraph).split("\n"):
                name, _, text = line.partition(": ")
                fields[name] = text
        elif not paragraph.startswith(("Args:", "Raises:", "Returns:")):
            rest.append(paragraph.replace("\n", " "))
    return Description(title.replace("\n", " "), fields, rest)


def section(name: str, function: Callable[..., object], options: str = "") -> str:
    """A section of the page."""
    title, fields, rest = describe(function)
    if options:
        fields["Options"] = options
    items = "\n".join(f"* **{field}:** {text}" for field, text in fields.items())
    return "\n\n".join(part for part in (f"### `{name}`", title, *rest, items) if part)


def option_values(options: type[Options]) -> str:
    """The values that each option of an entry takes, the default in bold."""
    texts, choices = [], options.choices()
    for name, field in options.model_fields.items():
        default = None if field.is_required() else field.default
        shown = [
            f"**{value}**" if value == default else str(value)
            for value in choices.get(name, () if default is None else (default,))
        ]
        texts.append(" ".join([f"`{name}`", *([", ".join(shown).lower()] if shown else [])]))
    return "; ".join(texts)


def overview() -> str:
    """One row a solver, linked to its section."""
    rows = ["| solver | what it is | order | NFE per step |", "|:---|:---|:---|:---|"]
    for kind in SOLVERS:
        title, fields, _ = describe(make_function(kind))
        order, cost = (re.split(r"[;,:.] ", fields[field])[0].rstrip(".") for field in ("Order", "NFE per step"))
        rows.append(f"| [`{kind}`](#{kind}) | {title.rstrip('.')} | {order} | {cost} |")
    return "\n".join(rows)


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Solvers", overview(), ANY_SOLVER]
    parts += [section(kind, make_function(kind), option_values(SOLVERS[kind].options) or "none") for kind in SOLVERS]
    parts.append("## Levels")
    for kind, schedule in SCHEDULES.items():
        parts.append(section(kind, schedule_function(kind), option_values(schedule.options)))
    parts += ["## Gaussian paths", inspect.cleandoc(paths.__doc__ or "")]
    parts += [section(path.__name__, path) for path in paths.PATHS]
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
