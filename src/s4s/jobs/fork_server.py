"""Starts the workflow's jobs: with GPUs of their own, and short ones in milliseconds instead of the seconds that imports take.

    python -m s4s.jobs.fork_server --serve FILE MODULE ...
        imports these modules once, then forks a child for each request
    python -m s4s.jobs.fork_server [--gpus N] PROGRAM ARGUMENT ...
        runs a script, or a program of the workflow by its name (S4S_PROGRAMS says where they are), in such a child if S4S_WARM
        names a live server, else here

With --gpus the job waits until N GPUs of the machine are free and has them alone (s4s/jobs/gpu_lease.py). The child gets the
caller's files, folder, environment, arguments and leases, and its exit code is passed back. Nothing outlives its cause: the
child dies with its caller, with the server and with the workflow's main process (S4S_RUN), the caller with its shell, the
server when its standard input closes. The server computes nothing itself, so that a child chooses its device and threads.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any

from s4s.errors import S4SError
from s4s.jobs.gpu_lease import lease_gpus


def main() -> None:
    """Entry point; see the module's docstring."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--serve"] and len(arguments) > 1:
        _serve(arguments[1], arguments[2:])
        return
    gpus = 0
    if arguments[:1] == ["--gpus"] and len(arguments) > 2 and arguments[1].isdigit():
        gpus, arguments = int(arguments[1]), arguments[2:]
    if not arguments or arguments[0].startswith("-"):
        print(__doc__)
        sys.exit(0 if "--help" in arguments else 2)
    if not arguments[0].endswith(".py"):
        arguments = [os.path.join(os.environ.get("S4S_PROGRAMS", ""), f"{arguments[0]}.py"), *arguments[1:]]
    _die_with_parent()
    _die_with_run()
    try:
        leases = lease_gpus(gpus) if gpus else []
    except S4SError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    code = _ask(arguments, leases)
    if code is None:
        sys.argv = arguments
        sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        sys.exit(code)


def start_server(*modules: str) -> subprocess.Popen[bytes] | None:
    """Start a server for the jobs that this process and its children start, which imports some modules for them all.

    It ends with this process. None but on Linux.
    """
    if sys.platform != "linux":
        return None
    name = f"s4s-{os.getpid()}-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"\0{name}")  # in the kernel's namespace: no file that could be left behind
        listener.listen(256)  # so jobs can already ask, and wait until the imports are done
        os.environ.update(S4S_WARM=f"{os.environ.get('SLURM_JOB_ID', '')}:{name}")
        return subprocess.Popen(
            [sys.executable, "-m", "s4s.jobs.fork_server", "--serve", str(listener.fileno()), *modules],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _die_with_run() -> None:
    """End with the workflow's main process, if that is on this machine; a batch system watches over its jobs itself."""
    host, _, pid = os.environ.get("S4S_RUN", "").rpartition(":")
    if host != socket.gethostname() or not hasattr(os, "pidfd_open") or "SLURM_JOB_ID" in os.environ:
        return
    try:
        process = os.pidfd_open(int(pid))
    except ProcessLookupError:
        sys.exit(1)

    def watch() -> None:
        select.select([process], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _same_user(connection: socket.socket) -> bool:
    """Whether the other end belongs to this user: names of these sockets have no owner and no permissions."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", found)[1] == os.getuid())


def _connect() -> socket.socket | None:
    """A connection to the server that S4S_WARM names; None if there is none, or none of this machine, user and batch job."""
    job, _, server = os.environ.get("S4S_WARM", "").partition(":")
    if not server or job != os.environ.get("SLURM_JOB_ID", ""):
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"\0{server}")
        if _same_user(connection):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def has_server() -> bool:
    """Whether jobs that this process starts would find a server."""
    connection = _connect()
    if connection is not None:
        connection.close()
    return connection is not None


def _ask(arguments: list[str], leases: list[int]) -> int | None:
    """Run a script on the server; None if there is none."""
    connection = _connect()
    if connection is None:
        return None
    with connection:
        greeting = b""
        with suppress(OSError):  # it may end before it is ready
            greeting = connection.recv(1)
        if greeting != b"+":
            return None
        request = json.dumps({"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
        try:
            socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2, *leases])
            connection.sendall(request)
            answer = connection.recv(4)
        except OSError:
            answer = b""
    if len(answer) < 4:
        print("error: the warm server went away before the job ended", file=sys.stderr)
        return 1
    code = int.from_bytes(answer, "big", signed=True)
    return code if code >= 0 else 128 - code


def _serve(file: str, modules: list[str]) -> None:
    from importlib import import_module

    listener = socket.socket(fileno=int(file))
    for module in modules:
        import_module(module)
    children: dict[int, socket.socket] = {}  # process -> its caller
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: _stop(children))
    while True:
        waiting: list[socket.socket | int] = [listener, 0, wake_read, *children.values()]
        ready, _, _ = select.select(waiting, [], [])
        if 0 in ready and not os.read(0, 4096):
            _stop(children)
        if wake_read in ready:
            os.read(wake_read, 4096)
            for process in list(children):
                finished, status = os.waitpid(process, os.WNOHANG)
                if finished:
                    code = os.waitstatus_to_exitcode(status)
                    with children.pop(process) as caller, suppress(OSError):  # the caller may have died in the meantime
                        caller.sendall(code.to_bytes(4, "big", signed=True))
        for process, caller in list(children.items()):
            if caller in ready and not _alive(caller):
                _kill(process)  # its caller is gone; the exit status is collected above
        if listener in ready:
            caller, _ = listener.accept()
            received = _receive(caller) if _same_user(caller) else None
            if received is None:
                caller.close()
                continue
            process = os.fork()
            if process == 0:
                listener.close()
                for other in (caller, *children.values()):
                    other.close()
                signal.set_wakeup_fd(-1)
                for kind in (signal.SIGCHLD, signal.SIGTERM):
                    signal.signal(kind, signal.SIG_DFL)
                _child(*received)
            for handle in received[1]:
                os.close(handle)
            children[process] = caller


def _alive(caller: socket.socket) -> bool:
    try:
        return bool(caller.recv(1))
    except OSError:
        return False


def _kill(process: int) -> None:
    """Kill a child and what it started."""
    for kill in (os.killpg, os.kill):  # a child that was forked this moment leads no group yet
        with suppress(ProcessLookupError):
            kill(process, signal.SIGKILL)


def _stop(children: dict[int, socket.socket]) -> None:
    for process in children:
        _kill(process)
    os._exit(0)


def _receive(caller: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """A caller's request, and its standard files and leases; None if it ended in the middle. Before the fork, for what comes
    later on this socket is its end."""
    try:
        caller.sendall(b"+")
        head, files, _, _ = socket.recv_fds(caller, 8, 64)
        request = bytearray()
        while len(request) < int.from_bytes(head, "big") and (part := caller.recv(1 << 16)):
            request += part
        return json.loads(request), files
    except (OSError, ValueError):
        return None


def _child(job: dict[str, Any], files: list[int]) -> None:
    """Become the job; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        _die_with_parent()
        for target, source in enumerate(files[:3]):
            os.dup2(source, target)  # further files are leases, held until this process ends
        os.chdir(job["folder"])
        os.environ.clear()
        os.environ.update(job["environment"])
        sys.argv = job["arguments"]
        sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
