"""Align Your Steps: optimised levels that its authors published."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from s4s.schedules import Span

# The authors' levels for 10 steps: Sabour et al. 2024, arXiv 2404.14507, and its quick-start guide.
ALIGN_YOUR_STEPS = {
    "sd": (14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904, 0.6523686016,
           0.3977456272, 0.1515232662, 0.0291671582),
    "sdxl": (14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289, 0.3798540708,
             0.2332364134, 0.1114188177, 0.0291671582),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}  # fmt: skip


def ays(nfe: int, span: Span, table: str) -> Tensor:
    """Align Your Steps: levels optimised by its authors for Stable Diffusion 1.5 (sd), XL (sdxl) and Video (svd) at 10 steps.

    For another number of steps ln s is interpolated linearly, as the authors recommend.

    Source: Sabour et al. 2024, arXiv 2404.14507
    Use: for these models and their relatives; the levels must lie within the model's range and start at its full noise
    """
    known = np.log(ALIGN_YOUR_STEPS[table])
    at = np.linspace(0, len(known) - 1, nfe + 1)
    return torch.as_tensor(np.exp(np.interp(at, np.arange(len(known)), known)))
