"""DyWeight's solvers (arXiv 2603.11607): weights of all earlier directions, and factors on the level that the network is told.

From the level t~_0 = t_0 on, with weights w and factors c:

    d_i = (x_i - D(x_i; |c_i t~_i|))/(t~_i + 1e-8),    x_{i+1} = x_i + (t_{i+1} - t~_i) sum_j w_ij d_j,
    t~_{i+1} = t~_i + (t_{i+1} - t~_i) sum_j w_ij

so that weights which do not sum to 1 move the level with the state, and the next step leads from there to the schedule's own
level. With an analytic first step d_0 is x_0/sqrt(1 + t_0^2), and c begins at the second step. On FLUX d_i is the velocity at
the time c_i t~_i. Levels of the tableau are those of the schedule, the t_i.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from s4s.errors import S4SError, explain
from s4s.export.zoo.diff_sampler_networks import DATASETS, Fitted, Flow, Network, network_of
from s4s.export.zoo.diff_sampler_schedules import exponential_shift, flux_shift, schedule
from s4s.export.zoo.snapshot import content_of, has_name, named_in_errors, numbers, snapshot, table
from s4s.export.zoo.source import Source
from s4s.export.zoo.transcript import Transcript
from s4s.models.load import Outline
from s4s.models.torch_checkpoint import load_content
from s4s.tableau import Tableau

SOURCE = Source(
    "https://github.com/Westlake-AGI-Lab/DyWeight",
    "620534e32eab5235077a4a0545b8d59b7076fcec",
    "arXiv 2603.11607",
    "none stated",
)
FLUX_KEY = "dyweight_weights_raw"
FLUX_GUIDANCE = 3.5  # of its configs, embedded in the network; its files do not say


class _Predictor(BaseModel):
    """What the recorded predictor says of itself."""

    model_config = ConfigDict(strict=True)
    num_steps: int = Field(ge=2, le=100)
    afs: bool
    guidance_rate: float | None = Field(None, allow_inf_nan=False)


class _Loss(BaseModel):
    """What the recorded loss says of the schedule and the data; defaults as in the authors' own program."""

    model_config = ConfigDict(strict=True)
    schedule_type: str = "polynomial"
    schedule_rho: float = Field(7.0, gt=0, le=100)
    dataset_name: str = "cifar10"


def looks_like(path: Path) -> bool:
    """Whether a file is a snapshot of DyWeight, or its checkpoint for FLUX."""
    return has_name(path, (b"\x80",), b"DyWeight_predictor") or has_name(path, (b"PK",), FLUX_KEY.encode())


def read(
    path: Path, model: Outline, *, guidance: float | None = None, resolution: int = 512, clip: bool = False
) -> list[Tableau]:
    """The solver of a network-snapshot-*.pkl, or of a dyweight_nfe*.pt for FLUX.

    Args:
        guidance: with which the model is used; None where nobody said.
        resolution: of images of FLUX, in pixels, on which its times depend; the authors' configs have 512.
        clip: tell FLUX the time 1 where the file has one beyond it. All three published files do in their first evaluation,
            1.017, 1.012 and 1.011, which no path has.
    Raises:
        S4SError: if the file cannot be read, is none of DyWeight, was fitted for another network, path or guidance, or is no
            linear solver.
    """
    with named_in_errors(path):
        if content_of(path)[:2] == b"PK":
            made = _of_flux(path, model, guidance, resolution, clip)
        else:
            made = _of_snapshot(path, model, guidance)
    return [made.with_meta(**SOURCE.meta(), file=path.name)]


