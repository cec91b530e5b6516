"""Nothing changed is believed: one bit flipped in every kind of file that is read again, sixty times a kind."""

import hashlib
import io
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import s4s
from s4s import S4SError
from s4s.cli import main
from s4s.errors import DamagedFile, S4SWarning
from s4s.files.checksum import beside, check_unchanged, checksum_of, signed
from s4s.files.csv_file import read_csv, write_csv
from s4s.files.json_file import read_signed, write_signed
from s4s.files.rows import Split, merge, read_attributes, read_split, split_sizes, write_splits
from s4s.jobs.costs import read_usage
from s4s.jobs.damaged_results import move_aside, note
from s4s.jobs.script import USAGE
from s4s.learning.fit_record import FitRecord
from s4s.learning.loop import Loop
from s4s.learning.state import StateFile
from s4s.metrics.fid import Moments, RunningMoments
from s4s.metrics.moments_file import read_moments, write_moments
from s4s.metrics.score import SplitStatistics, join_statistics, save_statistics
from s4s.metrics.score_file import Score
from s4s.models.description import WeightFile
from s4s.models.model_files import check_file
from s4s.reporting.report import _picture
from s4s.schedules.gits import Costs
from s4s.solvers.dpm_v3 import Statistics
from s4s.study.content import path_digest

FLIPS = 60
LEVELS = torch.tensor([20.0, 6.0, 2.0, 0.7, 0.05], dtype=torch.float64)
RANDOM = np.random.Generator(np.random.Philox(key=0))
ROWS = RANDOM.standard_normal((40, 3, 4, 4)).astype(np.float32)
SCORE = {
    "model": "digits", "solver": "s4s_alt", "nfe": 5, "tableau": "0123456789abcdef", "evaluations": 5, "n_samples": 40,
    "n_seeds": 2, "seeds": [0, 1], "features": "classifier", "fid": [3.25, 3.5], "fid_mean": 3.375, "fid_std": 0.1767766952,
    "global_error": [0.01, 0.02], "global_error_mean": 0.015, "global_error_std": None, "kid": [0.1, 0.2],
}  # fmt: skip


# ---- every kind of file: how it is made at a path, and what is read from there


def tableau(path):
    s4s.solver("unipc", LEVELS, order=3).with_meta(token="unipc3", model="digits", evaluations=1234).save(path)


def split():
    return Split(seeds=np.arange(40), y_0=ROWS, y_T=ROWS[::-1].copy())


def shard(path):
    write_splits(path, "teacher-pairs", {"train": split()}, {"model": "digits", "seed": 3, "note": "x" * 100})


def joined_file(path):
    for name in ("a", "b"):
        shard(path.with_name(f"{name}.h5"))
    merge(path, "teacher-pairs", [path.with_name("a.h5"), path.with_name("b.h5")])


def rows_of(path):
    found = read_split(path, "teacher-pairs", "train")
    return read_attributes(path), split_sizes(path), found.arrays()


class FewTerms(Loop):
    """A state to save and resume, without a fit."""

    def __init__(self):
        self.values = {}

    def state(self):
        return {"values": torch.arange(200.0), "history": [{"val": 0.5, "train": 0.25}]}

    def same_initial_loss(self, state):
        return True

    def restore(self, state):
        self.values = state


def state(path):
    StateFile(path, "this fit").save(FewTerms())


def state_read(path):
    loop = FewTerms()
    StateFile(path, "this fit").resume(loop)
    if not loop.values:
        raise DamagedFile(path, "left alone")
    return {key: loop.values[key] for key in ("values", "history")}


def moments_file(path):
    write_moments(path, Moments(np.arange(5.0), np.eye(5), ROWS[:8].reshape(8, -1)[:, :5]))


def statistics_file(path):
    running = RunningMoments()
    running.add(ROWS.reshape(40, -1)[:, :5])
    save_statistics(path, {"test~0": SplitStatistics(running, 1.5)}, {"model": "digits", "nfe": 5})


def statistics_read(path):
    found, about = join_statistics([path])
    own = found["test~0"]
    return about, own.distance, vars(own.features)


def usage(path):
    line = USAGE + json.dumps(signed({"job": "fit", "seconds": 12.5, "evaluations": 1000, "gpus": 0, "gpu_peak_mb": 0}))
    path.write_text(f"fit: model digits\n{line}\n")


