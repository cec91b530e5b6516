"""Error propagation: local and global errors along the trajectory, all carried by the exact flow to the end.

Let F_n carry a state at node n to the end by the ODE itself. With the solver's own states y_n the error at the end telescopes,

    y_N - F_0(y_0) = sum_n d_n,     d_n = F_{n+1}(y_{n+1}) - F_n(y_n),

so d_n is what step n adds to it, exactly. A solver that makes each d_n small is locally accurate; one whose d_n cancel is not,
and may still end closer. Beside it stands the textbook's local error: the same step taken from exact states and outputs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from s4s.models.denoiser_check import check_denoiser
from s4s.models.seeds import sample_seeds
from s4s.reporting.figures import panels
from s4s.reporting.questions.job import Job, carried, rms
from s4s.reporting.questions.markdown import Shown, with_names
from s4s.reporting.solver_names import names
from s4s.reporting.solver_styles import solver_style
from s4s.sampling import run
from s4s.tableau import Tableau

COUNT = 128
COLUMNS = ["model", "solver", "nfe", "step", "level", "local_error", "step_error", "error"]


def answer(job: Job) -> pd.DataFrame:
    """Rows of model, solver, nfe, step, level (at its end), and three errors in data units, each carried to the end.

    local_error: of the step from exact states and outputs. step_error: d_n. error: of all steps so far.
    """
    y_T, condition = job.noise(sample_seeds("test", COUNT))
    rows = []
    with torch.inference_mode():
        for key, tableau in job.tableaux().items():
            for n, errors in enumerate(_errors(job, tableau, y_T, condition)):
                rows.append((*key, n + 1, float(tableau.levels[n + 1]), *errors))
    return pd.DataFrame(rows, columns=COLUMNS)


def _errors(job: Job, tableau: Tableau, y_T: torch.Tensor, condition: torch.Tensor | None) -> list[tuple[float, float, float]]:
    denoiser, levels = job.denoiser, tableau.levels.tolist()
    check_denoiser(denoiser, condition)
    end = levels[-1] if levels[-1] > 0 else denoiser.s_min
    states: list[torch.Tensor] = []
    states.append(run(denoiser, y_T, tableau, condition, lambda n, y, _: states.append(y.clone())))
    ends = [carried(denoiser, y, s, end, condition).double() for y, s in zip(states, levels, strict=True)]
    exact = [y_T.double(), *(carried(denoiser, y_T, levels[0], s, condition).double() for s in levels[1:-1])]
    outputs = [
        denoiser((y * (tableau.kappa if n == 0 else 1)).to(y_T.dtype), float(level), condition).double()
        for n, (y, level) in enumerate(zip(exact, tableau.eval_levels, strict=True))
    ]
    found = []
    for n, s in enumerate(levels[1:]):
        terms = (float(tableau.A[n, j]) * exact[j] + float(tableau.B[n, j]) * outputs[j] for j in range(n + 1))
        carried_state = sum(terms, start=torch.zeros_like(exact[0]))
        local = carried(denoiser, carried_state.to(y_T.dtype), s, end, condition).double()
        found.append((rms(local - ends[0]), rms(ends[n + 1] - ends[n]), rms(ends[n + 1] - ends[0])))
    return found


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a solver: the errors of its steps, its error at the end, and how much cancels (1: none)."""
    found = []
    for (model, nfe, solver), block in rows.groupby(["model", "nfe", "solver"], sort=False):
        block = block.sort_values("step")
        end, steps = block.error.iloc[-1], block.step_error.sum()
        found.append((model, nfe, solver, block.local_error.sum(), block.local_error.max(), steps, end, end / steps))
    columns = ["model", "nfe", "solver", "local errors, sum", "local error, largest", "steps' errors, sum", "error at the end",
               "end / sum of steps"]  # fmt: skip
    return pd.DataFrame(found, columns=columns)


def tables(rows: pd.DataFrame) -> list[Shown]:
    """One a model and NFE, the smallest error at the end first."""
    caption = (
        f"Errors in data units, all carried to the end of the trajectory by the flow; {COUNT} seeds. Local: of steps from "
        "exact states. Steps' errors: what each step adds to the error at the end; where they cancel, their sum is larger."
    )
    found = []
    for (model, nfe), block in summary(rows).groupby(["model", "nfe"], sort=False):
        table = block.drop(columns=["model", "nfe"]).sort_values("error at the end").set_index("solver")
        found.append(
            Shown(f"{model}, NFE {nfe}", caption, with_names(table.map(lambda value: f"{value:.4f}").reset_index(), rows))
        )
    return found


def figure(rows: pd.DataFrame) -> Figure:
    """Along the steps: local error, what the step adds, and the error so far; a row a model and NFE."""
    shown = list(rows.groupby(["model", "nfe"], sort=False).groups)
    titles = {
        "local_error": "local error (from exact states)",
        "step_error": "added by the step (own states)",
        "error": "error so far",
    }
    solvers = list(rows.solver.drop_duplicates())
    names_shown = names(solvers, rows if "family" in rows else None)
    drawn, axes = panels(3 * len(shown), 3, (2.3, 2.1), 1.2)
    for i, (model, nfe) in enumerate(shown):
        for axis, (column, title) in zip(axes[3 * i : 3 * i + 3], titles.items(), strict=True):
            for solver in solvers:
                block = rows[(rows.model == model) & (rows.nfe == nfe) & (rows.solver == solver)].sort_values("step")
                axis.plot(block.step, block[column], **solver_style(solver), markersize=3,
                          linewidth=1.2, label=names_shown[solver])  # fmt: skip
            axis.set(title=f"{title}\n{model}, NFE {nfe}", yscale="log", xlabel="step")
            axis.title.set_fontsize(7)
            axis.set_xticks(np.arange(1, nfe + 1))
    axes[0].set_ylabel("RMS at the end (data units)")
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside right upper", frameon=False)
    return drawn
