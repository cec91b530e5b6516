"""Writes tests/golden/gits.json with GITS's own samplers, on its README's list, with and without its analytic first step.

    git clone https://github.com/zju-pi/diff-sampler && python -m tests.gits_golden --gits diff-sampler/gits-main

Written at its commit 68d5ce4, in float64; iPNDM stops with an error at order 1. DPM-Solver++ and UniPC are run without
predict_x0, for with it they threshold.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from tests.ld3_golden import denoised

GOLDEN = Path(__file__).parent / "golden/gits.json"
LEVELS = (80, 10.9836, 3.8811, 1.584, 0.5666, 0.1698, 0.002)
START = (-1.3, 0.4)  # unit noise
ORDERS = {"euler": (None,), "heun": (None,), "dpm": (None,), "ipndm": (2, 3, 4), "dpmpp": (1, 2, 3), "unipc": (1, 2, 3)}
TWICE = ("heun", "dpm")  # evaluations a step


def cases():
    """Names with solver, order, variant and whether the first step is analytic."""
    for kind, orders in ORDERS.items():
        for order in orders:
            for variant in ("bh1", "bh2") if kind == "unipc" else (None,):
                for afs in (False,) if kind in TWICE else (False, True):
                    yield f"{kind}-{order}-{variant}-{afs}", (kind, order, variant, afs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gits", required=True, help="folder gits-main of a checkout of zju-pi/diff-sampler")
    sys.path.insert(0, parser.parse_args().gits)
    torch.set_default_dtype(torch.float64)
    import solvers

    names = {"dpm": "dpm_2_sampler", "dpmpp": "dpm_pp_sampler"}
    start = torch.tensor(START).reshape(1, 1, 1, 2)
    golden = {}
    for name, (kind, order, variant, afs) in cases():
        given = {"max_order": order, "variant": variant, "predict_x0": False, "num_steps": len(LEVELS), "afs": afs}
        end = getattr(solvers, names.get(kind, f"{kind}_sampler"))(
            lambda y, s, *_, **__: denoised(y, s),
            start,
            t_steps=torch.tensor(LEVELS),
            **{key: value for key, value in given.items() if value is not None},
        )
        golden[name] = [float(f"{value:.15g}") for value in end.flatten().tolist()]
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
