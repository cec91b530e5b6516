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


def nothing_to_learn(driver: str, nfe: int, decoupled: bool, first_node: bool) -> str | None:
    """Why a turn of a driver has nothing to learn, or a part has no turn, as far as that shows without numbers."""
    if first_node and driver == "schedule":
        return "first_node is learned with the coefficients; take another driver than schedule, or leave it out"
    if nfe == 1 and SCHEDULE in DRIVERS[driver] and (first_node or not decoupled):
        return f"at NFE 1 there are no levels to learn; take another driver than {driver}, or set min_nfe: 2"
    return None


def cannot_search(discrete: bool, optimiser: str, driver: str, first_node: bool) -> str | None:
    """Why an optimiser cannot find the parameters of a family, as far as that shows without numbers."""
    if discrete != (optimiser == "exchange"):
        return "whole numbers need optimiser exchange, which is for nothing else; set fit: {preset: exchange} for family cached"
    if discrete and (driver != "coefficients" or first_node):
        return "beside whole numbers nothing is learned; take driver coefficients, and leave out first_node"
    return None


def free_at(driver: str, iteration: int, phase: int) -> frozenset[str]:
    """Names of the parameters that `iteration` may change; the driver's sets alternate, `phase` iterations each."""
    phases = DRIVERS[driver]
    return phases[iteration // phase % len(phases)]