def usage_read(path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = read_usage(path.parent)
    if told:
        raise DamagedFile(path, str(told[0].message))
    return found.drop(columns="log").to_dict() if len(found) else "no job"


def picture(path):
    axis = Figure().subplots()
    axis.plot([1, 2])
    axis.figure.savefig(path, dpi=20)


def weights(name):
    """A file of weights in each format, without a sha256; made once, first used before it is changed."""

    def make(path):
        if path.suffix == ".safetensors":
            shutil.copy(Path(__file__).parents[1] / "resources/mixture/denoiser.safetensors", path)
        else:
            torch.save({"state_dict": {"w": torch.from_numpy(ROWS)}}, path)
        check_file(WeightFile(path=path))

    return make


def weights_read(path):
    return check_file(WeightFile(path=path)).read_bytes()


def folder_of_weights(path):
    for name in ("unet/config.json", "unet/model.safetensors", "scheduler/scheduler_config.json"):
        (path.parent / "pipeline" / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "pipeline" / name).write_bytes(ROWS.tobytes()[:500])
    check_unchanged(path.parent / "pipeline")
    shutil.copy(path.parent / "pipeline/unet/model.safetensors", path)


def folder_read(path):
    shutil.copy(path, path.parent / "pipeline/unet/model.safetensors")
    check_unchanged(path.parent / "pipeline")
    return path.read_bytes()


KINDS = {
    "tableau.json": (tableau, lambda path: s4s.Tableau.load(path).as_json()),
    "score.json": (lambda path: Score(**SCORE).save(path), lambda path: Score.load(path).model_dump()),
    "fit.json": (
        lambda path: FitRecord(evaluations=5, seconds=1.5, history=[{"val": 0.5, "evaluations": 3}]).save(path),
        lambda path: FitRecord.load(path).model_dump(),
    ),
    "costs.json": (
        lambda path: Costs(levels=[2.0, 1.0, 0.5], cost=[[0.0, 1.0, 2.0]] * 3).save(path),
        lambda path: Costs.load(path).model_dump(),
    ),
    "statistics.json": (
        lambda path: Statistics(lam=[0.0, 1.0], l=[1.0, 0.5], s=[0.0, -0.5]).save(path),
        lambda path: Statistics.load(path).model_dump(),
    ),
    "config.json": (
        lambda path: write_signed(path, {"models": ["digits"], "nfe": [3, 4], "seeds": [0]}),
        lambda path: read_signed(path, "the config"),
    ),
    "scores.csv": (
        lambda path: write_csv(path, pd.DataFrame({"model": ["digits"] * 9, "nfe": range(9), "fid_mean": np.arange(9) / 7})),
        lambda path: read_csv(path).to_dict(),
    ),
    "fit.state": (state, state_read),
    "shard.h5": (shard, rows_of),
    "pairs.h5": (joined_file, rows_of),
    "reference.npz": (moments_file, lambda path: read_moments(path)._asdict()),
    "shard.npz": (statistics_file, statistics_read),
    "job.log": (usage, usage_read),
    "figure.png": (picture, lambda path: np.asarray(Image.open(io.BytesIO(_picture(str(path)))))),
    "model.safetensors": (weights("safetensors"), weights_read),
    "model.ckpt": (weights("ckpt"), weights_read),
    "network.pkl": (weights("pkl"), weights_read),
    "part of a pipeline": (folder_of_weights, folder_read),
}  # fmt: skip


def same(one, other):
    """Whether two values that were read are equal, arrays and tensors too."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray | torch.Tensor):
        return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(np.asarray(one), np.asarray(other))
    return one == other or (one != one and other != other)


def outcomes(path, read, flips=FLIPS, key=1):
    """How often a flipped bit was named, changed nothing that is read, was silent or ended in another error."""
    content, expected = path.read_bytes(), read(path)
    random = np.random.Generator(np.random.Philox(key=key))
    found = {"named": 0, "harmless": 0, "silent": 0, "traceback": 0}
    for place, bit in zip(random.integers(0, len(content), flips), random.integers(0, 8, flips), strict=True):
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        try:
            value = read(path)
        except S4SError as error:
            assert str(path.parent) in str(error), "an error names the file"
            found["named"] += 1
        except Exception:  # all that is counted here is no line for a user
            found["traceback"] += 1
        else:
            found["harmless" if same(value, expected) else "silent"] += 1
    path.write_bytes(content)
    assert same(read(path), expected)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_named(tmp_path, kind):
    make, read = KINDS[kind]
    path = tmp_path / kind
    make(path)
    found = outcomes(path, read)
    print(kind, found)
    assert found["silent"] == found["traceback"] == 0 and found["named"] + found["harmless"] == FLIPS, found


# ---- what a checksum is, and how a file that was changed on purpose is signed


@pytest.fixture
def command(monkeypatch, capsys):
    """The command s4s: its exit code and what it prints."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["s4s", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr().out

    return run


def edited(path, **changes):
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(values, indent=1))
    return values


