"""The tableau: a diffusion solver written down as numbers.

With N network evaluations, node n (0 ... N-1) is evaluated at noise level `eval_levels[n]` and node N is the output:

    y_{n+1} = sum_{j<=n} A[n,j] y_j + sum_{j<=n} B[n,j] D_j,
    D_j = D(y_j; eval_levels[j]) for j > 0,  D_0 = D(kappa y_0; eval_levels[0])

Worked example. DDIM from s = 2 over s = 1 to s = 0.5 keeps the fraction r = s'/s of the state and fills up with D:

    y_1 = 0.5 y_0 + 0.5 D_0          A = [[0.5, 0  ],     B = [[0.5, 0  ],
    y_2 = 0.5 y_1 + 0.5 D_1               [0,   0.5]]          [0,   0.5]]

Eliminating y_1 leaves the reduced form y_2 = 0.25 y_0 + 0.25 D_0 + 0.5 D_1.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import ConfigDict, Field, FiniteFloat, ValidationError, field_validator
from torch import Tensor

from s4s.errors import S4SError, explain
from s4s.files.atomic import write_json
from s4s.files.json_file import JsonFile


class ReducedForm(NamedTuple):
    """Every node in terms of the initial noise and the outputs: y_n = a[n] y_0 + sum_j b[n,j] D_j; a [N+1], b [N+1, N]."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True, eq=False)
