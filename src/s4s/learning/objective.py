"""The loss of a fit: distances between the student's and the teacher's final samples, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from s4s.files.rows import Split
from s4s.learning.losses import Blocks, Distance
from s4s.learning.parameters import Linearised, Parameters
from s4s.learning.tangents import Counter, run_with_tangents
from s4s.learning.teacher_path import TeacherPath
from s4s.models.denoiser import Denoiser
from s4s.sampling import run
from s4s.tableau import Tableau

T = TypeVar("T")


class NormalEquations(NamedTuple):
    """Sums over samples: distances [B], Gauss-Newton matrix [K, K] and gradient [K] (float64)."""

    distances: Tensor
    matrix: Tensor
    gradient: Tensor


class Gradients(NamedTuple):
    """Distances [B], gradient of their sum by the parameters [P], and of each by its initial noise [B, *shape], if asked."""

    distances: Tensor
    by_values: Tensor
    by_noise: Tensor | None


@dataclass(frozen=True)
class Replica:
    """A copy of the model, and of the distance's network, on one device."""

    denoiser: Denoiser
    distance: Distance

    def blocks(self, y_0: Tensor) -> Blocks:
        """What the distance compares of final samples [B, *shape], which are decoded if it is one of images."""
        return self.distance.blocks(y_0 if self.distance.of_states else self.denoiser.decode(y_0))


