"""Which cases of a test are in `make test`."""

import pytest


def often(values, *chosen):
    """Cases for `pytest.mark.parametrize`: of all values the chosen ones are in `make test`, the others in .ci/run alone."""
    values = [*values]
    assert set(chosen) < set(values), "not one of them, or all"
    return [value if value in chosen else pytest.param(value, marks=pytest.mark.suite) for value in values]
