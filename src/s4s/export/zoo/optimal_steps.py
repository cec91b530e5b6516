"""OptimalSteps: times of rectified flow found by dynamic programming, for FLUX and Wan.

Its code (Pei et al. 2025, arXiv 2503.21774; github.com/bebebe666/OptimalSteps) searches among the steps of a teacher and
prints their numbers, which count from 0, clean data, upwards. They index the teacher's times after the model's shift. Its
sampler makes Euler steps on the flow, x' = x + (t' - t) v(x, t), which in (y, s) is DDIM at s = t/(1 - t).

Its repository has no lists. Those that it made are in ComfyUI's comfy_extras/nodes_optimalsteps.py (pull request 7584, by the
same author), beside one for Chroma that others added: the times of all nodes from noise to data, shifted already. The node
puts 0 in place of the last, and the noise is scaled to the first, x = t_0 n. FLUX has 10 steps, Wan 20, Chroma 40. For
another number of steps the node interpolates; here it does not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from s4s.errors import S4SError
from s4s.export.zoo.comfyui_lists import chosen, has_table
from s4s.export.zoo.source import Source
from s4s.models.paths import PURE_NOISE, FlowMatching
from s4s.solvers import solver
from s4s.tableau import Tableau

if TYPE_CHECKING:
    from s4s.models.load import Outline

SOURCE = Source(
    repository="https://github.com/comfyanonymous/ComfyUI, comfy_extras/nodes_optimalsteps.py",
    commit="36d3468fce685fd8f4548347067097282216d4a5",
    paper="arXiv 2503.21774",
    licence="GPL-3.0 (ComfyUI); MIT (bebebe666/OptimalSteps, whose repository has no lists)",
)


def looks_like(path: Path) -> bool:
    """Whether it is the source of ComfyUI's node of this name."""
    return has_table(path, "OptimalSteps")


def read(path: Path, model: Outline, *, pick: str | None = None, guidance: float | None = None) -> list[Tableau]:
    """The solver of one of the lists.

    Args:
        pick: FLUX, Wan or Chroma.
        guidance: the scale that the user samples with; the lists do not say theirs.
    Raises:
        S4SError: if the file or the list cannot be read, its times do not fall within 1 to 0, or the model is of no flow.
    """
    name, (times, *more) = chosen(path, pick)
    if more:
        raise S4SError(f"{path}: {name} has several lists; OptimalSteps has one for each model")
    if not isinstance(model.path, FlowMatching):
        kind = model.path.kind
        raise S4SError(f"{path}: times of rectified flow, but model {model.name} has the path {kind}; take a solver for that")
    return [euler(times, f"{path}: {name}", model.s_max).with_meta(fitted_for=name)]


def euler(times: list[float], where: str, s_max: float) -> Tableau:
    """Euler's steps on a flow over times from noise to data, the last of them made 0.

    At time 1 the input is the noise itself, and the network is told 1 (but for 1e-12).

    Raises:
        S4SError: if the times do not decrease within 1 to 0.
    """
    t = torch.tensor([*times[:-1], 0.0], dtype=torch.float64)
    if not bool((t[:-1] > t[1:]).all()) or t[0] > 1 or times[-1] < 0:
        raise S4SError(f"{where}: times must decrease strictly from 1 or below to 0 or above, got {times}")
    if t[0] < 1:
        return solver("ddim", t / (1 - t))
    levels = torch.cat([torch.tensor([s_max], dtype=torch.float64), t[1:] / (1 - t[1:])])
    made = solver("ddim", levels)
    A, B = made.A.clone(), made.B.clone()
    B[0, 0] = 1.0  # x' = t' x + (1 - t') D, and the noise x = y_0/s_max
    eval_levels = levels[:-1].clone()
    eval_levels[0] = PURE_NOISE
    return replace(made, A=A, B=B, eval_levels=eval_levels, kappa=(1 + PURE_NOISE) / s_max)
