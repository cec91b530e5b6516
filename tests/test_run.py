"""What goes on around jobs: one run a folder, stale locks, what a killed process left, progress, cost, errors of the disk."""

import argparse
import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

import numpy as np
import pytest

from s4s import S4SError
from s4s.files import disk_errors as storage
from s4s.files.atomic import atomic_path, write_text
from s4s.files.rows import OVERHEAD, Split, write_splits
from s4s.jobs import workflow_progress as run_progress
from s4s.jobs.costs import by_job, read_usage
from s4s.jobs.folder_lock import lock_folder
from s4s.jobs.script import run_script
from s4s.jobs.workflow_progress import RunProgress

HOLD = """
import sys, time
from s4s.jobs.folder_lock import lock_folder
lock_folder(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_second_run_in_a_folder_is_refused_until_the_first_is_gone(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    with pytest.raises(S4SError, match=rf"another run works in this folder \(process {first.pid} on .* since .*--directory"):
        lock_folder(tmp_path)
    os.close(lock_folder(tmp_path / "other"))
    first.kill()
    first.wait()
    os.close(lock_folder(tmp_path))


WRITE = """
import sys, time
from s4s.files.atomic import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_what_a_killed_writer_left_is_removed_by_the_next_and_a_living_ones_is_not(tmp_path):
    path = tmp_path / "nfe~3.json"
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    dead, living = (writer.stdout.readline().strip() for writer in writers)
    (tmp_path / ".nfe~33.other-1-1-0.json").touch()  # of another machine
    writers[0].kill()
    writers[0].wait()
    write_text(path, "whole")
    assert path.read_text() == "whole" and not os.path.exists(dead) and os.path.exists(living)
    writers[1].kill()
    writers[1].wait()
    write_text(path, "again")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".nfe~33.other-1-1-0.json", "nfe~3.json"]


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "old" and len([*tmp_path.iterdir()]) == 1


def script(monkeypatch, action, *arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--nfe", type=int)
    parser.add_argument("--out", default="there/nfe~3.h5")
    monkeypatch.setattr(sys, "argv", ["somewhere/sample.py", *arguments])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    run_script(action, parser)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space", "x.h5"),
            "error: x.h5: cannot write: the disk is full; free some space and run the same",
        ),
        (OSError(errno.EROFS, "Read-only"), "error: there/nfe~3.h5: cannot write: this folder is read-only"),
        (OSError("Can't write data (file write failed: errno = 28, error message = '')"), "the disk is full"),
        (RuntimeError("Can't decrement id ref count (file write failed: errno = 122, ...)"), "your disk quota is used up"),
        (S4SError("a wrong thing"), "error: a wrong thing"),
        (RuntimeError("CUDA out of memory. Tried to allocate\nmore"), "error: out of memory (CUDA out of memory. Tried to"),
    ],
)
def test_what_a_user_can_mend_is_one_line(monkeypatch, capsys, error, message):
    def fail(args):
        raise error

    with pytest.raises(SystemExit, match="1"):
        script(monkeypatch, fail)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and message in lines[1]


def test_rows_that_do_not_fit_on_the_disk_are_refused_before_any_is_written(monkeypatch, tmp_path):
    """8 rows of 6 x 4 bytes and their seeds, beside what every file has."""
    rows = Split(np.arange(8, dtype=np.uint64), np.zeros((8, 6), dtype=np.float32))
    needed = 8 * (8 + 6 * 4) + OVERHEAD

    def free(size):
        monkeypatch.setattr(storage.shutil, "disk_usage", lambda folder: SimpleNamespace(total=1 << 40, free=size))

    free(needed - 1)
    with pytest.raises(OSError, match=r"No space left on device.*a\.h5"):
        write_splits(tmp_path / "a.h5", "samples", {"test~0": rows}, {})
    assert not [*tmp_path.iterdir()]
    free(needed)
    write_splits(tmp_path / "a.h5", "samples", {"test~0": rows}, {})
    assert (tmp_path / "a.h5").stat().st_size < needed


def test_a_folder_is_probed_by_writing(tmp_path):
    assert storage.probe(tmp_path) is None and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("place", ["results", "results/logs", "results/logs/score", "results/samples", ".snakemake"])
