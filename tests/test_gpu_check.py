"""The check on a GPU, on small networks and the CPU; and what it says where there is no GPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).parents[1] / "benchmarks/gpu_check.py"


def checked(*options):
    done = subprocess.run([sys.executable, PROGRAM, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.suite
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_what_it_would_do():
    assert checked().startswith("not run: no CUDA device")


@pytest.mark.suite
def test_small_networks_go_through_all_of_it(tmp_path):
    checked("--device", "cpu", "--tiny", "--only", "wan", "--minutes", "6", "--out", tmp_path / "table.md")
    row = (tmp_path / "table.md").read_text().splitlines()[-1]
    assert row.startswith("| wan |") and "FAILED" not in row and "not run" not in row


# of the published transformers and UNet; in bfloat16 FLUX.1-dev's files have 23.8 GB, Wan2.1-T2V-1.3B's 2.8 GB
PARAMETERS = {"wan": 1_418_996_800, "sd3": 2_028_328_000, "sdxl": 2_567_463_684, "flux": 11_901_408_320}


@pytest.mark.suite
@pytest.mark.parametrize("name", PARAMETERS)
def test_full_sizes_are_the_published_ones(monkeypatch, name):
    monkeypatch.syspath_prepend(PROGRAM.parent)
    import gpu_check

    monkeypatch.setattr(gpu_check.diffusers, "EulerDiscreteScheduler", lambda **betas: gpu_check.flow(3.0))  # it computes
    with torch.device("meta"):
        pipe, _ = gpu_check.NETWORKS[name](False)
    network = getattr(pipe, "transformer", None) or pipe.unet
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
