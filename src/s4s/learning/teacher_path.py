"""The teacher's trajectory between its steps, and how far a student's inner nodes are from it."""

from __future__ import annotations

import torch
from torch import Tensor

from s4s.errors import S4SError
from s4s.files.rows import Split
from s4s.learning.parameters import Linearised


class TeacherPath:
    """Cubic Hermite interpolation in lambda = -ln s of the teacher's states; dy/dlambda = D - y is known at each but the last.

    Within the teacher's last step the cubic of the step before goes on.

    Args:
        split: pairs with their trajectories and outputs. levels: the teacher's [steps + 1], the last above 0.
    Raises:
        S4SError: if the pairs were made without trajectories.
    """

    def __init__(self, split: Split, levels: Tensor | None):
        if split.trajectory is None or split.outputs is None or levels is None:
            raise S4SError(
                "fit: a weight of the trajectory needs pairs that keep the teacher's states and outputs at all steps; "
                "set teacher: {trajectory: true} and make the pairs again"
            )
        self.states, self.outputs = torch.as_tensor(split.trajectory), torch.as_tensor(split.outputs)
        self.lam = -torch.as_tensor(levels, dtype=torch.float64).log()

    def at(self, level: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's states [B, *shape] at a level (a scalar), and their derivative by lambda."""
        lam = -level.log()
        left = int((torch.searchsorted(self.lam, lam.detach().cpu()) - 1).clamp(0, len(self.lam) - 3))
        h = self.lam[left + 1] - self.lam[left]
        u = (lam - self.lam[left]) / h
        y_0, y_1 = self.states[rows, left], self.states[rows, left + 1]
        slope_0, slope_1 = ((self.outputs[rows, i] - self.states[rows, i]) * float(h) for i in (left, left + 1))
        value = (
            (2 * u**3 - 3 * u**2 + 1) * y_0 + (u**3 - 2 * u**2 + u) * slope_0
            + (3 * u**2 - 2 * u**3) * y_1 + (u**3 - u**2) * slope_1
        )  # fmt: skip
        d = float(u.detach())
        slope = (6 * d * d - 6 * d) * (y_0 - y_1) + (3 * d * d - 4 * d + 1) * slope_0 + (3 * d * d - 2 * d) * slope_1
        return value.to(y_0.dtype), slope / float(h)

    def difference(self, y: Tensor, level: Tensor, rows: Tensor) -> Tensor:
        """(y - teacher's state) / sqrt(1 + s^2), so scaled that its norm is a root mean square; [B, k]."""
        target = self.at(level, rows)[0].to(y.device)
        scale: Tensor = (1 + level**2).rsqrt()
        root: float = y[0].numel() ** 0.5
        return ((y - target) * scale.to(y.device, y.dtype)).flatten(1) / root

    def linearised(self, y: Tensor, tangents: Tensor, lin: Linearised, n: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """`difference` at node n, and its derivatives [K, B, k]."""
        level = lin.tableau.levels[n]
        target, by_lam = (value.to(y) for value in self.at(level, rows))
        change = lin.levels[:, n].to(y).view(-1, *[1] * y.ndim)
        scale = float((1 + level**2).rsqrt())
        moved = tangents + change / float(level) * by_lam - change * float(level * scale**2) * (y - target)
        size = y[0].numel() ** 0.5
        return ((y - target) * scale).flatten(1) / size, (moved * scale).flatten(2) / size
