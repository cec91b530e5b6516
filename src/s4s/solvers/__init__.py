"""Classical solvers. A new one is one file, solvers/NAME.py with a function NAME (levels -> Tableau), and one line in SOLVERS.

This file imports no torch before a tableau is made, since the config is checked against SOLVERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from s4s.errors import S4SError, shown
from s4s.files.named_function import function_of
from s4s.schedules.registry import Options, call_checked, checked, is_own, takes

if TYPE_CHECKING:
    from torch import Tensor

    from s4s.models.paths import Path
    from s4s.tableau import Tableau

Prediction = Annotated[Literal["data", "noise"], Field(description="what is extrapolated")]
Lower = Annotated[bool, Field(description="lower orders in the last steps")]
Reuse = Literal["data", "noise", "flow", "easycache"]  # solvers/cached.py


class UpTo4(Options):
    order: Literal[1, 2, 3, 4] = 4


class SingleStep(Options):
    prediction: Prediction = "noise"
    variant: Literal["midpoint", "heun"] = "midpoint"
    lower_order_final: Lower = False


class DPMpp(Options):
    order: Literal[1, 2, 3] = 3
    prediction: Prediction = "data"
    variant: Literal["midpoint", "heun"] = "midpoint"
    lower_order_final: Lower = False


class UniPC(Options):
    order: Literal[1, 2, 3] = 3
    prediction: Prediction = "data"
    variant: Literal["bh1", "bh2"] = "bh2"
    lower_order_final: Lower = False
    corrector: bool = True


class DEIS(Options):
    order: Literal[1, 2, 3, 4] = 3
    lower_order_final: Lower = False
    clock: Literal["time", "sigma", "lambda"] = Field("time", description="variable of the polynomials")


class DPMv3(Options):
    order: Literal[1, 2, 3] = 3
    lower_order_final: Lower = False
    corrector: bool = True
    p_pseudo: bool = Field(False, description="pseudo-order derivatives in the predictor")
    c_pseudo: bool = Field(True, description="pseudo-order derivatives in the corrector")


class Solver(NamedTuple):
    """A classical solver.

    An exponential integrator is exact where D = 0 and where D = y, and evaluates each node at its own level.

    Attributes:
        function: (levels, options) to a tableau, as "module:function"; where it has a parameter `path`, the model's is given.
        options: their names, types and defaults.
        exponential: it is an exponential integrator.
        stages: evaluations of a step, for an exponential integrator that uses nothing of earlier steps.
        directions: it weighs directions e = (y - D)/s, or does so unless its prediction is data.
        files: options that are files which the workflow computes.
        levels_can_move: its formula can be made anew on other levels, from its options alone.
    """

    function: str
    options: type[Options] = Options
    exponential: bool = True
    stages: int | None = None
    directions: bool = False
    files: tuple[str, ...] = ()
    levels_can_move: bool = True

    def memory(self, options: Options, prediction: str) -> int | None:
        """How many of its last outputs a step weighs when it is written in a prediction; None for all of them."""
        if not self.exponential:
            return None
        if self.stages is not None:  # the same in either
            return self.stages
        if getattr(options, "prediction", "noise") != prediction:
            return None
        order: int = options.order  # type: ignore[attr-defined]
        return order + getattr(options, "corrector", False)

    def weighs_directions(self, given: Mapping[str, Any]) -> bool:
        """Whether it weighs directions with some options, the others by default."""
        default = self.options.model_fields.get("prediction")
        return self.directions and given.get("prediction", default.default if default else "noise") == "noise"


SOLVERS: dict[str, Solver] = {
    "ddim": Solver("s4s.solvers.ddim:ddim", stages=1),
    "heun": Solver("s4s.solvers.heun:heun", exponential=False, directions=True),
    "dpm2": Solver("s4s.solvers.dpm2:dpm2", SingleStep, stages=2, directions=True),
    "dpm3": Solver("s4s.solvers.dpm3:dpm3", SingleStep, stages=3, directions=True),
    "dpmpp": Solver("s4s.solvers.dpmpp:dpmpp", DPMpp, directions=True),
    "unipc": Solver("s4s.solvers.unipc:unipc", UniPC, directions=True),
    "deis": Solver("s4s.solvers.deis:deis", DEIS, directions=True),
    "ipndm": Solver("s4s.solvers.ipndm:ipndm", UpTo4, directions=True),
    "ipndm_v": Solver("s4s.solvers.ipndm_v:ipndm_v", UpTo4, directions=True),
    "pndm": Solver("s4s.solvers.pndm:pndm", exponential=False, directions=True),
    "adams": Solver("s4s.solvers.adams:adams", UpTo4, exponential=False),
    "runge_kutta": Solver("s4s.solvers.runge_kutta:runge_kutta", UpTo4, exponential=False),
    "dpm_v3": Solver("s4s.solvers.dpm_v3:dpm_v3", DPMv3, exponential=False, files=("statistics",), levels_can_move=False),
}
EXPONENTIAL = [kind for kind, entry in SOLVERS.items() if entry.exponential]


def solver_of(kind: str) -> Solver:
    """The entry of a solver, or what is supposed of a user's own, "module:function".

    Raises:
        S4SError: if there is none.
    """
    if is_own(kind):
        return Solver(kind, exponential=False)
    if not isinstance(kind, str) or kind not in SOLVERS:
        raise S4SError(f"unknown solver {shown(kind)}; known: {', '.join(sorted(SOLVERS))}")
    return SOLVERS[kind]


def make_function(kind: str) -> Callable[..., Tableau]:
    """The function that makes the tableau of a solver."""
    return function_of(solver_of(kind).function)


def solver(
    kind: str,
    levels: Tensor,
    *,
    analytic_first_step: bool = False,
    cached: int | Sequence[int] = 1,
    reuse: Reuse = "easycache",
    start: float | None = None,
    path: Path | None = None,
    **options: Any,
) -> Tableau:
    """The tableau of a classical solver on given levels.

    Args:
        kind: a name in SOLVERS, or "module:function" of one's own.
        levels: noise levels s_0 > ... > s_N >= 0, [N + 1]. A level 0 at the end makes the last evaluation a final denoising
            step, which is the result.
        analytic_first_step: take the first step without an evaluation, so that N levels below the first cost N - 1.
        cached: a step cache: only every so many-th step is evaluated, or those of a list, 0 first, so that N levels below the
            first cost as many as these. reuse: what the other steps reuse of the last evaluation (`solvers/cached.py`).
        start: the level that sampling starts from, where it is above levels[0]: the noise is scaled down to levels[0].
        path: the model's Gaussian path, for solvers that count in its time (deis); by default the VP path with linear beta.
        options: order, prediction, variant, lower_order_final, ..., where the solver has them.
    Raises:
        S4SError: if the kind, an option or the levels are not allowed, or the order exceeds the number of evaluations.
    """
    import torch

    from s4s.solvers.cached import with_cache
    from s4s.solvers.first_evaluation import scaled_start, without_first_evaluation
    from s4s.tableau import Tableau, as_number, as_numbers, check_levels

    entry, what = solver_of(kind), f"solver {kind!r}"
    levels = as_numbers(f"{what}: levels", levels)
    check_levels(levels)
    if len(levels) < 2 or not bool(levels[-2] > 0):
        raise S4SError(f"{what} needs at least 2 levels, all above 0 but the last, got {levels.tolist()}")
    nfe = len(levels) - 1
    files = {name: options.pop(name) for name in entry.files if name in options}
    plain = dict(options)
    if not is_own(kind):
        options = dict(checked(entry.options, what, options))
        if (order := options.get("order", 1)) > nfe:
            raise S4SError(f"{what}: order {order} is larger than NFE {nfe}; lower the order or raise the NFE")
    make = make_function(kind)
    in_time = {"path": path} if path is not None and takes(make, "path") else {}
    tableau = call_checked(make, what, levels, **options, **files, **in_time)
    if not isinstance(tableau, Tableau) or not torch.equal(tableau.levels, levels):
        raise S4SError(f"{what} must return a Tableau on the levels that it is given")
    if cached != 1:
        tableau = with_cache(tableau, cached, reuse).with_meta(steps=levels.tolist())
        plain = {**plain, "cached": cached if isinstance(cached, int) else [*map(int, cached)], "reuse": reuse}
    if analytic_first_step:
        tableau, plain = without_first_evaluation(tableau), {**plain, "analytic_first_step": True}
    if start is not None:
        tableau = scaled_start(tableau, as_number(f"{what}: start", start))
    return tableau.with_meta(solver=kind, options=plain)
