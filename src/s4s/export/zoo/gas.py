"""GAS and GS: checkpoints of generalized solvers (Oganov et al. 2025, arXiv 2510.17699), `STEP.pt` of its training program.

`ema: shadow_params` are, of N steps and order K (its program has K = N): mu_logit [N - 1], of the times; t_couple [N], by which
the network is told another time than the node's; then c1, a1, c2, a2, ... cK, aK [N] each, by which the weights of
DPM-Solver++(3M) are changed: c_k those of the k-th last output or difference of outputs, a_k that of the k-th last state x.
Read in src/gas/gs_wrapper.py and generalized_solver.py (use_theory_coef, as all its configs have it).

Its times are those of a variance-preserving path in [0, 1], from 1 to t_eps. On EDM's networks that is the path with linear
beta from 0.1 to 20, whose time 1 is level 152, whatever the model's own highest level; the first input is noise of that level.
On a table of T betas entry k is t = (k + 1)/T, and it interpolates ln alpha between entries where paths here interpolate ln s:
its steps have its alpha, and what the network is fed and told is the same. Its output is taken as the noise e at the told time,

    x_0 = (x - sigma(t) e(x, t + t_couple))/alpha(t).

The result is x/alpha at t_eps. A checkpoint says neither its model nor its guidance.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.export.zoo.log_alpha import log_alpha_at, log_alphas
from s4s.export.zoo.source import Source
from s4s.files.bounded import MB, read_bytes
from s4s.models.paths import Path as GaussianPath
from s4s.models.paths import VPDiscrete, VPLinear
from s4s.models.torch_checkpoint import load_content
from s4s.tableau import Tableau

if TYPE_CHECKING:
    from s4s.models.load import Outline

SOURCE = Source(
    repository="https://github.com/3145tttt/GAS",
    commit="f090ede4f90f5a65ca46a4440ce252c831cdc0d7",
    paper="arXiv 2510.17699",
    licence="MIT",
)
BYTES, STEPS = 4 * MB, 64  # its program makes solvers of 4 to 10 steps, in 20 kB
OFFSET = 1e-5  # eps_mu_offset


def looks_like(path: Path) -> bool:
    """Whether it is a small file of torch.save with the name of the averages in it."""
    if path.suffix != ".pt" or path.stat().st_size > BYTES:
        return False
    return b"shadow_params" in path.read_bytes()


def read(path: Path, model: Outline, *, guidance: float | None = None, t_eps: float = 1e-3) -> list[Tableau]:
    """The solver of a checkpoint.

    Args:
        guidance: the scale that it was trained with: 7.5 in its config of Stable Diffusion, 2 in that of ImageNet, else none.
        t_eps: its last time, 1e-3 in all its configs.
    Raises:
        S4SError: if the file cannot be read, is no such checkpoint, or the model has another path or too few levels.
    """
    if not 0 < t_eps < 1:
        raise S4SError(f"{path}: t_eps must be between 0 and 1, got {t_eps}")
    logits, couple, changes = _parameters(path)
    mu = logits.sigmoid() * (1 - 2 * OFFSET) + OFFSET
    one = torch.ones(1, dtype=torch.float64)
    t = torch.cat([one, ((1 - mu.cumprod(0)) * (1 - t_eps) + t_eps).flip(0), t_eps * one])
    told = t[:-1] + couple
    alpha, eval_levels = _alpha(t, model, path), _told_levels(told, model)
    s = (alpha**-2 - 1).sqrt()
    levels = torch.cat([torch.tensor([model.s_max], dtype=torch.float64), s[1:]])
    if abs(levels[-1] / model.s_min - 1) < 1e-4:
        levels[-1] = model.s_min
    if s[1] >= model.s_max:
        raise S4SError(
            f"{path}: its second level, {s[1]:.6g}, is at or above the highest of model {model.name}, {model.s_max:.6g}: set "
            f"s_max to that of its path, {s[0]:.6g}"
        )
    fed = model.path.alpha_of_s(eval_levels)  # x is fed as fed z, and node n of the tableau is z; node 0 is y_0 = s_max x
    x_of_node = torch.cat([one / model.s_max, fed[1:]])
    of_output = s[:-1] / eval_levels  # x_0 = of_input x + of_output D with D = z - told e
    of_input = 1 / alpha[:-1] - of_output / fed
    after = torch.cat([fed[1:], alpha[-1:]])[:, None]
    of_x, of_data = _rows(alpha, s, changes)
    A, B = (of_x + of_data * of_input) * x_of_node / after, of_data * of_output / after
    tableau = Tableau(levels, A, B, eval_levels, kappa=float(1 / (fed[0] * model.s_max)))
    return [tableau if guidance is None else tableau.with_meta(guidance=float(guidance))]


def _rows(alpha: Tensor, s: Tensor, changes: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Weights of the states x and of its outputs x_0 in each next x, [N, N] both: DPM-Solver++(3M) with the changes (c, a)."""
    n, lam = len(alpha) - 1, -s.log()
    sigma, h = alpha * s, (-s.log()).diff()
    of_x, of_data = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    unit = torch.eye(n, dtype=torch.float64)
    for i in range(n):
        order = min(i + 1, len(changes))
        c = [change[i] for change, _ in changes]
        phi_1 = torch.expm1(-h[i])
        of_x[i, i] = sigma[i + 1] / sigma[i]
        of_x[i] += sum(changes[k][1][i] * unit[i - k] for k in range(order))
        row = -(alpha[i + 1] * phi_1 + c[0]) * unit[i]
        if order > 1:
            r0 = (lam[i] - lam[i - 1]) / h[i]
            first = (unit[i] - unit[i - 1]) / r0
            if order == 2:
                row = row - (alpha[i + 1] * phi_1 / 2 + c[1]) * first
            else:
                r1 = (lam[i - 1] - lam[i - 2]) / h[i]
                second = (unit[i - 1] - unit[i - 2]) / r1
                phi_2 = phi_1 / h[i] + 1
                phi_3 = phi_2 / h[i] - 0.5
                row = row + (alpha[i + 1] * phi_2 + c[1]) * (first + r0 / (r0 + r1) * (first - second))
                row = row - (alpha[i + 1] * phi_3 + c[2]) * (first - second) / (r0 + r1)
                row = row + sum(c[k] * unit[i - k] for k in range(3, order))
        of_data[i] = row
    return of_x, of_data


