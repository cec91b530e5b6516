"""Schedules in the forms in which their authors publish them: LD3's torch files, and lists of noise levels or times in text.

What is in each, by its authors' code:

* LD3 (Tong et al. 2024, arXiv 2405.15506; best_v1.pt, best_v2.pt, best_t_steps_*.pt): a dictionary whose `best_t_steps`
  [2 (N + 1)] holds the times of the solver's formula and then those of its conditioning levels, each from noise to data with
  its last entry; the two differ between the ends only. t_steps.pt is that tensor alone. On EDM's networks a time is the
  noise level itself, 80 to 0.002. On a VP path times lie in (0, 1]: those of a table of T betas are t = (k + 1)/T for entry
  k. Between entries LD3 interpolates ln alpha, we ln s: on Stable Diffusion's table levels at the same k differ by less than
  0.06 % from k = 10 on, and by 3 % between the first two.
* GITS (Chen et al. 2024, arXiv 2405.11326; dp_record.txt, its log, --t_steps): levels, the last one included. The lists of
  indices that it prints before them, which rise from 0, are left out.
* Align Your Steps (Sabour et al. 2024, arXiv 2404.14507; diffusers' AysSchedules): levels with a 0 at the end, which is a
  final denoising step; or the discrete times of its 10 evaluations alone, [999, ..., 24].
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from s4s.errors import S4SError, one_line, shortened
from s4s.models.paths import VE, VPDiscrete
from s4s.models.paths import Path as GaussianPath
from s4s.models.torch_checkpoint import refusal
from s4s.tableau import check_levels

FORMS = ("ld3", "levels", "times")
LIMIT = 2**20  # bytes; published schedules have a few thousand


class Imported(NamedTuple):
    """Noise levels s_0 > ... > s_N >= 0, [N + 1]; the conditioning levels, [N], where others; the list's name."""

    levels: Tensor
    conditioning: Tensor | None = None
    name: str = ""


def read_schedule(file: str | Path, form: str | None, path: GaussianPath) -> list[Imported]:
    """The schedules in a file, float64, in the file's order. Whether they suit a model's range is not looked at.

    Text is JSON (a list, a list of lists, an object of named lists), or lists in brackets as programs print them, or one list
    a line; other text before a list is its name. A list of discrete times that does not end at 0 gets the time 0 as its last:
    the final step leads there, as in the authors' own levels (14.615 ... 0.152, 0.029), and the model knows none lower.
    diffusers steps on to level 0 unless final_sigmas_type is sigma_min. Where a list prints the ends of a discrete path with
    fewer digits (14.615), those of the path are taken.

    Args:
        form: ld3, levels or times (the path's own), or None: a file of torch is LD3's; a list on the path VE holds levels; on
            a discrete path whole numbers from above its highest level are times, and numbers that are not whole from within
            its levels, or named sigmas, are levels; on another path a list from 1 or below holds times.
        path: the model's Gaussian path, by which times become levels.
    Raises:
        S4SError: if the form is unknown or cannot be recognised, the file cannot be read or is no schedule, a number is not
            finite, a time is beyond the path, or levels do not decrease.
    """
    if form is not None and form not in FORMS:
        raise S4SError(f"unknown form of a schedule {form!r}; known: {', '.join(FORMS)}")
    try:
        with open(file, "rb") as opened:
            content = opened.read(LIMIT + 1)
    except OSError as error:
        raise S4SError(f"{file}: cannot read this schedule: {error.strerror}") from error
    if len(content) > LIMIT:
        raise S4SError(f"{file}: not a schedule: larger than {LIMIT} bytes; name the file that holds the schedule alone")
    of_torch = content[:2] in (b"PK", b"\x80\x02")  # what torch.save writes, and wrote before torch 1.6
    if form == "ld3" and not of_torch:
        raise S4SError(f"{file}: not a file of torch, as LD3's are; leave out the form")
    if form == "ld3" or (form is None and of_torch):
        return [_from_ld3(content, path, str(file))]
    try:
        rows = list(_rows(content.decode("utf-8-sig"), str(file)))
    except UnicodeDecodeError as error:
        raise S4SError(f"{file}: not text; LD3's files of torch have the form ld3, others are not known") from error
    if not rows:
        raise S4SError(f"{file}: no list of numbers in it; write one list of noise levels or times a line")
    where = [f"{file}: list {n} {name}".strip() for n, (name, _) in enumerate(rows, start=1)]
    return [_from_list(name, row, form, path, place) for place, (name, row) in zip(where, rows, strict=True)]


def _from_ld3(content: bytes, path: GaussianPath, where: str) -> Imported:
    try:
        snapshot = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can raise anything
        raise refusal(error, where, "file", "schedule") from None
    times = snapshot.get("best_t_steps") if isinstance(snapshot, dict) else snapshot
    if not isinstance(times, Tensor) or times.ndim != 1 or len(times) < 4 or len(times) % 2 or not times.is_floating_point():
        raise S4SError(f"{where}: not a schedule of LD3: needs best_t_steps, twice N + 1 times; give best_v1.pt or best_v2.pt")
    times = times.detach().double()
    levels = times
    if times[0] <= 1 + 1e-5:  # else those of EDM's networks, which here may count in another path's time
        levels = _levels_at(path.times * times - 1 if isinstance(path, VPDiscrete) else times, path, where)
    first, second = times.chunk(2)
    return _checked(levels.chunk(2)[0], None if torch.equal(first, second) else levels.chunk(2)[1][:-1], "", where)


