"""What can be set about a fit; read by the config (without torch) and by `fit`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


class FitSettings(BaseModel):
    """Settings of the optimiser and of the objective; the defaults are those of config/config.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: Positive = Field(50, description="Adam steps, all phases together")
    batch: Positive = Field(24, description="teacher pairs a step")
    learning_rate: float = Field(1.2, gt=0, description="Adam's largest step size times NFE^2; warm-up, then a cosine to zero")
    phase: Positive = Field(20, description="steps between switches from coefficients to schedule and back (alternation)")
    patience: Positive = Field(6, description="validations without a better one after which a fit stops")
    validate_every: Positive = Field(20, description="steps between validations")
    distance: Literal["perceptual", "l2", "l1"] = Field(
        "perceptual", description="distance d between the student's and the teacher's end point"
    )
    radius: Annotated[float, Field(ge=0)] | Literal["ld3"] = Field(
        0.0,
        description="radius of the ball in which the starting noise may move, on unit noise; ld3: 0.001 (size of a state)/N^2",
    )
    seed: int = Field(0, ge=0, description="seed of the order in which pairs are visited")
