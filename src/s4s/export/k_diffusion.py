"""A sampler for k-diffusion and what is built on it: `sample_s4s(model, x, sigmas, tableau=file)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.export.collection import Source, from_the_middle, listed, pick, read_tableaux, stopped
from s4s.export.coordinates import Coordinates, on_table, preconditioned
from s4s.export.custom_timesteps import numbers
from s4s.jobs.progress_bar import progress
from s4s.models.paths import FlowMatching
from s4s.models.predicting import Prediction
from s4s.models.provenance import check, part
from s4s.sampling import run
from s4s.tableau import Tableau

FLOW = FlowMatching()
OF_TABLES: dict[str, Prediction] = {
    "DiscreteEpsDDPMDenoiser": "epsilon",
    "DiscreteVDDPMDenoiser": "v_prediction",
}  # k-diffusion's classes


def sigmas_of(tableau: Source, flow: bool = False) -> Tensor:
    """What to pass as sigmas, float32 [N + 1]: the solver's levels s, or their times t = s/(1 + s) for flow matching.

    Raises:
        S4SError: if that is no tableau, or several of them.
    """
    one, *others = read_tableaux(tableau).values()
    if others:
        raise S4SError(
            f"sigmas_of takes one solver, but there are solvers for {listed(read_tableaux(tableau))} steps; give one"
        )
    return (FLOW.t_of_s(one.levels) if flow else one.levels).float()


@torch.no_grad()
def sample_s4s(
    model: Callable[..., Tensor],
    x: Tensor,
    sigmas: Sequence[float] | Tensor,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], Any] | None = None,
    disable: bool | None = None,
    tableau: Source | None = None,
    flow: bool = False,
) -> Tensor:
    """Run a learned solver, with the signature of k-diffusion's samplers (Crowson, github.com/crowsonkb/k-diffusion).

    Nodes that do not see each other's outputs are evaluated one after the other, for `extra_args` belong to the rows of x.

    Args:
        model: model(x, sigma [B], **extra_args) returns the denoised state, as k-diffusion's wrappers do.
        x: the start, sigmas[0] times unit noise, [B, *shape].
        sigmas: the solver's own levels, as `sigmas_of` gives them, to 1e-3, [N + 1]. The first n + 1 alone make its first n
            steps. The last n + 1 begin in the middle: DPM-Solver++ then runs on them, for a learned solver's weights are for
            whole runs; a warning says so.
        extra_args: passed to the model.
        callback: called after each evaluation with x, i, sigma, sigma_hat and denoised, as k-diffusion's samplers do.
        disable: true hides the progress bar.
        tableau: a tableau, its JSON form, its file, a folder of files for several numbers of steps, or several of these.
        flow: the model's states are (1 - t) x_0 + t noise and its sigmas are t, as ComfyUI has them for rectified flow.
    Returns:
        The state at sigmas[-1], [B, *shape].
    Raises:
        S4SError: if no tableau is given, sigmas are not those of one of them, they stop where it has no state, or it was made
            for a network of another kind, as far as k-diffusion's own wrappers say of what kind theirs is.
    """
    if tableau is None:
        raise S4SError("sample_s4s needs a solver: pass tableau=, a tableau or its file")
    given, exact = numbers("sigmas", sigmas)
    whole, begin = _matching(read_tableaux(tableau), given, exact, flow)
    _check(whole, model, flow)
    solver = stopped(from_the_middle(whole.levels[begin:], whole.nfe) if begin else whole, len(given) - 1)
    extra = dict(extra_args or {})

    def alpha(s: Any) -> Any:  # x = alpha y; k-diffusion's own models have alpha = 1
        return FLOW.alpha_of_s(s) if flow else 1.0

    dtype, ends = x.dtype, solver.levels.tolist()
    x = x.to(torch.promote_types(dtype, torch.float32))  # y = x/alpha may be beyond what half precision holds

    def denoiser(y: Tensor, s: Any, condition: Tensor | None) -> Tensor:
        time: Any = FLOW.t_of_s(s) if flow else s
        denoised = model((y * alpha(s)).to(dtype), y.new_full((len(y),), time, dtype=dtype), **extra)
        return denoised.to(torch.promote_types(denoised.dtype, y.dtype))

    if not begin:  # noise of the solver's own level, of which sigmas may be a rounding
        x = x * (float(sigmas_of(whole, flow)[0]) / given[0])
    with progress(total=solver.nfe, desc="sample", unit="evaluation", disable=bool(disable)) as bar:

        def step(i: int, y: Tensor, denoised: Tensor) -> None:
            bar.update()
            if callback is not None:
                shown = (y * alpha(ends[i])).to(dtype)
                callback({"x": shown, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})

        y = run(denoiser, x / alpha(ends[0]), solver, None, step)
    end: Tensor = y * alpha(ends[-1])
    return end.to(dtype)


def _check(tableau: Tableau, model: Any, flow: bool) -> None:
    if flow and (path := part(tableau, "parametrisation").get("path", "flow")) != "flow":
        raise S4SError(f"the solver was made for a network with path {path}, but flow=True is for one with path flow")
    if (network := coordinates_of(model)) is not None:
        check(tableau, network, "this model")


def coordinates_of(model: Any) -> Coordinates | None:
    """The parametrisation that k-diffusion's wrapper, itself wrapped or not, stands for; None if it is none of its own."""
    while model is not None:
        names = [kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("k_diffusion.")]
        for name in names:
            if name in OF_TABLES:
                return on_table(model.sigmas, OF_TABLES[name])
        if "Denoiser" in names:  # of Karras et al. (k_diffusion/layers.py)
            return preconditioned(float(model.sigma_data))
        model = getattr(model, "inner_model", None)
    return None


def _matching(tableaux: Mapping[int, Tableau], sigmas: list[float], exact: float, flow: bool) -> tuple[Tableau, int]:
    """The tableau that has `sigmas` among its levels, one after another, and how many of its steps come before them."""
    steps = len(sigmas) - 1
    if steps < 1:
        raise S4SError(f"sigmas must be a list of at least 2 levels, got {len(sigmas)}")
    wanted = torch.tensor(sigmas, dtype=torch.float64)
    for tableau in sorted(tableaux.values(), key=lambda tableau: tableau.nfe != steps):
        own = sigmas_of(tableau, flow).double()
        for begin in range(tableau.nfe - steps, -1, -1):
            if torch.allclose(own[begin : begin + steps + 1], wanted, rtol=exact, atol=1e-6):
                return tableau, begin
    tableau = pick(tableaux, steps, "take sigmas from sigmas_of(tableau)")
    shown = ", ".join(f"{level:.6g}" for level in sigmas_of(tableau, flow).tolist())
    raise S4SError(
        f"sigmas are {', '.join(f'{level:.6g}' for level in sigmas)}, but the solver is fitted to {shown}; "
        "take them from sigmas_of(tableau)"
    )
