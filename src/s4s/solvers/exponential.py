"""The form that exponential integrators in data prediction share: y_{n+1} = r_n y_n + sum_j B[n,j] D_j, r_n = s_{n+1}/s_n."""

from __future__ import annotations

from torch import Tensor

from s4s.tableau import Tableau


def ratios(levels: Tensor) -> Tensor:
    """r_n = s_{n+1}/s_n, [N]."""
    return levels[1:] / levels[:-1]


def exponential_tableau(levels: Tensor, B: Tensor, eval_levels: Tensor | None = None) -> Tableau:
    """The tableau with the weights B [N, N] of the denoiser outputs and the ratios r_n on its diagonal."""
    return Tableau(levels, ratios(levels).diag(), B, eval_levels)  # type: ignore[arg-type]


def orders(nfe: int, order: int, lower_order_final: bool) -> list[int]:
    """Order of each step: as many outputs as there are so far, and fewer towards the end if `lower_order_final`."""
    return [min(order, n + 1, nfe - n if lower_order_final else order) for n in range(nfe)]
