"""The workflow when something goes wrong, and however it is cut: shards, damage, a full disk, two runs, a shared cache."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml

from s4s.files.rows import read_split
from tests import kill
from tests.builders import studies
from tests.builders.studies import ROOT, jobs, linked, overwrite, without

FEW = ["nfe=[3]", "solvers=[ddim-logsnr,s4s_alt]", "fit={iterations: 2, batch: 8, validate_every: 2}"]
SHARDS = ["shard=16", "batch_size=8"]
SCORES = "results/tables/scores.csv"
PAIRS = "results/teacher/digits/pairs.h5"
CELLS = [("teacher", 12), ("ddim-logsnr", 3), ("s4s_alt", 3)]
SAMPLES = [f"results/samples/digits/{solver}/nfe~{nfe}.h5" for solver, nfe in CELLS]


def settings(directory, home, config=()):
    """Options of a run in a folder, by the checkout and model in another or the same."""
    model = "small.yaml" if home == directory else home / "small.yaml"
    return ["--config", f"models=[{model}]", *FEW, *config]


def run(directory, *arguments, home, config=(), **options):
    """One run of a small study; what it printed."""
    return studies.snakemake(directory, *arguments, *settings(directory, home, config), checkout=home, **options)


def start(directory, *arguments, home, config=(), env=None, **options):
    """The same in the background."""
    command = studies.command(directory, *arguments, *settings(directory, home, config), checkout=home)
    return subprocess.Popen(command, text=True, env={**studies.environment(home), **(env or {})}, **options)


@pytest.fixture(scope="session")
def small(shared):
    """A checkout, and the digits with 8 samples in a call of the network, so that few samples make many shards."""

    def make(folder):
        studies.copy_checkout(folder)
        description = yaml.safe_load((folder / "config/models/digits.yaml").read_text())
        for entry in (description, description["features"], description["perceptual"]):
            entry["path"] = entry["path"].removeprefix("../../")
        (folder / "small.yaml").write_text(yaml.safe_dump({**description, "block": 8}))

    return shared("small", make)


@pytest.fixture(scope="session")
def whole(shared, small):
    def make(folder):
        linked(small, folder)
        run(folder, SCORES, PAIRS, home=folder)

    return shared("whole", make)


@pytest.fixture(scope="session")
def sharded(shared, small):
    """40 samples in 3 shards a seed, 1 core, 8 at a time, and what the run printed."""

    def make(folder):
        linked(small, folder)
        output = run(folder, SCORES, PAIRS, *SAMPLES, "--cores", "1", home=folder, config=SHARDS)
        (folder / "output.txt").write_text(output)

    return shared("sharded", make)


def scores(folder):
    return pd.read_csv(folder / SCORES).drop(columns="fit_seconds")


@pytest.mark.suite
def test_a_study_in_shards_is_the_same_study(whole, sharded):
    """The same samples to the bit, scores to 1e-9, all files in place."""
    ran = jobs((sharded / "output.txt").read_text())
    assert (ran["sample"], ran["score_shard"], ran["score"]) == (12, 18, 3)
    assert ran["teacher_shard"] == 2 + 2 + 6  # 32 pairs to learn from, 24 to validate on, 2 x 40 for the test
    for path in SAMPLES:
        for split in ("test~0", "test~1"):
            ours, theirs = (read_split(folder / path, "samples", split) for folder in (sharded, whole))
            assert np.array_equal(ours.y_0, theirs.y_0) and np.array_equal(ours.seeds, theirs.seeds)
    for split in ("train", "val", "test~1"):
        pairs = [read_split(folder / PAIRS, "teacher-pairs", split) for folder in (sharded, whole)]
        assert np.array_equal(pairs[0].y_0, pairs[1].y_0)
    pd.testing.assert_frame_equal(scores(sharded), scores(whole), rtol=1e-9)
    assert not [*sharded.glob("results/scores/**/*.npz")], "statistics of shards are temporary"
    assert jobs(run(sharded, SCORES, PAIRS, *SAMPLES, "--dry-run", home=sharded, config=SHARDS)) == {}


@pytest.mark.suite
def test_samples_in_shards_can_be_deleted_after_use(sharded, tmp_path):
    folder = without(sharded, tmp_path / "study", "samples", "scores", "tables")
    config = [*SHARDS, "keep_samples=false"]
    run(folder, SCORES, "results/figures/samples-digits.pdf", home=folder, config=config)
    assert not [*folder.glob("results/samples/**/*.h5")]
    assert (folder / "results/figures/samples-digits.pdf").exists() and len(pd.read_csv(folder / SCORES)) == 3


PROBE = """
from snakemake_interface_logger_plugins.base import LogHandlerBase

