"""The workflow when something goes wrong, and however it is cut: shards, damage, a full disk, two runs, a shared cache."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from s4s.files.rows import read_split
from tests import kill

ROOT = Path(__file__).parents[1]
FEW = ["nfe=[3]", "solvers=[ddim-logsnr,s4s_alt]", "fit={iterations: 2, batch: 8, validate_every: 2}"]
SCORES = "results/tables/scores.csv"


def command(directory, *arguments, config=()):
    made = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(directory), "--cores", "2"]
    return [*made, *arguments, "--configfile", str(ROOT / "tests/configs/tiny.yaml"), "--config", *FEW, *config]


def run(directory, *arguments, config=(), ok=True, **environment):
    """One run of a small study; what it printed."""
    done = subprocess.run(
        command(directory, *arguments, config=config), capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert (done.returncode == 0) == ok, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def small_blocks(tmp_path_factory):
    """The digits with 8 samples in a call of the network, so that few samples make many shards."""
    description = yaml.safe_load((ROOT / "config/models/digits.yaml").read_text())
    for entry in (description, description["features"], description["perceptual"]):
        entry["path"] = str((ROOT / "config/models" / entry["path"]).resolve())
    path = tmp_path_factory.mktemp("model") / "digits.yaml"
    path.write_text(yaml.safe_dump({**description, "block": 8}))
    return f"models=[{path}]"


@pytest.fixture(scope="module")
def whole(small_blocks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder, SCORES, "results/teacher/digits/pairs.h5", config=[small_blocks])
    return folder


def fresh(folder, to):
    shutil.copytree(folder, to, symlinks=True)
    return to


def jobs(output):
    """How often each rule ran, or would run."""
    names = [line.split()[1].rstrip(":") for line in output.splitlines() if re.match(r"\s*(local)?rule ", line)]
    return {name: names.count(name) for name in names if name != "all"}


def test_a_study_in_shards_is_the_same_study(whole, small_blocks, tmp_path):
    """40 samples in 3 shards a seed, 1 core, 8 at a time: the same samples to the bit, scores to 1e-9, all files in place."""
    output = run(tmp_path, SCORES, "--cores", "1", config=[small_blocks, "shard=16", "batch_size=8"])
    ran = jobs(output)
    assert (ran["sample_shard"], ran["score_shard"], ran["join_scores"]) == (12, 18, 3) and "sample" not in ran
    assert ran["teacher_shard"] == 2 + 2 + 6  # 32 pairs to learn from, 24 to validate on, 2 x 40 for the test
    run(tmp_path, "all", config=[small_blocks, "shard=16", "batch_size=8"])
    for solver, nfe in [("teacher", 12), ("ddim-logsnr", 3), ("s4s_alt", 3)]:
        for split in ("test~0", "test~1"):
            path = f"results/samples/digits/{solver}/nfe~{nfe}.h5"
            ours, theirs = (read_split(folder / path, "samples", split) for folder in (tmp_path, whole))
            assert np.array_equal(ours.y_0, theirs.y_0) and np.array_equal(ours.seeds, theirs.seeds)
    for split in ("train", "val", "test~1"):
        pairs = [read_split(folder / "results/teacher/digits/pairs.h5", "teacher-pairs", split) for folder in (tmp_path, whole)]
        assert np.array_equal(pairs[0].y_0, pairs[1].y_0)
    numbers = [pd.read_csv(folder / SCORES).drop(columns="fit_seconds") for folder in (tmp_path, whole)]
    pd.testing.assert_frame_equal(*numbers, rtol=1e-9)
    assert not [*tmp_path.glob("results/scores/**/*.npz")], "statistics of shards are temporary"
    assert jobs(run(tmp_path, "--dry-run", config=[small_blocks, "shard=16", "batch_size=8"])) == {}


def test_samples_in_shards_can_be_deleted_after_use(small_blocks, tmp_path):
    run(tmp_path, "all", config=[small_blocks, "shard=16", "keep_samples=false"])
    assert not [*tmp_path.glob("results/samples/**/*.h5")]
    assert (tmp_path / "results/figures/samples-digits.pdf").exists() and len(pd.read_csv(tmp_path / SCORES)) == 3


PROBE = """
from snakemake_interface_logger_plugins.base import LogHandlerBase