def _from_list(name: str, row: list[float], form: str | None, path: GaussianPath, where: str) -> Imported:
    if len(row) < 2:
        raise S4SError(f"{where}: a schedule has at least 2 numbers, got {len(row)}; write all of a list on one line")
    values = torch.tensor(row, dtype=torch.float64)
    if row[0] < row[-1]:
        raise S4SError(f"{where}: rises from {row[0]:g} to {row[-1]:g}; a schedule goes from noise to data: turn it round")
    if (form or _guess(name, row, path, where)) == "times":
        if isinstance(path, VPDiscrete) and values[-1] > 0:
            values = torch.cat([values, torch.zeros(1, dtype=torch.float64)])
        values = _levels_at(values, path, where)
    elif isinstance(path, VPDiscrete):
        for n, end in zip((0, -1), path.log_s[[-1, 0]].exp().tolist(), strict=True):
            if row[n] > 0 and round(end, len(repr(row[n]).partition(".")[2])) == row[n]:
                values[n] = end
    return _checked(values, None, name, where)


def _guess(name: str, row: list[float], path: GaussianPath, where: str) -> str:
    if not isinstance(path, VPDiscrete):
        return "times" if row[0] <= 1 else "levels"  # on the path VE the same
    if "sigma" in name.lower():
        return "levels"
    highest, whole = path.log_s[-1].exp().item(), all(value.is_integer() for value in row)
    if whole != (row[0] > 1.01 * highest):
        raise S4SError(
            f"{where}: cannot tell whether these are noise levels or times: they start at {row[0]:g} on a path with levels up "
            f"to {highest:.6g} and times up to {path.times - 1}; say which by the form levels or times"
        )
    return "times" if whole else "levels"


def _levels_at(times: Tensor, path: GaussianPath, where: str) -> Tensor:
    if isinstance(path, VE):
        return times
    last = path.times - 1 if isinstance(path, VPDiscrete) else 1
    inside = times.clamp(0, last)
    beyond = (times - inside).abs()
    if bool((beyond > 1e-5 * last).any()):  # LD3's are rounded to float32
        raise S4SError(f"{where}: the time {times[beyond.argmax()]:.6g} is beyond the path, whose times go from 0 to {last}")
    return path.s_of_t(inside)


def _checked(levels: Tensor, conditioning: Tensor | None, name: str, where: str) -> Imported:
    for values in (levels, levels if conditioning is None else conditioning):
        if not bool(torch.isfinite(values).all()):
            raise S4SError(
                f"{where}: a noise level, or that of a time, is not a finite number (time 1 of rectified flow has none): "
                f"{shortened(str(values.tolist()))}"
            )
    try:
        check_levels(levels)
    except S4SError as error:
        raise S4SError(f"{where}: {error}") from error
    if conditioning is not None and not bool((conditioning > 0).all()):
        raise S4SError(f"{where}: the conditioning levels must be > 0, got {conditioning.tolist()}")
    return Imported(levels, conditioning, name)


def _rows(text: str, file: str) -> Iterator[tuple[str, list[float]]]:
    """Each list with its name."""
    try:
        data = json.loads(text, parse_int=float)
    except (ValueError, RecursionError) as error:
        if file.endswith(".json"):
            raise S4SError(f"{file}: not JSON ({one_line(error)}); correct it, or give the lists in a .txt file") from error
        yield from _printed(text, file)
    else:
        yield from _members("", data, file)


def _members(name: str, data: Any, file: str) -> Iterator[tuple[str, list[float]]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _members(f"{name} {key}".strip(), value, file)
    elif isinstance(data, list) and any(isinstance(value, (list, dict)) for value in data):
        for value in data:
            yield from _members(name, value, file)
    elif isinstance(data, list) and all(isinstance(value, float) for value in data):
        yield name, data
    else:
        raise S4SError(f"{file}: not a list of numbers: {name} {json.dumps(data)[:80]}")


def _printed(text: str, file: str) -> Iterator[tuple[str, list[float]]]:
    if "[" not in text:  # one list a line
        lines = filter(None, map(str.strip, text.splitlines()))
        text = "\n".join(line if line.startswith("#") else f"[{line}]" for line in lines)
    if text.count("[") != text.count("]"):
        raise S4SError(f"{file}: its brackets do not match; perhaps it is cut off")
    name, parts = "", re.split(r"\[([^\[\]]*)\]", text)
    for before, inside in zip(parts[::2], parts[1::2], strict=False):
        names = [line.strip(" \t#,:=[]{}()'\"") for line in before.splitlines()]
        name = next(filter(None, reversed(names)), name)
        row = _numbers(inside, file)
        if not (len(row) > 1 and row[0] == 0 < row[1] and all(value.is_integer() for value in row)):
            yield name, row


def _numbers(words: str, file: str) -> list[float]:
    try:
        return [float(word) for word in re.split(r"[,;\s]+", words) if word]
    except ValueError as error:
        raise S4SError(f"{file}: {one_line(error)}; a list has numbers only, and a line of other text begins with #") from error
