"""What several tests share: exact denoisers, the embedded model, small teacher pairs."""

import pytest
import torch

import s4s
from s4s.models.mixture import MixtureDenoiser
from s4s.seeds import sample_seeds
from s4s.teacher import TeacherPairs, make_pairs


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mixture():
    """Two well separated Gaussians and a third between them, in the plane, in float64."""
    means = torch.tensor([[-1.0, 0.3], [0.8, -0.5], [0.1, 0.9]], dtype=torch.float64)
    return MixtureDenoiser(means, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), std=0.3, s_min=0.05, s_max=20.0)


@pytest.fixture(scope="session")
def digits():
    return s4s.load_model("digits")


@pytest.fixture(scope="session")
def mixture_pairs(mixture):
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 40, mixture), order=3)
    return TeacherPairs(*(make_pairs(mixture, teacher, sample_seeds(split, 64)) for split in ("train", "val")))
