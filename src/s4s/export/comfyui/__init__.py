"""A node for ComfyUI, "S4S Solver": a solver's file becomes a SAMPLER and its SIGMAS for the stock SamplerCustom nodes.

ComfyUI loads this folder from its custom_nodes; nothing else of s4s imports it. What differs there from `s4s.sample`:

* Where sigmas begin at the model's last level, to 1e-5, ComfyUI starts from sqrt(1 + sigma^2) times unit noise instead of sigma
  times (comfy/samplers.py, Sampler.max_denoise), 0.23 % more for Stable Diffusion. Solvers are fitted to start from sigma times
  noise, so the first of SIGMAS is kept 2e-5 below that level, and `sample_s4s` makes up for it.
* A model with a table of times (comfy/model_sampling.py, ModelSamplingDiscrete) is given the nearest whole time, whatever the
  sampler; `s4s.sample` tells times between those of the table.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import folder_paths
from comfy import model_sampling
from comfy.samplers import KSAMPLER
from comfy_api.latest import ComfyExtension, io

from s4s.errors import S4SError
from s4s.export.coordinates import Coordinates, on_path, on_table, preconditioned
from s4s.export.k_diffusion import sample_s4s, sigmas_of
from s4s.models.paths import FlowMatching
from s4s.models.predicting import Prediction
from s4s.models.provenance import check
from s4s.tableau import Tableau

FOLDER = "s4s"  # below ComfyUI's models, and the name of its paths in extra_model_paths.yaml

PREDICTIONS: dict[str, Prediction] = {
    "EPS": "epsilon",
    "V_PREDICTION": "v_prediction",
    "X0": "sample",
}  # ComfyUI's names and ours

folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


class S4SSolver(io.ComfyNode):
    """Reads a tableau, holds it against the model, and gives what the stock sampling nodes take."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        files = [name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(".json")]
        return io.Schema(
            node_id="S4SSolver",
            display_name="S4S Solver",
            category="sampling/samplers",
            description="A learned solver, for SamplerCustom or SamplerCustomAdvanced, and the model that it was fitted to.",
            inputs=[
                io.Model.Input("model"),
                io.Combo.Input("tableau", options=files, tooltip="A solver's file, such as nfe~5.json, in models/s4s."),
                io.Int.Input(
                    "start_at_step",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Above 0, for image to image: leave out the first steps, and run DPM-Solver++ on the other levels.",
                ),
            ],
            outputs=[io.Sampler.Output(), io.Sigmas.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, tableau: str, **others: Any) -> str:
        """A hash of the file, so that ComfyUI runs the node again when it has changed; of links it passes none."""
        return hashlib.sha256(Path(folder_paths.get_full_path_or_raise(FOLDER, tableau)).read_bytes()).hexdigest()

    @classmethod
    def execute(cls, model: Any, tableau: str, start_at_step: int = 0) -> io.NodeOutput:
        """SAMPLER and SIGMAS, float32 [N + 1 - start_at_step]: levels s, or times t = s/(1 + s) where the model counts in them.

        Raises:
            S4SError: if the file is no tableau, was made for another kind of model or another range of levels, or has no more
                than `start_at_step` steps.
        """
        solver = Tableau.load(folder_paths.get_full_path_or_raise(FOLDER, tableau))
        sampling = model.get_model_object("model_sampling")
        try:
            check(solver, coordinates_of(sampling), "this model")
        except S4SError as error:
            raise S4SError(f"{tableau}: {error}") from error
        if start_at_step >= solver.nfe:
            raise S4SError(
                f"{tableau} has {solver.nfe} steps, so start_at_step must be from 0 to {solver.nfe - 1}, not {start_at_step}"
            )
        flow = isinstance(sampling, model_sampling.CONST)
        sigmas = sigmas_of(solver, flow)
        last = float(sampling.sigma_max)
        if not flow and float(sigmas[0]) < last * (1 + 1e-3):  # a network for flow matching may start far above it
            sigmas[0] = min(float(sigmas[0]), last * (1 - 2e-5))
        return io.NodeOutput(KSAMPLER(sample_s4s, {"tableau": solver, "flow": flow}), sigmas[start_at_step:])


def coordinates_of(sampling: Any) -> Coordinates:
    """The parametrisation that one of ComfyUI's model_sampling objects stands for.

    It is made of two classes, one for the levels and one for the network's output. A network for flow matching knows all
    levels: its sigma_max of 1 is s = infinity, and its sigma_min only says where ComfyUI's own schedules end. A network of
    another kind is known by its classes' names, which no solver was made for; only solvers of unknown origin pass.
    """
    levels, output = type(sampling).__bases__[0].__name__, type(sampling).__bases__[-1].__name__
    if output in ("CONST", "COSMOS_RFLOW") and getattr(sampling, "noise_scale", 1.0) == 1:  # else noise is not unit normal
        return on_path(FlowMatching(), "flow", 1000)
    if levels == "ModelSamplingDiscrete" and output in PREDICTIONS:
        return on_table(sampling.sigmas, PREDICTIONS[output])
    known = preconditioned(float(getattr(sampling, "sigma_data", 1.0)))
    if output != "EDM":
        known = known._replace(parametrisation={"path": f"{levels} with {output}"})
    return known._replace(s_min=float(sampling.sigma_min), s_max=float(sampling.sigma_max))


class S4SExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [S4SSolver]


async def comfy_entrypoint() -> ComfyExtension:
    """Where ComfyUI begins."""
    return S4SExtension()
