"""The relaxed objective: the initial noise of each training pair may move a little (S4S; LD3, arXiv 2405.15506)."""

from __future__ import annotations

from torch import Tensor


class RelaxedNoise:
    """Relaxed initial noise y' with ||y' - y_T|| <= radius s_T, one for each training pair, at first y_T itself.

    Whenever a pair is visited its y' takes one gradient step on that pair's distance, is projected back to the ball
    and is kept only if the distance fell. Radius and step are in units of unit noise, y/s_T, L2 over a state.

    Args:
        y_T: [n, *shape]; s_T: its noise level; radius, step: > 0.
    """

    def __init__(self, y_T: Tensor, s_T: float, radius: float, step: float):
        self.y_T, self.radius, self.step = y_T, radius * s_T, step * s_T**2
        self.y = y_T.clone()

    def propose(self, rows: Tensor, gradient: Tensor) -> Tensor:
        """Projected candidates [B, *shape] for `rows`, given each pair's own gradient at its y'."""
        moved = self.y[rows] - self.step * gradient
        offset = (moved - self.y_T[rows]).flatten(1)
        norm = offset.norm(dim=1, keepdim=True).clamp_min(1e-30)
        inside: Tensor = offset * (self.radius / norm).clamp_max(1)
        return self.y_T[rows] + inside.view_as(moved)

    def keep(self, rows: Tensor, candidates: Tensor, better: Tensor) -> None:
        """Store those candidates for which `better` [B] holds."""
        chosen = rows[better]
        self.y[chosen] = candidates[better]
