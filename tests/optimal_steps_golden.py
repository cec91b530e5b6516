"""Prints what tests/test_zoo_optimal_steps.py holds: OptimalSteps' own sampler on a function of (x, t), in float64.

    git clone https://github.com/bebebe666/OptimalSteps && python -m tests.optimal_steps_golden --oss OptimalSteps

Run at its commit ee35043. Its sampler takes numbers of a teacher's times, of which 0 is clean data; here they are all of them.
"""

import argparse
import sys

import torch

TIMES = {  # of nodes, from noise to data; the last is made 0
    "FLUX": (0.9968, 0.9886, 0.975, 0.9158, 0.5512, 0.2808, 0.001),
    "Wan": (1.0, 0.991, 0.968, 0.864, 0.539, 0.001),
}
START = (-1.3, 0.4)  # unit noise


def clean(x, t):
    """Some data prediction at (x, t), which knows time 1 too."""
    return torch.tanh(0.7 * x + 0.4 - t)


class Teacher:
    """What its sampler asks of a network: its times from clean data to noise, and the flow at (x, number of a time)."""

    def __init__(self, times):
        self.fm_steps = torch.tensor([0.0, *reversed(times[:-1])])

    def __call__(self, x, number, *_):
        t = self.fm_steps[number][:, None]
        return (x - clean(x, t)) / t


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oss", required=True, help="checkout of bebebe666/OptimalSteps")
    sys.path.insert(0, parser.parse_args().oss)
    torch.set_default_dtype(torch.float64)
    from OSS.OSS import infer_OSS

    for name, times in TIMES.items():
        start = times[0] * torch.tensor([START])
        steps = [*range(1, len(times))]
        end = infer_OSS(steps, Teacher(times), start, None, "cpu", float32=False)
        print(f'    "{name}": {tuple(float(f"{value:.15g}") for value in end.flatten().tolist())},')


if __name__ == "__main__":
    main()
