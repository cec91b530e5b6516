"""Classical solvers. A new one is one file, solvers/NAME.py with a function NAME (levels -> Tableau), and one line in SOLVERS.

This file imports no torch before a tableau is made, since the config is checked against SOLVERS.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from s4s.errors import S4SError
from s4s.schedules.registry import call_checked

if TYPE_CHECKING:
    from torch import Tensor

    from s4s.models.paths import Path
    from s4s.tableau import Tableau


class Solver(NamedTuple):
    """The values that a solver's options may take, and whether it is an exponential integrator.

    An exponential integrator is exact where D = 0 and where D = y, and evaluates each node at its own level.
    """

    options: dict[str, tuple[Any, ...]]
    exponential: bool = True


_PREDICTION: dict[str, tuple[Any, ...]] = {"prediction": ("data", "noise")}
_VARIANT: dict[str, tuple[Any, ...]] = {"variant": ("midpoint", "heun")}
_LOWER: dict[str, tuple[Any, ...]] = {"lower_order_final": (False, True)}
_FLAG = (False, True)

SOLVERS: dict[str, Solver] = {
    "ddim": Solver({}),
    "heun": Solver({}, exponential=False),
    "dpm2": Solver({**_PREDICTION, **_VARIANT, **_LOWER}),
    "dpm3": Solver({**_PREDICTION, **_VARIANT, **_LOWER}),
    "dpmpp": Solver({"order": (1, 2, 3), **_PREDICTION, **_VARIANT, **_LOWER}),
    "unipc": Solver({"order": (1, 2, 3), **_PREDICTION, "variant": ("bh1", "bh2"), **_LOWER, "corrector": _FLAG}),
    "deis": Solver({"order": (1, 2, 3, 4), "clock": ("time", "sigma", "lambda"), **_LOWER}),
    "ipndm": Solver({"order": (1, 2, 3, 4)}),
    "ipndm_v": Solver({"order": (1, 2, 3, 4)}),
    "pndm": Solver({}, exponential=False),
    "adams": Solver({"order": (1, 2, 3, 4)}, exponential=False),
    "runge_kutta": Solver({"order": (1, 2, 3, 4)}, exponential=False),
    "dpm_v3": Solver({"order": (1, 2, 3), **_LOWER, "corrector": _FLAG, "p_pseudo": _FLAG, "c_pseudo": _FLAG}, False),
}


def make_function(kind: str) -> Callable[..., Tableau]:
    """The function that makes the tableau of a registered solver."""
    make: Callable[..., Tableau] = getattr(import_module(f"s4s.solvers.{kind}"), kind)
    return make


def solver(
    kind: str,
    levels: Tensor,
    *,
    analytic_first_step: bool = False,
    start: float | None = None,
    path: Path | None = None,
    **options: Any,
) -> Tableau:
    """The tableau of a classical solver on given levels.

    Args:
        kind: a name in SOLVERS.
        levels: noise levels s_0 > ... > s_N >= 0, [N + 1]. A level 0 at the end makes the last evaluation a final denoising
            step, which is the result.
        analytic_first_step: take the first step without an evaluation, so that N levels below the first cost N - 1.
        start: the level that sampling starts from, where it is above levels[0]: the noise is scaled down to levels[0].
        path: the model's Gaussian path, for solvers that count in its time (deis); by default the VP path with linear beta.
        options: order, prediction, variant, lower_order_final, ..., where the solver has them.
    Raises:
        S4SError: if the kind, an option or the levels are not allowed, or the order exceeds the number of evaluations.
    """
    import torch

    from s4s.solvers.first_evaluation import scaled_start, without_first_evaluation
    from s4s.tableau import check_levels

    if kind not in SOLVERS:
        raise S4SError(f"unknown solver {kind!r}; known: {', '.join(sorted(SOLVERS))}")
    levels = torch.as_tensor(levels, dtype=torch.float64)
    check_levels(levels)
    if len(levels) < 2 or not bool(levels[-2] > 0):
        raise S4SError(f"solver {kind!r} needs at least 2 levels, all above 0 but the last, got {levels.tolist()}")
    for option, value in options.items():
        allowed = SOLVERS[kind].options.get(option)
        if allowed is not None and value not in allowed:
            raise S4SError(f"solver {kind!r}: {option} must be one of {', '.join(map(str, allowed))}, got {value!r}")
    nfe = len(levels) - 1
    make = make_function(kind)
    parameters = inspect.signature(make).parameters
    default = parameters.get("order")
    order = options.get("order", default.default if default else 1)
    if order > nfe:
        raise S4SError(f"solver {kind!r}: order {order} is larger than NFE {nfe}; lower the order or raise the NFE")
    in_time = {"path": path} if path is not None and "path" in parameters else {}
    tableau = call_checked(make, f"solver {kind!r}", levels, **options, **in_time)
    plain = {name: value for name, value in options.items() if name in SOLVERS[kind].options}
    if analytic_first_step:
        tableau, plain = without_first_evaluation(tableau), {**plain, "analytic_first_step": True}
    if start is not None:
        tableau = scaled_start(tableau, start)
    return tableau.with_meta(solver=kind, options=plain)
