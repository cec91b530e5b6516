"""A tableau run step by step on a network in its own coordinates: what is fed to it, and what becomes of its outputs."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from s4s.export.coordinates import Coordinates
from s4s.sampling import Steps
from s4s.tableau import ReducedForm, Tableau


class NetworkRun:
    """One run. The input of node n is x_n = kappa_n alpha_n y_n (kappa_n is 1 but for the first); it ends with y_N itself.

    Attributes:
        times: the network's time at each node, [N].
        noise_scale: what unit noise is multiplied by to be the first input.
    """

    def __init__(self, tableau: Tableau, coordinates: Coordinates):
        self.tableau = tableau
        self.levels: list[float] = tableau.levels.tolist()
        self.nodes = [coordinates.factors(level) for level in tableau.eval_levels.tolist()]
        self.times = [node.time for node in self.nodes]
        self.scales = [node.scale for node in self.nodes]
        self.scales[0] *= float(tableau.kappa)
        self.noise_scale = self.scales[0] * self.levels[0]
        self.restart()

    def restart(self) -> None:
        """Forget what has been run."""
        self.steps = Steps(self.tableau)

    def next_input(self, x: Tensor, output: Tensor) -> Tensor:
        """The input of the next node, or y_N, from this node's input and the network's output, [B, *shape] each."""
        n = self.steps.n
        node = self.nodes[n]
        D = output * node.of_output
        if node.of_input:
            D = D.add_(x, alpha=node.of_input)
        y = self.steps.next_state(x / self.scales[n], D)
        return y.mul_(self.scales[n + 1]) if n + 1 < len(self.nodes) else y

    def noised(self, clean: Tensor, noise: Tensor, n: int) -> Tensor:
        """The input of node n of a run from `noise` on a network whose denoised state is `clean` at every node."""
        initial, outputs = self._reduced.a[n].item(), self._reduced.b[n].sum().item()
        return (clean * (initial + outputs) + noise * (initial * self.levels[0])) * self.scales[n]

    @cached_property
    def _reduced(self) -> ReducedForm:
        return self.tableau.reduced()
