"""s4s compare: are two tableaux the same solver, and if not, how far apart?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s4s.errors import S4SError

if TYPE_CHECKING:
    from torch import Tensor

    from s4s.tableau import Tableau


def compare(
    first: Annotated[Path, typer.Argument(help="A solver's file.")],
    second: Annotated[Path, typer.Argument(help="Another's.")],
    tolerance: Annotated[float, typer.Option(help="Difference, relative or absolute, up to which numbers are equal.")] = 1e-10,
) -> None:
    """Say whether two files are the same solver; the exit code is 0 if so, 1 if not, 2 if one cannot be read.

    Two solvers are the same when their noise levels, their conditioning levels and their reduced forms (each state from the
    initial noise and the outputs alone) are, whatever their tables look like. The differences are the largest ones, levels
    relative, weights absolute.

    Example: `s4s compare a/nfe~5.json b/nfe~5.json --tolerance 1e-6`
    """
    from s4s.tableau import Tableau

    if not 0 <= tolerance < math.inf:
        raise S4SError(f"--tolerance {tolerance}: must be a number of at least 0")
    one, other = Tableau.load(first), Tableau.load(second)
    if one.nfe != other.nfe:
        raise S4SError(f"{first} has {one.nfe} evaluations and {second} has {other.nfe}; compare solvers with as many")
    for name, difference in differences(one, other).items():
        print(f"{name:<19} {difference:.3g}")
    same = one.same_as(other, tolerance)
    print("the same solver" if same else "two different solvers")
    if not same:
        raise typer.Exit(1)


def differences(one: Tableau, other: Tableau) -> dict[str, float]:
    """The largest differences: of levels relative to the first's (a level 0: absolute), of weights absolute."""
    import torch

    def largest(difference: Tensor) -> float:
        return float(difference.abs().max())

    (a, b), (other_a, other_b) = one.reduced(), other.reduced()
    scale = torch.where(one.levels > 0, one.levels, 1.0)
    return {
        "levels": largest((other.levels - one.levels) / scale),
        "conditioning levels": largest((other.eval_levels - one.eval_levels) / one.eval_levels),
        "first input": abs(float(other.kappa) - float(one.kappa)),
        "weight of y_0": largest(other_a - a),
        "weights of D": largest(other_b - b),
    }
