"""Float32 that is the same on every processor: as the processor's own where IEEE says what is right, else in the last bit."""

import math

import numpy as np
import pytest
import torch

from s4s.export.zoo.single_precision import SinglePrecision

X = torch.tensor(np.random.Generator(np.random.Philox(key=0)).uniform(0.01, 20, 1000).astype(np.float32))
EXACT = {
    "sum": lambda x: x + 0.1,
    "difference": lambda x: 0.3 - x,
    "product": lambda x: x * (1 / 3),
    "quotient": lambda x: x / 7.1,
    "in turn": lambda x: (x * 0.7 + 1 / 3) / x - 0.2,
}
ROUNDED = {
    "root": torch.sqrt,
    "exponential": torch.exp,
    "logarithm": torch.log,
    "power": lambda x: x**6.5,
    "power of e": lambda x: math.e**x,
    "line": lambda x: torch.linspace(4.3820266, -6.2146082, 19),
}


@pytest.mark.parametrize("name", EXACT)
def test_arithmetic_is_that_of_float32_to_the_bit(name):
    with SinglePrecision():
        found = EXACT[name](X)
    assert found.dtype == torch.float32 and torch.equal(found, EXACT[name](X))


@pytest.mark.parametrize("name", ROUNDED)
def test_functions_are_float64_rounded_once(name):
    with SinglePrecision():
        found = ROUNDED[name](X)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, ROUNDED[name](X), rtol=3e-6, atol=0)
    if name in ("root", "exponential", "logarithm"):
        assert torch.equal(found, ROUNDED[name](X.double()).float())


def test_whole_numbers_and_float64_outside_are_left_alone():
    with SinglePrecision():
        assert torch.arange(3).dtype == torch.int64
        assert torch.tensor(0.1).item() == float(np.float32(0.1))
    assert (torch.tensor(0.1, dtype=torch.float64) * 0.1).item() == 0.1 * 0.1
