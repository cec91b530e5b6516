"""Which parameters are free at which step: the only way in which S4S, LD3, S4S-Alt and S4S-Joint differ."""

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
    """Names of the parameters that `iteration` may change; the driver's sets alternate, `phase` iterations each."""
    phases = DRIVERS[driver]
    return phases[iteration // phase % len(phases)]
