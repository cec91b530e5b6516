"""GITS: noise levels found by dynamic programming, and the solvers that its authors run on them.

Their code (Chen et al. 2024, arXiv 2405.11326; github.com/zju-pi/diff-sampler, gits-main) samples in y and s: what it calls
times are levels. A list holds those of all nodes, the last one included. Heun and DPM-Solver-2 evaluate twice a step, the
others once. With an analytic first step (its afs) the first direction is y/sqrt(1 + s^2) and costs no evaluation.

Four of its solvers are not here: DPM-Solver++ and UniPC in data prediction, its default, threshold each output dynamically,
which is not linear; iPNDM_v has a formula of its own; DEIS integrates numerically in the time of a VP path that has s = 0.002
at time 0.001 and 80 at time 1 (its analytic form, rhoab, stops with an error at order 3 and repeats weights at order 4).

The lists for Stable Diffusion 1.5 are in ComfyUI's comfy_extras/nodes_gits.py (pull request 3769, by the same authors), for 2
to 20 steps, by their coefficient, 0.80 to 1.50; they are levels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.export.zoo.comfyui_lists import chosen, has_table
from s4s.export.zoo.source import Source
from s4s.solvers import solver
from s4s.tableau import Tableau

if TYPE_CHECKING:
    from s4s.models.load import Outline

SOURCE = Source(
    repository="https://github.com/comfyanonymous/ComfyUI, comfy_extras/nodes_gits.py",
    commit="349c5aa265078956999c045398b5030a8973c6a0",
    paper="arXiv 2405.11326",
    licence="GPL-3.0 (ComfyUI); Apache-2.0 (zju-pi/diff-sampler, whose code is that of the solvers)",
)


class Kind(NamedTuple):
    """One of their solvers: ours with these options, the order that it has unless another is said, evaluations a step."""

    ours: str
    options: dict[str, Any] = {}  # noqa: RUF012
    order: int | None = None
    stages: int = 1


LOWER = {"prediction": "noise", "lower_order_final": True}
SOLVERS = {
    "euler": Kind("ddim"),
    "ipndm": Kind("ipndm", order=4),
    "dpmpp": Kind("dpmpp", LOWER, order=3),
    "unipc": Kind("unipc", LOWER, order=3),
    "heun": Kind("heun", stages=2),
    "dpm": Kind("dpm2", stages=2),
}


def as_gits(
    kind: str, levels: Tensor, order: int | None = None, variant: str | None = None, analytic_first_step: bool = False
) -> Tableau:
    """The tableau of one of GITS's solvers on a list.

    Args:
        kind: euler, ipndm, dpmpp or unipc (without predict_x0), heun, or dpm, its DPM-Solver-2.
        levels: of the list, [N + 1].
        order: its max_order, by default 4, or 3 for dpmpp and unipc.
        variant: of unipc, bh1 or by default bh2.
        analytic_first_step: its afs.
    Raises:
        S4SError: if it has no such solver, or the solver no such option.
    """
    if kind not in SOLVERS:
        raise S4SError(f"GITS has no solver {kind!r} that a tableau could be; take one of {', '.join(SOLVERS)}")
    entry = SOLVERS[kind]
    options = {**entry.options, "order": order or entry.order, "variant": variant}
    given = {name: value for name, value in options.items() if value is not None}
    if entry.stages == 2:  # a step goes over two of our levels, and the middle one is that of DPM-Solver-2
        middle = (levels[:-1] * levels[1:]).sqrt()
        levels = torch.cat([torch.stack([levels[:-1], middle], 1).flatten(), levels[-1:]])
    if entry.stages == 2 and analytic_first_step:
        raise S4SError(f"GITS's {kind} with an analytic first step is not read; take it without, or a solver of one evaluation")
    return solver(entry.ours, levels, analytic_first_step=analytic_first_step, **given)


def looks_like(path: Path) -> bool:
    """Whether it is the source of ComfyUI's node of this name."""
    return has_table(path, "gits-main")


def read(
    path: Path,
    model: Outline,
    *,
    pick: str | None = None,
    solver: str = "dpmpp",
    order: int | None = 2,
    variant: str | None = None,
    guidance: float | None = None,
) -> list[Tableau]:
    """The solvers of the lists of one coefficient; by default as its authors run them on Stable Diffusion.

    Args:
        pick: the coefficient, such as 1.20, their choice.
        solver, order, variant: as of `as_gits`.
        guidance: the scale that the lists were searched with; the authors' is 7.5.
    Raises:
        S4SError: if the file or a list cannot be read, or as `as_gits`.
    """
    name, lists = chosen(path, pick)
    order = order if SOLVERS.get(solver, Kind("")).order else None
    rows = [row for row in lists if order is None or len(row) > order]
    try:
        found = [as_gits(solver, torch.tensor(row, dtype=torch.float64), order, variant) for row in rows]
    except S4SError as error:
        raise S4SError(f"{path}: {name}: {error}") from error
    return [tableau.with_meta(coefficient=name) for tableau in found]