class LogHandler(LogHandlerBase):
    writes_to_stream = writes_to_file = needs_rulegraph = False
    has_filter = has_formatter = True

    def emit(self, record):
        with open("probe.log", "a") as file:
            file.write(f"{getattr(record, 'event', None)}\\n")
"""


def test_plugins_for_logging_hear_of_everything_beside_our_own_progress(small, tmp_path):
    plugin = tmp_path / "plugins/snakemake_logger_plugin_probe"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(PROBE.replace("\\\\n", "\\n"))
    path = os.pathsep.join([str(plugin.parent), studies.environment(small)["PYTHONPATH"]])
    target = "results/tableaux/digits/ddim-logsnr/nfe~3.json"
    run(tmp_path, target, "--logger", "probe", home=small, forked=False, PYTHONPATH=path)
    heard = (tmp_path / "probe.log").read_text().split()
    assert {"workflow_started", "job_info", "job_finished", "progress"} <= {*heard}


@pytest.mark.suite
def test_only_damaged_shards_are_made_again(sharded, tmp_path):
    """A flipped bit is found by the reader, which names the shard; after it is deleted, it alone is made again."""
    folder = without(sharded, tmp_path / "study", "scores", "tables")
    damaged = {
        "test~0": "results/samples/digits/ddim-logsnr/nfe~3/test~0-1.h5",
        "test~1": "results/teacher/digits/shards/test~1-1.h5",
    }
    for path in damaged.values():
        content = bytearray((folder / path).read_bytes())
        content[-100] ^= 1
        overwrite(folder / path, bytes(content))
    output = run(folder, SCORES, "--keep-going", home=folder, config=SHARDS, ok=False)
    for split, path in damaged.items():
        assert f"error: {path}: split '{split}' cannot be read" in output and "delete the file and rerun" in output
        (folder / path).unlink()
    ran = jobs(run(folder, SCORES, home=folder, config=SHARDS))
    assert (ran["sample"], ran["teacher_shard"]) == (1, 1) and "fit" not in ran
    assert ran["score_shard"] == 1 + 3  # the scores of the sample shard, and of all three cells against the teacher's
    assert len(pd.read_csv(folder / SCORES)) == 3


CHANGED = {  # what is changed at once; a result is not read where what it is made from is made again
    "results/teacher/digits/shards/val-0.h5": ("early", "wrong checksum"),
    "results/samples/digits/ddim-logsnr/nfe~3.h5": ("early", "wrong checksum"),
    "results/scores/digits/ddim-logsnr/nfe~4.json": ("early", "these scores"),
    "results/tableaux/digits/s4s_alt/nfe~3.json": ("of a fit", "this tableau"),
    "results/fits/digits/s4s_alt/nfe~4.json": ("of a fit", "this fit"),
    SCORES: ("last", "the scores"),
}


@pytest.mark.suite
@pytest.mark.parametrize(("stage", "target"), [("early", SCORES), ("of a fit", "all"), ("last", "results/tables/fid.md")])
def test_changed_results_are_named_and_made_again(study, stage, target):
    """A bit flipped in results: a run names each that it reads, the next one makes it again, until all are as they were."""
    changed = {name: what for name, (at, what) in CHANGED.items() if at == stage}
    before, table = {name: (study / name).read_bytes() for name in [*changed, "results/tables/fid.md"]}, scores(study)
    for name in changed:
        content = bytearray(before[name])
        content[len(content) // 2] ^= 1
        (study / name).unlink()
        (study / name).write_bytes(content)
    told = set()
    for _ in range(len(changed) + 1):
        output = studies.snakemake(study, target, "--keep-going", checkout=study, config=study / "tiny.yaml", ok=None)
        found = {name for name, what in changed.items() if f"error: {name}: " in output and what in output}
        if not found:
            break
        told |= found
    timed = {"results/fits/digits/s4s_alt/nfe~4.json", SCORES}
    assert {name for name in before if (study / name).read_bytes() != before[name]} <= timed and scores(study).equals(table)
    assert told == {*changed} and all((study / f"{name}.damaged").exists() for name in told)


@pytest.mark.suite
def test_the_second_of_two_runs_in_a_folder_is_refused(whole, tmp_path):
    """Clearly, at once, and without harm; a dry run is not; after a kill the next run needs no unlocking."""
    folder, config = linked(whole, tmp_path / "study"), ["nfe=[3,4]"]
    first = start(folder, SCORES, home=folder, config=config, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lock = folder / ".snakemake/s4s.lock"
    while not (lock.is_file() and f"process {first.pid} on" in lock.read_text()):
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGSTOP)  # so that it cannot end before the second has asked
    output = run(folder, SCORES, home=folder, config=config, ok=False)
    assert f"another run works in this folder (process {first.pid} on " in output and "--directory" in output
    assert "Traceback" not in output
    run(folder, SCORES, "--dry-run", home=folder, config=config)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert lock.is_file()
    run(folder, SCORES, home=folder, config=config)
    assert not [*(folder / ".snakemake/locks").glob("*")]
    assert len(pd.read_csv(folder / SCORES)) == 5


@pytest.mark.suite
def test_two_folders_share_a_cache_at_the_same_time(whole, small, tmp_path):
    """Both get the teacher's pairs, from one computation or two, and the same scores."""
    for name in ("a", "b", "c", "cache"):
        (tmp_path / name).mkdir()
    config, cached = ["solvers=[ddim-logsnr]"], [SCORES, "--cache", "teacher_shard"]
    shared_cache = {"SNAKEMAKE_OUTPUT_CACHE": str(tmp_path / "cache")}
    options = {"env": shared_cache, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    runs = [start(tmp_path / name, *cached, home=small, config=config, **options) for name in "ab"]
    for one in runs:
        output, _ = one.communicate(timeout=300)
        assert one.returncode == 0, output[-3000:]
    output = run(tmp_path / "c", *cached, home=small, config=config, **shared_cache)
    assert output.count("Symlinking output file results/teacher/digits/shards/") == 2  # the two splits of the test
    expected = scores(whole)
    expected = expected[expected.solver != "s4s_alt"].reset_index(drop=True)
    for name in "abc":
        found = scores(tmp_path / name)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-9, check_dtype=False)


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


