"""What several tests share: exact denoisers, the embedded model, small teacher pairs."""

import pytest
import torch

import s4s
from s4s.learning.teacher import TeacherPairs, make_pairs
from s4s.models.denoiser import Denoiser
from s4s.models.embedded.mixture import MixtureDenoiser
from s4s.models.seeds import sample_seeds


class CountingDenoiser(Denoiser):
    """A denoiser that counts the rows through it, and the most at a time; `broken(call)` says at which calls it returns nan."""

    def __init__(self, inner, broken=lambda call: False):
        for name in ("name", "shape", "s_min", "s_max", "device", "dtype", "path"):
            setattr(self, name, getattr(inner, name))
        self.inner, self.broken, self.rows, self.calls, self.largest = inner, broken, 0, 0, 0

    def __call__(self, y, s, condition=None):
        call, self.calls, self.rows = self.calls, self.calls + 1, self.rows + len(y)
        self.largest = max(self.largest, len(y))
        output = self.inner(y, s, condition)
        return output * float("nan") if self.broken(call) else output

    def decode(self, y_0):
        return self.inner.decode(y_0)


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


@pytest.fixture(scope="session")
def mixture_paths(mixture):
    """Pairs with the teacher's states and outputs at all steps, its levels and the model's name."""
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 40, mixture), order=3)
    splits = (make_pairs(mixture, teacher, sample_seeds(split, 16), trajectory=True) for split in ("train", "val"))
    return TeacherPairs(*splits, mixture.name, teacher.levels)


@pytest.fixture(scope="session")
def mixture_test(mixture):
    """Pairs from noise that no fit sees."""
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 40, mixture), order=3)
    return make_pairs(mixture, teacher, sample_seeds("test", 200))


@pytest.fixture(scope="session")
def digits_pairs(digits):
    teacher = s4s.solver("unipc", s4s.levels("edm", 20, digits), order=3)
    return TeacherPairs(*(make_pairs(digits, teacher, sample_seeds(split, n)) for split, n in {"train": 48, "val": 16}.items()))
