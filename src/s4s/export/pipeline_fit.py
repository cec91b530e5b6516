"""A learned solver for a live pipeline in one call: teacher pairs, fit, comparison, scheduler."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from s4s import __version__
from s4s.errors import S4SError, must_be, shown
from s4s.export.card import REPOSITORY
from s4s.export.few_step_networks import check_teaches
from s4s.export.pipeline_comparison import CLASSICAL, OWN, compare, draw_grid
from s4s.export.pipeline_plan import DISTILLED_ROWS, DISTILLED_STEPS, Plan, planned, price, timed
from s4s.export.pipeline_solvers import OWN_LEVELS, TRIED, classical, few_steps, teacher_in_words, teacher_of
from s4s.export.scheduler import S4SScheduler
from s4s.files.resumable_rows import write_resumable
from s4s.files.rows import TEACHER_PAIRS, Split, read_split
from s4s.jobs.progress_bar import progress
from s4s.learning.fit import fit
from s4s.learning.losses import Distance
from s4s.learning.lpips_loss import TRUNKS, load_lpips
from s4s.learning.objective import first_rows
from s4s.learning.teacher import TeacherPairs, attributes, make_pairs
from s4s.metrics.global_error import global_error
from s4s.models.pipelines.live import LivePipeline, from_pipeline
from s4s.models.provenance import made_for, part
from s4s.models.seeds import sample_seeds
from s4s.sampling import sample
from s4s.tableau import Tableau

TOKEN = "joint"
NFE = (1, 64)


def fit_pipeline(
    pipe: Any,
    *,
    nfe: int | Iterable[int],
    prompts: Any = None,
    pairs: int | None = None,
    budget: str | float | None = None,
    out: str | Path | None = None,
    name: str | None = None,
    distilled: bool = False,
    show_progress: bool = True,
    **call: Any,
) -> S4SScheduler:
    """Learn a solver for a pipeline as it is, compare it with what the pipeline has, and return it as a scheduler.

        pipe.scheduler = s4s.fit_pipeline(pipe, nfe=5, prompts=prompts, guidance_scale=3.5)
        pipe("a cat", num_inference_steps=5, guidance_scale=3.5)

    What it costs is printed before it starts. The pipeline is as it was on any exit.

    Args:
        pipe: a pipeline of diffusers; its LoRA, ControlNet and IP-Adapter count.
        nfe: numbers of evaluations (steps), such as 5 or range(4, 9); they share their teacher pairs.
        prompts: texts that the solver is to be good for, the more the better. Of four and more, a quarter is kept for the
            comparison.
        pairs: teacher pairs to learn from, if not as `budget` or the default says.
        budget: time for all of it, "10min": pairs, steps of the teacher and of the fit are chosen accordingly.
        out: folder for the solvers (nfe~N.json), scheduler_config.json, the card and the picture; an interrupted fit goes on
            there, and what is finished is not made again.
        name: of the model in the solver's file; by default that of the pipeline.
        distilled: fit also where the network looks as if it was distilled to few steps.
        show_progress: print price and verdicts, and a bar with the time left, on standard error.
        call: what else `pipe(...)` will be called with: guidance_scale, height, width, negative_prompt, ...
    Returns:
        A scheduler for the pipeline, with a solver for each number of steps; `comparisons` has what came out.
    Raises:
        S4SError: if nothing can be learned for such a pipeline, an argument is wrong, or `out` is of another fit.
        Exception: what the pipeline itself raises, as it is.
    """
    steps = _numbers(nfe)
    folder = None if out is None else Path(out)
    denoiser = from_pipeline(pipe, prompts=prompts, name=name, **call)
    with closing(denoiser):
        each = timed(denoiser)
        with torch.no_grad():  # what cannot be decoded is found before the work, not after it
            denoiser.decode(torch.zeros(1, *denoiser.shape, device=denoiser.device))
        plan = planned(folder, steps, pairs, budget, each)
        cost = price(denoiser, plan, steps, each)
        if show_progress:
            print(f"fit {denoiser.name}: {cost.in_words()}", file=sys.stderr)
        with Display(denoiser, cost.evaluations, show_progress) as display:
            return PipelineFits(denoiser, plan, folder, display, distilled).scheduler(steps)


class PipelineFits:
    """All that is made for one pipeline."""

    def __init__(self, denoiser: LivePipeline, plan: Plan, folder: Path | None, display: Display, distilled: bool):
        self.denoiser, self.plan, self.folder, self.display, self.distilled = denoiser, plan, folder, display, distilled
        self.teacher = teacher_of(denoiser, plan.teacher)
        self.weights = weights_digest(denoiser.pipe)
        self.identity = _identity(denoiser, self.weights, self.teacher, plan)
        self.lpips = _lpips(denoiser)

    def scheduler(self, steps: list[int]) -> S4SScheduler:
        """Fit each number of evaluations; those that are there already are read."""
        there = {n: self._there(n) for n in steps}
        tableaux, comparisons = {n: tableau for n, tableau in there.items() if tableau is not None}, {}
        pictures = {}
        if missing := [n for n in steps if n not in tableaux]:
            splits = {split: self._pairs(split, count) for split, count in
                      (("train", self.plan.train), ("val", self.plan.val), ("test", self.plan.test))}  # fmt: skip
            if not self.distilled:
                self._check_teaches(splits["val"])
            with torch.no_grad():
                full = self.denoiser.decode(torch.as_tensor(splits["test"].y_0).to(self.denoiser.device)).cpu()
            for n in missing:
                tableaux[n], comparisons[n], pictures[n] = self._one(n, splits, full)
        found = S4SScheduler.from_tableau([tableaux[n] for n in steps], self.denoiser.pipe.scheduler)
        found.comparisons = comparisons
        if self.folder is not None and missing:
            found.save_pretrained(self.folder)
            for n, shown_there in pictures.items():
                if all(rows.ndim in (4, 5) for rows in shown_there.values()):
                    draw_grid(shown_there, self.folder / f"nfe~{n}.png")
        return found

    def _one(self, nfe: int, splits: Mapping[str, Split], full: Tensor) -> tuple[Tableau, Any, dict[str, Tensor]]:
        """The solver, its comparison and pictures; `full` is what the test's pairs are decoded to."""
        denoiser, begun = self.denoiser, self.denoiser.asked
        self.display.now(f"solvers with {nfe} evaluations")
        base, words = self._best_classical(nfe, splits["val"])
        searched = denoiser.asked - begun
        self.display.now(f"fit at {nfe} evaluations")
        taught = teacher_in_words(denoiser, self.teacher)
        pairs = TeacherPairs(splits["train"], splits["val"], denoiser.name, self.teacher.levels, taught)
        state = None if self.folder is None else self.folder / "fits" / f"nfe~{nfe}.state"
        result = fit(
            denoiser, pairs, "lms", base.levels, base=base, family_options={"start_weights": True},
            driver="joint" if nfe > 1 else "coefficients", decoupled=nfe > 1, same_start=True, settings=self.plan.settings(),
            batch_size=denoiser.rows, state_path=state,
        )  # fmt: skip
        self.display.now(f"comparison at {nfe} evaluations")
        own = f"the pipeline's own {denoiser.scheduler_config['_class_name']}"
        names = {OWN: own, CLASSICAL: words}
        comparison, pictures = compare(denoiser, splits["test"], full, result.tableau, base, names, self.lpips)
        learned = result.tableau.with_meta(
            token=TOKEN, identity=self.identity, evaluations=result.evaluations * denoiser.passes,
            evaluations_total=(result.evaluations + searched + self.plan.shared) * denoiser.passes,
            pipeline=self._about(), check=comparison.as_json(),
        )  # fmt: skip
        if self.folder is not None:
            learned.save(self.folder / f"nfe~{nfe}.json")
            assert state is not None
            state.unlink(missing_ok=True)
        self.display.say(comparison.verdict())
        return learned, comparison, pictures

    def _there(self, nfe: int) -> Tableau | None:
        """The finished solver of this very fit, if it is there.

        Raises:
            S4SError: if one of another fit is.
        """
        path = None if self.folder is None else self.folder / f"nfe~{nfe}.json"
        if path is None or not path.exists():
            return None
        found = Tableau.load(path)
        if found.meta.get("identity") != self.identity:
            raise S4SError(
                f"{path} is there, of another pipeline, other prompts, settings or pairs; give another folder, or remove it"
            )
        self.display.say(f"{path}: is there already. {part(found, 'check').get('verdict', '')}")
        return found

    def _pairs(self, split: str, count: int) -> Split:
        """The teacher's pairs; kept in the folder, where an interrupted fit goes on."""
        self.display.now(f"teacher, {split}")
        seeds = sample_seeds(split, count)

        def make(rows: np.ndarray) -> Split:
            return make_pairs(self.denoiser, self.teacher, rows, self.denoiser.rows)

        if self.folder is None:
            return make(seeds)
        path = self.folder / "pairs" / f"{split}-{count}-{self.identity[:12]}.h5"
        if not path.exists():
            about = attributes(self.denoiser, self.teacher)
            write_resumable(path, TEACHER_PAIRS, {split: seeds}, make, self.denoiser.rows, about, self.identity)
        else:
            self.display.skip(count * self.teacher.nfe)
        return read_split([path], TEACHER_PAIRS, split)

    def _check_teaches(self, val: Split) -> None:
        self.display.now("does a teacher of many steps teach anything")
        rows = first_rows(val, DISTILLED_ROWS)
        few, double = (few_steps(self.denoiser, n) for n in DISTILLED_STEPS[1:])
        condition = None if rows.condition is None else torch.as_tensor(rows.condition)
        y_T, many = (torch.as_tensor(values).to(self.denoiser.device) for values in (rows.y_T, rows.y_0))
        check_teaches(self.denoiser, y_T, condition, many, few, double, self.denoiser.rows)

    def _best_classical(self, nfe: int, val: Split) -> tuple[Tableau, str]:
        """The classical solver that is nearest to the teacher on some validation pairs, which the fit starts from."""
        rows = first_rows(val, self.plan.searched)
        y_T = torch.as_tensor(rows.y_T).to(self.denoiser.device)
        condition = None if rows.condition is None else torch.as_tensor(rows.condition)
        found: list[tuple[float, Tableau, str]] = []
        for name, on in TRIED:
            tableau = classical(self.denoiser, name, on, nfe)
            if tableau is not None:
                y_0 = sample(self.denoiser, y_T, tableau, condition, self.denoiser.rows).cpu().numpy()
                error = global_error(y_0, rows.y_0)
                words = f"{name} on {on if on == OWN_LEVELS else f'{on} levels'}"
                found.append((error if np.isfinite(error) else np.inf, tableau, words))
        _, tableau, words = min(found, key=lambda one: one[0])
        return tableau.with_meta(**made_for(self.denoiser), schedule=words.partition(" on ")[2]), words

    def _about(self) -> dict[str, Any]:
        """Of the pipeline, for the solver's file: what it must be called with to be the one that the solver was made for."""
        plain = {key: value for key, value in self.denoiser.call.given.items() if isinstance(value, int | float | str | bool)}
        place = str(getattr(self.denoiser.pipe.config, "_name_or_path", "") or "")
        known = {"base_model": place} if REPOSITORY.fullmatch(place) and not Path(place).exists() else {}
        return {
            **known, "class": type(self.denoiser.pipe).__name__, "weights": self.weights,
            "dtype": str(self.denoiser.weights).removeprefix("torch."), "prompts": self.denoiser.call.count, "call": plain,
        }  # fmt: skip


