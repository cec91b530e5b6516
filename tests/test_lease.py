"""Leases of GPUs: with names of GPUs that do not exist, several processes, and kills at random moments."""

import os
import random
import subprocess
import sys
import time

import pytest

from s4s.jobs.gpu_lease import lease_gpus, release, visible_gpus

JOB = """
import os, sys, time
from s4s.jobs.gpu_lease import lease_gpus
def lives(pid):
    try:
        return "State:\\tZ" not in open(f"/proc/{pid}/status").read()
    except OSError:
        return False

lease_gpus(int(sys.argv[1]))
for name in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
    path = f"{sys.argv[2]}/{name}-{os.getpid()}"
    open(path, "x").close()
    others = [entry for entry in os.listdir(sys.argv[2]) if entry.startswith(f"{name}-") and entry != f"{name}-{os.getpid()}"]
    alive = [entry for entry in others if lives(entry.split("-")[1])]
    if alive:
        open(f"{sys.argv[2]}/collision", "w").write(f"{name}: {alive}")
print("taken", flush=True)
time.sleep(float(sys.argv[3]))
for name in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
    os.unlink(f"{sys.argv[2]}/{name}-{os.getpid()}")
"""


@pytest.fixture
def four(tmp_path, monkeypatch):
    monkeypatch.setenv("S4S_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,GPU-abc")
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "held").mkdir()
    return tmp_path


def job(folder, count, seconds):
    command = [sys.executable, "-c", JOB, str(count), str(folder / "held"), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_no_two_jobs_share_a_gpu_and_kills_free_theirs(four):
    """24 jobs of 1 or 2 GPUs on 4, every third killed at a random moment: no collision, all done, all free at the end."""
    random.seed(0)
    jobs = [job(four, 1 + (i % 4 == 0), random.uniform(0.0, 0.3)) for i in range(24)]
    for i, one in enumerate(jobs):
        if i % 3 == 0:
            time.sleep(random.uniform(0, 0.3))
            one.kill()
    codes = [one.wait(120) for one in jobs]
    assert not (four / "held/collision").exists(), (four / "held/collision").read_text()
    assert sum(code == 0 for code in codes) >= 16 and set(codes) <= {0, -9}
    handles = lease_gpus(4)
    assert len(handles) == 4
    release(handles)


def test_a_job_waits_for_its_gpu_and_says_so(four, capfd):
    first = job(four, 4, 1.5)
    assert first.stdout.readline() == "taken\n"
    started = time.monotonic()
    release(lease_gpus(1, patience=0.2))
    assert time.monotonic() - started > 0.5 and first.wait(10) == 0
    assert "waiting for 1 of the GPUs 0, 1, 2, GPU-abc, which other jobs hold" in capfd.readouterr().err


def test_jobs_of_a_batch_system_do_not_wait_for_others_with_the_same_numbers(four, monkeypatch):
    outside = lease_gpus(4)
    for number in ("11", "12"):  # each sees its own device under the number 0
        monkeypatch.setenv("SLURM_JOB_ID", number)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        outside += lease_gpus(1)
    assert len(outside) == 6
    release(outside)


@pytest.mark.parametrize(("given", "names"), [("2,3", ["2", "3"]), ("", []), ("-1", []), ("NoDevFiles", [])])
def test_the_pool_is_what_cuda_visible_devices_says(monkeypatch, given, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus() == names and (names or lease_gpus(1) == [])


def test_more_than_there_are_is_all_there_are(four):
    handles = lease_gpus(9)
    assert len(handles) == 4 and os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,GPU-abc"
    release(handles)


def test_a_forked_child_keeps_the_lease_of_its_dead_caller(four):
    """As a warm job does for the moment until it is killed."""
    handles = lease_gpus(4)
    child = subprocess.Popen(["sleep", "0.7"], pass_fds=handles)
    release(handles)
    started = time.monotonic()
    os.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,GPU-abc"
    release(lease_gpus(1))
    assert time.monotonic() - started > 0.3 and child.wait(5) == 0
