"""How the workflow's scripts start and end: arguments, threads, one clear line for what went wrong, what the job cost."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from s4s import __version__
from s4s.errors import DamagedFile, S4SError, S4SWarning, not_installed, printable
from s4s.files.checksum import signed
from s4s.files.disk_errors import remedy
from s4s.jobs import damaged_results

USAGE = "usage: "  # begins the last line of a log
_ABOUT = ("model", "token", "solver", "tableau", "base", "teacher", "nfe", "split", "seeds", "shard", "samples")


def run_script(main: Callable[[argparse.Namespace], dict[str, Any] | None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line and call `main`; what a user can mend becomes one message and exit code 1.

    The log begins with what the job is about and ends with when, on what and with which versions it was done, and what it cost:
    seconds, peak memory and what `main` returns, such as the number of evaluations.
    """
    arguments = parser.parse_args()
    about = {key: value for key in _ABOUT if (value := getattr(arguments, key, None)) is not None}
    name = Path(sys.argv[0]).stem
    print(f"{name}: {', '.join(f'{key} {_short(value)}' for key, value in about.items())}", file=sys.stderr, flush=True)
    sys.unraisablehook = _quiet_about_storage
    show_warnings_plainly()
    started, processor = time.perf_counter(), time.process_time()
    try:
        facts = main(arguments) or {}
    except (S4SError, OSError, RuntimeError, ModuleNotFoundError) as error:
        _fail(error, getattr(arguments, "out", ""))
    usage = {
        "job": name,
        "run": os.environ.get("S4S_STARTED", ""),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"s4s": __version__} | {name: version(name) for name in ("torch", "numpy")},
        "seconds": round(time.perf_counter() - started, 3),
        "processor_seconds": round(time.process_time() - processor, 3),
        "peak_memory_mb": peak_memory_mb(),
        **_gpu(),
        **facts,
    }
    print(USAGE + json.dumps(signed(usage)), file=sys.stderr)


def show_warnings_plainly() -> None:
    """Our own warnings become one line on standard error, without the place in the code."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *others: Any) -> None:
        if issubclass(category, S4SWarning):
            print(f"warning: {printable(str(message))}", file=sys.stderr)
        else:
            usual(message, category, *others)

    warnings.showwarning = show  # type: ignore[assignment]


def _quiet_about_storage(unraisable: Any) -> None:
    """HDF5 repeats an error of the disk for every object that it closes afterwards; it is said once, above."""
    if remedy(unraisable.exc_value) is None:
        sys.__unraisablehook__(unraisable)


def peak_memory_mb() -> int:
    """Largest resident memory of this process so far, in MiB. On Linux getrusage also counts what started the process."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux; macOS counts bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def plain(error: BaseException, out: str | Path = "") -> str | None:
    """What a user can mend in one message; None for a defect. `out`: what was being written, if the error does not say."""
    if isinstance(error, S4SError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return None if (missing := not_installed(error)) is None else str(missing)
    if (words := remedy(error)) is not None:
        return f"{getattr(error, 'filename', None) or out}: cannot write: {words}"
    if "out of memory" not in str(error).lower():
        return None
    return f"out of memory ({str(error).splitlines()[0]}); lower batch_size in the config and block in the model's YAML file"


def _fail(error: BaseException, out: str | Path) -> None:
    message = plain(error, out)
    if message is None:
        raise error
    if isinstance(error, DamagedFile) and damaged_results.note(error.path):
        message += ". This result is made again when you run the same command once more"
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(1)


def _short(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _gpu() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {"gpus": 0, "device": "CPU"}
    peak = round(torch.cuda.max_memory_allocated() / 2**20)
    return {"gpus": torch.cuda.device_count(), "device": torch.cuda.get_device_name(), "gpu_peak_mb": peak}


def use_device(threads: int) -> str:
    """The GPU if there is one, else the CPU with `threads` threads. Results do not depend on other jobs' threads."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads)
    return "cuda" if torch.cuda.is_available() else "cpu"