def _of_snapshot(path: Path, model: Outline, guidance: float | None) -> Tableau:
    recorded, about = snapshot(path, "predictor")
    state = recorded.state
    try:
        predictor = _Predictor.model_validate(state)
        loss = _Loss.model_validate({key: value for key, value in about.items() if value is not None})
    except ValidationError as error:
        raise S4SError(explain(error, str(path))) from error
    if loss.dataset_name not in DATASETS:
        raise S4SError(f"it was fitted for {loss.dataset_name}, which no model here is of; known: {', '.join(DATASETS)}")
    on_pixels = loss.dataset_name not in ("ms_coco", "lsun_bedroom_ldm")
    scale = predictor.guidance_rate if loss.dataset_name == "ms_coco" else None
    fitted = Fitted(loss.dataset_name, DATASETS[loss.dataset_name][0], scale)
    network = network_of(fitted, "edm" if on_pixels else "ldm", model, guidance)
    count = predictor.num_steps
    if count - 1 == predictor.afs:
        raise S4SError("its only step is the analytic one, so that it evaluates no network")
    weights = table(state, "_parameters", "hybrid_weights", (count - 1, count - 1), path)
    weights = weights * table(state, "_buffers", "mask", (count - 1, count - 1), path)
    factors = torch.ones(count - 1, dtype=torch.float64)
    if state["_parameters"].get("t_scale") is not None:
        first = int(predictor.afs)
        factors[first:] = table(state, "_parameters", "t_scale", (count - 1 - first,), path)
    t = schedule(loss.schedule_type, loss.schedule_rho, count, network)
    made = _tableau(weights, factors, t, network, predictor.afs)
    return made.with_meta(**fitted.meta(), schedule=loss.schedule_type, analytic_first_step=predictor.afs)


def _of_flux(path: Path, model: Outline, guidance: float | None, resolution: int, clip: bool) -> Tableau:
    data = load_content(content_of(path), path, "solver")
    raw = data.get(FLUX_KEY) if isinstance(data, dict) else None
    if not isinstance(raw, Tensor) or raw.ndim != 2 or not 1 <= len(raw) <= 100:
        raise S4SError(f"not DyWeight's solver for FLUX: it holds no weights {FLUX_KEY}, at most 100 x 100")
    if not 256 <= resolution <= 4096 or resolution % 16:
        raise S4SError(f"the resolution must be a multiple of 16 from 256 to 4096, got {resolution}")
    weights = numbers(raw, FLUX_KEY, (len(raw), len(raw)), path)
    factors = numbers(data.get("dyweight_t_scales"), "dyweight_t_scales", (len(raw),), path)
    fitted = Fitted("ms_coco", "FLUX.1-dev", FLUX_GUIDANCE)
    network = network_of(fitted, "flow", model, guidance)
    times = torch.linspace(1, 1 / len(raw), len(raw), dtype=torch.float64)
    t = torch.cat([exponential_shift(times, flux_shift(resolution)), torch.zeros(1, dtype=torch.float64)])
    made = _tableau(weights, factors, t, network, False, clip)
    return made.with_meta(**fitted.meta(), resolution=resolution, **({"clipped": True} if clip else {}))


def _tableau(weights: Tensor, factors: Tensor, t: Tensor, network: Network, analytic: bool, clip: bool = False) -> Tableau:
    """The loop; weights [N, N], of which the lower triangle counts, factors [N], levels t [N + 1]."""
    times, flow = t.tolist(), isinstance(network, Flow)
    loop = Transcript(len(weights) - analytic, network.s_max, network.start(times[0]))
    state, here, directions = loop.start, times[0], list[Tensor]()
    for i, goal in enumerate(times[1:]):
        if analytic and i == 0:
            direction = state / (1 + here**2) ** 0.5
        else:
            told = float(factors[i]) * here
            told = min(told, 1.0) if clip else told if flow else abs(told)
            if not told > 0:
                raise S4SError(f"its step {i + 1} tells the network the level {told:g}; a level is above 0")
            gain = 1.0 if flow else told / (here + 1e-8)
            state, direction = loop.evaluate(state, network.level(times[i]), network.feed(told, gain))
        directions.append(direction)
        row = weights[i, : i + 1]
        state = state + (goal - here) * torch.einsum("j,jab->ab", row, torch.stack(directions))
        here = here + float(row.sum()) * (goal - here)
    return loop.tableau(state, network.level(times[-1]))
