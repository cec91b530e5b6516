"""What is free, and when: the only way in which S4S, LD3, S4S-Alt and the joint update differ."""

from __future__ import annotations

COEFFICIENTS = frozenset({"theta", "first", "kappa"})
SCHEDULE = frozenset({"xi", "delta"})

DRIVERS: dict[str, list[frozenset[str]]] = {
    "coefficients": [COEFFICIENTS],
    "schedule": [SCHEDULE],
    "alternate": [COEFFICIENTS, SCHEDULE],
    "joint": [COEFFICIENTS | SCHEDULE],
}


def free_at(driver: str, iteration: int, phase: int) -> frozenset[str]:
    """Names of the parameters that `iteration` may change; the driver's sets take turns, `phase` iterations each."""
    turns = DRIVERS[driver]
    return turns[iteration // phase % len(turns)]
