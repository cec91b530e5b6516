"""What works on which pipeline of diffusers: tiny ones of random weights, and what is found for each.

python benchmarks/pipeline_matrix.py                    all, into build/pipeline_matrix/; goes on where it stopped
python benchmarks/pipeline_matrix.py --only flux sana   these alone, printed
python benchmarks/pipeline_matrix.py --markdown         the table for docs/pipelines.md from what is there
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor
from torch.autograd import forward_ad

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from s4s import S4SError, from_pipeline, sample  # noqa: E402
from s4s.errors import one_line  # noqa: E402
from s4s.export.coordinates import Coordinates  # noqa: E402
from s4s.export.pipeline_fit import Display, PipelineFits  # noqa: E402
from s4s.export.pipeline_plan import PLANS  # noqa: E402
from s4s.export.pipeline_solvers import own_levels  # noqa: E402
from s4s.export.scheduler import S4SScheduler  # noqa: E402
from s4s.models.pipelines.live import LivePipeline  # noqa: E402
from s4s.schedules import levels  # noqa: E402
from s4s.solvers import solver  # noqa: E402
from tests.builders.tiny_pipelines import PIPELINES, Case  # noqa: E402
from tests.builders.tiny_pipelines.case import Needed  # noqa: E402

OUT = ROOT / "build" / "pipeline_matrix"
NFE, CLOSE = 3, 1e-5  # of a step; a run has NFE of them, whose differences add up
HALF = 3e-2  # where the weights are in half precision


@dataclass
class Found:
    """Of one pipeline.

    Attributes:
        step: relative difference of D from the pipeline's own step; run: of `s4s.sample` from the run with S4SScheduler.
        start, learned: validation loss of the solver that the fit starts from, and of the learned one.
        reverse, forward: finite gradients by state and level, and finite tangents; None where torch has none.
        rows: states in one call. refused: why nothing is learned. skipped: what is not installed.
    """

    name: str
    kind: str = ""
    scheduler: str = ""
    step: float | None = None
    run: float | None = None
    start: float | None = None
    learned: float | None = None
    reverse: bool | None = None
    forward: bool | None = None
    rows: int | None = None
    passes: int | None = None
    dtype: str = "float32"
    refused: str = ""
    skipped: str = ""
    failed: str = ""
    seconds: float = 0.0

    @property
    def why_not(self) -> str:
        """What was in the way; empty where numbers were found."""
        return self.skipped or self.refused or self.failed

    @property
    def fits(self) -> bool:
        """Whether all that is asked for holds."""
        if self.why_not or None in (self.step, self.run, self.start, self.learned):
            return False
        return self.agrees and self.learned < self.start  # type: ignore[operator]

    @property
    def agrees(self) -> bool:
        """Whether D and the run are the pipeline's own, where both were measured."""
        step, run = (CLOSE, NFE * CLOSE) if self.dtype == "float32" else (HALF, HALF)
        return self.step <= step and self.run <= run  # type: ignore[operator]


def examine(name: str, case: Case, fit: bool = True) -> Found:
    """All of it for one pipeline; without the fit, all but that."""
    found, begun = Found(name), time.perf_counter()
    if case.missing:
        found.skipped = f"skipped: needs {case.needs}"
        return found
    try:
        pipe = case.make()
        pipe.set_progress_bar_config(disable=True)
        found.kind, found.scheduler = type(pipe).__name__, type(pipe.scheduler).__name__
        own = pipe.scheduler
        call = {key: value for key, value in case.call.items() if key != "output_type"}
        denoiser = from_pipeline(pipe, prompts=case.prompts, **call)
        try:
            found.rows, found.passes, found.dtype = denoiser.rows, denoiser.passes, str(denoiser.weights).removeprefix("torch.")
            found.step = _step(denoiser)
            found.run = _run(denoiser)
            found.reverse, found.forward = _possible(_reverse, denoiser), _possible(_forward, denoiser)
            if fit:
                with Display(denoiser, 1, False) as display:
                    fits = PipelineFits(denoiser, PLANS[0], None, display, distilled=False)
                    learned = fits.scheduler([NFE]).tableaux[NFE]
                found.start, found.learned = (learned.meta["validation"][key] for key in ("start", "learned"))
        finally:
            denoiser.close()
        assert pipe.scheduler is own
    except S4SError as error:
        found.refused = one_line(error, 400)
    except Needed as error:
        found.failed = f"skipped: needs {error}"
    except Exception as error:  # whatever a pipeline does
        found.failed = f"{type(error).__name__}: {one_line(error, 200)}"
        if "--only" in sys.argv:
            traceback.print_exc()
    found.seconds = time.perf_counter() - begun
    return found