def test_a_weight_changed_by_hand_is_refused_until_it_is_signed(tmp_path, command):
    path = tmp_path / "nfe~4.json"
    tableau(path)
    changed = [row[:] for row in json.loads(path.read_text())["B"]]
    changed[3][0] += 1e-9
    edited(path, B=changed)
    with pytest.raises(DamagedFile, match=r"nfe~4\.json: this tableau was changed.*s4s sign"):
        s4s.Tableau.load(path)
    assert command("show", path)[0] == 2
    assert command("sign", path) == (0, f"{path}: signed\n")
    assert s4s.Tableau.load(path).B[3, 0] == changed[3][0]
    edited(path, B=[[1.0]])
    assert command("sign", path)[0] == 2, "what forms no solver is not signed"


@pytest.mark.parametrize("key", ["meta", "levels", "kappa", "A"])
def test_every_entry_is_under_the_checksum(tmp_path, key):
    path = tmp_path / "t.json"
    tableau(path)
    before = json.loads(path.read_text())[key]
    edited(path, **{key: {**before, "evaluations": 1} if key == "meta" else 0.5 if key == "kappa" else _nudged(before)})
    with pytest.raises(DamagedFile, match="was changed"):
        s4s.Tableau.load(path)


def _nudged(value):
    return [_nudged(value[0]), *value[1:]] if isinstance(value, list) else value * (1 + 1e-12) + 1e-15


def test_form_and_order_of_a_tableau_s_text_do_not_count(tmp_path):
    path = tmp_path / "t.json"
    tableau(path)
    values = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(values.items())), separators=(",", ":"), sort_keys=False))
    assert s4s.Tableau.load(path).as_json() == values


@pytest.mark.parametrize("form", ["s4s-tableau/1", "s4s-tableau/2"])
def test_a_tableau_without_a_checksum_is_read_with_one_warning(tmp_path, form):
    path = tmp_path / "t.json"
    tableau(path)
    values = edited(path, format=form)
    del values["checksum"]
    path.write_text(json.dumps(values))
    with pytest.warns(S4SWarning, match=r"t\.json: this tableau has no checksum.*s4s sign") as told:
        s4s.Tableau.load(path)
    assert len(told) == 1
    with pytest.warns(S4SWarning, match="no checksum"):
        s4s.Tableau.from_json(values)


def test_the_documented_checksum_is_ours():
    """SHA-256 of the JSON text of the other entries with sorted keys and no spaces; null does not count."""
    assert checksum_of({"b": [1.0, 1e-05], "a": None, "c": "é"}) == checksum_of(
        {"c": "é", "b": [1.0, 0.00001], "checksum": "x"}
    )
    text = b'{"b":[1.0,1e-05],"c":"\\u00e9"}'
    assert checksum_of({"b": [1.0, 1e-5], "c": "é"}) == "sha256:" + hashlib.sha256(text).hexdigest()


def test_scores_without_a_checksum_are_not_believed(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(SCORE))
    with pytest.raises(DamagedFile, match=r"s\.json: these scores have no checksum"):
        Score.load(tmp_path / "s.json")


@pytest.mark.parametrize("kind", ["model.safetensors", "folder"])
def test_weights_that_were_replaced_are_refused_until_they_are_signed(tmp_path, command, kind):
    path, place = tmp_path / kind, tmp_path / kind
    if kind == "folder":
        place = path / "unet/model.safetensors"
        place.parent.mkdir(parents=True)
    place.write_bytes(b"first")
    check_file(WeightFile(path=path))
    name = "unet/model.safetensors" if kind == "folder" else kind
    assert beside(path).read_text() == f"{hashlib.sha256(b'first').hexdigest()}  {name}\n", "as sha256sum writes it"
    check_file(WeightFile(path=path))
    place.write_bytes(b"other")
    with pytest.raises(S4SError, match=f"{kind}.*changed since it was first used.*s4s sign"):
        check_file(WeightFile(path=path))
    assert command("sign", path)[0] == 0
    check_file(WeightFile(path=path))
    beside(path).write_bytes(b"\xff\x00")
    with pytest.raises(S4SError, match="changed since it was first used"):
        check_file(WeightFile(path=path))


