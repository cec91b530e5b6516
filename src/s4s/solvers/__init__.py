"""Classical solvers. A new one is one file (levels -> Tableau) and one line here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from s4s.arguments import call_checked
from s4s.errors import S4SError
from s4s.solvers.ddim import ddim
from s4s.solvers.dpmpp import dpmpp
from s4s.solvers.ipndm import ipndm
from s4s.solvers.unipc import unipc
from s4s.tableau import Tableau, check_levels


class Solver(NamedTuple):
    """A registered solver: levels and options to a Tableau, and the values its options may take."""

    make: Callable[..., Tableau]
    allowed: dict[str, tuple[Any, ...]]


SOLVERS: dict[str, Solver] = {
    "ddim": Solver(ddim, {}),
    "dpmpp": Solver(dpmpp, {"order": (1, 2, 3), "lower_order_final": (False, True)}),
    "ipndm": Solver(ipndm, {"order": (1, 2, 3, 4)}),
    "unipc": Solver(unipc, {"order": (1, 2, 3), "variant": ("bh1", "bh2"), "lower_order_final": (False, True)}),
}


def solver(kind: str, levels: Tensor, **options: Any) -> Tableau:
    """The tableau of a classical solver on given levels.

    Args:
        kind: a name in SOLVERS.
        levels: noise levels s_0 > ... > s_N > 0, [N + 1].
        options: order, variant, lower_order_final, where the solver has them.
    Raises:
        S4SError: if the kind, an option or the levels are not allowed, or the order exceeds N.
    """
    if kind not in SOLVERS:
        raise S4SError(f"unknown solver {kind!r}; known: {', '.join(sorted(SOLVERS))}")
    levels = torch.as_tensor(levels, dtype=torch.float64)
    check_levels(levels)
    if len(levels) < 2 or not bool(levels[-1] > 0):
        raise S4SError(f"solver {kind!r} needs at least 2 levels, all above 0, got {levels.tolist()}")
    for option, value in options.items():
        allowed = SOLVERS[kind].allowed.get(option)
        if allowed is not None and value not in allowed:
            raise S4SError(f"solver {kind!r}: {option} must be one of {', '.join(map(str, allowed))}, got {value!r}")
    nfe = len(levels) - 1
    default = inspect.signature(SOLVERS[kind].make).parameters.get("order")
    order = options.get("order", default.default if default else 1)
    if order > nfe:
        raise S4SError(f"solver {kind!r}: order {order} is larger than NFE {nfe}; lower the order or raise the NFE")
    return call_checked(SOLVERS[kind].make, f"solver {kind!r}", levels, **options).with_meta(solver=kind, options=options)