def test_every_file_system_of_a_run_is_probed(monkeypatch, tmp_path, place):
    """Once: a folder of the results may lie on another one, by a mount or a link."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own here")
        for folder in ("results/logs/fit", "results/scores"):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / place).parent.mkdir(exist_ok=True)
        if (tmp_path / place).is_dir():
            shutil.rmtree(tmp_path / place)
        (tmp_path / place).symlink_to(other)
        probed = []
        monkeypatch.setattr(storage, "probe", lambda folder: probed.append(folder) or "full")
        assert storage.troubles(tmp_path) == {tmp_path: "full", tmp_path / place: "full"} and len(probed) == 2
        monkeypatch.setattr(storage, "probe", lambda folder: None)
        assert storage.troubles(tmp_path) == {}


def test_other_errors_keep_their_traceback(monkeypatch):
    for error in (RuntimeError("shapes do not fit"), OSError(errno.ENOENT, "gone", "x")):

        def fail(args, error=error):
            raise error

        with pytest.raises(type(error)):
            script(monkeypatch, fail)


def test_usage_names_the_gpu_that_a_job_used(monkeypatch, capsys):
    """Of a job that started none, and of one that does not even import torch, it says CPU."""
    gpu = {"device_count": lambda: 2, "get_device_name": lambda: "H200", "max_memory_allocated": lambda: 3 << 20}
    for torch, expected in (
        (SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True, **gpu)), (2, "H200", 3)),
        (SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: False, **gpu)), (0, "CPU", None)),
        (None, (0, "CPU", None)),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch", torch)
            script(patch, lambda args: None)
        usage = json.loads(capsys.readouterr().err.partition("usage: ")[2])
        assert (usage["gpus"], usage["device"], usage.get("gpu_peak_mb")) == expected


def test_a_log_says_what_a_job_is_about_and_what_it_cost(monkeypatch, capsys, tmp_path):
    for run, jobs in (("1.5", 2), ("2.5", 1)):
        monkeypatch.setenv("S4S_STARTED", run)
        for number in range(jobs):
            script(monkeypatch, lambda args: {"evaluations": 60}, "--model", "digits.yaml", "--nfe", "3")
            log = capsys.readouterr().err
            assert log.startswith("sample: model digits.yaml, nfe 3\n")
            (tmp_path / f"{run}-{number}.log").write_text(log)
    (tmp_path / "running.log").write_text("sample: model digits.yaml\n 10%")
    (tmp_path / "empty.log").touch()
    usage = read_usage(tmp_path)
    assert len(usage) == 3 and (usage.peak_memory_mb > 10).all() and (usage.gpus == 0).all()
    row = by_job(usage, "2.5").loc["sample"]
    assert (row.jobs, row.here, row.reused, row.evaluations) == (3, 1, 2, 180)
    assert len(by_job(read_usage(tmp_path / "nothing"), "")) == 0


def record(**extra):
    made = logging.makeLogRecord({"msg": "", "levelno": logging.INFO})
    vars(made).update(extra)
    return made


def test_progress_of_a_study_with_the_time_left(monkeypatch, tmp_path, capsys):
    """Two at a time; fits take 30 s, samples 3 s: what is left is known from the rules' own means."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(run_progress.time, "monotonic", lambda: clock.now)
    progress = RunProgress(tmp_path / "logs/progress.log")
    progress.emit(record(event="run_info", stats={"fit": 4, "sample": 20, "total": 24}))
    for job, (rule, seconds) in enumerate([("fit", 30), ("sample", 3), ("sample", 3)]):
        progress.emit(record(event="job_info", jobid=2 * job, rule_name=rule))
        progress.emit(record(event="job_info", jobid=2 * job + 1, rule_name=rule))
        clock.now += seconds
        for number in (2 * job, 2 * job + 1):
            progress.emit(record(event="job_finished", job_id=number))
    assert progress.left(clock.now) == pytest.approx((2 * 30 + 16 * 3) / 2)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "study: 1 of 24 jobs done, 1 running, 00:30 gone, about 05:30 left"
    progress.show(clock.now)
    assert "study: 6 of 24 jobs done, 0 running, 00:36 gone, about 00:54 left" in (tmp_path / "logs/progress.log").read_text()
    progress.emit(record(event=None))
    progress.emit(record(event="job_finished", job_id=77))  # of a group that was told of in one record
    assert json.dumps(progress.total) and time.monotonic() == clock.now
