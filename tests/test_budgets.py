"""Every reader of a file from elsewhere has a budget: hostile files are refused in a line, 2 s and 500 MB beyond start-up."""

import json
import os
import resource
import signal
import time
import warnings
from collections import Counter

import pytest

from s4s.errors import S4SError
from tests.builders import edm, hostile

SECONDS, BYTES = 2, 500 << 20


def spent_on(read):
    """What a process of its own says and spends on reading: (message of the S4SError, seconds, bytes)."""
    inside, outside = os.pipe()
    if child := os.fork():
        os.close(outside)
        with open(inside, "rb") as answer:
            said = answer.read()
        _, status = os.waitpid(child, 0)
        return json.loads(said) if said else [f"ended by {os.waitstatus_to_exitcode(status)}", 0, 0]
    try:
        signal.alarm(30)
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, size + BYTES))
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            message = f"was read: {read()!r}"[:200]
        except S4SError as error:
            message = f"S4SError: {error}"
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(outside, json.dumps([message, time.process_time() - started, (after - before) << 10]).encode())
    finally:
        os._exit(0)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """What a first good file makes torch import is start-up."""
    folder = tmp_path_factory.mktemp("good")
    edm.write("edm-ddpmpp", folder / "x.pkl")
    hostile.edm_model(folder)()


def cases():
    """All of them; those beyond two of a kind of file are run by `.ci/run` alone."""
    seen = Counter()
    for name in hostile.CASES:
        kind = name.partition(":")[0]
        seen[kind] += 1
        yield pytest.param(name, marks=[pytest.mark.suite] if seen[kind] > 2 else [])


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("name", cases())
def test_a_hostile_file_is_refused_in_one_line_in_2_seconds_and_500_mb(tmp_path, name):
    with warnings.catch_warnings(action="ignore"):
        read = hostile.CASES[name](tmp_path)
    message, seconds, size = spent_on(read)
    assert message.startswith("S4SError: ") and len(message.splitlines()) == 1 and len(message) < 600, message[:1000]
    assert seconds < SECONDS and size < BYTES, (seconds, size)