@pytest.mark.suite
def test_a_full_disk_is_one_clear_error_and_no_harm(whole, small, small_disk):
    output = run(small_disk, SCORES, home=small, ok=False, forked=False)
    words = "the disk is full; free some space and run the same command again; nothing finished is lost"
    assert not any(noise in output for noise in ("Traceback", "Exception ignored", "Logging error"))
    assert output.rstrip().endswith(words)
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    run(small_disk, SCORES, home=small)
    pd.testing.assert_frame_equal(scores(small_disk), scores(whole), rtol=1e-9)
    assert not [path for path in (small_disk / "results").rglob("*") if kill.LEFT.fullmatch(path.name)]


@pytest.mark.suite
@pytest.mark.parametrize("small_disk", ["16k"], indirect=True)
def test_a_full_disk_of_the_logs_is_named(small, small_disk, tmp_path):
    """Where they lie on a file system of their own, jobs cannot say so themselves."""
    folder, place = tmp_path / "study", "results/logs"
    (folder / place).parent.mkdir(parents=True)
    (folder / place).symlink_to(small_disk)
    (small_disk / "filled").write_bytes(bytes(16 << 10))
    output = run(folder, SCORES, home=small, ok=False, forked=False)
    assert f"error: {folder / place}: the disk is full; free some space and run the same command again" in output
    assert "Traceback" not in output
    (small_disk / "filled").unlink()
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    run(folder, "results/tableaux/digits/ddim-logsnr/nfe~3.json", home=small)


@pytest.mark.parametrize("small_disk", ["1m"], indirect=True)
def test_a_read_only_folder_is_one_clear_error(small, small_disk):
    (small_disk / "results").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    output = run(small_disk, SCORES, home=small, ok=False, forked=False)
    assert f"{small_disk}: cannot write here (Read-only file system); nothing was changed; " in output
    assert "Traceback" not in output
    subprocess.run(["mount", "-o", "remount,rw,size=100m", str(small_disk)], check=True)
    run(small_disk, "results/tableaux/digits/ddim-logsnr/nfe~3.json", home=small)


MEMORY = """
import sys, torch
from s4s.metrics.load import load_features
from s4s.metrics.score import score_samples
from s4s.models.load import load_model
from s4s.jobs.script import peak_memory_mb
torch.set_num_threads(2)
model = load_model("digits")
features = load_features(sys.argv[1])
print(score_samples(model, features, sys.argv[2], sys.argv[3])["n_samples"], peak_memory_mb())
"""


@pytest.mark.suite
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


@pytest.mark.parametrize("kills", [pytest.param(5, marks=pytest.mark.suite), pytest.param(20, marks=pytest.mark.nightly)])
def test_killed_runs_lose_nothing(tiny, kills):
    """tests/kill.py with its fixed seed, against the tiny study that nobody disturbed."""
    program = [sys.executable, "-m", "tests.kill", "--kills", str(kills), "--undisturbed", str(tiny)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