class Objective:
    """Distances of a student's final samples from the teacher's on the rows of one split, on all replicas at once.

    The rows of a batch are divided among the replicas, and what they find is added up in their order: the same replicas give
    the same result. Nothing random happens here.

    Args:
        split: the teacher's pairs.
        rows: states at a time through a network.
        path_weight: weight of the distance from the teacher's trajectory at the nodes between; needs `path`.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        split: Split,
        rows: int,
        counter: Counter,
        path: TeacherPath | None = None,
        path_weight: float = 0.0,
    ):
        assert split.y_T is not None
        self.replicas, self.rows, self.counter = list(replicas), rows, counter
        self.y_T, self.y_0 = torch.as_tensor(split.y_T), torch.as_tensor(split.y_0)
        self.condition = None if split.condition is None else torch.as_tensor(split.condition)
        self.path, self.path_weight = path, path_weight

    def __len__(self) -> int:
        return len(self.y_T)

    def distances(self, tableau: Tableau, y: Tensor, rows: Tensor) -> Tensor:
        """Distances [B] from initial noise y [B, *shape] of the pairs `rows` [B], without gradients."""

        def on(replica: Replica, y: Tensor, rows: Tensor) -> Tensor:
            with torch.inference_mode():
                chunks = zip(y.split(self.rows), rows.split(self.rows), strict=True)
                return torch.cat([self._distances(replica, tableau, a, b).cpu() for a, b in chunks])

        self.counter.evaluations += len(rows) * tableau.nfe
        return torch.cat(self._everywhere(on, y, rows)).clone()

    def gradients(self, parameters: Parameters, values: Tensor, y: Tensor, rows: Tensor, *, by_noise: bool, recompute: bool
                  ) -> Gradients:  # fmt: skip
        """Distances and their gradients in reverse mode."""

        def chunk(replica: Replica, y: Tensor, rows: Tensor) -> Gradients:
            free, noise = values.detach().clone().requires_grad_(), y.detach().clone().requires_grad_(by_noise)
            distances = self._distances(replica, parameters.tableau(free), noise, rows, recompute)
            found = torch.autograd.grad(distances.sum(), [free, noise] if by_noise else [free])
            return Gradients(distances.detach().cpu(), found[0], found[1].cpu() if by_noise else None)

        def joined(parts: Sequence[Gradients]) -> Gradients:
            distances, slopes, noise = zip(*parts, strict=True)
            return Gradients(torch.cat(distances), torch.stack(slopes).sum(0), torch.cat(noise) if by_noise else None)

        def on(replica: Replica, y: Tensor, rows: Tensor) -> Gradients:
            return joined([chunk(replica, a, b) for a, b in zip(y.split(self.rows), rows.split(self.rows), strict=True)])

        self.counter.evaluations += (3 + recompute) * len(rows) * (len(parameters.levels) - 1)
        return joined(self._everywhere(on, y, rows))

    def normal_equations(self, lin: Linearised, y: Tensor, rows: Tensor, mode: str) -> NormalEquations:
        """Distances, and the least-squares problem that they are near the linearised solver."""
        K = len(lin.A)
        size = max(1, self.rows // max(1, K))

        def on(replica: Replica, y: Tensor, rows: Tensor) -> NormalEquations:
            counter = Counter()
            parts = [
                self._equations(replica, lin, a.to(replica.denoiser.device), b, counter, mode)
                for a, b in zip(y.split(size), rows.split(size), strict=True)
            ]
            counters.append(counter)
            return _joined(parts)

        counters: list[Counter] = []
        joined = _joined(self._everywhere(on, y, rows))
        self.counter.evaluations += sum(counter.evaluations for counter in counters)
        return joined

    def _everywhere(self, work: Callable[[Replica, Tensor, Tensor], T], y: Tensor, rows: Tensor) -> list[T]:
        """`work` on each replica's share of the rows."""
        shares = [share for share in torch.arange(len(rows)).tensor_split(len(self.replicas)) if len(share)]
        jobs = [(replica, y[share], rows[share]) for replica, share in zip(self.replicas, shares, strict=False)]
        if len(jobs) == 1:
            return [work(*jobs[0])]
        with ThreadPoolExecutor(len(jobs)) as pool:
            return list(pool.map(lambda job: work(*job), jobs))

    def _condition(self, replica: Replica, rows: Tensor) -> Tensor | None:
        return None if self.condition is None else self.condition[rows].to(replica.denoiser.device)

    def _target(self, replica: Replica, rows: Tensor) -> Blocks:
        with torch.no_grad():
            y_0 = self.y_0[rows].to(replica.denoiser.device, replica.denoiser.dtype)
            return replica.blocks(y_0)

    def _distances(self, replica: Replica, tableau: Tableau, y: Tensor, rows: Tensor, recompute: bool = False) -> Tensor:
        denoiser = replica.denoiser
        states: list[Tensor] = []
        keep = (lambda n, state, output: states.append(state)) if self.path_weight else None
        noise = y.to(denoiser.device, denoiser.dtype)
        final = run(denoiser, noise, tableau, self._condition(replica, rows), keep, recompute)
        total = replica.distance.between(replica.blocks(final), self._target(replica, rows))
        if self.path_weight:
            total = total + self.path_weight * self._path(tableau, states, rows)
        return total

    def _path(self, tableau: Tableau, states: list[Tensor], rows: Tensor) -> Tensor:
        """Mean over the nodes between the first and the last of the distance from the teacher's trajectory, [B]."""
        assert self.path is not None
        differences = [self.path.difference(states[n], tableau.levels[n], rows) for n in range(1, tableau.nfe)]
        if not differences:  # one step has no nodes between
            return torch.zeros(())
        return torch.stack([(d.square().sum(1) + 1e-12).sqrt() for d in differences]).mean(0)

    @torch.no_grad()
    def _equations(
        self, replica: Replica, lin: Linearised, y: Tensor, rows: Tensor, counter: Counter, mode: str
    ) -> NormalEquations:
        denoiser, distance = replica.denoiser, replica.distance
        states, tangents = run_with_tangents(
            denoiser, y.to(denoiser.dtype), lin, counter, self.rows, mode, self._condition(replica, rows)
        )
        blocks = replica.blocks(states[-1])
        target = self._target(replica, rows)
        residuals = [a - b for a, b in zip(blocks, target, strict=True)]
        slopes = self._block_tangents(replica, states[-1], blocks, tangents[-1])
        weights = [distance.weights(residual) for residual in residuals]
        total = distance.between(blocks, target)
        K = len(lin.A)
        matrix, gradient = torch.zeros(K, K, dtype=torch.float64), torch.zeros(K, dtype=torch.float64)
        if self.path_weight and lin.tableau.nfe > 1:
            assert self.path is not None
            inner = range(1, lin.tableau.nfe)
            share = self.path_weight / len(inner)
            for n in inner:
                difference, slope = self.path.linearised(states[n], tangents[n], lin, n, rows)
                norm = (difference.square().sum(1, keepdim=True) + 1e-12).sqrt()
                residuals.append(difference)
                slopes.append(slope)
                weights.append(share / norm)
                total = total + share * norm[:, 0]
        for residual, slope, weight in zip(residuals, slopes, weights, strict=True):
            root = weight.sqrt().double()
            rows_of_J = (slope.double() * root).flatten(1)
            matrix += (rows_of_J @ rows_of_J.T).cpu()
            gradient += (rows_of_J @ (residual.double() * root).flatten()).cpu()
        return NormalEquations(total.cpu(), matrix, gradient)

    def _block_tangents(self, replica: Replica, final: Tensor, blocks: Blocks, tangents: Tensor) -> Blocks:
        """Derivatives of the distance's blocks [K, B, k] along tangents of the final sample [K, B, *shape].

        By differences, but for distances of states, whose blocks are linear.
        """
        K, B = tangents.shape[:2]
        if replica.distance.of_states:
            return [block.view(K, B, -1) for block in replica.blocks(tangents.flatten(0, 1))]
        scale = tangents.flatten(2).square().mean(2).sqrt().clamp_min(1e-30)
        own = final.flatten(1).square().mean(1).sqrt().clamp_min(1e-6)
        step = (3e-4 * own / scale).view(K, B, *[1] * (final.ndim - 1))
        size = max(1, self.rows // B)
        parts = []
        for tangent, length in zip(tangents.split(size), step.split(size), strict=True):
            shifted = replica.blocks((final + length * tangent).flatten(0, 1))
            parts.append(
                [(s.view(len(tangent), B, -1) - b) / length.view(-1, B, 1) for s, b in zip(shifted, blocks, strict=True)]
            )
        return [torch.cat(column) for column in zip(*parts, strict=True)]


def _joined(parts: Sequence[NormalEquations]) -> NormalEquations:
    """The equations of several shares of a batch as those of the whole, added up in their order."""
    distances, matrices, gradients = zip(*parts, strict=True)
    return NormalEquations(torch.cat(distances), torch.stack(matrices).sum(0), torch.stack(gradients).sum(0))


def first_rows(split: Split, count: int | None) -> Split:
    """The first `count` rows of a split, or all."""
    return split if count is None else Split(**{name: np.asarray(array[:count]) for name, array in split.arrays().items()})