def _differ(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


class _Recorded:
    """The pipeline's run with its own scheduler for the first prompt: what its network was fed and gave, at which time."""

    def __init__(self, denoiser: LivePipeline, scheduler: Any, steps: int):
        self.fed: list[Tensor] = []
        self.told: list[Tensor] = []
        self.given: list[Tensor] = []
        self.states: list[Tensor] = []
        pipe, own = denoiser.pipe, denoiser.pipe.scheduler
        step, scale = scheduler.step, getattr(scheduler, "scale_model_input", None)
        latest: list[Tensor] = []

        def noted_scale(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            scaled: Tensor = scale(x, *args, **kwargs)  # type: ignore[misc]
            latest[:] = [scaled]
            return scaled

        def noted_step(output: Tensor, t: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
            scaled = latest[0][: len(x), : x.shape[1]] if latest and latest[0].shape[2:] == x.shape[2:] else x
            self.fed.append(scaled[:1].clone())
            self.told.append(torch.as_tensor(t).clone())
            self.given.append(output[:1].clone())
            result = step(output, t, x, *args, **kwargs)
            self.states.append((result[0] if isinstance(result, tuple) else result.prev_sample)[:1].clone())
            return result

        noted_step.__signature__ = __import__("inspect").signature(step)  # type: ignore[attr-defined]
        scheduler.step = noted_step
        if scale is not None:
            scheduler.scale_model_input = noted_scale
        try:
            pipe.scheduler = scheduler
            with torch.random.fork_rng():
                torch.manual_seed(0)  # as a session does, for what the pipeline draws by itself
                pipe(**denoiser.call.arguments([0], steps))
        finally:
            pipe.scheduler = own
            del scheduler.step
            if scale is not None:
                del scheduler.scale_model_input


def _step(denoiser: LivePipeline) -> float:
    """D against what the pipeline's own run says, through the formulas of S4SScheduler."""
    import copy

    recorded = _Recorded(denoiser, copy.deepcopy(denoiser.pipe.scheduler), 3)
    coordinates: Coordinates = S4SScheduler.from_config(denoiser.scheduler_config).coordinates
    worst = 0.0
    for fed, told, given in zip(recorded.fed, recorded.told, recorded.given, strict=True):
        s = float(denoiser.path.s_of_t(told.double().cpu() / denoiser.times))
        if not denoiser.s_min <= s <= denoiser.s_max:
            continue  # flow matching's first time, where all is noise
        factors = coordinates.factors(s)
        x, output = fed.float(), given[:, : fed.shape[1]].float()
        expected = factors.of_input * x + factors.of_output * output
        with torch.no_grad():
            worst = max(worst, _differ(denoiser(x / factors.scale, s, torch.tensor([0])), expected))
    return worst


def _run(denoiser: LivePipeline) -> float:
    """`s4s.sample` against a run of the pipeline with S4SScheduler, from the noise that the pipeline draws."""
    on = own_levels(denoiser, NFE)
    tableau = solver("dpmpp", levels("logsnr", NFE, denoiser) if on is None else on, order=2, path=denoiser.path)
    scheduler = S4SScheduler.from_tableau(tableau, denoiser.pipe.scheduler)
    recorded = _Recorded(denoiser, scheduler, NFE)
    s = float(tableau.eval_levels[0])
    y_T = recorded.fed[0].float() / scheduler.coordinates.factors(s).scale
    return _differ(recorded.states[-1].float(), sample(denoiser, y_T, tableau, torch.tensor([0])))


def _possible(ask: Callable[[LivePipeline], bool], denoiser: LivePipeline) -> bool | None:
    try:
        return ask(denoiser)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        logging.getLogger(__name__).info("%s: %s", denoiser.name, error)
        denoiser.close()
        return None


def _state(denoiser: LivePipeline) -> Tensor:
    noise = torch.randn(1, *denoiser.shape, generator=torch.Generator().manual_seed(1))
    return (1.5 * noise).to(denoiser.device)


def _reverse(denoiser: LivePipeline) -> bool:
    y, s = _state(denoiser).requires_grad_(), torch.tensor(1.4, dtype=torch.float64, requires_grad=True)
    by_y, _ = torch.autograd.grad(denoiser(y, s).square().sum(), [y, s], allow_unused=True)
    return by_y is not None and bool(by_y.isfinite().all())


def _forward(denoiser: LivePipeline) -> bool:
    y = _state(denoiser)
    with forward_ad.dual_level(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        dual = forward_ad.make_dual(y, torch.ones_like(y))
        tangent = forward_ad.unpack_dual(denoiser(dual, torch.tensor([1.4]))).tangent
    return tangent is not None and bool(tangent.isfinite().all())


def table(found: list[Found]) -> str:
    """Markdown, with the counts in front."""
    working = [one for one in found if one.fits]
    lines = [
        f"{len(working)} of {len(found)} fit (diffusers {diffusers.__version__}).",
        "",
        "| case | pipeline | its scheduler | D | run | validation loss, start and learned | passes | rows | gradients |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    marks = {True: "yes", False: "not finite", None: "no"}
    for one in sorted(working, key=lambda one: one.name):
        lines.append(
            f"| {one.name} | {one.kind} | {one.scheduler} | {one.step:.0e} | {one.run:.0e} "
            f"| {one.start:.4f} → {one.learned:.4f} | {one.passes} | {'1' if one.rows == 1 else 'many'} "
            f"| reverse {marks[one.reverse]}, forward {marks[one.forward]} |"
        )
    lines += ["", "| case | pipeline | why not |", "|---|---|---|"]
    for one in sorted(found, key=lambda one: one.name):
        if not one.fits:
            numbers = f"D {one.step}, run {one.run}, validation loss {one.start} → {one.learned}"
            lines.append(f"| {one.name} | {one.kind} | {(one.why_not or numbers).replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="these cases, anew")
    parser.add_argument("--markdown", action="store_true", help="print the table from what is there")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    __import__("transformers").utils.logging.set_verbosity_error()
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = []
    for name in given.only or PIPELINES:
        file = OUT / f"{name}.json"
        if file.exists() and not given.only:
            found.append(Found(**json.loads(file.read_text())))
        elif not given.markdown:
            found.append(examine(name, PIPELINES[name]))
            one = found[-1]
            if not one.skipped:
                file.write_text(json.dumps(asdict(one)))
            say = one.why_not or f"D {one.step:.1e} run {one.run:.1e} loss {one.start:.4f} -> {one.learned:.4f}"
            print(f"{'fits' if one.fits else 'NOT ':<5} {name:<30} {one.seconds:5.1f} s  {say}", file=sys.stderr, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
