"""Generalisation: learned solvers on initial noise, models, guidance and NFE that they were not fitted for."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from s4s.models.denoiser import Denoiser
from s4s.models.seeds import sample_seeds
from s4s.reporting.figures import panels
from s4s.reporting.questions.job import Job, Key, rms
from s4s.reporting.questions.markdown import Shown, with_names
from s4s.reporting.solver_names import names
from s4s.reporting.solver_styles import nth_style
from s4s.sampling import sample
from s4s.study import make as from_spec
from s4s.tableau import Tableau

COUNT = 128
POOL = 64  # times as much initial noise that tails are taken from
SCALES, SHIFTS, GUIDANCE = (0.8, 0.9, 1.1, 1.25), (0.25, 0.5), (1.0, 1.5, 2.0, 3.0, 5.0)
COLUMNS = ["model", "test", "case", "nfe", "solver", "learned", "global_error"]
USUAL = "as in the fit"


def answer(job: Job) -> pd.DataFrame:
    """Rows of model, test, case, nfe, solver, whether it is learned, and global error against the teacher in the same case.

    Tests: initial noise (scaled, shifted, of the largest and smallest norms), guidance, and solvers carried over from another
    model or another number of evaluations.
    """
    denoiser, tableaux, teacher = job.denoiser, job.tableaux(), Tableau.load(job.teacher)
    rows: list[tuple[str, str, str, int, str, bool, float]] = []

    def final_samples(tableau: Tableau, y_T: Tensor, condition: Tensor | None) -> Tensor:
        return sample(denoiser, y_T, tableau, condition, denoiser.block)

    def errors(y_T: Tensor, condition: Tensor | None, wanted: Tensor) -> dict[Key, float]:
        return {key: rms(final_samples(tableau, y_T, condition) - wanted) for key, tableau in tableaux.items()}

    def add(test: str, case: str, found: dict[Key, float], is_learned: bool | None = None) -> None:
        for key, error in found.items():
            fitted = _is_learned(tableaux[key]) if is_learned is None else is_learned
            rows.append((denoiser.name, test, case, key.nfe, key.solver, fitted, error))

    y_T, condition = job.noise(sample_seeds("test", COUNT))
    wanted = final_samples(teacher, y_T, condition)
    usual = errors(y_T, condition, wanted)
    for case, noise, own in initial_noises(job):
        add("initial noise", case, usual if case == USUAL else errors(noise, own, final_samples(teacher, noise, own)))
    if getattr(denoiser, "conditioning", None) is not None and hasattr(denoiser, "guidance"):
        for case in guided(denoiser):
            add("guidance", case, errors(y_T, condition, final_samples(teacher, y_T, condition)))

    def add_moved(test: str, case: str, source: Tableau, key: Key) -> None:
        moved = carried_over(source, key.nfe, denoiser)
        add(test, case, {k: e for k, e in usual.items() if k.nfe == key.nfe and not _is_learned(tableaux[k])})
        add(test, case, {key: rms(final_samples(moved, y_T, condition) - wanted)}, is_learned=True)

    for key, path in job.cells.items():
        if key.model != denoiser.name and _carries(source := Tableau.load(path)):
            add_moved("other model", f"from {key.model}", source, Key(denoiser.name, key.solver, key.nfe))
    for key, source in tableaux.items():
        for nfe in sorted({k.nfe for k in tableaux} - {key.nfe}) if _carries(source) else ():
            add("other NFE", "fitted there", {k: e for k, e in usual.items() if k.nfe == nfe})
            add_moved("other NFE", f"from NFE {key.nfe}", source, Key(denoiser.name, key.solver, nfe))
    return pd.DataFrame(rows, columns=COLUMNS).drop_duplicates(COLUMNS[:-1])


def initial_noises(job: Job) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Name, states and conditions of initial noise unlike that of the fits; scales and shifts in its standard deviations."""
    y_T, condition = job.noise(sample_seeds("test", COUNT))
    yield USUAL, y_T, condition
    for scale in SCALES:
        yield f"scaled by {scale}", y_T * scale, condition
    for shift in SHIFTS:
        yield f"shifted by {shift}", y_T + shift * job.denoiser.s_max, condition
    seeds = sample_seeds("test", POOL * COUNT)
    pool, conditions = job.noise(seeds)
    order = pool.flatten(1).norm(dim=1).argsort()
    for name, rows in (("smallest norms", order[:COUNT]), ("largest norms", order[-COUNT:])):
        yield name, pool[rows], None if conditions is None else conditions[rows]


