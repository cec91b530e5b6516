"""Writes tests/golden/ld3.json with LD3's own samplers: where each of them carries two numbers, with and without a second list.

    git clone https://github.com/vinhsuhi/LD3 && python -m tests.ld3_golden --ld3 LD3

Written at its commit 9e4a66f. Everything is computed in float64; UniPC's sums of differences too, which the original rounds to
float32. Of the six names that LD3's option --solver_name takes, heun and dpm_solver stop with an error there.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden/ld3.json"
NFES = range(3, 11)
START = (-1.3, 0.4)  # unit noise
UNIPC = {f"unipc-{order}-{variant}": ("unipc", order, variant) for order in (1, 2, 3) for variant in ("bh1", "bh2")}
DPMPP = {f"dpmpp-{order}": ("dpmpp", order, None) for order in (1, 2, 3)}
IPNDM = {f"ipndm-{order}": ("ipndm", order, None) for order in (2, 3, 4)}  # order 1 stops with an error
SOLVERS = {**UNIPC, **DPMPP, **IPNDM, "euler": ("ddim", 1, None)}
LD3S = {"unipc": "uni_pc", "dpmpp": "dpm_solver++", "ipndm": "ipndm", "ddim": "euler"}  # our names and its own


def denoised(y, s):
    """E[clean | y] of the mixture of two normal distributions around -1 and 1, of variance 1/4."""
    return (y / 4 + s**2 * torch.tanh(y / (s**2 + 0.25))) / (s**2 + 0.25)


def lists(kind: str, nfe: int) -> tuple[list[float], list[float]]:
    """Times of LD3's two lists: noise levels on the path ve, else entries of Stable Diffusion's table, at (k + 1)/1000."""
    rng = np.random.default_rng(nfe)
    places = np.linspace(0, 1, nfe + 1)
    moved = places + np.r_[0, rng.uniform(-0.4, 0.4, nfe - 1), 0] / nfe
    if kind == "ve":
        first, second = (((1 - at) * 80 ** (1 / 7) + at * 0.002 ** (1 / 7)) ** 7 for at in (places, moved))
        return first.tolist(), second.tolist()
    first, second = ((np.round(999 * (1 - at) ** 1.5) + 1) / 1000 for at in (places, moved))
    return first.tolist(), second.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ld3", required=True, help="checkout of vinhsuhi/LD3")
    sys.path.insert(0, parser.parse_args().ld3)
    torch.set_default_dtype(torch.float64)
    from noise_schedulers import NoiseScheduleVE, NoiseScheduleVP
    from samplers import uni_pc
    from samplers.dpm_solver import DPM_Solver
    from samplers.dpm_solverpp import DPM_SolverPP
    from samplers.euler import Euler
    from samplers.heun import Heun
    from samplers.ipndm import iPNDM

    uni_pc.einsum_float_double = torch.einsum
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    schedules = {"ve": NoiseScheduleVE("edm"), "vp": NoiseScheduleVP("discrete", betas=betas, dtype=torch.float64)}
    start = torch.tensor(START).reshape(1, 1, 1, 2)
    golden: dict = {}
    for kind, schedule in schedules.items():

        def noise(x, t, *_, schedule=schedule):  # what a network that predicts noise gives for x at time t
            alpha, sigma = schedule.marginal_alpha(t), schedule.marginal_std(t)
            return (x - alpha * denoised(x / alpha, sigma / alpha)) / sigma

        made = {
            "unipc": lambda variant, schedule=schedule: uni_pc.UniPC(schedule, variant=variant),
            "dpmpp": lambda _, schedule=schedule: DPM_SolverPP(schedule),
            "ipndm": lambda _, schedule=schedule: iPNDM(schedule),
            "ddim": lambda _, schedule=schedule: Euler(schedule),
        }
        for nfe in NFES:
            first, second = lists(kind, nfe)
            ends = torch.tensor(first)[[0, -1]]
            x = start * (80 if kind == "ve" else 1)
            entry: dict = {"first": first, "second": second, "one": {}, "two": {}}
            for name, (solver, order, variant) in SOLVERS.items():
                if order > nfe or (
                    kind == "vp" and solver == "ddim"
                ):  # Euler needs derivatives of the table, differences of 1e-6
                    continue
                for which, conditioning in (("one", first), ("two", second)):
                    end = made[solver](variant).sample_simple(
                        noise, x, torch.tensor(first), torch.tensor(conditioning), order=order, NFEs=nfe
                    )
                    y = end / schedule.marginal_alpha(ends[1:])
                    entry[which][name] = [float(f"{value:.13g}") for value in y.flatten().tolist()]
            golden[f"{kind}-{nfe}"] = entry
        for broken, order in ((Heun(schedule), 2), (DPM_Solver(schedule), 2)):
            try:
                broken.sample_simple(noise, start, torch.tensor(first), torch.tensor(first), order=order, NFEs=nfe)
            except TypeError as error:
                print(f"{type(broken).__name__} on {kind}: {error}")
            else:
                raise SystemExit(f"{type(broken).__name__} runs, so it must be among SOLVERS")
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