class Display:
    """One bar over all evaluations, of which every stage asks its own."""

    def __init__(self, denoiser: LivePipeline, total: int, shown_at_all: bool):
        self.denoiser, self.shown = denoiser, shown_at_all
        self.bar: tqdm[Any] = progress(total=total, desc=f"fit {denoiser.name}", unit="evaluation", disable=not shown_at_all)

    def __enter__(self) -> Display:
        self.denoiser.on_asked = self.bar.update
        return self

    def __exit__(self, *_: Any) -> None:
        self.denoiser.on_asked = None
        self.bar.close()

    def now(self, stage: str) -> None:
        """Say what is being done."""
        self.bar.set_postfix_str(stage, refresh=False)

    def skip(self, evaluations: int) -> None:
        """What need not be done again."""
        self.bar.total = max(1, (self.bar.total or 0) - evaluations)

    def say(self, line: str) -> None:
        """A line above the bar."""
        if self.shown:
            tqdm.write(line, file=sys.stderr)


def _numbers(nfe: Any) -> list[int]:
    given = [nfe] if isinstance(nfe, int) else [*nfe] if isinstance(nfe, Iterable) and not isinstance(nfe, str) else []
    fits = bool(given) and all(isinstance(n, int) and not isinstance(n, bool) and NFE[0] <= n <= NFE[1] for n in given)
    must_be("nfe", nfe, fits, f"a whole number from {NFE[0]} to {NFE[1]}, or several, such as range(4, 9)")
    return sorted({*given})