class LogHandler(LogHandlerBase):
    writes_to_stream = writes_to_file = needs_rulegraph = False
    has_filter = has_formatter = True

    def emit(self, record):
        with open("probe.log", "a") as file:
            file.write(f"{getattr(record, 'event', None)}\\n")
"""


def test_plugins_for_logging_hear_of_everything_beside_our_own_progress(small_blocks, tmp_path):
    plugin = tmp_path / "plugins/snakemake_logger_plugin_probe"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(PROBE.replace("\\\\n", "\\n"))
    path = os.pathsep.join([str(plugin.parent), os.environ.get("PYTHONPATH", "")])
    target = "results/tableaux/digits/ddim-logsnr/nfe~3.json"
    run(tmp_path, target, "--logger", "probe", config=[small_blocks], PYTHONPATH=path)
    heard = (tmp_path / "probe.log").read_text().split()
    assert {"workflow_started", "job_info", "job_finished", "progress"} <= {*heard}


@pytest.mark.parametrize("damaged", ["samples", "teacher"])
def test_only_a_damaged_shard_is_made_again(small_blocks, tmp_path, damaged):
    """A flipped bit is found by the reader, which names the shard; after it is deleted, it alone is made again."""
    config = [small_blocks, "shard=16"]
    numbers = [f"{split}-{shard}.h5" for split in ("test~0", "test~1") for shard in range(3)]
    targets = [f"results/teacher/digits/shards/{number}" for number in numbers]
    targets += [f"results/samples/digits/{cell}/nfe~3/{number}" for cell in ("ddim-logsnr", "s4s_alt") for number in numbers]
    run(tmp_path, *targets, config=config)
    path = {"samples": "samples/digits/ddim-logsnr/nfe~3/test~1-1.h5", "teacher": "teacher/digits/shards/test~1-1.h5"}[damaged]
    content = bytearray((tmp_path / "results" / path).read_bytes())
    content[-100] ^= 1
    times = (tmp_path / "results" / path).stat()
    (tmp_path / "results" / path).write_bytes(content)
    os.utime(tmp_path / "results" / path, ns=(times.st_atime_ns, times.st_mtime_ns))
    output = run(tmp_path, SCORES, "--keep-going", config=config, ok=False)
    assert f"error: results/{path}: split 'test~1' cannot be read" in output and "delete the file and rerun" in output
    (tmp_path / "results" / path).unlink()
    ran = jobs(run(tmp_path, SCORES, config=config))
    made = {"samples": "sample_shard", "teacher": "teacher_shard"}[damaged]
    assert ran[made] == 1 and {"sample_shard", "teacher_shard", "fit"} & {*ran} == {made}
    assert ran["score_shard"] == {"samples": 1, "teacher": 3}[damaged]
    assert len(pd.read_csv(tmp_path / SCORES)) == 3


def test_the_second_of_two_runs_in_a_folder_is_refused(whole, small_blocks, tmp_path):
    """Clearly, at once, and without harm; a dry run is not; after a kill the next run needs no unlocking."""
    folder = fresh(whole, tmp_path / "study")
    config = [small_blocks, "nfe=[3,4,5]"]
    first = subprocess.Popen(command(folder, SCORES, config=config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not [*(folder / ".snakemake/locks").glob("*")]:
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGSTOP)  # so that it cannot end before the second has asked
    output = run(folder, SCORES, config=config, ok=False)
    assert f"another run works in this folder (process {first.pid} on " in output and "--directory" in output
    assert "Traceback" not in output
    run(folder, SCORES, "--dry-run", config=config)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert [*(folder / ".snakemake/locks").glob("*")]
    output = run(folder, SCORES, config=config)
    assert "The last run here was killed; its locks are removed." in output
    assert len(pd.read_csv(folder / SCORES)) == 7


def test_two_folders_share_a_cache_at_the_same_time(whole, small_blocks, tmp_path):
    """Both get the teacher's pairs, from one computation or two, and the same scores."""
    os.makedirs(tmp_path / "cache")
    environment = {**os.environ, "SNAKEMAKE_OUTPUT_CACHE": str(tmp_path / "cache")}
    runs = []
    for name in "ab":
        (tmp_path / name).mkdir()
        made = command(tmp_path / name, SCORES, "--cache", "teacher_shard", config=[small_blocks])
        runs.append(subprocess.Popen(made, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    for one in runs:
        output, _ = one.communicate(timeout=300)
        assert one.returncode == 0, output[-3000:]
    (tmp_path / "c").mkdir()
    made = command(tmp_path / "c", SCORES, "--cache", "teacher_shard", config=[small_blocks])
    third = subprocess.run(made, env=environment, capture_output=True, text=True)
    assert third.returncode == 0 and third.stderr.count("Symlinking output file results/teacher/digits/shards/") == 4
    for name in "abc":
        scores = [pd.read_csv(folder / SCORES).drop(columns="fit_seconds") for folder in (tmp_path / name, whole)]
        pd.testing.assert_frame_equal(*scores, rtol=1e-9)


@pytest.fixture(params=["200k", "400k"])
def small_disk(request, tmp_path):
    """A folder on a file system of its own with little space; the study needs about 600k."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_one_clear_error_and_no_harm(whole, small_blocks, small_disk):
    output = run(small_disk, SCORES, config=[small_blocks], ok=False)
    words = "the disk is full; free some space and run the same command again; nothing finished is lost"
    assert not any(noise in output for noise in ("Traceback", "Exception ignored", "Logging error"))
    assert output.rstrip().endswith(words)
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    run(small_disk, SCORES, config=[small_blocks])
    scores = [pd.read_csv(folder / SCORES).drop(columns="fit_seconds") for folder in (small_disk, whole)]
    pd.testing.assert_frame_equal(*scores, rtol=1e-9)
    assert not [path for path in (small_disk / "results").rglob("*") if kill.LEFT.fullmatch(path.name)]


@pytest.mark.parametrize("small_disk", ["1m"], indirect=True)
def test_a_read_only_folder_is_one_clear_error(small_blocks, small_disk):
    (small_disk / "results").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    output = run(small_disk, SCORES, config=[small_blocks], ok=False)
    assert f"{small_disk}: cannot write here (Read-only file system); nothing was changed; " in output
    assert "Traceback" not in output
    subprocess.run(["mount", "-o", "remount,rw,size=100m", str(small_disk)], check=True)
    run(small_disk, SCORES, config=[small_blocks])


MEMORY = """
import sys, torch
from s4s.metrics.features import load_features
from s4s.metrics.score import score_samples
from s4s.models.load import load_model
from s4s.jobs.script import peak_memory_mb
torch.set_num_threads(2)
model = load_model("digits")
features = load_features(sys.argv[1])
print(score_samples(model, features, sys.argv[2], sys.argv[3])["n_samples"], peak_memory_mb())
"""


def test_50_000_samples_are_scored_within_a_gibibyte(tmp_path):
    """3 x 32 x 32 in float32, 614 MB a file, libraries included."""
    from s4s.files.rows import Split, write_rows
    from tests.builders import features

    model = {"name": "other", "kind": "embedded", "path": str(ROOT / "resources/digits/denoiser.safetensors")}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**model, "features": features.write_small(tmp_path / "features")}))
    rng, about = np.random.default_rng(0), {"model": "m", "solver": "s", "nfe": 3, "tableau": "t"}

    def pieces(with_start):
        for start in range(0, 50_000, 5_000):
            y_0 = rng.uniform(-1, 1, size=(5_000, 3, 32, 32)).astype(np.float32)
            yield "test~0", Split(np.arange(start, start + 5_000, dtype=np.uint64), y_0, y_0 if with_start else None)

    write_rows(tmp_path / "samples.h5", "samples", {"test~0": 50_000}, pieces(False), about)
    write_rows(tmp_path / "pairs.h5", "teacher-pairs", {"test~0": 50_000}, pieces(False), about)
    arguments = [str(tmp_path / name) for name in ("other.yaml", "samples.h5", "pairs.h5")]
    done = subprocess.run([sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    count, peak = map(int, done.stdout.split())
    print(f"peak {peak} MiB")
    assert count == 50_000 and peak < 1024


@pytest.mark.suite
def test_killed_runs_lose_nothing():
    """tests/kill.py with its fixed seed; 50 kills take 6 minutes, this suite makes 20."""
    done = subprocess.run([sys.executable, "-m", "tests.kill", "--kills", "20"], cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
