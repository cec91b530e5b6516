"""A diffusers scheduler that runs tableaux: `pipe.scheduler = S4SScheduler.from_tableau(file, pipe.scheduler)`."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

import torch
from diffusers import SchedulerMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerOutput
from torch import Tensor, nn

from s4s.errors import S4SError, shown
from s4s.export.collection import Source, from_the_middle, pick, read_tableaux
from s4s.export.coordinates import of_noise
from s4s.export.custom_timesteps import check_custom, even, linear_quadratic, numbers, whole_number
from s4s.export.foreign_config import config_of_tableau, translated
from s4s.export.initial_noise_scale import Attachment, InitialNoiseScale
from s4s.export.network_run import NetworkRun
from s4s.export.scheduler_on_hub import OnHub
from s4s.models.paths import FlowMatching
from s4s.models.pipelines.probe_scheduler import check_asked, whole_sample
from s4s.models.pipelines.scheduler_config import noise_of, ours
from s4s.models.provenance import check
from s4s.tableau import Tableau

Method = TypeVar("Method", bound=Callable[..., None])
registered: Callable[[Method], Method] = register_to_config  # which has no types


class _Threads(threading.local):
    """The number of the run that this thread began last and has not ended, by scheduler."""

    def __init__(self) -> None:
        self.runs: WeakKeyDictionary[S4SScheduler, int] = WeakKeyDictionary()


MINE, COUNT = _Threads(), itertools.count(1)


class S4SScheduler(OnHub):
    """Learned solvers, and any other linear ones, in diffusers' pipelines; one network evaluation a step.

    Nodes that do not see each other's outputs are evaluated one after the other, for a pipeline calls its network once a step.

    Between steps a sample is what the network is fed next, on a Gaussian path x = alpha(s~) y. The last step returns the
    solver's clean estimate y_N, so that images are those of `s4s.sample`. The corrector of a predictor-corrector is part of the
    next row of its tableau, and so of the next step: it adds no evaluation.

    A scheduler makes one run at a time. Where another thread begins a run, the one before is refused its next step.

    Args:
        tableaux: solvers in their JSON form, one for each number of steps; `from_tableau` reads files.
        path_type: "vp" (its noise schedule given by betas), "flow" (rectified flow), "edm" (a raw network with
            EDM's preconditioning; with sigma_data 1 and v_prediction Stable Video Diffusion) or "cosine" (Stable Audio).
        num_train_timesteps: as in diffusers' schedulers; for flow matching the network's time at t = 1.
        beta_start, beta_end, beta_schedule, trained_betas: of path "vp", as in diffusers' schedulers.
        rescale_betas_zero_snr, snr_shift_scale: of path "vp", as in diffusers' schedulers; the shift comes first.
        prediction_type: "epsilon", "v_prediction" or "sample"; with path "flow" "flow_prediction" or "sample"; with "edm" and
            "cosine" "epsilon", for EDM's raw network, or "v_prediction".
        sigma_data: of path "edm".
        use_flow_sigmas: true makes pipelines such as Flux leave the levels to the scheduler.
        invert_sigmas: of path "flow": the network is told the time of data, 1 - t, and predicts data minus noise (Mochi).
        s_min, s_max: the noise levels that the network knows, where its path has no first and last; None for any.
    Raises:
        S4SError: if a tableau is none, was made for a network of another kind, or leaves the network's range of levels.
    """

    comparisons: dict[int, Any] = {}  # noqa: RUF012  # of fit_pipeline, by number of steps; replaced, never changed
    __module__ = "s4s"  # what model_index.json of a saved pipeline says, so that `import s4s` is enough to load it
    _compatibles = [scheduler.name for scheduler in KarrasDiffusionSchedulers]  # noqa: RUF012
    order = 1

    @registered
    def __init__(
        self,
        tableaux: Sequence[Mapping[str, Any]] = (),
        path_type: str = "vp",
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | None = None,
        prediction_type: str = "epsilon",
        sigma_data: float = 0.5,
        use_flow_sigmas: bool = False,
        rescale_betas_zero_snr: bool = False,
        snr_shift_scale: float | None = None,
        invert_sigmas: bool = False,
        s_min: float | None = None,
        s_max: float | None = None,
    ):
        positive = {"num_train_timesteps": num_train_timesteps, "sigma_data": sigma_data, "s_min": s_min, "s_max": s_max}
        for name, number in positive.items():
            if number is None and name in ("s_min", "s_max"):
                continue
            if not isinstance(number, int | float) or not 0 < number < math.inf:
                raise S4SError(f"{name} must be a positive number, got {number!r}")
        self.coordinates = of_noise(noise_of({**self.config, "_class_name": "S4SScheduler"}), s_min, s_max)
        self.path_type, self.num_train_timesteps = path_type, num_train_timesteps
        if not isinstance(tableaux, list | tuple) or not all(isinstance(values, Mapping) for values in tableaux):
            raise S4SError("tableaux must be a list of solvers in their JSON form; from_tableau takes files and Tableaux")
        given = [Tableau.from_json(dict(values)) for values in tableaux]
        self.tableaux = read_tableaux(given) if given else {}
        for tableau in given:
            check(tableau, self.coordinates, "the network of this pipeline")
        self.num_inference_steps: int | None = None
        self.timesteps = self.sigmas = torch.zeros(0)
        self._run: NetworkRun | None = None
        self._number = 0  # of the run, which no other has
        self._begin_index: int | None = None
        self._step_index: int | None = None
        self._noise = InitialNoiseScale()

    @classmethod
    def from_tableau(cls, path_or_tableau: Source, like: ConfigMixin | Mapping[str, Any] | None = None, **config: Any) -> Self:
        """A scheduler with one or several solvers.

        Args:
            path_or_tableau: a tableau, its JSON form, its file, a folder of files for several numbers of steps, or several of
                these; or the name of a published solver, "zoo:NAME" or "zoo:NAME/NFE", as `s4s zoo list` has it.
            like: the scheduler that the pipeline has, or its config: its noise schedule and prediction type are taken over.
                Without it they are those of the network that the tableau says it was made for.
            config: settings that differ, as in the constructor.
        Raises:
            S4SError: as the constructor, or if neither `like` nor the tableau nor `config` say what the network is.
        """
        tableaux = read_tableaux(path_or_tableau)
        if not (like is None or isinstance(like, Mapping | SchedulerMixin)):
            raise S4SError(f"like must be the pipeline's own scheduler, pipe.scheduler, or its config, not {shown(like)}")
        if like is None:
            base = {"_class_name": cls.__name__, **config_of_tableau(next(iter(tableaux.values())), config)}
        else:
            own: Any = like
            base = {**own} if isinstance(own, Mapping) else {**own.config, "_class_name": type(own).__name__}
        made: Self = cls.from_config(base, tableaux=[tableau.as_json() for tableau in tableaux.values()], **config)
        return made

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """As in diffusers; configs of its schedulers for flow matching and for EDM are understood too."""
        if isinstance(config, Mapping):
            kwargs = {**translated(config), **kwargs}
            # what another scheduler left to its defaults stays too, for pipelines look some of it up
            config = {key: value for key, value in config.items() if ours(config) or key != "_use_default_values"}
        untyped: Any = super()
        return untyped.from_config(config, return_unused_kwargs=return_unused_kwargs, **kwargs)

    @property
    def available_steps(self) -> list[int]:
        """The values of num_inference_steps for which there is a solver."""
        return list(self.tableaux)

    @property
    def init_noise_sigma(self) -> float:
        """What unit noise is multiplied by for the first input. With several solvers it depends on set_timesteps."""
        run = self._run or NetworkRun(self._solver(next(iter(self.tableaux), 0)), self.coordinates)
        return self._noise.announce(run.noise_scale)

    @property
    def begin_index(self) -> int | None:
        """The step that the run begins with, if the pipeline has set it."""
        return self._begin_index

    @property
    def step_index(self) -> int | None:
        """The step that comes next; None before the first."""
        return self._step_index

    @property
    def _skipped(self) -> int:
        """Steps before the first that is made."""
        return self._begin_index or 0

    def _solver(self, steps: int) -> Tableau:
        if not self.tableaux:
            raise S4SError("this scheduler holds no solver; make it with S4SScheduler.from_tableau(file, like=pipe.scheduler)")
        return pick(self.tableaux, steps, "pass one of these as num_inference_steps")

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[float] | Tensor | None = None,
        sigmas: Sequence[float] | Tensor | None = None,
        mu: float | None = None,
    ) -> None:
        """Take the solver with this many steps; its levels are part of it.

        `timesteps` and `sigmas`, of any kind of list, may be given where they are the solver's own, and for flow matching what
        its pipelines give unasked: evenly spaced ones, sigmas from 1 to 1/N or to that of time 1, or timesteps down to 1, and
        Mochi's. `mu`, a pipeline's shift, changes nothing. The attribute `sigmas` holds levels s; for flow matching those of
        noise, s/(1 + s).

        Raises:
            S4SError: if there is no such solver, or the levels are others than its own.
        """
        given = {"timesteps": timesteps, "sigmas": sigmas}
        levels_given = {what: numbers(what, values) for what, values in given.items() if values is not None}
        counts = {what: len(values) for what, (values, _) in levels_given.items()}
        if num_inference_steps is not None:
            counts["num_inference_steps"] = whole_number("num_inference_steps", num_inference_steps)
        if len({*counts.values()}) > 1:
            raise S4SError(f"different numbers of steps: {', '.join(f'{what} {count}' for what, count in counts.items())}")
        steps = next(iter(counts.values()), 0)
        tableau = self._solver(steps)
        run, flow = NetworkRun(tableau, self.coordinates), self.path_type == "flow"
        levels = torch.cat([tableau.eval_levels, tableau.levels[-1:]])
        own_sigmas = (FlowMatching().t_of_s(levels) if flow else levels).float()
        own_times = torch.tensor(run.times, dtype=torch.float32)
        if "timesteps" in levels_given:  # pipelines may cut them to whole numbers
            rounding = 1e-3 * self.num_train_timesteps if flow else 1.0 if self.path_type == "vp" else 0.0
            unasked = [even(float(self.num_train_timesteps), 1.0, steps)] if flow else []
            check_custom("timesteps", *levels_given["timesteps"], own_times.tolist(), rounding, unasked, 1.0)
        if "sigmas" in levels_given:
            lasts = (1 / steps, 1 / self.num_train_timesteps)
            unasked = [even(1.0, last, steps) for last in lasts] if flow else []
            if self.config["invert_sigmas"]:
                unasked.append(linear_quadratic(steps))
            check_custom("sigmas", *levels_given["sigmas"], own_sigmas[:-1].tolist(), 0.0, unasked, min(lasts))
        self._run, self._number = run, next(COUNT)
        MINE.runs[self] = self._number
        self._noise.begin()
        self._begin_index = self._step_index = None
        self.num_inference_steps, self.sigmas, self.timesteps = steps, own_sigmas, own_times.to(device)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin the run in the middle, as pipelines from image to image do.

        From step `begin_index` on, DPM-Solver++ runs on the conditioning levels that remain. A learned
        solver's weights of a step weigh the outputs of all steps before it, which such a run does not have.

        Raises:
            S4SError: if there is no such step, or the conditioning levels do not decrease from there on.
        """
        self._check_thread()
        if begin_index != self._skipped:
            self._run = NetworkRun(self._solver_from(begin_index), self.coordinates)
        self._begin_index = begin_index

    def _solver_from(self, begin_index: int) -> Tableau:
        full = self._solver(len(self.timesteps))
        if begin_index == 0:
            return full
        if begin_index < 0:
            raise S4SError(f"begin_index must be from 0 to {full.nfe - 1}, not {begin_index}")
        if begin_index >= full.nfe:
            raise S4SError(f"none of the {full.nfe} steps is left to be made from this image; use more strength")
        levels = torch.cat([full.eval_levels[begin_index:], full.levels[-1:]])
        if not bool((levels[:-1] > levels[1:]).all()):
            raise S4SError(
                f"no run can begin at step {begin_index + 1} of this solver, whose conditioning levels do not decrease from "
                "there on; use another strength or solver"
            )
        return from_the_middle(levels, full.nfe)

    def _check_thread(self) -> None:
        """Raise S4SError where this thread began a run and another thread one after it."""
        if MINE.runs.get(self, self._number) != self._number:
            raise S4SError(
                "another thread has begun a run with this scheduler; give each thread a pipeline or a scheduler of its own, "
                "copy.deepcopy(scheduler)"
            )

    def index_for_timestep(self, timestep: float | Tensor) -> int:
        """The step whose entry of `timesteps` is nearest; of several, the one that comes next if it is among them."""
        if (entry := self._entry(timestep)) is not None:
            return entry
        distances = (self.timesteps - float(timestep)).abs().tolist()
        following = self._step_index or self._skipped
        nearest = min(distances)
        return following if distances[following : following + 1] == [nearest] else distances.index(nearest)

    def _entry(self, timestep: float | Tensor) -> int | None:
        """The step whose entry of `timesteps` this very tensor is, by where it lies: to read it, a GPU would be waited for."""
        own = self.timesteps
        if not isinstance(timestep, Tensor) or timestep.ndim or timestep.dtype != own.dtype or not len(own):
            return None
        if timestep.untyped_storage().data_ptr() != own.untyped_storage().data_ptr():
            return None
        return int(timestep.storage_offset()) - int(own.storage_offset())

    def scale_model_input(self, sample: Tensor, timestep: float | Tensor | None = None) -> Tensor:
        """The sample itself, which is what the network is fed.

        Raises:
            S4SError: if it is one number; pipelines that scale a level instead of a sample do arithmetic of their own with it.
        """
        return whole_sample(sample)

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
        **unsupported: Any,
    ) -> SchedulerOutput | tuple[Tensor]:
        """The sample of the next step.

        Args:
            model_output: of the network, [B, C, ...]; channels after the first C, a learned variance, are not used.
            timestep: the entry of `timesteps` that the network was given; read at the first step only.
            sample: what the network was fed, [B, C, ...].
            generator: not used; no noise is drawn.
            return_dict: false for a tuple.
            eta, use_clipped_model_output: of DDIM's stochastic form, 0 and false.
        Raises:
            S4SError: if set_timesteps has not been called, the run is over, it did not start from the right noise, or the
                pipeline asks for what no solver here does.
        """
        check_asked(eta, use_clipped_model_output, unsupported)
        self._check_thread()
        if self._step_index is None:
            if self._begin_index is None:
                self.set_begin_index(self.index_for_timestep(timestep) if len(self.timesteps) else 0)
                if self._skipped and self._noise.fed:
                    raise S4SError(
                        "this pipeline begins a run in the middle and does not say so before its network runs, which attach "
                        "took for the start; call remove() on what attach returned"
                    )
            self._step_index = self._skipped
            if self._run is not None:
                self._run.restart()
        run = self._run
        if run is None or self._step_index >= len(self.timesteps):
            raise S4SError("the run is over or has not begun; call set_timesteps(num_inference_steps) before each run")
        x = sample.to(torch.promote_types(sample.dtype, torch.float32))
        if self._step_index == 0:
            x = self._noise.first_input(x, run.noise_scale)
        output = model_output[:, : sample.shape[1]].to(x.dtype)
        previous = run.next_input(x, output).to(sample.dtype)
        self._check_thread()
        self._step_index += 1
        if self._step_index == len(self.timesteps):
            MINE.runs.pop(self, None)
        return SchedulerOutput(prev_sample=previous) if return_dict else (previous,)

    def attach(self, *networks: nn.Module) -> Attachment:
        """Let the networks' first input of each run be scaled on its way, for pipelines that start from unit noise always.

        Most solvers need it in no pipeline, and none does in those that multiply by init_noise_sigma, as Stable Diffusion's do.
        Those for flow matching and DDPMPipeline do not, and a solver with a learned first evaluation point may want noise of
        another scale.

        Args:
            networks: the pipeline's UNet or transformer, and its ControlNet where there is one: all that are called with the
                sample, as their first argument or by the name `sample` or `hidden_states`.
        Returns:
            An object whose `remove` undoes it; call it before another scheduler runs the networks. Another call of `attach`, of
            any of these schedulers, takes the place of the one before.
        """
        return self._noise.attach(networks, self._scaled)

    def _scaled(self, which: int, x: Tensor) -> Tensor | None:
        self._check_thread()
        if self._run is None or self._skipped or self._step_index:
            return None
        return self._noise.scaled(which, x, self._run.noise_scale)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network is fed of clean samples with noise at given times.

        At an entry of `timesteps` it is what this run expects there; elsewhere it is on the network's path.

        Args:
            original_samples, noise: [B, *shape], or [1, *shape] for several times.
            timesteps: [B] or [1].
        """
        times = timesteps.flatten().tolist()
        clean = original_samples.to(torch.promote_types(original_samples.dtype, torch.float32))
        clean, noise = torch.broadcast_tensors(clean, noise.to(clean))
        if len(times) > len(clean) == 1:
            clean, noise = (rows.expand(len(times), *rows.shape[1:]) for rows in (clean, noise))
        size = 1 if len(times) > 1 else len(clean)  # one time is that of all rows
        rows = zip(clean.split(size), noise.split(size), times, strict=True)
        return torch.cat([self._noised(*row) for row in rows]).to(original_samples.dtype)

    def _noised(self, clean: Tensor, noise: Tensor, time: float) -> Tensor:
        if self._run is not None:
            n = self.index_for_timestep(time)
            running = n == self._skipped if self._step_index is None else self._step_index < len(self.timesteps)
            if running and n >= self._skipped and abs(float(self.timesteps[n]) - time) < 1e-4 * (1 + abs(time)):
                x = self._run.noised(clean, noise, n - self._skipped)
                return x if n else x * (self._noise.announce(self._run.noise_scale) / self._run.noise_scale)
        of_clean, of_noise = self.coordinates.at_time(time)
        return clean * of_clean + noise * of_noise

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """`add_noise` as pipelines of flow matching call it."""
        return self.add_noise(sample, noise, timestep)

    def __len__(self) -> int:
        return self.num_train_timesteps
