"""Classical solvers as LD3's own samplers run them on the levels that it learned."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from s4s.errors import S4SError
from s4s.models.paths import Path
from s4s.solvers import solver
from s4s.solvers.conditioning import conditioned
from s4s.tableau import Tableau

# our names and LD3's; its heun and dpm_solver stop with an error in its code, so that no file of theirs is about
AS_LD3 = {"unipc": "uni_pc", "dpmpp": "dpm_solver++", "ipndm": "ipndm", "ddim": "euler"}


def as_ld3(
    kind: str,
    levels: Tensor,
    conditioning: Tensor | None = None,
    path: Path | None = None,
    order: int | None = None,
    variant: str | None = None,
) -> Tableau:
    """The tableau of one of LD3's samplers (github.com/vinhsuhi/LD3, commit 9e4a66f; arXiv 2405.15506).

    uni_pc and dpm_solver++ are in data prediction, with lower orders in the last steps; ipndm and euler weigh directions, which
    are those of the conditioning levels; euler is ipndm of order 1. The network is given the state of the node, alpha(s) y.

    Args:
        kind: unipc, dpmpp, ipndm or ddim, its euler.
        levels: of the nodes, [N + 1]. conditioning: the conditioning levels, [N], where they are others.
        path: the Gaussian path whose times LD3 has learned; None on EDM's networks, where they are noise levels.
        order: by default 3, as in its configs but those of Stable Diffusion, which have 2.
        variant: of uni_pc; by default that of its configs, bh1 on EDM's networks and bh2 on latent ones.
    Raises:
        S4SError: if LD3 has no such sampler, or no tableau does what it does.
    """
    if kind not in AS_LD3:
        known = ", ".join(f"{ours} (its {its})" for ours, its in AS_LD3.items())
        raise S4SError(f"LD3 has no sampler {kind} for its two lists, of nodes and of conditioning levels; take {known}")
    if kind == "ddim" and path is not None:
        raise S4SError(
            "LD3's euler on a path with times steps in the time itself, along derivatives of a table of float32 that it takes "
            "by differences of 1e-6, which no tableau repeats; take dpmpp, unipc or ipndm"
        )
    options: dict[str, Any] = {"order": 3 if order is None else order}
    if kind == "ddim":
        if order not in (None, 1):
            raise S4SError(f"LD3's euler is of order 1, not {order}; leave out the order")
        kind, options = "ipndm", {"order": 1}
    elif kind != "ipndm":
        options["lower_order_final"] = True
    if kind == "unipc":
        options["variant"] = variant or ("bh1" if path is None else "bh2")
    elif variant is not None:
        raise S4SError(f"LD3's {AS_LD3[kind]} has no variants; leave out {variant}")
    made = solver(kind, levels, **options)
    if conditioning is None:
        return made
    scale = None if path is None else path.alpha_of_s(levels[:-1]) / path.alpha_of_s(conditioning)
    return conditioned(made, conditioning, scale)
