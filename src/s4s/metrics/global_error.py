"""Global error: how far a solver's end point lies from the teacher's for the same noise."""

from __future__ import annotations

import numpy as np


def global_error(y_0: np.ndarray, teacher_y_0: np.ndarray) -> float:
    """Mean over samples of the root-mean-square difference over a state's components; [n, *shape] each, in data units."""
    difference = (y_0.astype(np.float64) - teacher_y_0.astype(np.float64)).reshape(len(y_0), -1)
    return float(np.sqrt((difference**2).mean(axis=1)).mean())
