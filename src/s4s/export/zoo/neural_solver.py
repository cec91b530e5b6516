"""NeuralSolver: searched coefficients and times for rectified flow, as literals in its authors' Python source.

Wang et al. 2025 (Differentiable Solver Search, arXiv 2505.21114), src/diffusion/flow_matching/ns_sampling.py and
t2i_vis/fm_scheduling.py. Their sets FM_DATA and FM_DATA_DCN are one, of 5 to 10 steps, and in FM_DATA 15 too; FM_DATA_SIT is
another, of 5 to 10 steps.

Its sampler goes from noise at t = 0 to data at t = 1 on x = t x_0 + (1 - t) n with u = x_0 - n at (x, t) from the network:

    x_{i+1} = x_i + dt_i (sum_{j<i} c_ij u_j + (1 - sum_{j<i} c_ij) u_i),     t_i = dt_0 + ... + dt_{i-1}

In (y, s): y = x/t, s = (1 - t)/t and u = (D - x)/(1 - t). At t = 0 the input is the noise itself, x = y_0/s_0 whatever the
highest level s_0 of the model, and the network is told t = 0, but for 1e-12. The result is the last x as it is, which stands
for t = 1 where the rounded times sum up to 0.9999 or 1.0001.

The searches are at guidance 1 (min_cfg_aug = max_cfg_aug = 1 in the configs), the published samples at 1.375. DDPM_DATA in its
other files is for DiT's VP path, which is not read here.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from s4s.errors import S4SError, one_line
from s4s.export.zoo.source import Source
from s4s.files.bounded import read_text
from s4s.models.paths import PURE_NOISE, FlowMatching
from s4s.tableau import Tableau

if TYPE_CHECKING:
    from s4s.models.load import Outline

SOURCE = Source(
    repository="https://github.com/MCG-NJU/NeuralSolver",
    commit="718879447fa8cedf3acbaa767bc479150d8f555e",
    paper="arXiv 2505.21114",
    licence="MIT",
)
FITTED_FOR = {
    "FM_DATA": "FlowDCN-B/2 on ImageNet, 256x256",
    "FM_DATA_DCN": "FlowDCN-B/2 on ImageNet, 256x256",
    "FM_DATA_SIT": "SiT-XL/2 on ImageNet, 256x256",
}
BYTES, STEPS = 1 << 18, 64  # the larger of its files has 14 kB and sets of up to 15 steps


def looks_like(path: Path) -> bool:
    """Whether it is a small Python file with these names in it."""
    if path.suffix != ".py" or path.stat().st_size > BYTES:
        return False
    content = path.read_bytes()
    return b"FM_DATA" in content and b"timedeltas" in content and b"coeffs" in content


def read(path: Path, model: Outline, *, pick: str | None = None) -> list[Tableau]:
    """The solvers of one set, one for each number of steps that the model's levels allow.

    A set's second level must lie below the model's highest: that of 15 steps is 1999, so models up to 999 do without it.

    Args:
        pick: the name of a set, where the file has several: FM_DATA_SIT, ...
    Raises:
        S4SError: if the file cannot be read, has no such set, or several and none is picked, or the model is of no flow.
    """
    if not isinstance(model.path, FlowMatching):
        kind = model.path.kind
        raise S4SError(f"{path}: solvers of rectified flow, but model {model.name} has the path {kind}; take solvers for that")
    sets = _sets(path)
    if pick is None and len(sets) > 1:
        raise S4SError(f"{path}: has the sets {', '.join(sets)}; pick one of them")
    name = next(iter(sets)) if pick is None else pick
    if name not in sets:
        raise S4SError(f"{path}: no set {name!r}; there are {', '.join(sets)}")
    about = {"fitted_for": FITTED_FOR.get(name, "not known"), "guidance": 1.0, "evaluated_with_guidance": 1.375, "set": name}
    found = [
        searched_tableau(deltas, table, model.s_max).with_meta(**about)
        for deltas, table in sets[name]
        if (1 - deltas[0]) / deltas[0] < model.s_max
    ]
    if not found:
        raise S4SError(f"{path}: {name} has no solver within the levels of model {model.name}, up to {model.s_max:.6g}")
    return found


def searched_tableau(deltas: Tensor, table: Tensor, s_max: float) -> Tableau:
    """The tableau of one solver.

    Args:
        deltas: steps dt in the time of data, [N]. table: coefficients c, [N, N], below the diagonal. s_max: first level.
    """
    t = deltas.cumsum(0)
    told = torch.cat([torch.tensor([1 / (1 + PURE_NOISE)], dtype=torch.float64), t[:-1]])  # times of the nodes
    scale = torch.cat([torch.tensor([1 / s_max], dtype=torch.float64), t[:-1]])  # x = scale y
    after = torch.cat([t[:-1], torch.ones(1, dtype=torch.float64)])[:, None]  # that of the next node
    weights = table.tril(-1)
    weights = weights + torch.diag(1 - weights.sum(1))
    B = deltas[:, None] * weights / (1 - told) / after
    A = torch.diag(scale) / after - B * scale
    end = torch.zeros(1, dtype=torch.float64)
    levels = torch.cat([torch.tensor([s_max], dtype=torch.float64), (1 - t[:-1]) / t[:-1], end])
    return Tableau(levels, A, B, (1 - told) / told, kappa=(1 + PURE_NOISE) / s_max)


def _sets(path: Path) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Each set's solvers, by its name in the source, of which nothing is run."""
    try:
        tree = ast.parse(read_text(path, BYTES))
    except OSError as error:
        raise S4SError(f"{path}: cannot be read: {one_line(error)}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise S4SError(f"{path}: no Python source: {one_line(error)}") from error
    found = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            for target in statement.targets:
                if isinstance(target, ast.Name) and re.fullmatch(r"FM_DATA\w*", target.id):
                    solvers = _value(statement.value, f"{path}: {target.id}")
                    found[target.id] = [_solver(f"{path}: {target.id}, {key}", one) for key, one in solvers.items()]
    if not any(found.values()):
        raise S4SError(
            f"{path}: no searched solver of rectified flow in it; give NeuralSolver's "
            "src/diffusion/flow_matching/ns_sampling.py or t2i_vis/fm_scheduling.py"
        )
    return found


def _solver(where: str, values: Any) -> tuple[Tensor, Tensor]:
    """Steps [N] and coefficients [N, N] of one solver, if they are some."""
    try:
        deltas, table = (torch.tensor(values[key], dtype=torch.float64) for key in ("timedeltas", "coeffs"))
    except (TypeError, KeyError, ValueError, RuntimeError, OverflowError) as error:
        raise S4SError(f"{where}: needs timedeltas and coeffs, lists of numbers ({one_line(error)})") from error
    steps = deltas.numel()
    fits = deltas.ndim == 1 and 2 <= steps <= STEPS and table.shape == (steps, steps)
    if not fits or not bool((torch.isfinite(table) & (table.triu() == 0)).all()):
        raise S4SError(f"{where}: needs N timedeltas, 2 to {STEPS}, and N x N finite coeffs that are 0 from the diagonal on")
    if not bool((deltas > 0).all()) or abs(float(deltas.sum()) - 1) > 1e-3 or float(deltas[:-1].sum()) >= 1:
        raise S4SError(f"{where}: timedeltas must be above 0 and sum up to 1, got {deltas.tolist()}")
    return deltas, table


def _value(node: ast.AST, where: str) -> Any:
    """What a literal of dict(...), lists and numbers stands for.

    Raises:
        S4SError: if it is anything else.
    """
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        if all(keyword.arg for keyword in node.keywords):
            return {str(keyword.arg): _value(keyword.value, where) for keyword in node.keywords}
    elif isinstance(node, ast.List):
        return [_value(item, where) for item in node.elts]
    else:
        minus = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        literal = node.operand if minus else node  # type: ignore[attr-defined]
        number: Any = literal.value if isinstance(literal, ast.Constant) else None
        if type(number) in (int, float) and abs(number) < 1e6:
            return -float(number) if minus else float(number)
    raise S4SError(f"{where}: line {getattr(node, 'lineno', 0)} is no dict(...) of lists of numbers; nothing else is read")