def _alpha(t: Tensor, model: Outline, where: Path) -> Tensor:
    """Its alpha at its times."""
    path: GaussianPath = model.path
    if isinstance(path, VPDiscrete):
        return log_alpha_at(log_alphas(path), path.times * t - 1).exp()
    if isinstance(path, VPLinear) and (path.beta_min, path.beta_max) == (0.1, 20.0):
        return path.alpha_of_s(path.s_of_t(t))
    raise S4SError(
        f"{where}: GAS is for a table of betas, or the path vp_linear with beta 0.1 to 20 (EDM's networks), but model "
        f"{model.name} has the path {path.kind}; take a solver for that"
    )


def _told_levels(told: Tensor, model: Outline) -> Tensor:
    """The levels at which the model's network is told these times."""
    path: GaussianPath = model.path
    return path.s_of_t(path.times * told - 1 if isinstance(path, VPDiscrete) else told)


def _parameters(path: Path) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """mu_logit [N - 1], t_couple [N], and (c_k, a_k), [N] both, for k = 1 ... K."""
    try:
        snapshot = load_content(read_bytes(path, BYTES), path, "solver")
    except OSError as error:
        raise S4SError(f"{path}: cannot be read: {error}") from error
    try:
        found = snapshot["ema"]["shadow_params"]
        lengths = [len(values) for values in found]
        fits = all(isinstance(values, Tensor) and values.ndim == 1 and values.is_floating_point() for values in found)
    except (TypeError, KeyError, IndexError):
        raise S4SError(f"{path}: no checkpoint of GAS: needs ema: shadow_params, a list of tensors") from None
    n = lengths[0] + 1 if lengths else 0
    if (
        not fits
        or not 2 <= n <= STEPS
        or lengths[1:] != [n] * (len(found) - 1)
        or not 4 <= len(found) <= 2 + 2 * n
        or len(found) % 2
    ):
        raise S4SError(
            f"{path}: no checkpoint of GAS: of N steps it has 1 tensor of N - 1 numbers and 3 to 2 N + 1 of N, got {lengths}"
        )
    logits, couple, *rest = (values.detach().double() for values in found)
    if not all(bool(torch.isfinite(values).all()) for values in (logits, couple, *rest)):
        raise S4SError(f"{path}: holds a number that is not finite; get the file again")
    return logits, couple, [*zip(rest[::2], rest[1::2], strict=True)]
