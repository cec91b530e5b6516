"""A step cache whose evaluated steps are chosen: the honest rival of learned numbers at as many evaluations."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.learning.families.family import Family, check_base, name_of
from s4s.models.paths import Path
from s4s.solvers import SOLVERS, solver
from s4s.solvers.cached import evaluated_steps, with_cache
from s4s.tableau import Tableau


class StepCache(Family):
    """A classical solver with M steps of which N are evaluated: which of them, the first apart, is all there is to choose.

    theta [N - 1] holds whole numbers: how many steps later each evaluation is made than by the base. The nodes' levels follow
    from the choice. A fit needs optimiser `exchange`, for nothing here has a derivative.

    Args:
        base: a solver with a step cache, whose meta says how it was made. path: the model's Gaussian path, for deis.
    Raises:
        S4SError: if `base` is not what its meta says.
    """

    discrete = True

    def __init__(self, base: Tableau, path: Path | None = None):
        check_base(base, "cached")
        kind, steps, options = str(base.meta.get("solver")), base.meta.get("steps"), dict(base.meta.get("options", {}))
        if kind not in SOLVERS or not steps or "cached" not in options:
            raise S4SError(f"family 'cached' chooses steps of a step cache, which {name_of(base)} is not; give it cached: 2")
        cached, self.reuse = options.pop("cached"), options.pop("reuse")
        self.whole = solver(kind, torch.tensor(steps, dtype=torch.float64), path=path, **options)
        self.start = torch.tensor(evaluated_steps(cached, self.whole.nfe))
        self.size = base.nfe - 1
        if not self._with(self.start).same_as(base):
            raise S4SError(f"{name_of(base)} is not what its meta says that it is: {kind} with a step cache on its own levels")

    def tableau(self, levels: Tensor, theta: Tensor) -> Tableau:
        """The solver with this choice; `levels` are those of the base and count for nothing.

        Raises:
            S4SError: if two evaluations are at the same step, or one is beyond the last.
        """
        moves = torch.cat([torch.zeros(1, dtype=theta.dtype), theta]).round().long()
        return self._with(self.start + moves)

    def _with(self, evaluated: Tensor) -> Tableau:
        return with_cache(self.whole, evaluated.tolist(), self.reuse)
