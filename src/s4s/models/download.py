"""Fetching published files: with progress, resumed where it stopped, retried, and checked before they take their place."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
import zipfile
from pathlib import Path

import requests

from s4s.errors import S4SError, one_line
from s4s.jobs.progress_bar import progress
from s4s.models.description import WeightFile

ATTEMPTS = 5
BLOCK = 1 << 16  # what a broken connection loses at most


def fetch(file: WeightFile, pause: float = 2.0) -> Path:
    """Bring a file, or a folder of huggingface.co, from its url to its path; what came before an interruption is kept.

    Args:
        file: with a url.
        pause: seconds before the second attempt; it doubles each time.
    Raises:
        S4SError: if it cannot be had or its checksum is wrong.
    """
    if file.url is None:
        raise S4SError(f"{file.path}: no url to fetch it from")
    file.path.parent.mkdir(parents=True, exist_ok=True)
    if file.url.startswith("hf://"):
        return _fetch_folder(file)
    part = file.path.with_name(file.path.name + ".part")
    with part.open("ab") as lock:  # another study may want the same file at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return file.path if file.path.exists() else _fetch_file(file, part, pause)
        finally:
            if part.exists() and part.stat().st_size == 0:
                part.unlink()


def _fetch_file(file: WeightFile, part: Path, pause: float) -> Path:
    _download(file, part, pause)
    if file.member is not None:
        part = _member(file, part)
    if file.sha256 is not None:
        with part.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != file.sha256:
            part.unlink()
            raise S4SError(f"{file.url}: wrong sha256: expected {file.sha256}, got {found}; try again, or ask its publisher")
    part.replace(file.path)
    return file.path


def _download(file: WeightFile, part: Path, pause: float) -> None:
    for attempt in range(ATTEMPTS):
        try:
            return _continue(str(file.url), part, file.path.name)
        except requests.RequestException as error:
            answer = error.response
            if attempt == ATTEMPTS - 1 or (answer is not None and 400 <= answer.status_code < 500):
                raise S4SError(
                    f"{file.path.name}: cannot fetch {file.url} ({error}); run snakemake on a machine with internet, or get "
                    f"the file yourself and put it at {file.path}"
                ) from error
            time.sleep(pause * 2**attempt)
    return None


def _continue(url: str, part: Path, name: str) -> None:
    """The rest of a file, after what `part` holds."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            size = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if not size.isdigit() or int(size) == have:
                return  # nothing is left
            part.unlink()
            raise requests.ConnectionError(f"{part.name} was of another file")
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        have = have if resumed else 0
        left = int(answer.headers.get("Content-Length", 0))
        with (
            part.open("ab" if resumed else "wb") as out,
            progress(total=have + left or None, initial=have, desc=name, unit="B", unit_scale=True) as bar,
        ):
            got = 0
            for block in answer.iter_content(BLOCK):
                out.write(block)
                got += len(block)
                bar.update(len(block))
        if got < left:
            raise requests.ConnectionError(f"{got} of {left} bytes came")


def _member(file: WeightFile, archive: Path) -> Path:
    """One file of a zip, in place of the zip."""
    part = archive.with_name(archive.name + ".member")
    try:
        with zipfile.ZipFile(archive) as source, source.open(str(file.member)) as content, part.open("wb") as out:
            shutil.copyfileobj(content, out, BLOCK)
    except (zipfile.BadZipFile, KeyError) as error:
        archive.unlink()
        part.unlink(missing_ok=True)
        raise S4SError(f"{file.url}: no zip with a member {file.member} ({error})") from error
    archive.unlink()
    return part


def _fetch_folder(file: WeightFile) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    part = file.path.with_name(file.path.name + ".part")
    name, _, revision = str(file.url).removeprefix("hf://").partition("@")
    try:
        snapshot_download(
            name, revision=revision or None, local_dir=part, ignore_patterns=["*.bin", "*.ckpt", "*.msgpack", "*.h5"]
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, requests.RequestException, OSError, ValueError) as error:
        raise S4SError(
            f"{file.path.name}: cannot fetch {name} from huggingface.co ({one_line(error)}); on a machine with internet, "
            f"run: hf download {name} --local-dir {file.path}"
        ) from error
    part.replace(file.path)
    return file.path
