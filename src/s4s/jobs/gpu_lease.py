"""GPUs for the jobs of one machine: each job has its own for as long as it lives, however it ends.

A lease is a lock on a file of the machine, one a GPU. The kernel frees it when the last process that holds it is gone.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from s4s.errors import S4SError

SCHEDULED = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")  # set by a batch system, which gives each job its GPUs


def visible_gpus() -> list[str]:
    """The GPUs that jobs may use: the entries of CUDA_VISIBLE_DEVICES if it is set, else all that nvidia-smi lists."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        return [] if names[0] in ("", "-1", "NoDevFiles") else names
    try:
        listed = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    except OSError:
        return []
    return listed.stdout.split() if listed.returncode == 0 else []


def lease_gpus(count: int, patience: float = 30.0) -> list[int]:
    """Wait until `count` GPUs are free, take them and set CUDA_VISIBLE_DEVICES to them; on a machine without GPUs do nothing.

    Args:
        count: with fewer on this machine, all of them.
        patience: seconds until a line says what is being waited for.
    Returns:
        The open lock files. The GPUs are taken until these are closed, here and in every process that got them.
    """
    names = visible_gpus()
    count = min(count, len(names))
    waiting = time.monotonic()
    while True:
        held: dict[str, int] = {}
        for name in names:
            if len(held) < count and (handle := _lock(name)) is not None:
                held[name] = handle
        if len(held) == count:
            if count:
                if "CUDA_VISIBLE_DEVICES" not in os.environ:
                    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)
            return list(held.values())
        release(held.values())
        if patience and time.monotonic() - waiting > patience:
            print(f"waiting for {count} of the GPUs {', '.join(names)}, which other jobs hold", file=sys.stderr, flush=True)
            patience = 0.0
        time.sleep(0.1)


def release(handles: Iterable[int]) -> None:
    """Give leases back before the process ends."""
    for handle in handles:
        os.close(handle)


def _lock(name: str) -> int | None:
    """The locked file of a GPU, or None if another job holds it. Jobs of a batch system share GPUs with nobody outside."""
    job = next((os.environ[key] for key in SCHEDULED if os.environ.get(key)), "")
    folder = Path(os.environ.get("S4S_LEASES") or Path(tempfile.gettempdir()) / "s4s-gpus")
    path = folder / ("gpu-" + "".join(letter if letter.isalnum() else "_" for letter in f"{job}-{name}"))
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o1777)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o666))
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise S4SError(f"{path}: cannot take the lease of a GPU: {error.strerror}; set S4S_LEASES to a local folder") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