class Tableau:
    """A linear solver with N = nfe evaluations; all tables are float64 and may carry gradients.

    Args:
        levels: the schedule s_0 > ... > s_N >= 0, [N+1].
        A, B: weights of the earlier states and denoiser outputs, lower triangular, [N, N].
        eval_levels: the conditioning levels, at which the denoiser is evaluated, [N], > 0; by default those of the schedule.
        kappa: factor on y_0 in the first evaluation (an analytic first step has kappa < 1); may carry a gradient.
        meta: where the numbers come from; plain JSON values.
    Raises:
        S4SError: if the numbers do not form a solver.
    """

    levels: Tensor
    A: Tensor
    B: Tensor
    eval_levels: Tensor = None  # type: ignore[assignment]  # None: those of the schedule
    kappa: float | Tensor = 1.0
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.eval_levels is None:
            object.__setattr__(self, "eval_levels", torch.as_tensor(self.levels)[:-1])
        for name in ("levels", "eval_levels", "A", "B"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64))
        if not (isinstance(self.kappa, Tensor) and self.kappa.requires_grad):
            object.__setattr__(self, "kappa", float(self.kappa))
        n = len(self.levels) - 1
        if self.levels.ndim != 1 or n < 1:
            raise S4SError(f"tableau: levels must be a list of at least 2 numbers, got shape {tuple(self.levels.shape)}")
        for name, shape in [("eval_levels", (n,)), ("A", (n, n)), ("B", (n, n))]:
            table = getattr(self, name)
            if tuple(table.shape) != shape:
                raise S4SError(f"tableau: {name} must have shape {shape} for {n + 1} levels, got {tuple(table.shape)}")
        for name in ("levels", "eval_levels", "A", "B"):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise S4SError(f"tableau: {name} holds a number that is not finite")
        check_levels(self.levels)
        if not bool((self.eval_levels > 0).all()):
            raise S4SError(f"tableau: eval_levels must be > 0, got {self.eval_levels.tolist()}")
        if not 0 < self.kappa < float("inf"):
            raise S4SError(f"tableau: kappa must be a positive number, got {self.kappa}")
        for name in ("A", "B"):
            if bool(getattr(self, name).triu(1).any()):
                raise S4SError(f"tableau: {name} must be lower triangular; row n may use nodes 0 ... n only")

    @property
    def nfe(self) -> int:
        """Number of denoiser evaluations N."""
        return len(self.levels) - 1

    def reduced(self) -> ReducedForm:
        """Eliminate the intermediate states; two solvers are the same when reduced forms and levels are."""
        a, b = [torch.ones((), dtype=torch.float64)], [torch.zeros(self.nfe, dtype=torch.float64)]
        for n in range(self.nfe):
            row = self.A[n, : n + 1]
            a.append(row @ torch.stack(a))
            b.append(row @ torch.stack(b) + self.B[n])
        return ReducedForm(torch.stack(a), torch.stack(b))

    def same_as(self, other: Tableau, tolerance: float = 1e-10) -> bool:
        """Whether both compute the same thing: equal levels, kappa and reduced form, relative to `tolerance`."""
        if self.nfe != other.nfe:
            return False
        mine = (self.levels, self.eval_levels, torch.as_tensor(self.kappa), *self.reduced())
        its = (other.levels, other.eval_levels, torch.as_tensor(other.kappa), *other.reduced())
        return all(torch.allclose(x, y, rtol=tolerance, atol=tolerance) for x, y in zip(mine, its, strict=True))

    def detach(self) -> Tableau:
        """The same numbers without gradients."""
        tables = {name: getattr(self, name).detach() for name in ("levels", "eval_levels", "A", "B")}
        kappa = self.kappa.item() if isinstance(self.kappa, Tensor) else self.kappa
        return replace(self, **tables, kappa=kappa)

    def with_meta(self, **meta: Any) -> Tableau:
        """The same numbers with `meta` added to what is known of them."""
        return replace(self, meta={**self.meta, **meta})

    def digest(self) -> str:
        """Hash of the numbers (not of the meta), the same on every machine."""
        numbers = {key: value for key, value in self.as_json().items() if key != "meta"}
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """Plain values, as in the file that `save` writes."""

        def lower(table: Tensor) -> list[list[float]]:
            return [row[: n + 1] for n, row in enumerate(table.tolist())]

        return {
            "format": "s4s-tableau/1", "nfe": self.nfe, "levels": self.levels.tolist(),
            "eval_levels": self.eval_levels.tolist(), "kappa": float(self.kappa), "A": lower(self.A), "B": lower(self.B),
            "meta": self.meta,
        }  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write the JSON form; Python prints floats so that they read back bit for bit."""
        write_json(path, self.detach().as_json())

    @classmethod
    def load(cls, path: str | Path) -> Tableau:
        """Read what `save` wrote.

        Raises:
            S4SError: if the file is missing, is not JSON, or its numbers do not form a solver.
        """
        data = TableauFile.load(path)
        try:
            return data.tableau()
        except S4SError as error:
            raise S4SError(f"{path}: {error}; make the tableau again or restore it") from error

    @classmethod
    def from_json(cls, values: dict[str, Any], where: str = "tableau") -> Tableau:
        """Read what `as_json` gave; `where` names it in errors.

        Raises:
            S4SError: as `load`.
        """
        try:
            return TableauFile.model_validate(values).tableau()
        except ValidationError as error:
            raise S4SError(explain(error, where, TableauFile.keys)) from error


def check_levels(levels: Tensor) -> None:
    """Raise S4SError unless s_0 > s_1 > ... > s_N >= 0."""
    if not bool((levels[:-1] > levels[1:]).all()) or not bool(levels[-1] >= 0):
        values = [float(f"{level:.6g}") for level in levels.tolist()]
        raise S4SError(f"noise levels must decrease strictly and end at or above 0, got {values}")


LARGEST = torch.finfo(torch.float32).max
Level = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TableauFile(JsonFile):
    """The JSON form; rows of A and B are the lower triangle, row n with n+1 numbers."""

    model_config = ConfigDict(strict=True)
    what = "this tableau"
    keys = "docs/tableau.schema.json"
    format: Literal["s4s-tableau/1"]
    nfe: int = Field(ge=1, description="number N of network evaluations")
    levels: list[Level] = Field(
        min_length=2, description="noise levels s_0 > ... > s_N of the nodes, sigma/alpha (EDM's sigma)"
    )
    eval_levels: list[Positive] = Field(
        min_length=1, description="conditioning levels, at which the denoiser is evaluated, of nodes 0 ... N-1"
    )
    kappa: Positive = Field(description="factor on y_0 in the first evaluation")
    A: list[list[FiniteFloat]] = Field(min_length=1, description="row n: weights of y_0 ... y_n in y_{n+1}")
    B: list[list[FiniteFloat]] = Field(min_length=1, description="row n: weights of D_0 ... D_n in y_{n+1}")
    meta: dict[str, Any] = Field(description="where the numbers come from; no sampler needs it")

    @field_validator("meta")
    @classmethod
    def _plain(cls, meta: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(meta, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError("must hold plain JSON values, all numbers finite") from error
        return meta

    def tableau(self) -> Tableau:
        if len(self.levels) != self.nfe + 1:
            raise S4SError(f"nfe is {self.nfe}, so levels must have {self.nfe + 1} numbers, not {len(self.levels)}")
        tables = {}
        for name in ("A", "B"):
            rows = getattr(self, name)
            if [len(row) for row in rows] != list(range(1, self.nfe + 1)):
                raise S4SError(f"{name} must have {self.nfe} rows, row n with n + 1 numbers (n = 0 ... {self.nfe - 1})")
            tables[name] = torch.tensor([row + [0.0] * (self.nfe - len(row)) for row in rows], dtype=torch.float64)
        levels = torch.tensor(self.levels, dtype=torch.float64)
        eval_levels = torch.tensor(self.eval_levels, dtype=torch.float64)
        made = Tableau(levels, **tables, eval_levels=eval_levels, kappa=self.kappa, meta=self.meta)
        numbers = [levels, eval_levels, made.A, made.B, *made.reduced(), torch.as_tensor(made.kappa)]
        if not all(bool((table.abs() < LARGEST).all()) for table in numbers):
            raise S4SError("its numbers, or the weights of all steps together, are beyond what a state can hold (float32)")
        return made
