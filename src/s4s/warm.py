"""Starts the workflow's short jobs in a few milliseconds instead of the three seconds that importing torch takes.

    python -m s4s.warm --serve SOCKET       imports the heavy libraries once, then forks a child for each request
    python -m s4s.warm SCRIPT ARGUMENT ...  runs a script in such a child if S4S_WARM names a live server, else here

The child gets the caller's files, folder, environment and arguments, and its exit code is passed back. It dies with its
caller; the server dies when its standard input closes, that is with the process that started it. It computes nothing
itself, so that a child can choose its own device and threads.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any

PRELOADED = (
    "s4s.metrics.score",
    "s4s.metrics.features",
    "s4s.fitting.fit",
    "s4s.figures",
    "s4s.report",
    "sklearn.model_selection",
)


def main() -> None:
    """Entry point; see the module's docstring."""
    if sys.argv[1:2] == ["--serve"] and len(sys.argv) == 3:
        _serve(sys.argv[2])
    elif len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        server = os.environ.get("S4S_WARM")
        code = _ask(server, sys.argv[1:]) if server else None
        if code is None:
            sys.argv = sys.argv[1:]
            sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            sys.exit(code)
    else:
        print(__doc__)
        sys.exit(0 if "--help" in sys.argv else 2)


def _ask(server: str, arguments: list[str]) -> int | None:
    """Run a script on the server; None if nobody answers there, as on another machine."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(server)
        except OSError:
            return None
        request = json.dumps({"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
        socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(request)
        answer = connection.recv(4)
    if len(answer) < 4:
        print("error: the warm server went away before the job ended", file=sys.stderr)
        return 1
    code = int.from_bytes(answer, "big", signed=True)
    return code if code >= 0 else 128 - code


def _serve(path: str) -> None:
    from importlib import import_module

    for module in PRELOADED:
        import_module(module)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
    except FileNotFoundError:  # the caller ended during the imports and took the socket's folder with it
        return
    listener.listen(64)
    children: dict[int, socket.socket] = {}  # process -> its caller
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: _stop(children))
    while True:
        ready, _, _ = select.select([listener, 0, wake_read, *children.values()], [], [])  # type: ignore[type-var]
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
            if caller in ready and not caller.recv(1):
                os.kill(process, signal.SIGKILL)  # its caller is gone; the exit status is collected above
        if listener in ready:
            caller, _ = listener.accept()
            job, files = _receive(caller)  # before the fork, for what comes later on this socket is its end
            process = os.fork()
            if process == 0:
                listener.close()
                signal.set_wakeup_fd(-1)
                for name in (signal.SIGCHLD, signal.SIGTERM):
                    signal.signal(name, signal.SIG_DFL)
                _child(job, files)
            for file in files:
                os.close(file)
            children[process] = caller


def _stop(children: dict[int, socket.socket]) -> None:
    for process in children:
        os.kill(process, signal.SIGKILL)
    os._exit(0)


def _receive(caller: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A caller's request and its standard files."""
    head, files, _, _ = socket.recv_fds(caller, 8, 3)
    request = bytearray()
    while len(request) < int.from_bytes(head, "big") and (part := caller.recv(1 << 16)):
        request += part
    return json.loads(request), files


def _child(job: dict[str, Any], files: list[int]) -> None:
    """Become the job; never returns."""
    code = 1
    try:
        for target, source in enumerate(files):
            os.dup2(source, target)
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
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
