"""EPD's solvers: each step weighs the directions at a few points that do not see each other (arXiv 2507.14797, 2512.22796).

A step from t to t' has points r_k with t_k = t'^r_k t^(1 - r_k), weights w_k that sum to 1, and factors a_k and b_k:

    d = (x - D(x; t))/t,    x_k = x + (t_k - t) d,    d_k = (x_k - D(x_k; b_k t_k))/t_k,    x' = x + (t' - t) sum_k w_k a_k d_k

As a plug-in to iPNDM the way to x_k takes Adams-Bashforth's combination of d and those of earlier steps instead. An analytic
first step has d = x/sqrt(1 + t^2). On flow matching (SD3, FLUX) d and d_k/b_k are velocities at the times t and b_k t_k.
The points of a step are nodes of one group, in the order of falling levels; the authors count a group as one evaluation. The
last state is what they decode: on flow matching x itself, at the time 0.009 (SD3) or 0.003 (FLUX), not divided by 1 - t.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from s4s.errors import S4SError, explain
from s4s.export.zoo.diff_sampler_networks import DATASETS, Fitted, Network, network_of
from s4s.export.zoo.diff_sampler_schedules import exponential_shift, flux_shift, schedule
from s4s.export.zoo.snapshot import has_name, named_in_errors, snapshot, table
from s4s.export.zoo.source import Source
from s4s.export.zoo.transcript import Transcript
from s4s.models.load import Outline
from s4s.tableau import Tableau

REPOSITORY = "https://github.com/BeierZhu/EPD"
SOURCE = Source(REPOSITORY, "88a91f0914069afd700bfee1b590c7b61ceae240", "arXiv 2512.22796", "none stated")  # EPD-Solver++
FIRST = Source(REPOSITORY, "94c00d0f18de0636153440df7f1a9a13b80df247", "arXiv 2507.14797", "none stated")  # branch EPD-Solver
ADAMS_BASHFORTH = {
    1: (1.0,), 2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)
}  # fmt: skip
FLOWS = {"sd3": "Stable Diffusion 3 medium", "flux": "FLUX.1-dev"}


class _Backend(BaseModel):
    model_config = ConfigDict(strict=True)
    resolution: int = Field(1024, ge=256, le=4096, multiple_of=16)
    flowmatch_mu: float | None = Field(None, allow_inf_nan=False)


class _Predictor(BaseModel):
    """What the recorded predictor says of itself."""

    model_config = ConfigDict(strict=True)
    num_steps: int = Field(ge=2, le=100)
    num_points: int = Field(ge=1, le=8)
    sampler_stu: Literal["epd", "ipndm"]
    dataset_name: str
    guidance_type: str | None = None
    guidance_rate: float | None = Field(None, allow_inf_nan=False)
    schedule_type: str
    schedule_rho: float = Field(gt=0, le=100)
    afs: bool = False
    scale_dir: float = Field(0, ge=0, le=1)
    scale_time: float = Field(0, ge=0, le=1)
    max_order: int | None = None
    fcn: bool = False
    backend: Literal["ldm", "sd3", "flux"] = "ldm"
    backend_config: _Backend = _Backend()


def looks_like(path: Path) -> bool:
    """Whether a file is a snapshot of EPD."""
    return has_name(path, (b"\x80",), b"EPD_predictor")


def read(path: Path, model: Outline, *, guidance: float | None = None) -> list[Tableau]:
    """The solver of a network-snapshot-*.pkl, or of sd15-*, sd3-* and flux-*.pkl.

    Args:
        guidance: with which the model is used; None where nobody said.
    Raises:
        S4SError: if the file cannot be read, is none of EPD, or was fitted for another network, path or guidance.
    """
    with named_in_errors(path):
        recorded, _ = snapshot(path, "model")
        try:
            predictor = _Predictor.model_validate(recorded.state)
        except ValidationError as error:
            raise S4SError(explain(error, str(path))) from error
        made = _read(path, recorded.state, predictor, model, guidance)
    source = SOURCE if "backend" in recorded.state else FIRST
    return [made.with_meta(**source.meta(), file=path.name)]


def _read(path: Path, state: dict[str, Any], predictor: _Predictor, model: Outline, guidance: float | None) -> Tableau:
    dataset, flow, count = predictor.dataset_name, FLOWS.get(predictor.backend), predictor.num_steps
    if dataset not in DATASETS:
        raise S4SError(f"it was fitted for {dataset}, which no model here is of; known: {', '.join(DATASETS)}")
    guided = predictor.guidance_rate if predictor.guidance_type == "cfg" else None
    fitted = Fitted(dataset, flow or DATASETS[dataset][0], guided)
    kind = "flow" if flow else "ldm" if dataset in ("ms_coco", "lsun_bedroom_ldm") else "edm"
    network = network_of(fitted, kind, model, guidance)
    shape = (count - 1, predictor.num_points)
    r, scale_dir, scale_time, weight = (
        table(state, "_parameters", name, shape, path)
        for name in ("r_params", "scale_dir_params", "scale_time_params", "weight_s")
    )
    on_direction, on_level = (
        2 * torch.sigmoid(value / 2) * share + (1 - share)
        for value, share in ((scale_dir, predictor.scale_dir), (scale_time, predictor.scale_time))
    )
    if predictor.fcn:
        on_direction[-1] = 1
    if flow:
        if predictor.schedule_type != "flowmatch":
            raise S4SError(f"its schedule {predictor.schedule_type} is none of {flow}; flowmatch is")
        t = _flow_times(predictor)
    else:
        t = schedule(predictor.schedule_type, predictor.schedule_rho, count, network)
    order = 1 if predictor.sampler_stu == "epd" else predictor.max_order
    if order not in ADAMS_BASHFORTH:
        raise S4SError(f"its order {order} is none of iPNDM, which are 1 to 4")
    weights = torch.softmax(weight, -1) * on_direction
    made = _tableau(torch.sigmoid(r), weights, on_level, t, network, predictor.afs, order)
    about = {"schedule": predictor.schedule_type, "analytic_first_step": predictor.afs, "plug_in": predictor.sampler_stu}
    resolution = {"resolution": predictor.backend_config.resolution} if flow else {}
    return made.with_meta(**fitted.meta(), **about, **resolution)


def _flow_times(predictor: _Predictor) -> Tensor:
    """Those of diffusers' FlowMatchEulerDiscreteScheduler but its 0 at the end: SD3's shift of 3, applied twice, or FLUX's."""
    config = predictor.backend_config
    if predictor.backend == "flux":
        mu = flux_shift(config.resolution) if config.flowmatch_mu is None else config.flowmatch_mu
        return exponential_shift(torch.linspace(1, 0.001, predictor.num_steps, dtype=torch.float64), mu)
    t = torch.linspace(1, 3 * 0.001 / (1 + 2 * 0.001), predictor.num_steps, dtype=torch.float64)
    return 3 * t / (1 + 2 * t)