def weights_digest(pipe: Any) -> str:
    """Of a few numbers of every tensor in the pipeline's networks, adapters included: another model or LoRA has another."""
    digest = hashlib.sha256()
    for name, network in sorted(pipe.components.items()):
        if isinstance(network, torch.nn.Module):
            for key, value in sorted(network.state_dict().items()):
                if isinstance(value, Tensor) and value.numel():
                    few = value.flatten()[:: max(1, value.numel() // 8)][:8]
                    digest.update(f"{name}.{key} {tuple(value.shape)} ".encode())
                    digest.update(few.detach().to("cpu", torch.float32).numpy().tobytes() if few.device.type != "meta" else b"")
    return digest.hexdigest()


def _identity(denoiser: LivePipeline, weights: str, teacher: Tableau, plan: Plan) -> str:
    """Of all that pairs and fits depend on."""
    call = {key: _plain(value) for key, value in sorted(denoiser.call.given.items())}
    about = [__version__, denoiser.name, weights, call, denoiser.call.prompts, teacher.digest(),
             asdict(plan), dict(denoiser.scheduler_config)]  # fmt: skip
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A value of a call, as text that is another for another value."""
    if isinstance(value, Tensor):
        value = value.detach().to("cpu", torch.float32).numpy()
    if hasattr(value, "tobytes"):  # arrays and pictures
        return hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, int | float | str | bool | None) else shown(value)


def _lpips(denoiser: LivePipeline) -> Distance | None:
    """LPIPS, where the package and a trunk's weights are on this machine; nothing is downloaded."""
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    there = [net for net, file in TRUNKS.items() if (cache / file).is_file()]
    try:
        return load_lpips(there[0], device="cpu") if there else None
    except S4SError:
        return None
