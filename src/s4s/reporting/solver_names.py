"""What people read of a solver: "UniPC-3, GITS schedule", "S4S-Alt". Paths, configs and CSV files have its token instead.

A token is looked up whole, never taken apart: the tokens of config/config.yaml are `METHOD-SCHEDULE` or `FAMILY` or
`FAMILY-SCHEDULE` of the tables below, those of published solvers in config/paper.yaml `METHOD_published`. Any other token is
shown as it is, and beside the family where that is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from s4s.tableau import Tableau

FAMILIES = {
    "s4s_lms": "S4S", "s4s_pc": "S4S-PC", "s4s_ss": "S4S-SS", "ld3": "LD3", "s4s_alt": "S4S-Alt", "joint": "S4S-Joint",
    "gs": "GS", "dyweight": "DyWeight", "bns": "BNS", "cached": "Step cache",
}  # fmt: skip
SCHEDULE_NAMES = {
    "edm": "EDM", "logsnr": "log-SNR", "time_uniform": "time-uniform", "time_quadratic": "time-quadratic",
    "time_power": "time-power", "cosine": "cosine", "leading": "leading", "trailing": "trailing", "linspace": "linspace",
    "ays": "Align Your Steps", "explicit": "explicit", "gits": "GITS", "dmn": "DMN",
}  # fmt: skip
# first part of a token -> the solver and the options by which it is named
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("ddim", {}), "heun": ("heun", {}), "pndm": ("pndm", {}),
    "dpm2": ("dpm2", {}), "dpm3": ("dpm3", {}),
    "dpmpp2s": ("dpm2", {"prediction": "data"}), "dpmpp3s": ("dpm3", {"prediction": "data"}),
    "dpmpp2m": ("dpmpp", {"order": 2}), "dpmpp3m": ("dpmpp", {"order": 3}), "dpm_v3": ("dpm_v3", {"order": 3}),
    "unipc2": ("unipc", {"order": 2}), "unipc3": ("unipc", {"order": 3}),
    "deis_tab3": ("deis", {"order": 3, "clock": "time"}), "deis_rhoab3": ("deis", {"order": 3, "clock": "sigma"}),
    "ipndm2": ("ipndm", {"order": 2}), "ipndm3": ("ipndm", {"order": 3}), "ipndm4": ("ipndm", {"order": 4}),
    "ipndm3_v": ("ipndm_v", {"order": 3}), "ipndm3_afs": ("ipndm", {"order": 3, "analytic_first_step": True}),
    "adams2": ("adams", {"order": 2}), "rk2": ("runge_kutta", {"order": 2}),
    **{
        f"{method}_cache{n}": (kind, {"order": order, "cached": n})
        for method, kind, order in (("unipc3", "unipc", 3), ("dpmpp3m", "dpmpp", 3), ("ipndm3", "ipndm", 3)) for n in (2, 3)
    },
}  # fmt: skip


def method_name(solver: str, options: Mapping[str, Any]) -> str:
    """A classical solver without its schedule, "DPM-Solver++ (3M)"; one that is not of this package is shown as it is."""
    order = options.get("order", "")
    single_step = "DPM-Solver++ ({}S)" if options.get("prediction") == "data" else "DPM-Solver-{}"
    clock = {"sigma": "rhoAB-", "lambda": "lambdaAB-"}.get(str(options.get("clock")), "tAB-")
    name = {
        "ddim": "DDIM", "heun": "Heun", "pndm": "PNDM", "dpm2": single_step.format(2), "dpm3": single_step.format(3),
        "dpmpp": f"DPM-Solver++ ({order}M)", "unipc": f"UniPC-{order}", "deis": f"{clock}DEIS-{order}",
        "ipndm": f"iPNDM-{order}", "ipndm_v": f"iPNDM-{order} with variable steps", "dpm_v3": "DPM-Solver-v3",
        "adams": f"Adams-Bashforth-{order}", "runge_kutta": f"Runge-Kutta-{order}",
    }.get(solver, solver)  # fmt: skip
    if options.get("prediction") == "noise" and solver in ("dpmpp", "unipc"):
        name += " with noise prediction"
    name += f" with step cache {options['cached']}" if "cached" in options else ""
    return name + (" with analytic first step" if options.get("analytic_first_step") else "")


def schedule_name(schedule: str) -> str:
    """ "GITS schedule"; one that is not of this package under its own name."""
    return f"{SCHEDULE_NAMES.get(schedule, schedule)} schedule"


def method_of_token(method: str) -> str:
    """`method_name` by the first part of a token, "dpmpp3m"; what is not known is shown as it is."""
    return method_name(*METHODS[method]) if method in METHODS else method


# solvers of the zoo, by the first part of a token METHOD_published
PUBLISHED = {
    "ays": "Align Your Steps", "dyweight": "DyWeight", "epd": "EPD-Solver", "epdpp": "EPD-Solver++", "gas": "GAS",
    "gits": "GITS", "ld3": "LD3", "neuralsolver": "NeuralSolver", "optimalsteps": "OptimalSteps",
}  # fmt: skip
TOKENS = {
    "teacher": "teacher",
    **{f"{method}_published": f"{name}, authors' solver" for method, name in PUBLISHED.items()},
    **FAMILIES,
    **{f"{family}-{key}": f"{name}, {schedule_name(key)}" for family, name in FAMILIES.items() for key in SCHEDULE_NAMES},
    **{f"{method}-{key}": f"{method_of_token(method)}, {schedule_name(key)}" for method in METHODS for key in SCHEDULE_NAMES},
}


def name_of_token(token: str, family: str | None = None) -> str:
    """A solver by its token, and by its family where that is known: of `joint_l1` "S4S-Joint (joint_l1)"."""
    if token in TOKENS:
        return TOKENS[token]
    known = max((name for name in FAMILIES if token.startswith(name)), key=len, default=None) if family is None else family
    return f"{FAMILIES[known]} ({token})" if known in FAMILIES else token


def name_of_tableau(tableau: Tableau) -> str:
    """A solver by what its meta says; "" if that is nothing."""
    meta = tableau.meta
    token, fit = str(meta.get("token", "")), meta.get("fit")
    if isinstance(fit, Mapping):
        return name_of_token(token, str(fit.get("family")))
    if meta.get("family") == "published":
        return name_of_token(token, "published")
    if token == "teacher" or not isinstance(meta.get("solver"), str):
        return name_of_token(token)
    method = method_name(meta["solver"], meta.get("options", {}))
    return f"{method}, {schedule_name(str(meta['schedule']))}" if "schedule" in meta else method


def names(solvers: Iterable[str], scores: pd.DataFrame | None = None) -> dict[str, str]:
    """The name of each token, no two alike.

    Args:
        scores: rows of scores.csv, or another table with solver and family, for what a token alone does not say.
    """
    families = {} if scores is None else dict(zip(scores.solver, scores.family, strict=True))
    return unique({token: name_of_token(token, families.get(token)) for token in map(str, solvers)})


def names_of_tableaux(tableaux: Mapping[str, Tableau]) -> dict[str, str]:
    """The name of each solver, no two alike; one that is shown under another key than its token keeps that key."""
    return unique({
        key: name_of_tableau(tableau) if tableau.meta.get("token") == key else name_of_token(key)
        for key, tableau in tableaux.items()
    })  # fmt: skip


def unique(found: Mapping[str, str]) -> dict[str, str]:
    """Names, with the token in brackets behind each that another solver has too."""
    count = Counter(found.values())
    return {token: name if count[name] == 1 else f"{name} ({token})" for token, name in found.items()}
