"""Custom timesteps and sigmas that a diffusers pipeline gives its scheduler; a learned solver has its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s4s.errors import S4SError


def check_custom(
    what: str, given: Sequence[float], own: Sequence[float], rounding: float, first: float | None, last: float
) -> None:
    """Raise S4SError where levels are neither the solver's own nor what pipelines give unasked.

    Args:
        what: their name in set_timesteps, timesteps or sigmas.
        own: the solver's.
        rounding: of pipelines that cut them to whole numbers.
        first, last: ends of the even ones that pipelines give unasked; first is None where none do.
    """
    values = np.asarray(given, dtype=np.float64)
    if first is not None and np.allclose(values, np.linspace(first, last, len(values)), atol=max(rounding, 1e-8)):
        return
    if not np.allclose(values, own, rtol=1e-3, atol=rounding):
        shown = ", ".join(f"{value:.6g}" for value in own)
        raise S4SError(
            f"{what} must be the solver's own, {shown}, for it is fitted to them; leave out {what}, or, if the pipeline gives "
            "them unasked, use another"
        )
