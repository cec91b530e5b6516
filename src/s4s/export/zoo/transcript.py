"""A sampling loop of others, followed in weights instead of states: what it does in exact arithmetic becomes a tableau.

Worked example. One step of Euler from level 2 to level 1, on a network that is told its level and fed the state itself:

    loop = Transcript(nodes=1, start=2.0, scale=1.0)
    state, direction = loop.evaluate(loop.start, 2.0, Feed(2.0, 1.0, 0.5, 0.5))    d = (y_0 - D_0)/2
    loop.tableau(state + (1 - 2) * direction, 1.0)                                 y_1 = 0.5 y_0 + 0.5 D_0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.tableau import Tableau


class Feed(NamedTuple):
    """How a loop asks its network at a state x: at the node y = scale x, and what it makes of the output.

    Attributes:
        level: the conditioning level s~, at which the network is evaluated.
        scale: of the node; states of the loop may be other multiples of y, and the told time another than the state's.
        of_state, of_output: the loop's direction is of_state y - of_output D(y; s~).
    """

    level: float
    scale: float
    of_state: float
    of_output: float


class Transcript:
    """A loop in the making. What it computes are weights [2, N]: of y_0 and the nodes y_1 ... y_{N-1}, and of D_0 ... D_{N-1}.

    Args:
        nodes: number N of evaluations.
        start: noise level of y_0. scale: the loop's first state is scale y_0.
    """

    def __init__(self, nodes: int, start: float, scale: float):
        self.levels, self.fed = [start], list[float]()
        self.kappa = 1.0
        self.A = torch.zeros(nodes, nodes, dtype=torch.float64)
        self.B = torch.zeros_like(self.A)
        self.start = torch.zeros(2, nodes, dtype=torch.float64)
        self.start[0, 0] = scale

    def evaluate(self, state: Tensor, level: float, feed: Feed) -> tuple[Tensor, Tensor]:
        """Ask the network at a state of this level; the state by its node, and the direction.

        Raises:
            S4SError: if the first evaluation is at a negative multiple of the noise, which no tableau has.
        """
        n, node, output = len(self.fed), torch.zeros_like(state), torch.zeros_like(state)
        self.fed.append(feed.level)
        if n == 0:  # so far all is a multiple of y_0
            self.kappa = feed.scale * float(state[0, 0])
            if not self.kappa > 0:
                raise S4SError("its first step turns the noise around, which no tableau does")
            node[0, 0] = self.kappa
        else:
            self.levels.append(level)
            self.A[n - 1], self.B[n - 1] = feed.scale * state
            node[0, n] = 1
        output[1, n] = 1
        return node / feed.scale, feed.of_state * node - feed.of_output * output

    def tableau(self, end: Tensor, level: float, groups: Sequence[Sequence[int]] = (), **meta: Any) -> Tableau:
        """The tableau whose last state is `end`, at this level.

        Raises:
            S4SError: if the numbers do not form a solver.
        """
        self.A[-1], self.B[-1] = end
        levels = torch.tensor([*self.levels, level], dtype=torch.float64)
        fed = torch.tensor(self.fed, dtype=torch.float64)
        return Tableau(levels, self.A, self.B, fed, self.kappa, meta, groups=groups)
