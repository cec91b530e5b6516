"""The tableau: a diffusion solver written down as numbers.

With N network evaluations, node n (0 ... N-1) is evaluated at noise level `eval_levels[n]` and node N is the output:

    y_{n+1} = sum_{j<=n} A[n,j] y_j + sum_{j<=n} B[n,j] D_j,
    D_j = D(y_j; eval_levels[j]) for j > 0,  D_0 = D(kappa y_0; eval_levels[0])

Worked example. DDIM from s = 2 over s = 1 to s = 0.5 keeps the fraction r = s'/s of the state and fills up with D:

    y_1 = 0.5 y_0 + 0.5 D_0          A = [[0.5, 0  ],     B = [[0.5, 0  ],
    y_2 = 0.5 y_1 + 0.5 D_1               [0,   0.5]]          [0,   0.5]]

Eliminating y_1 leaves the reduced form y_2 = 0.25 y_0 + 0.25 D_0 + 0.5 D_1.

A file may say two things more. A table U weighs the unconditional outputs of classifier-free guidance apart: B then weighs the
conditional ones, and sum_{j<=n} U[n,j] D^u_j is added; where a column of U is zero, D^u_j is not evaluated. `groups` are nodes
that do not see each other's outputs, so that they can be evaluated at the same time. Nothing in this version runs a table U.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import ConfigDict, Field, FiniteFloat, ValidationError, field_validator
from torch import Tensor

from s4s.errors import DamagedFile, S4SError, explain, must_be
from s4s.files.atomic import write_json
from s4s.files.checksum import signed
from s4s.files.json_file import Items, JsonFile


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
        U: weights of unconditional outputs, lower triangular, [N, N]; None where the denoiser's output is all there is.
        groups: nodes 0 ... N-1 in their order, those together that do not see each other's outputs; () for each alone.
    Raises:
        S4SError: if the numbers do not form a solver.
    """

    levels: Tensor
    A: Tensor
    B: Tensor
    eval_levels: Tensor = None  # type: ignore[assignment]  # None: those of the schedule
    kappa: float | Tensor = 1.0
    meta: dict[str, Any] = field(default_factory=dict)
    U: Tensor | None = None
    groups: Sequence[Sequence[int]] = ()

    def __post_init__(self) -> None:
        tables = ("A", "B") if self.U is None else ("A", "B", "U")
        for name in ("levels", "eval_levels", *tables):
            given = getattr(self, name)
            if name == "eval_levels" and given is None and self.levels.ndim:
                given = self.levels[:-1]
            object.__setattr__(self, name, as_numbers(f"tableau: {name}", given))
        if not (isinstance(self.kappa, Tensor) and self.kappa.requires_grad):
            object.__setattr__(self, "kappa", as_number("tableau: kappa", self.kappa))
        n = self.levels.numel() - 1
        if self.levels.ndim != 1 or n < 1:
            raise S4SError(f"tableau: levels must be a list of at least 2 numbers, got shape {tuple(self.levels.shape)}")
        for name, shape in [("eval_levels", (n,)), *((name, (n, n)) for name in tables)]:
            table = getattr(self, name)
            if tuple(table.shape) != shape:
                raise S4SError(f"tableau: {name} must have shape {shape} for {n + 1} levels, got {tuple(table.shape)}")
        for name in ("levels", "eval_levels", *tables):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise S4SError(f"tableau: {name} holds a number that is not finite")
        check_levels(self.levels)
        if not bool((self.eval_levels > 0).all()):
            raise S4SError(f"tableau: eval_levels must be > 0, got {self.eval_levels.tolist()}")
        if not 0 < self.kappa < float("inf"):
            raise S4SError(f"tableau: kappa must be a positive number, got {self.kappa}")
        for name in tables:
            if bool(getattr(self, name).triu(1).any()):
                raise S4SError(f"tableau: {name} must be lower triangular; row n may use nodes 0 ... n only")
        object.__setattr__(self, "groups", tuple(map(tuple, self.groups)))
        self._check_groups()

    def _check_groups(self) -> None:
        in_order = [node for group in self.groups for node in group] == [*range(self.nfe)]
        if self.groups and not (in_order and all(self.groups)):
            raise S4SError(f"tableau: groups must hold the nodes 0 ... {self.nfe - 1} in this order, got {self.groups}")
        weights = [table for table in (self.B, self.U) if table is not None]
        for group in self.groups:
            for node in group[1:]:
                if any(bool(table[node - 1, group[0] : node].any()) for table in weights):
                    raise S4SError(f"tableau: node {node} uses an output of its own group {list(group)}, which it may not see")

    @property
    def nfe(self) -> int:
        """Number of denoiser evaluations N."""
        return len(self.levels) - 1

    def reduced(self) -> ReducedForm:
        """Eliminate the intermediate states; two solvers are the same when reduced forms and levels are.

        Raises:
            S4SError: if it has a table U.
        """
        self.require_one_output()
        a, b = [torch.ones((), dtype=torch.float64)], [torch.zeros(self.nfe, dtype=torch.float64)]
        for n in range(self.nfe):
            row = self.A[n, : n + 1]
            a.append(row @ torch.stack(a))
            b.append(row @ torch.stack(b) + self.B[n])
        return ReducedForm(torch.stack(a), torch.stack(b))

    def require_one_output(self) -> None:
        """Raise S4SError if unconditional outputs have weights of their own, which nothing in this version can run."""
        if self.U is not None:
            raise S4SError(
                "this solver weighs the unconditional outputs of guidance apart (its table U), which this version of s4s "
                "cannot run; take a solver without U, or a later version"
            )

    def same_as(self, other: Tableau, tolerance: float = 1e-10) -> bool:
        """Whether both compute the same thing: equal levels, kappa and reduced form, relative to `tolerance`."""
        if self.nfe != other.nfe:
            return False
        mine = (self.levels, self.eval_levels, torch.as_tensor(self.kappa), *self.reduced())
        its = (other.levels, other.eval_levels, torch.as_tensor(other.kappa), *other.reduced())
        return all(torch.allclose(x, y, rtol=tolerance, atol=tolerance) for x, y in zip(mine, its, strict=True))

    def detach(self) -> Tableau:
        """The same numbers without gradients."""
        names = ("levels", "eval_levels", "A", "B", *(() if self.U is None else ("U",)))
        tables = {name: getattr(self, name).detach() for name in names}
        kappa = self.kappa.item() if isinstance(self.kappa, Tensor) else self.kappa
        return replace(self, **tables, kappa=kappa)

    def with_meta(self, **meta: Any) -> Tableau:
        """The same numbers with `meta` added to what is known of them."""
        return replace(self, meta={**self.meta, **meta})

    def digest(self) -> str:
        """Hash of the numbers (not of the meta), the same on every machine."""
        numbers = {"format": "s4s-tableau/1", **self._numbers()}  # the format in which numbers of this kind came first
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:16]

    def _numbers(self) -> dict[str, Any]:
        def lower(table: Tensor) -> list[list[float]]:
            return [row[: n + 1] for n, row in enumerate(table.tolist())]

        return {
            "nfe": self.nfe, "levels": self.levels.tolist(), "eval_levels": self.eval_levels.tolist(),
            "kappa": float(self.kappa), "A": lower(self.A), "B": lower(self.B),
            **({} if self.U is None else {"U": lower(self.U)}),
            **({"groups": [list(group) for group in self.groups]} if self.groups else {}),
        }  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Plain values with their checksum, as in the file that `save` writes."""
        return signed({"format": FORMAT, **self._numbers(), "meta": self.meta})

    def save(self, path: str | Path) -> None:
        """Write the JSON form; Python prints floats so that they read back bit for bit."""
        write_json(path, self.detach().as_json())

    @classmethod
    def load(cls, path: str | Path, changed: bool = False) -> Tableau:
        """Read what `save` wrote; a file without a checksum is warned of, and one that does not fit it is taken if `changed`.

        Raises:
            S4SError: if the file is missing; a DamagedFile if it is not JSON, was changed, or its numbers do not form a solver.
        """
        named = isinstance(path, str | Path)
        must_be("Tableau.load's argument", path, named, "the path of a solver's file, such as nfe~5.json")
        data = TableauFile.read(path)
        try:
            made = data.tableau()
        except S4SError as error:
            raise DamagedFile(path, f"{error}; make the tableau again or restore it") from error
        if not changed:
            data.check_signed(path)
        return made

    @classmethod
    def from_json(cls, values: dict[str, Any], where: str = "tableau") -> Tableau:
        """Read what `as_json` gave; `where` names it in errors.

        Raises:
            S4SError: as `load`.
        """
        must_be(where, values, isinstance(values, dict), "a dict of the values that as_json gives")
        try:
            found = TableauFile.model_validate(values)
        except ValidationError as error:
            raise S4SError(explain(error, where, TableauFile.keys)) from error
        made = found.tableau()
        found.check_signed(where)
        return made


def as_numbers(what: str, values: Any) -> Tensor:
    """A list of numbers, or of such lists, as a float64 tensor; a tensor keeps its gradient.

    Raises:
        S4SError: if it is none.
    """
    try:
        return torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        must_be(what, values, False, "numbers")
        raise


def as_number(what: str, value: Any) -> float:
    """One number, which may be a tensor or an array of one.

    Raises:
        S4SError: if it is none.
    """
    found = as_numbers(what, value)
    must_be(what, value, found.numel() == 1, "a number")
    return float(found)


def check_levels(levels: Tensor) -> None:
    """Raise S4SError unless s_0 > s_1 > ... > s_N >= 0."""
    must_be("noise levels", levels, levels.ndim == 1 and len(levels) > 0, "a list of numbers")
    if not bool((levels[:-1] > levels[1:]).all()) or not bool(levels[-1] >= 0):
        values = [float(f"{level:.6g}") for level in levels.tolist()]
        raise S4SError(f"noise levels must decrease strictly and end at or above 0, got {values}")


FORMAT = "s4s-tableau/2"
LARGEST = torch.finfo(torch.float32).max
Level = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TableauFile(JsonFile):
    """The JSON form; rows of A and B are the lower triangle, row n with n+1 numbers."""

    model_config = ConfigDict(strict=True)
    what = "this tableau"
    keys = "docs/tableau.schema.json"
    format: Literal["s4s-tableau/1", "s4s-tableau/2"] = Field(description="1 has no checksum, U and groups")
    nfe: int = Field(ge=1, description="number N of network evaluations")
    levels: Items[Level] = Field(
        min_length=2, description="noise levels s_0 > ... > s_N of the nodes, sigma/alpha (EDM's sigma)"
    )
    eval_levels: Items[Positive] = Field(
        min_length=1, description="conditioning levels, at which the denoiser is evaluated, of nodes 0 ... N-1"
    )
    kappa: Positive = Field(description="factor on y_0 in the first evaluation")
    A: Items[Items[FiniteFloat]] = Field(min_length=1, description="row n: weights of y_0 ... y_n in y_{n+1}")
    B: Items[Items[FiniteFloat]] = Field(min_length=1, description="row n: weights of D_0 ... D_n in y_{n+1}")
    U: Items[Items[FiniteFloat]] | None = Field(
        None,
        min_length=1,
        description="row n: weights of unconditional D_0 ... D_n in y_{n+1}; B then weighs conditional ones",
    )
    groups: Items[Items[int]] | None = Field(
        None, min_length=1, description="nodes 0 ... N-1 in order, those together that do not see each other's outputs"
    )
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
        """The solver that these numbers form.

        Raises:
            S4SError: if they form none.
        """
        if len(self.levels) != self.nfe + 1:
            raise S4SError(f"nfe is {self.nfe}, so levels must have {self.nfe + 1} numbers, not {len(self.levels)}")
        tables = {}
        for name in ("A", "B", *(() if self.U is None else ("U",))):
            rows = getattr(self, name)
            if [len(row) for row in rows] != list(range(1, self.nfe + 1)):
                raise S4SError(f"{name} must have {self.nfe} rows, row n with n + 1 numbers (n = 0 ... {self.nfe - 1})")
            tables[name] = torch.tensor([row + [0.0] * (self.nfe - len(row)) for row in rows], dtype=torch.float64)
        levels = torch.tensor(self.levels, dtype=torch.float64)
        eval_levels = torch.tensor(self.eval_levels, dtype=torch.float64)
        made = Tableau(levels, **tables, eval_levels=eval_levels, kappa=self.kappa, meta=self.meta, groups=self.groups or ())
        together = made.reduced() if made.U is None else [made.U]
        numbers = [levels, eval_levels, made.A, made.B, *together, torch.as_tensor(made.kappa)]
        if not all(bool((table.abs() < LARGEST).all()) for table in numbers):
            raise S4SError("its numbers, or the weights of all steps together, are beyond what a state can hold (float32)")
        return made
