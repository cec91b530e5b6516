"""What every learned solver is to a fit: weights and levels in, a tableau out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.solvers.exponential import ratios
from s4s.tableau import Tableau


class Family(ABC):
    """A differentiable map from weights theta [size] and levels [N + 1] to a tableau.

    theta = 0 on the levels of the base solver gives that solver.

    Attributes:
        size: number of weights.
        discrete: they are whole numbers, without derivatives.
    """

    size: int
    discrete = False

    @abstractmethod
    def tableau(self, levels: Tensor, theta: Tensor) -> Tableau:
        """The solver with these weights on these levels."""

    def conditioned(self, tableau: Tableau, conditioning: Tensor) -> Tableau:
        """A solver of this family at other conditioning levels, [N]; its weights stay what they are."""
        return replace(tableau, eval_levels=conditioning)


def name_of(base: Tableau) -> str:
    """How an error calls a solver."""
    return str(base.meta.get("token") or base.meta.get("solver") or "this solver")


def check_base(base: Tableau, family: str) -> None:
    """Raise S4SError unless `base` ends above level 0."""
    if base.levels[-1] == 0:
        raise S4SError(
            f"family {family!r} cannot be initialised with {name_of(base)}, which ends at level 0; leave out to_zero"
        )


def check_order(order: int | None, base: Tableau) -> None:
    """Raise S4SError unless an order is None or one that the solver has outputs for."""
    if order is not None and not 1 <= order <= base.nfe:
        raise S4SError(f"order {order} of the learned solver must lie between 1 and its NFE, {base.nfe}")


def band(nfe: int, width: int) -> Tensor:
    """1 where a row may weigh one of its last `width` outputs, else 0; [N, N]."""
    return torch.ones(nfe, nfe, dtype=torch.float64).tril().triu(1 - width)


def data_form(base: Tableau, family: str) -> tuple[Tensor, Tensor]:
    """B and g of the solver in the form y_{n+1}/s_{n+1} = y_n/s_n + g_n y_0/s_0 + sum_j B[n,j] D_j/s_{n+1}, [N, N] and [N].

    g is 0 for every solver that is exact on D = 0. A solver that has this form already is given back bit for bit.
    """
    check_base(base, family)
    r = ratios(base.levels)
    if torch.equal(torch.diag(r), base.A):
        return base.B, torch.zeros_like(r)
    a, b = base.reduced()
    relative = a * base.levels[0] / base.levels
    g = relative[1:] - relative[:-1]
    return b[1:] - r[:, None] * b[:-1], torch.where(g.abs() < 1e-12, 0.0, g)


def noise_form(base: Tableau, family: str) -> Tensor:
    """B of the solver in the form y_{n+1} = y_n + sum_j B[n,j] (D_j - y_j), bit for bit where it has that form already.

    Raises:
        S4SError: if it is not exact on D = 0 and on constant states.
    """
    check_base(base, family)
    unit = torch.eye(base.nfe, dtype=torch.float64)
    if torch.equal(unit - base.B, base.A):
        return base.B
    a, b = base.reduced()
    if not torch.allclose(a, base.levels / base.levels[0]) or not torch.allclose(a + b.sum(1), torch.ones_like(a)):
        raise S4SError(
            f"family {family!r} in noise prediction can only be initialised with a solver that is exact for D = 0 and for "
            f"constant states; {name_of(base)} is not (none with an analytic first step is)"
        )
    B: Tensor = torch.linalg.solve_triangular(unit - b[:-1], b[1:] - b[:-1], upper=False, left=False)
    return B


def check_inside(B: Tensor, mask: Tensor, base: Tableau, family: str, remedy: str) -> None:
    """Raise S4SError if the base solver has weights where the family has none."""
    outside = B.abs().gt(1e-12) & (mask == 0)
    if bool(outside.any()):
        needed = max(n - j + 1 for n, j in outside.nonzero().tolist())
        raise S4SError(
            f"family {family!r} cannot be initialised with {name_of(base)}, which uses the last {needed} outputs; "
            f"{remedy.format(needed)}"
        )