def _tableau(r: Tensor, weights: Tensor, factors: Tensor, t: Tensor, network: Network, analytic: bool, order: int) -> Tableau:
    """The loop; r, weights (w_k a_k) and factors b_k [N - 1, K], levels t [N]."""
    levels, points = t.tolist(), r.shape[1]
    loop = Transcript(len(r) * (1 + points) - analytic, network.s_max, network.start(levels[0]))
    state, history, groups, n = loop.start, list[Tensor](), list[list[int]](), 0
    for i, (here, goal) in enumerate(pairwise(levels)):
        if analytic and i == 0:
            direction = state / (1 + here**2) ** 0.5
        else:
            state, direction = loop.evaluate(state, network.level(here), network.feed(here, 1.0))
            groups.append([n])
            n += 1
        history.append(direction)
        taken = history[::-1][:order]
        way = sum((c * d for c, d in zip(ADAMS_BASHFORTH[len(taken)], taken, strict=True)), torch.zeros_like(direction))
        new = state
        for k in r[i].argsort().tolist():
            middle = goal ** float(r[i, k]) * here ** (1 - float(r[i, k]))
            told = float(factors[i, k]) * middle
            point = state + (middle - here) * way
            _, aside = loop.evaluate(point, network.level(middle), network.feed(told, float(factors[i, k])))
            new = new + float(weights[i, k]) * (goal - here) * aside
        groups.append([*range(n, n + points)])
        n, state = n + points, new
    return loop.tableau(state, network.level(levels[-1]), groups)
