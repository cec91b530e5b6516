"""Nothing changed is believed: one bit flipped in every kind of file that is read again, sixty times a kind."""

import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import s4s
from s4s import S4SError
from s4s.errors import DamagedFile
from s4s.files.checksum import check_unchanged, signed
from s4s.files.csv_file import read_csv, write_csv
from s4s.files.json_file import parse_signed, write_signed
from s4s.files.rows import Split, merge, read_attributes, read_split, split_sizes, write_splits
from s4s.jobs.costs import read_usage
from s4s.jobs.script import USAGE
from s4s.learning.fit_record import FitRecord
from s4s.learning.loop import Loop
from s4s.learning.state import StateFile
from s4s.metrics.features import read_moments, write_moments
from s4s.metrics.fid import Moments, RunningMoments
from s4s.metrics.score import SplitStatistics, join_statistics, save_statistics
from s4s.metrics.score_file import Score
from s4s.models.description import WeightFile
from s4s.models.model_files import check_file
from s4s.models.pipelines.prompts import StoredRows, store_embeddings
from s4s.reporting.report import _picture
from s4s.schedules.gits import Costs
from s4s.solvers.dpm_v3 import Statistics

FLIPS = 60
LEVELS = torch.tensor([20.0, 6.0, 2.0, 0.7, 0.05], dtype=torch.float64)
RANDOM = np.random.Generator(np.random.Philox(key=0))
ROWS = RANDOM.standard_normal((40, 3, 4, 4)).astype(np.float32)
SCORE = {
    "model": "digits", "solver": "s4s_alt", "nfe": 5, "tableau": "0123456789abcdef", "evaluations": 5, "n_samples": 40,
    "n_seeds": 2, "seeds": [0, 1], "features": "classifier", "fid": [3.25, 3.5], "fid_mean": 3.375, "fid_std": 0.17677669529663687,
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
    """A loop's state without a fit around it."""

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


def embeddings(path):
    store_embeddings(["a", "b"], [0, 1], lambda texts: {"text": torch.full((len(texts), 4, 8), 0.5)}, path)


def embeddings_read(path):
    found = StoredRows(path, ["a", "b"])
    return found.row, found([0, 1, -1])


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
        lambda path: parse_signed(path.read_bytes(), path, "the config"),
    ),
    "scores.csv": (
        lambda path: write_csv(path, pd.DataFrame({"model": ["digits"] * 9, "nfe": range(9), "fid_mean": np.arange(9) / 7})),
        lambda path: read_csv(path).to_dict(),
    ),
    "fit.state": (state, state_read),
    "shard.h5": (shard, rows_of),
    "pairs.h5": (joined_file, rows_of),
    "embeddings.h5": (embeddings, embeddings_read),
    "reference.npz": (moments_file, lambda path: read_moments(path)._asdict()),
    "shard.npz": (statistics_file, statistics_read),
    "job.log": (usage, usage_read),
    "figure.png": (picture, lambda path: np.asarray(__import__("PIL.Image").Image.open(io.BytesIO(_picture(str(path)))))),
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
        except Exception:
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
