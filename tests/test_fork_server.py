"""The server that starts jobs: they are like those that start alone, and nothing outlives its cause."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from s4s.jobs.fork_server import has_server, start_server


@pytest.fixture
def warm(monkeypatch):
    monkeypatch.setenv("S4S_WARM", "")
    server = start_server("sqlite3")
    yield server
    server.stdin.close()
    server.wait(60)


def test_a_warm_server_whose_caller_ended_early_says_nothing(tmp_path):
    program = "from s4s.jobs.fork_server import start_server; import os; "
    program += "server = start_server(); os.write(1, b'%d' % server.pid); os._exit(0)"
    done = subprocess.run(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
    assert done.stderr == "" and gone(int(done.stdout), 60)


def ask(*arguments, **options):
    return subprocess.Popen([sys.executable, "-m", "s4s.jobs.fork_server", *map(str, arguments)], text=True, **options)


def test_warm_jobs_are_like_cold_ones(warm, tmp_path):
    """Output, folder, environment, arguments and exit code come through, from several callers at once."""
    script = tmp_path / "job.py"
    script.write_text(
        "import os, sys\nprint(os.getcwd(), sys.argv[1:], os.environ['MINE'], 'sqlite3' in sys.modules)\n"
        "print('to stderr', file=sys.stderr)\nsys.exit(int(sys.argv[1]))\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": tmp_path}
    jobs = [ask(script, code, env={**os.environ, "MINE": f"m{code}"}, **pipes) for code in range(8)]
    for code, job in enumerate(jobs):
        out, err = job.communicate(timeout=60)
        assert out.split("\n")[0] == f"{tmp_path} ['{code}'] m{code} True" and err == "to stderr\n" and job.returncode == code


def test_a_job_dies_with_its_caller_and_all_with_the_server(warm, tmp_path):
    script = tmp_path / "sleep.py"
    script.write_text(
        "import os, pathlib, sys, time\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    callers = [ask(script, tmp_path / f"pid{i}") for i in range(2)]
    pids = [wait_for_pid(tmp_path / f"pid{i}") for i in range(2)]
    callers[0].send_signal(signal.SIGKILL)
    callers[0].wait()
    assert gone(pids[0]) and not gone(pids[1], 0.3)
    warm.stdin.close()
    warm.wait(10)
    assert gone(pids[1]) and callers[1].wait(10) == 1


def test_jobs_die_with_a_killed_server_with_their_shell_and_with_the_run(warm, tmp_path, monkeypatch):
    """Warm and cold jobs; what a job started itself dies too."""
    script = tmp_path / "sleep.py"
    script.write_text(
        "import os, pathlib, subprocess, sys, time\nchild = subprocess.Popen(['sleep', '600'])\n"
        "pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()} {child.pid}')\ntime.sleep(600)\n"
    )

    def start(name, **options):
        caller = ask(script, tmp_path / name, stderr=subprocess.DEVNULL, **options)
        wait_for_pid(tmp_path / name)
        return caller, [int(pid) for pid in (tmp_path / name).read_text().split()]

    caller, pids = start("caller")
    caller.kill()
    assert all(gone(pid) for pid in pids)
    shell = subprocess.Popen(["bash", "-c", f"{sys.executable} -m s4s.jobs.fork_server {script} {tmp_path}/shell; true"])
    pid = wait_for_pid(tmp_path / "shell")
    shell.kill()
    assert gone(pid)
    run = subprocess.Popen(["sleep", "600"])
    monkeypatch.setenv("S4S_RUN", f"{socket.gethostname()}:{run.pid}")
    cold, (_, child) = start("cold", env={**os.environ, "S4S_WARM": ""})
    _, (pid, _) = start("warm")
    run.kill()
    run.wait()
    assert cold.wait(10) == -signal.SIGKILL and gone(pid)
    os.kill(child, signal.SIGKILL)
    monkeypatch.delenv("S4S_RUN")
    caller, (pid, _) = start("server")
    warm.kill()
    assert gone(pid) and caller.wait(10) == 1


def test_a_server_of_another_batch_job_is_not_asked(warm, tmp_path, monkeypatch):
    assert has_server()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert not has_server()
    (tmp_path / "job.py").write_text("import sys\nsys.exit('sqlite3' in sys.modules)\n")
    assert ask(tmp_path / "job.py").wait(60) == 0


def wait_for_pid(path):
    for _ in range(600):
        if path.exists() and path.read_text():
            return int(path.read_text().split()[0])
        time.sleep(0.1)
    raise AssertionError("the job did not start")


def gone(pid, patience=10.0):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_without_a_server_a_job_runs_by_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("S4S_WARM", ":nobody")
    (tmp_path / "job.py").write_text("import sys\nsys.exit(7)\n")
    assert ask(tmp_path / "job.py").wait(60) == 7
