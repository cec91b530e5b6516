"""What can be set about a fit; read by the config (without torch) and by `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from s4s.files.json_file import Strict

Positive = Annotated[int, Field(ge=1)]

# A preset's values stand where nothing else is set. Sources: the authors' code (vinhsuhi/LD3, 3145tttt/GAS).
PRESETS: dict[str, dict[str, Any]] = {
    "gauss_newton": {},
    "adam": {
        "optimiser": "adam", "iterations": 120, "batch": 24, "learning_rate": 1.2, "learning_rate_power": 2,
        "decay": "cosine", "validate_every": 20, "phase": 20,
    },
    "gs": {
        "optimiser": "adam", "iterations": 10000, "batch": 24, "learning_rate": 1e-3, "decay": "constant", "ema": 0.999,
        "validate_every": 500, "patience": 10000, "train_pairs": 1400, "val_pairs": 1000,
    },
    "ld3": {
        "optimiser": "rmsprop", "iterations": 175, "batch": 2, "learning_rate": 5e-3, "told_learning_rate": 0.1,
        "decay": "plateau", "validate_every": 1, "patience": 30, "radius": "ld3", "train_pairs": 50, "val_pairs": 50,
    },
    "exchange": {"optimiser": "exchange", "iterations": 24, "batch": 64, "patience": 3, "radius": 0.0},
}  # fmt: skip

_OF_OPTIMISER = {
    "preset", "optimiser", "iterations", "batch", "memory", "damping", "derivatives", "learning_rate", "learning_rate_power",
    "told_learning_rate", "decay", "clip", "ema", "phase", "patience", "validate_every",
}  # fmt: skip


def _preset(values: dict[str, Any]) -> dict[str, Any]:
    """What the preset among some settings sets; nothing if there is none of that name."""
    name = values.get("preset")
    return PRESETS.get(name, {}) if isinstance(name, str) else {}


def lacks_network(distance: str, there: bool) -> str | None:
    """Why a distance cannot be measured without a perceptual network, where none is there."""
    if there or distance not in ("perceptual", "features"):
        return None
    return f"distance {distance!r} needs a perceptual network: give the model's file one, or take l2 or l1"


class FitSettings(Strict):
    """Settings of the optimiser and of the objective; the defaults are those of config/config.yaml."""

    preset: Literal["gauss_newton", "adam", "gs", "ld3", "exchange"] = Field(
        "gauss_newton",
        description="where settings come from that are not given: the default, tuned Adam, the papers' recipes, or the search "
        "of whole numbers",
    )
    optimiser: Literal["gauss_newton", "adam", "rmsprop", "exchange"] = Field(
        "gauss_newton", description="exchange is for family cached, and that for no other"
    )
    iterations: Positive = Field(32, description="steps of the optimiser, all phases together")
    batch: Positive = Field(8, description="teacher pairs a step")
    memory: float = Field(20.0, ge=1, description="gauss_newton: number of earlier steps whose residuals still count")
    damping: float = Field(
        1e-2, gt=0, description="gauss_newton: damping of the first step, relative to each parameter's own scale"
    )
    derivatives: Literal["differences", "forward"] = Field(
        "differences", description="gauss_newton: of the network, by differences of outputs or by torch's forward mode"
    )
    learning_rate: float = Field(1e-3, gt=0, description="adam, rmsprop: largest step size")
    learning_rate_power: float = Field(0.0, ge=0, description="adam, rmsprop: the step size is divided by NFE to this power")
    told_learning_rate: float | None = Field(
        None, gt=0, description="adam, rmsprop: conditioning levels take plain gradient steps of this over NFE instead"
    )
    decay: Literal["cosine", "constant", "plateau"] = Field(
        "cosine",
        description="adam, rmsprop: warm-up and cosine to zero; none; or back to the best and 0.8 times after 5 failures",
    )
    clip: float = Field(1.0, gt=0, description="adam, rmsprop: largest norm of a gradient")
    ema: float = Field(0.0, ge=0, lt=1, description="adam, rmsprop: what is validated is this moving average; 0 for none")
    phase: Positive = Field(1, description="steps between switches from coefficients to schedule and back (alternation)")
    patience: Positive = Field(8, description="validations without a better one after which a fit stops")
    validate_every: Positive = Field(4, description="steps between validations")
    distance: Literal["perceptual", "l2", "l1", "lpips", "features"] = Field(
        "perceptual", description="distance d between the student's and the teacher's final sample; its mean is the loss"
    )
    lpips_network: Literal["vgg", "alex", "squeeze"] = Field("vgg", description="trunk of the distance lpips")
    lpips_weights: Path | None = Field(
        None, description="file of that trunk in torchvision's format; by default it is downloaded"
    )
    trajectory: float = Field(
        0.0,
        ge=0,
        description="weight of the distance to the teacher's trajectory at the nodes between; needs teacher: trajectory",
    )
    radius: Annotated[float, Field(ge=0)] | Literal["ld3"] = Field(
        0.0,
        description="radius of the ball in which the initial noise may move, on unit noise; ld3: 0.001 (size of a state)/N^2",
    )
    train_pairs: Positive | None = Field(None, description="use this many of the training pairs, by default all")
    val_pairs: Positive | None = Field(None, description="use this many of the validation pairs, by default all")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of the network, by autocast; states stay in float32, tables in float64"
    )
    compile: bool = Field(False, description="compile the network with torch.compile, on a GPU with CUDA graphs")
    recompute: bool = Field(
        False,
        description="adam, rmsprop: compute each evaluation again for its gradient, so that memory does not grow with NFE",
    )
    seed: int = Field(0, ge=0, description="seed of the order in which pairs are visited")

    @property
    def least_pairs(self) -> int:
        """Training pairs that a fit needs: a batch of them; a search without derivatives takes all where there are fewer."""
        return 1 if self.optimiser == "exchange" else self.batch

    def changed(self, changes: dict[str, Any]) -> FitSettings:
        """These settings with changes; a preset among them brings all that is the optimiser's along, and its own values.

        Raises:
            ValidationError: if a change is not allowed.
        """
        values = self.model_dump()
        if "preset" in changes:
            replaced = _OF_OPTIMISER | set(_preset(changes))
            values = {name: value for name, value in values.items() if name not in replaced}
        return FitSettings.model_validate({**values, **changes})

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {**_preset(values), **values}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> FitSettings:
        if self.optimiser == "gauss_newton" and self.precision != "float32" and self.derivatives == "differences":
            raise ValueError(
                f"differences of outputs in {self.precision} are mostly rounding; set derivatives: forward, optimiser: adam "
                "or precision: float32"
            )
        if self.optimiser == "exchange" and self.radius:
            raise ValueError("optimiser exchange has no gradient to move the initial noise by; set radius: 0")
        return self