def guided(denoiser: Denoiser) -> Iterator[str]:
    """Sets the guidance of a denoiser to one scale after the other, each with its name, and back."""
    own, passes = denoiser.guidance, denoiser.passes
    try:
        for scale in sorted({own, *GUIDANCE}):
            denoiser.guidance, denoiser.passes = scale, 1 if scale == 1 else 2
            yield f"{scale:g}{' (the fit)' if scale == own else ''}"
    finally:
        denoiser.guidance, denoiser.passes = own, passes


def carried_over(source: Tableau, nfe: int, denoiser: Denoiser) -> Tableau:
    """A learned solver between the levels of another model or at another NFE, by what its own meta says of it."""
    meta = source.meta
    return from_spec.carried_over(source, nfe, denoiser, denoiser.s_min, meta["start"], meta["fit"]["weights"])


def _is_learned(tableau: Tableau) -> bool:
    return "fit" in tableau.meta or tableau.meta.get("family") == "published"


def _carries(tableau: Tableau) -> bool:
    """Whether a learned solver can be carried over: its schedule is learned, and its base is made anew on another one."""
    return "fit" in tableau.meta and tableau.meta["fit"]["driver"] != "coefficients"


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Each learned solver's error over that of the best classical one in the same case: below 1 it still wins."""
    places = ["model", "test", "case", "nfe"]
    plain = rows[~rows.learned].groupby(places).global_error.min().rename("plain").reset_index()
    there = rows[rows.learned].merge(plain, on=places, how="left")
    return there.assign(ratio=there.global_error / there.plain)


def tables(rows: pd.DataFrame) -> list[Shown]:
    """One a test: cases down, models across; errors, and over the best classical solver's in the same case."""
    caption = (
        "Global error against the teacher from the same initial noise; in brackets over the smallest of the classical solvers "
        "that the comparison has in this case: below 1 the learned solver still wins."
    )
    found = []
    for test, block in ratios(rows).groupby("test", sort=False):
        text = block.assign(text=[f"{r.global_error:.4f} ({r.ratio:.2f})" for r in block.itertuples()])
        cells = text.pivot_table(index=["solver", "nfe", "case"], columns="model", values="text", aggfunc="first", sort=False)
        found.append(Shown(str(test), caption, with_names(cells.reset_index().fillna(""), rows)))
    return found


def figure(rows: pd.DataFrame) -> Figure:
    """Error over the best classical solver's, a panel a test and a row a case; a marker a model."""
    found = ratios(rows).dropna(subset="ratio")
    found = found[found.nfe == found.nfe.min()] if not found.empty else found
    tests = [test for test in found.test.drop_duplicates() if test != "other NFE"]
    models = list(rows.model.drop_duplicates())
    solvers = list(found.solver.drop_duplicates())
    shown = names(solvers, rows if "family" in rows else None)
    drawn, axes = panels(max(1, len(tests) * len(solvers)), max(1, len(solvers)), (2.6, 2.4), 1.3, sharex=True)
    for axis, (test, solver_name) in zip(axes, [(t, s) for t in tests for s in solvers], strict=False):
        block = found[(found.test == test) & (found.solver == solver_name)]
        cases = list(found[found.test == test].case.drop_duplicates())
        for i, model in enumerate(models):
            own = block[block.model == model]
            axis.plot(own.ratio, [cases.index(case) for case in own.case], nth_style(i)["marker"],
                      color=nth_style(i)["color"], markersize=4, label=model)  # fmt: skip
        axis.axvline(1, color="0.4", linewidth=0.8)
        axis.set(xscale="log", title=f"{test}: {shown[solver_name]}")
        axis.title.set_fontsize(7)
        axis.set_yticks(range(len(cases)), cases, fontsize=6)
        axis.invert_yaxis()
    drawn.supxlabel("error over the best classical solver's in the same case (below 1: the learned one wins)", fontsize=8)
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    drawn.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    return drawn
