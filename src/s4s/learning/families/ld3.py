"""LD3: no weights at all. The classical formula on whatever levels the schedule takes."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from s4s.errors import S4SError, shown
from s4s.files.named_function import was_named
from s4s.learning.families.family import Family, name_of
from s4s.models.paths import Path
from s4s.schedules.registry import is_own
from s4s.solvers import SOLVERS, solver
from s4s.solvers.conditioning import conditioned
from s4s.tableau import Tableau


class LD3(Family):
    """The base solver's own formula on learned levels (Tong et al. 2024, arXiv 2405.15506); what is learned is the schedule.

    A base that weighs directions forms them with the conditioning level, e = (y - D)/s~, as LD3's iPNDM does.

    Args:
        base: any classical solver; its kind and options are read from its meta.
        path: the model's Gaussian path, for deis.
    Raises:
        S4SError: if `base` is not what its kind makes of its own levels.
    """

    size = 0

    def __init__(self, base: Tableau, path: Path | None = None):
        self.kind, self.options, self.path = str(base.meta.get("solver")), base.meta.get("options", {}), path
        if not (self.kind in SOLVERS or is_own(self.kind)):
            raise S4SError("a family that follows the levels needs a base made by s4s.solver, whose meta says its kind")
        if is_own(self.kind) and not was_named(self.kind):
            raise S4SError(
                f"the base's meta says that {shown(self.kind)} made it, which this fit would call; what a file says is not "
                f"called. If that function is yours, make the base with it: s4s.solver({shown(self.kind)}, levels)"
            )
        if base.levels[-1] == 0:
            raise S4SError(
                f"a learned schedule cannot be initialised with {name_of(base)}, which ends at level 0; leave out to_zero"
            )
        self.nfe = base.nfe
        again = None if {"analytic_first_step", "cached"} & {*self.options} else self._classical(base.levels)
        # conditioning levels may be others: those of the base are the initialisation
        if again is None or not self.conditioned(again, base.eval_levels).same_as(replace(base, kappa=again.kappa)):
            raise S4SError(
                f"{name_of(base)} is not {self.kind} on its own levels, so its formula cannot follow a learned schedule; "
                "take a base without an analytic first step or a step cache and without leading levels"
            )

    def _classical(self, levels: Tensor) -> Tableau:
        return solver(self.kind, levels, path=self.path, **self.options)

    def tableau(self, levels: Tensor, theta: Tensor) -> Tableau:
        """The classical solver on `levels`; theta is empty."""
        return self._classical(levels)

    def conditioned(self, tableau: Tableau, conditioning: Tensor) -> Tableau:
        """The classical solver at other conditioning levels, [N]."""
        return conditioned(tableau, conditioning)
