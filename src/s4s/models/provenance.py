"""What is written into every result about how it was made, and whether a solver was made for a network."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from s4s import __version__
from s4s.errors import S4SError
from s4s.tableau import Tableau


def made_for(model: Any) -> dict[str, Any]:
    """What a tableau says of the model (a denoiser or its outline) that it was made for."""
    return {
        "model": model.name, "s_min": float(model.s_min), "s_max": float(model.s_max), "parametrisation": model.parametrisation
    }  # fmt: skip


def in_words(tableau: Tableau) -> str:
    """What a classical tableau's meta says of it: "unipc, order 3, on logsnr levels, 64 evaluations"."""
    meta = tableau.meta
    options = [f"{name} {value}".lower().replace("_", " ") for name, value in meta.get("options", {}).items()]
    levels = [f"on {meta['schedule']} levels"] if "schedule" in meta else []
    return ", ".join([str(meta.get("solver", "a solver")), *options, *levels, f"{tableau.nfe} evaluations"])


def part(tableau: Tableau, key: str) -> dict[str, Any]:
    """An entry of the meta that holds keys and values; {} if it holds something else."""
    found = tableau.meta.get(key)
    return found if isinstance(found, dict) else {}


def guidance(tableau: Tableau) -> float | None:
    """The scale of classifier-free guidance that a learned tableau's meta says it was fitted with; None if it says none."""
    found = tableau.meta.get("guidance")
    return found if isinstance(found, int | float) else None


def validated(tableau: Tableau) -> str:
    """What a learned tableau's meta says of its distance from the teacher on the validation pairs; "" if it says nothing."""
    words = "{start:.4g} at initialisation, {learned:.4g} learned ({distance} distance)"
    try:
        return words.format(**tableau.meta["validation"])
    except (KeyError, TypeError, ValueError):  # other programs may write what they like there
        return ""


def provenance(model: str, tableau: Tableau) -> dict[str, Any]:
    """Plain values: the model, the solver and its numbers' digest, the versions of what computed."""
    return {
        "model": model,
        "solver": str(tableau.meta.get("token", "")),
        "nfe": tableau.nfe,
        "tableau": tableau.digest(),
        "version_s4s": __version__,
        **{f"version_{name}": version(name) for name in ("torch", "numpy")},
    }


FULL = 0.9


def is_full_noise(level: float, s_max: float) -> bool:
    """Whether sampling can start at a level with nothing but noise.

    Of data with variance 1, noise must make up at least 0.9 times as much of a state's variance as at the highest level. Stable
    Diffusion's leading times do from 3 evaluations on (0.92); a level 1 (0.5) is a time of another path.
    """
    return 1 / (1 + level**-2) >= FULL / (1 + s_max**-2)


def check(tableau: Tableau, network: Any, whose: str) -> None:
    """Raise S4SError where a tableau was made for another parametrisation, or its levels leave the network's range.

    It must start at full noise, too.

    A tableau whose meta does not say what it was made for is held against the range alone, and so is any where the network's
    parametrisation is not known.

    Args:
        network: has `parametrisation`, `s_min` and `s_max`, as denoisers and Coordinates have.
        whose: the network in words.
    """
    wanted = part(tableau, "parametrisation") if network.parametrisation else {}
    what = f"the solver with {tableau.nfe} evaluations"
    model = f" (model {tableau.meta['model']})" if "model" in tableau.meta else ""
    for key, value in wanted.items():
        if not describes({key: value}, network.parametrisation):
            raise S4SError(
                f"{what} was made for a network with {key} {_text(value)}{model}, but {whose} has {key} "
                f"{_text(network.parametrisation.get(key))}; fit one for it, or, to use this one "
                "nonetheless, remove parametrisation from the meta in its file"
            )
    highest, lowest = float(tableau.levels[0]), float(tableau.levels[tableau.levels > 0][-1])
    slack = 1 + 1e-4
    if highest > network.s_max * slack or lowest * slack < network.s_min:
        raise S4SError(
            f"{what} runs over noise levels {highest:.6g} to {lowest:.6g}{model}, but {whose} covers "
            f"{network.s_max:.6g} to {network.s_min:.6g} only; fit a solver for it, or take that model's schedule"
        )
    if not is_full_noise(highest, network.s_max):
        raise S4SError(
            f"{what} starts at noise level {highest:.6g}{model}, but the full noise of {whose} is level {network.s_max:.6g}; "
            "fit a solver for it, or write its levels as sigma/alpha, not as times"
        )


def check_guidance(tableau: Tableau, scale: float | None, whose: str) -> None:
    """Raise S4SError where a tableau's meta says that it was fitted with another scale of guidance.

    Args:
        scale: that of the network, 1 for none; None where it is not known.
        whose: the network in words.
    """
    own = guidance(tableau)
    if own is not None and scale is not None and abs(own - scale) > 1e-6 * scale:
        raise S4SError(
            f"the solver with {tableau.nfe} evaluations was made with guidance {own:g}, but {whose} has {scale:g}; fit one for "
            "it, or set the model's guidance to that"
        )


def describes(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether all values of one parametrisation are those of the other, numbers to 1e-4."""
    return all(_same(value, other.get(key)) for key, value in one.items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float | int) and isinstance(other, float | int):
        return abs(one - other) <= 1e-4 * abs(one)
    return bool(one == other)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
