"""Schedules in the forms in which their authors publish them: LD3's torch files, and lists of noise levels or times in text.

What is in each, by its authors' code:

* LD3 (Tong et al. 2024, arXiv 2405.15506; best_v1.pt, best_v2.pt, best_t_steps_*.pt): a dictionary whose `best_t_steps`
  [2 (N + 1)] holds the times of the solver's formula and then those of its conditioning levels, each from noise to data with
  its last entry; the two differ between the ends only. t_steps.pt is that tensor alone. On EDM's networks a time is the
  noise level itself, 80 to 0.002. On a VP path times lie in (0, 1]: those of a table of T betas are t = (k + 1)/T for entry
  k. Between entries LD3 interpolates ln alpha, we ln s: on Stable Diffusion's table levels at the same k differ by less than
  0.06 % from k = 10 on, and by 3 % between the first two. Its samplers are in s4s.solvers.as_ld3.
* GITS (Chen et al. 2024, arXiv 2405.11326; dp_record.txt, its log, --t_steps): levels, the last one included. The lists of
  indices that it prints before them, which rise from 0, are left out.
* Align Your Steps (Sabour et al. 2024, arXiv 2404.14507; diffusers' AysSchedules): levels with a 0 at the end, which is a
  final denoising step; or the discrete times of its 10 evaluations alone, [999, ..., 24].
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from s4s.errors import S4SError, one_line, shortened
from s4s.files.bounded import read_bytes
from s4s.models.paths import VE, VPDiscrete
from s4s.models.paths import Path as GaussianPath
from s4s.models.provenance import is_full_noise
from s4s.models.torch_checkpoint import load_content
from s4s.tableau import check_levels

FORMS = ("ld3", "levels", "times")
NAMED = "write a name on the line before each"
LIMIT = 2**20  # bytes; published schedules have a few thousand
LISTS, LEVELS = 1000, 1001  # lists of a file, numbers of a list
LD3_TIMES = range(4, 2 * LEVELS + 1, 2)
NAME = 200  # characters of a list's name that count


class Imported(NamedTuple):
    """Noise levels s_0 > ... > s_N >= 0, [N + 1], and what else is known of them.

    Attributes:
        conditioning: the conditioning levels, [N], where others.
        name: the list's.
        form: ld3, levels or times.
        timed: the file holds times of the model's path, not noise levels.
        guess: how it was read, in words, where nobody said it.
    """

    levels: Tensor
    conditioning: Tensor | None = None
    name: str = ""
    form: str = "levels"
    timed: bool = False
    guess: str = ""


def read_schedule(file: str | Path, model: Any, form: str | None = None, pick: str | None = None) -> list[Imported]:
    """The schedules of a file for a model, float64, in the file's order.

    Text is JSON (a list, a list of lists, an object of named lists), or lists in brackets as programs print them, or one list
    a line; other text before a list is its name. A list of discrete times that ends above the model's lowest level
    gets that as its last: the final step leads there, as in the authors' own levels (14.615 ... 0.152, 0.029). diffusers steps
    on to level 0 unless final_sigmas_type is sigma_min. Where a list prints the model's ends with fewer digits (14.615), those
    of the model are taken.

    Args:
        model: a denoiser or its outline: its name, path and range s_max to s_min.
        form: ld3, levels or times (the path's own), or None: a file of torch is LD3's; a list on the path VE holds levels; on
            a discrete path whole numbers from above its highest level are times, and numbers that are not whole from within
            its levels, or named sigmas, are levels; on another path a list from 1 or below holds times.
        pick: of several named lists only the one with this name.
    Raises:
        S4SError: if the form is unknown or cannot be recognised, the file cannot be read or is no schedule, no list has the
            name, a number is not finite, a time is beyond the path, or levels do not decrease from the model's full noise on
            within its range.
    """
    if form is not None and form not in FORMS:
        raise S4SError(f"unknown form of a schedule {form!r}; known: {', '.join(FORMS)}")
    try:
        content = read_bytes(file, LIMIT)
    except OSError as error:
        raise S4SError(f"{file}: cannot read this schedule: {error.strerror}") from error
    of_torch = content[:2] in (b"PK", b"\x80\x02")  # what torch.save writes, and wrote before torch 1.6
    if form == "ld3" and not of_torch:
        raise S4SError(f"{file}: not a file of torch, as LD3's are; leave out the form")
    if form == "ld3" or (form is None and of_torch):
        if pick is not None:
            raise S4SError(f"{file}: no list named {pick!r}; LD3's files hold one schedule, without a name")
        return [_from_ld3(content, model, str(file))]
    try:
        rows = list(islice(_rows(content.decode("utf-8-sig"), str(file)), LISTS + 1))
    except UnicodeDecodeError as error:
        raise S4SError(f"{file}: not text; LD3's files of torch have the form ld3, others are not known") from error
    except RecursionError:
        raise S4SError(f"{file}: not a schedule: lists within lists within lists; give one list of numbers a line") from None
    if len(rows) > LISTS or any(len(row) > LEVELS for _, row in rows):
        raise S4SError(f"{file}: not a schedule: more than {LISTS} lists, or one of more than {LEVELS} numbers")
    if not rows:
        raise S4SError(f"{file}: no list of numbers in it; write one list of noise levels or times a line")
    chosen = [(n, name, row) for n, (name, row) in enumerate(rows, start=1) if pick in (None, name)]
    if not chosen:
        there = ", ".join(name for name, _ in rows if name) or f"only lists without a name ({NAMED})"
        raise S4SError(f"{file}: no list named {pick!r}; there are {there}")
    return [_from_list(name, row, form, model, f"{file}: list {n} {name}".strip()) for n, name, row in chosen]


def _from_ld3(content: bytes, model: Any, where: str) -> Imported:
    snapshot = load_content(content, where, "schedule")
    times = snapshot.get("best_t_steps") if isinstance(snapshot, dict) else snapshot
    if not isinstance(times, Tensor) or times.ndim != 1 or not times.is_floating_point() or len(times) not in LD3_TIMES:
        raise S4SError(f"{where}: not a schedule of LD3: needs best_t_steps, twice N + 1 times; give best_v1.pt or best_v2.pt")
    times, path = times.detach().double(), model.path
    timed = bool(times[0] <= 1 + 1e-5) and not isinstance(path, VE)  # else the levels of EDM's networks
    levels = times
    if timed:
        levels = _levels_at(path.times * times - 1 if isinstance(path, VPDiscrete) else times, path, where)
    nodes, conditioning = (at_ends(half, model) for half in levels.chunk(2))
    what = f"shares of the time of its path {path.kind}," if timed else "noise levels, as LD3 has them for EDM's networks,"
    guess = f"{what} for it starts at {times[0]:.6g}"
    same = torch.equal(nodes, conditioning)
    return _checked(Imported(nodes, None if same else conditioning[:-1], "", "ld3", timed, guess), model, where)


def _from_list(name: str, row: list[float], form: str | None, model: Any, where: str) -> Imported:
    if len(row) < 2:
        raise S4SError(f"{where}: a schedule has at least 2 numbers, got {len(row)}; write all of a list on one line")
    path, values = model.path, torch.tensor(row, dtype=torch.float64)
    if row[0] < row[-1]:
        raise S4SError(f"{where}: rises from {row[0]:g} to {row[-1]:g}; a schedule goes from noise to data: turn it round")
    guess, why = (form, "") if form else _guess(name, row, path, where)
    if timed := guess == "times":
        values = _levels_at(values, path, where)
        if isinstance(path, VPDiscrete) and values[-1] > model.s_min * (1 + 1e-4):
            values = torch.cat([values, torch.tensor([model.s_min], dtype=torch.float64)])
    else:
        for n, end in ((0, model.s_max), (-1, model.s_min)):
            if row[n] > 0 and round(end, len(repr(row[n]).partition(".")[2])) == row[n]:
                values[n] = end
    what = f"times of its path {path.kind}," if timed else "noise levels,"
    found = Imported(at_ends(values, model), None, name, guess, timed, "" if form else f"{what} {why}")
    return _checked(found, model, where)


def _guess(name: str, row: list[float], path: GaussianPath, where: str) -> tuple[str, str]:
    """levels or times, and why."""
    starts = f"for it starts at {row[0]:g}"
    whole = all(value.is_integer() for value in row)
    if not isinstance(path, VPDiscrete):
        if whole and abs(row[0] - path.times) <= path.times / 100:
            raise S4SError(
                f"{where}: cannot tell whether these whole numbers from {row[0]:g} are noise levels or times of a table of "
                f"{path.times}; say levels by the form, or make them times of the path {path.kind}, which go from 0 to 1"
            )
        return ("times" if row[0] <= 1 and not isinstance(path, VE) else "levels"), starts
    if "sigma" in name.lower():
        return "levels", "for its name says sigma"
    highest = path.log_s[-1].exp().item()
    if whole != (row[0] > 1.01 * highest):
        raise S4SError(
            f"{where}: cannot tell whether these are noise levels or times: they start at {row[0]:g} on a path with levels up "
            f"to {highest:.6g} and times up to {path.times - 1}; say which by the form levels or times"
        )
    return ("times", f"{starts}, in whole numbers") if whole else ("levels", starts)


def _levels_at(times: Tensor, path: GaussianPath, where: str) -> Tensor:
    if isinstance(path, VE):
        return times
    last = path.times - 1 if isinstance(path, VPDiscrete) else 1
    inside = times.clamp(0, last)
    beyond = (times - inside).abs()
    if bool((beyond > 1e-5 * last).any()):  # LD3's are rounded to float32
        raise S4SError(f"{where}: the time {times[beyond.argmax()]:.6g} is beyond the path, whose times go from 0 to {last}")
    return path.s_of_t(inside)


def _time(level: float, path: GaussianPath) -> float:
    return float(path.t_of_s(torch.tensor(level, dtype=torch.float64)))


def at_ends(levels: Tensor, model: Any) -> Tensor:
    """The model's own ends where the list's are these but for rounding."""
    levels = levels.clone()
    for n, end in ((0, model.s_max), (-1, model.s_min)):
        if abs(levels[n] / end - 1) < 1e-4:
            levels[n] = end
    return levels


def _checked(found: Imported, model: Any, where: str) -> Imported:
    """What was read, if the model can be at all of its levels and it starts at its full noise."""
    given = [found.levels] if found.conditioning is None else [found.levels, found.conditioning]
    for values in given:
        if not bool(torch.isfinite(values).all()):
            raise S4SError(
                f"{where}: a noise level, or that of a time, is not a finite number (time 1 of rectified flow has none): "
                f"{shortened(str(values.tolist()))}"
            )
    try:
        check_levels(found.levels)
    except S4SError as error:
        raise S4SError(f"{where}: {error}") from error
    if found.conditioning is not None and not bool((found.conditioning > 0).all()):
        raise S4SError(f"{where}: the conditioning levels must be > 0, got {found.conditioning.tolist()}")
    what, path, used = f"{where}, read as {found.guess}," if found.guess else where, model.path, torch.cat(given)
    highest, lowest, slack = float(used.max()), float(used[used > 0].min()), 1 + 1e-4
    times = "" if isinstance(path, VE) else f", times {_time(model.s_max, path):.6g} to {_time(model.s_min, path):.6g}"
    covers = f"model {model.name} covers {model.s_max:.6g} to {model.s_min:.6g}{times}; take a schedule for it"
    if highest > model.s_max * slack or lowest * slack < model.s_min:
        ways = f", or set {model.range_is_set}" if getattr(model, "range_is_set", "") else ""
        raise S4SError(f"{what} runs over noise levels {highest:.6g} to {lowest:.6g}, but {covers}{ways}")
    if not is_full_noise(first := float(found.levels[0]), model.s_max):
        raise S4SError(
            f"{what} starts at noise level {first:.6g}, far from full noise, but {covers}, in its levels or its times"
        )
    return found


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
            yield from _members(f"{name} {key}".strip()[:NAME], value, file)
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
        name = next(filter(None, reversed(names)), name)[:NAME]
        row = _numbers(inside, file)
        if not (len(row) > 1 and row[0] == 0 < row[1] and all(value.is_integer() for value in row)):
            yield name, row


def _numbers(words: str, file: str) -> list[float]:
    try:
        return [float(word) for word in re.split(r"[,;\s]+", words) if word]
    except ValueError as error:
        raise S4SError(f"{file}: {one_line(error)}; a list has numbers only, and a line of other text begins with #") from error
