"""Pytest plugin: tells the tracer (sitecustomize.py) which test or fixture runs, and notes what tests have and cost."""

import os
import time
from collections.abc import Iterator

import pytest
import sitecustomize


def _now(name: str) -> str:
    before = os.environ.get("S4S_REACH_BY", "")
    os.environ["S4S_REACH_BY"] = name
    sitecustomize.seen.clear()
    return before


def _note(*words: str) -> None:
    with open(os.environ["S4S_REACH"], "a") as log:
        log.write("\t".join(words) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    for name in getattr(item, "fixturenames", []):
        _note(item.nodeid, f"fixture {name}", "0")
    before, began = _now(item.nodeid), time.monotonic()
    try:
        return (yield)
    finally:
        _now(before)
        _note(item.nodeid, "seconds", f"{time.monotonic() - began:.3f}")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef) -> Iterator[None]:
    """What a fixture calls is what every test that has it depends on."""
    before = _now(f"fixture {fixturedef.argname}")
    try:
        return (yield)
    finally:
        _now(before)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        _note(report.nodeid, "outcome", report.outcome)
