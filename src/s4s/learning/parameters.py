"""The parameters of a learned solver: one vector, the tableau that it stands for, and how the tableau moves with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from s4s.learning.families.family import Family
from s4s.models.paths import Path
from s4s.schedules.increments import moved
from s4s.tableau import Tableau

FARTHEST_STEP, FARTHEST = 3.0, 6.0  # of a conditioning level from its node's, as logarithms


@dataclass(frozen=True)
class Linearised:
    """A tableau and its derivatives by K parameters: levels [K, N+1], A, B [K, N, N], eval_levels [K, N], kappa [K]."""

    tableau: Tableau
    levels: Tensor
    A: Tensor
    B: Tensor
    eval_levels: Tensor
    kappa: Tensor


class Parameters:
    """One float64 vector, all zero at initialisation, in named parts.

    theta: the family's weights; xi [N]: the schedule; delta [N]: logarithms of the factors on the conditioning levels; kappa
    [1]: logarithm of the factor on y_0 in the first evaluation, and first [1], its part of delta, which is then not in delta.
    Zero stands for the base solver. Where kappa is tied, it is what keeps the network's first input as large as the base's,
    whatever level it is told, so that pipelines that start from unit noise do so still.

    Args:
        family: from weights and levels to a tableau.
        base: the base solver, whose schedule, conditioning levels and kappa are the initialisation of these.
        decoupled: whether there is delta. first_node: whether there are kappa and first.
        tied: where kappa is tied, the path on which the network's inputs are alpha y; then there is no first_node.
    """

    def __init__(
        self, family: Family, base: Tableau, decoupled: bool = False, first_node: bool = False, tied: Path | None = None
    ):
        self.family, self.levels, self.kappa, self.tied = family, base.levels.detach(), float(base.kappa), tied
        n = base.nfe
        first = int(first_node)
        sizes = {"theta": family.size, "xi": n, "first": first, "delta": (n - first) * decoupled, "kappa": first}
        self.parts: dict[str, slice] = {}
        self.size = 0
        for name, size in sizes.items():
            self.parts[name] = slice(self.size, self.size + size)
            self.size += size
        conditioning = family.tableau(self.levels, torch.zeros(family.size, dtype=torch.float64)).eval_levels
        self.first_scale = 1.0 if tied is None else float(tied.alpha_of_s(base.eval_levels[0]))
        self.conditioning_factors = base.eval_levels / conditioning  # 1 but where they differ from the nodes' levels

    def zeros(self) -> Tensor:
        """The parameters of the base solver, [size]."""
        return torch.zeros(self.size, dtype=torch.float64)

    def tableau(self, values: Tensor) -> Tableau:
        """The solver that the parameters stand for; differentiable.

        Raises:
            S4SError: if they stand for none (numbers that are not finite, levels that do not decrease).
        """
        theta, xi, first, delta, kappa = (values[part] for part in self.parts.values())
        tableau = self.family.tableau(moved(self.levels, xi), theta)
        conditioning = tableau.eval_levels * self.conditioning_factors
        own = torch.cat([first, delta])
        conditioning = conditioning * torch.cat([own.exp(), torch.ones(len(conditioning) - len(own), dtype=torch.float64)])
        moved_on = self.family.conditioned(tableau, conditioning)
        if self.tied is not None:
            return replace(moved_on, kappa=self.kappa * self.first_scale / self.tied.alpha_of_s(moved_on.eval_levels[0]))
        return replace(moved_on, kappa=self.kappa * kappa.exp()[0] if len(kappa) else self.kappa)

    def free(self, names: frozenset[str]) -> Tensor:
        """Indices of the parameters in the named parts."""
        return torch.cat([torch.arange(self.size)[part] for name, part in self.parts.items() if name in names])

    def bounded(self, values: Tensor, change: Tensor) -> Tensor:
        """A change [size] of the values, of which no conditioning level moves too far at once or in all.

        A network need not tell levels apart, as those for flow matching near pure noise, and then nothing else holds them.
        """
        change = change.clone()
        for part in (self.parts["first"], self.parts["delta"]):
            step = change[part].clamp(-FARTHEST_STEP, FARTHEST_STEP)
            change[part] = torch.where(
                (values[part] + step).abs() > FARTHEST, (values[part] + step).clamp(-FARTHEST, FARTHEST) - values[part], step
            )
        return change

    def linearise(self, values: Tensor, free: Tensor) -> Linearised:
        """The tableau at `values` and its derivatives by the parameters `free`."""
        values = values.detach().clone().requires_grad_()
        tableau = self.tableau(values)
        kappa = torch.as_tensor(tableau.kappa, dtype=torch.float64).reshape(1)
        numbers = torch.cat([tableau.levels, tableau.A.flatten(), tableau.B.flatten(), tableau.eval_levels, kappa])
        (slopes,) = torch.autograd.grad(numbers, values, torch.eye(len(numbers), dtype=torch.float64), is_grads_batched=True)
        n, K = tableau.nfe, len(free)
        levels, A, B, conditioning, kappas = slopes[:, free].T.split([n + 1, n * n, n * n, n, 1], dim=1)
        return Linearised(tableau.detach(), levels, A.reshape(K, n, n), B.reshape(K, n, n), conditioning, kappas[:, 0])

    def independent(self, free: Tensor) -> Tensor:
        """A largest choice of the parameters `free` whose effects on the solver are linearly independent, [<= len(free)].

        GS, PC and the softmax of a schedule have more parameters than ways to differ: two solvers are the same when their
        reduced forms and conditioning levels are. Steps along the chosen ones reach all that the others reach.
        """
        if not len(free) or self.family.discrete:
            return free
        lin = self.linearise(self.zeros(), free)
        slopes = _reduced_slopes(lin)
        slopes = slopes / slopes.norm(dim=1, keepdim=True).clamp_min(1e-300)
        basis: list[Tensor] = []
        kept = []
        # what moves late nodes only costs the fewest evaluations, so it is chosen first
        first_moved = ((lin.A != 0) | (lin.B != 0)).any(2).float().argmax(1).tolist()
        for k in sorted(range(len(free)), key=lambda k: (-first_moved[k], k)):
            rest = slopes[k]
            for direction in (*basis, *basis):  # twice, against rounding
                rest = rest - (rest @ direction) * direction
            if rest.norm() > 1e-6:
                basis.append(rest / rest.norm())
                kept.append(k)
        return free[sorted(kept)]


def _reduced_slopes(lin: Linearised) -> Tensor:
    """Derivatives of the reduced form and the conditioning levels, [K, numbers]."""
    t = lin.tableau
    a, b = t.reduced()
    slopes_a, slopes_b = [torch.zeros(len(lin.A), dtype=torch.float64)], [torch.zeros(len(lin.A), t.nfe, dtype=torch.float64)]
    for n in range(t.nfe):
        row, moved_row = t.A[n, : n + 1], lin.A[:, n, : n + 1]
        slopes_a.append(moved_row @ a[: n + 1] + torch.stack(slopes_a, 1) @ row)
        slopes_b.append(moved_row @ b[: n + 1] + torch.einsum("nkj,n->kj", torch.stack(slopes_b), row) + lin.B[:, n])
    conditioning = lin.eval_levels / t.eval_levels
    parts = [torch.stack(slopes_a[1:], 1), torch.stack(slopes_b[1:], 1).flatten(1), conditioning, lin.kappa[:, None]]
    return torch.cat(parts, 1)
