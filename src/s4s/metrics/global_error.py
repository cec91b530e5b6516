"""Global error: how far a solver's final sample lies from the teacher's for the same initial noise."""

from __future__ import annotations

import numpy as np


def distances(y_0: np.ndarray, teacher_y_0: np.ndarray) -> np.ndarray:
    """Root-mean-square difference over each state's components, float64 [n], of [n, *shape] each."""
    difference = (y_0.astype(np.float64) - teacher_y_0.astype(np.float64)).reshape(len(y_0), -1)
    each: np.ndarray = np.sqrt((difference**2).mean(axis=1))
    return each


def global_error(y_0: np.ndarray, teacher_y_0: np.ndarray) -> float:
    """Mean over samples of the root-mean-square difference over a state's components; [n, *shape] each, in data units."""
    return float(distances(y_0, teacher_y_0).mean())
