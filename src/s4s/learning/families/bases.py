"""Which classical solvers a learned family can start at, as far as it shows before there are numbers. No torch."""

from __future__ import annotations

from typing import NamedTuple

from s4s.schedules import SCHEDULES
from s4s.schedules.registry import Options
from s4s.solvers import EXPONENTIAL, SOLVERS, Solver


class Base(NamedTuple):
    """A classical solver that a fit starts from.

    Attributes:
        solver: its entry; options: its options.
        analytic_first_step: it takes its first step without an evaluation.
        from_the_top: it starts at the model's highest level.
        cached: it has a step cache.
    """

    solver: Solver
    options: Options
    analytic_first_step: bool
    from_the_top: bool
    cached: bool

    @property
    def plain(self) -> bool:
        """Whether it is its formula on its levels and nothing else."""
        return not self.analytic_first_step and self.from_the_top and not self.cached

    @property
    def movable(self) -> bool:
        """Whether its formula can be made anew on other levels."""
        return self.plain and self.solver.levels_can_move

    def memory(self, prediction: str) -> int | None:
        """How many of its last outputs a step weighs when it is written in a prediction; None for all of them."""
        return None if self.analytic_first_step or self.cached else self.solver.memory(self.options, prediction)


def immovable() -> str:
    """What a formula cannot be made anew for, in words."""
    solvers = [kind for kind, entry in SOLVERS.items() if not entry.levels_can_move]
    levels = [kind for kind, schedule in SCHEDULES.items() if not schedule.from_the_top]
    return f"for {', '.join(solvers)}, with an analytic first step, a step cache or on {', '.join(levels)} levels"


def any_solver(family: str, options: Options, base: Base) -> str | None:
    """Every solver will do, or none shows that it does not."""
    return None


def follows_levels(family: str, options: Options, base: Base) -> str | None:
    """Its formula is made anew on the learned levels."""
    if base.movable:
        return None
    return f"family {family} recomputes its formula on learned levels, which it cannot {immovable()}"


def step_cache(family: str, options: Options, base: Base) -> str | None:
    """A formula that can be made anew, with a step cache."""
    if base.cached and base.solver.levels_can_move and base.from_the_top:
        return None
    return f"family {family} chooses the steps of a step cache: set cached: 2 or 3 there, which it cannot {immovable()}"


def multistep(family: str, options: Options, base: Base) -> str | None:
    """In data prediction any solver, in noise prediction exponential integrators, that weigh no more outputs than the order."""
    return _multistep(family, options, base, 0)


def predictor_corrector(family: str, options: Options, base: Base) -> str | None:
    """The same, with the output more that a corrector weighs."""
    return _multistep(family, options, base, 1)


def _multistep(family: str, options: Options, base: Base, more: int) -> str | None:
    prediction, order = getattr(options, "prediction", "noise"), options.order  # type: ignore[attr-defined]
    if prediction == "noise" and (problem := _not_exponential(family, base)):
        return problem
    if order is None:
        return None
    needed = base.memory(prediction)
    if needed is None:
        return "its steps use all earlier outputs in this prediction; set order: full"
    if needed > order + more:
        return f"its steps use the last {needed} outputs; set order: {needed - more} or full"
    return None


def single_step(family: str, options: Options, base: Base) -> str | None:
    """Exponential integrators with steps of as many evaluations as the order, or of one."""
    if problem := _not_exponential(family, base):
        return problem
    order: int = options.order  # type: ignore[attr-defined]
    if base.solver.stages == order or base.solver.stages == 1:
        return None
    possible = [kind for kind, entry in SOLVERS.items() if entry.stages in (1, order)]
    return f"steps of {order} evaluations can start at {' or '.join(possible)}; set order, or take another base"


def _not_exponential(family: str, base: Base) -> str | None:
    if base.plain and base.solver.exponential:
        return None
    levels = ", ".join(kind for kind, schedule in SCHEDULES.items() if not schedule.from_the_top)
    return (
        f"family {family} with this prediction needs one of {', '.join(EXPONENTIAL)}, without analytic_first_step, cached and "
        f"{levels} levels"
    )
