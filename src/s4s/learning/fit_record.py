"""The file of a fit's convergence curve and cost, beside the tableau that it made. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s4s.files.json_file import JsonFile

if TYPE_CHECKING:
    from s4s.learning.result import FitResult


class FitRecord(JsonFile):
    """Denoiser evaluations and seconds of a whole fit, its validations as in `FitResult.history`, and what it started from."""

    what = "the evaluations and losses of this fit"
    always_signed = True
    evaluations: int
    seconds: float
    history: list[dict[str, Any]]
    base: str = ""

    @classmethod
    def of(cls, result: FitResult) -> FitRecord:
        """That of a fit; evaluations are those that its tableau says."""
        evaluations = result.tableau.meta.get("evaluations", result.evaluations)
        base = result.tableau.meta.get("fit", {}).get("base", "")
        return cls(evaluations=evaluations, seconds=result.seconds, history=result.history, base=base)