def test_a_file_more_or_less_in_a_folder_of_weights_is_a_change(tmp_path):
    (tmp_path / "f").mkdir()
    for name in ("a", "b", ".hidden"):
        (tmp_path / "f" / name).write_text(name)
    check_unchanged(tmp_path / "f")
    (tmp_path / "f/.hidden").unlink()
    check_unchanged(tmp_path / "f")
    (tmp_path / "f/b").rename(tmp_path / "f/c")
    with pytest.raises(S4SError, match=r"f \(b, c\): changed"):
        check_unchanged(tmp_path / "f")


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_has_no_end_is_not_read(tmp_path, monkeypatch, kind):
    path = tmp_path / "w"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        monkeypatch.setattr("s4s.files.checksum.MOST_WEIGHTS", 3)
        path.mkdir()
        for i in range(4):
            (path / str(i)).touch()
    with pytest.raises(
        S4SError, match=r"(w|zero): cannot read these weights: it is no file|w: refused: it has more than 3 files"
    ):
        check_file(WeightFile(path=path))
    assert kind == "folder" or path_digest(path) == "absent"


def test_what_cannot_be_recorded_is_said(tmp_path, monkeypatch):
    def full(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "w.ckpt").write_bytes(b"x")
    monkeypatch.setattr("s4s.files.checksum.write_text", full)
    with pytest.warns(S4SWarning, match=r"w\.ckpt: its checksum cannot be written beside it \(Permission denied\)"):
        check_unchanged(tmp_path / "w.ckpt")


def test_only_results_are_moved_aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/tableaux").mkdir(parents=True)
    names = ["results/tableaux/a.json", "results/tableaux/b.json", "b.json", "results/none"]
    for name in names[:3]:
        Path(name).write_text("x")
    assert [note(name) for name in names] == [True, True, False, False]
    Path(names[1]).write_text("made again meanwhile")
    assert move_aside() == [names[0]] and move_aside() == []
    assert [Path(name).exists() for name in names] == [False, True, True, False]
    assert Path(f"{names[0]}.damaged").read_text() == "x"
    (tmp_path / "results/.damaged/forged.json").write_text(json.dumps({"name": "../b.json", "look": [1, 0]}))
    (tmp_path / "results/.damaged/broken.json").write_text("{")
    assert move_aside() == [] and Path("b.json").exists()


# ---- the fields of s4s-tableau/2 that later versions fill


def guided():
    base = s4s.solver("ddim", LEVELS)
    return s4s.Tableau(base.levels, base.A, 3 * base.B, U=-2 * base.B)


def test_weights_of_unconditional_outputs_are_kept_and_not_run(tmp_path):
    guided().save(tmp_path / "t.json")
    back = s4s.Tableau.load(tmp_path / "t.json")
    assert torch.equal(back.U, guided().U) and back.digest() != s4s.Tableau(back.levels, back.A, back.B).digest()
    for run in (back.reduced, lambda: s4s.sampling.Steps(back), lambda: back.same_as(back)):
        with pytest.raises(S4SError, match="table U"):
            run()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[0], [1, 2], [3]], None),
        ([[0, 1], [2], [3]], "node 1 uses an output of its own group"),
        ([[0], [2], [1], [3]], "in this order"),
        ([[0], [1, 2]], "in this order"),
        ([[0], [], [1, 2], [3]], "in this order"),
    ],
)
def test_nodes_of_a_group_do_not_see_each_other(tmp_path, groups, message):
    B = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0], [0.5, 0.2, 0.3, 0], [0, 0, 0, 1]], dtype=torch.float64)
    plain = s4s.Tableau(LEVELS, torch.zeros(4, 4), B)
    if message:
        with pytest.raises(S4SError, match=message):
            s4s.Tableau(LEVELS, plain.A, plain.B, groups=groups)
        return
    s4s.Tableau(LEVELS, plain.A, plain.B, groups=groups).save(tmp_path / "t.json")
    back = s4s.Tableau.load(tmp_path / "t.json")
    assert [list(group) for group in back.groups] == groups and back.same_as(plain), "they change no number"


if __name__ == "__main__":  # python -m tests.test_changed_files prints the table in docs/reliability.md
    for kind, (make, read) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / kind)
            found = outcomes(Path(folder) / kind, read)
        print(f"| {kind} | {' | '.join(map(str, found.values()))} |")
