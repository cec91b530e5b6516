"""Runs on a cluster: a real SLURM on this machine, and the generic executor with a stand-in for a batch system's commands."""

import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from tests.builders.studies import ROOT, TINY, jobs, without

SCORES = "results/tables/scores.csv"
FEW = ["ddim-logsnr", "s4s_alt"]


def run(directory, *arguments):
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def scores(folder):
    return pd.read_csv(folder / SCORES).drop(columns="fit_seconds")


def few(table):
    """The rows of the teacher and of two solvers at NFE 3."""
    rows = (table.family == "teacher") | table.solver.isin(FEW) & (table.nfe == 3)
    return table[rows].reset_index(drop=True)


@pytest.mark.parametrize("name", ["slurm", "pbs", "lsf"])
def test_profiles_name_rules_that_exist_and_ask_for_what_jobs_need(name):
    profile = yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text())
    text = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    rules = re.findall(r"^rule (\w+)", text, re.M)
    gpu_rules = {part.split(":")[0] for part in re.split(r"(?m)^rule ", text)[1:] if "gpu=1" in part}
    if name == "slurm":
        assert set(profile["set-resources"]) == gpu_rules and gpu_rules <= {*rules}
    else:
        submit = profile["cluster-generic-submit-cmd"]
        assert all(
            f"{{{what}}}" in submit for what in ("rule", "threads", "resources.gpu", "resources.mem_mb", "resources.runtime")
        )
    assert profile["rerun-incomplete"] and profile["retries"] and profile["group-components"] == ["cells=20"]


@pytest.mark.suite
def test_the_generic_executor_with_a_stand_in_for_a_batch_system(tiny, tmp_path):
    """Jobs and groups of jobs on "another machine", that is without the main process's warm server; the same scores."""
    submit = tmp_path / "submit"
    submit.write_text(f'#!/bin/sh\nS4S_WARM= PBS_JOBID=$$ setsid sh "$1" >> {tmp_path}/jobs.log 2>&1 < /dev/null &\necho $!\n')
    submit.chmod(0o755)
    profile = yaml.safe_load((ROOT / "profiles/pbs/config.yaml").read_text())
    profile["cluster-generic-submit-cmd"] = str(submit)
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile/config.yaml").write_text(
        yaml.safe_dump({**profile, "latency-wait": 5, "seconds-between-status-checks": 1, "jobs": 2})
    )
    study = ["--configfile", str(TINY), "--config", "nfe=[3]", f"solvers=[{','.join(FEW)}]"]
    folder = without(tiny, tmp_path / "cluster", "fits", "samples", "scores", "tables")
    (folder / "results/teacher/digits/shards/train-0.h5").unlink()
    done = jobs(run(folder, "--workflow-profile", str(tmp_path / "profile"), SCORES, *study))
    assert done == {"teacher_shard": 1, "fit": 1, "sample": 2, "join_samples": 1, "score": 3, "scores_csv": 1}
    pd.testing.assert_frame_equal(scores(folder), few(scores(tiny)))


@pytest.mark.suite
@pytest.mark.skipif(not shutil.which("rsync"), reason="the storage plugin needs rsync")
def test_a_study_whose_files_are_all_in_storage(tmp_path):
    """Everything that is computed goes to storage and comes from there, shards and joined files too; the same scores."""
    study = ["--configfile", str(TINY), "--config", "nfe=[3]", f"solvers=[{','.join(FEW)}]"]
    study += ["samples=264", "shard=256", "seeds=[0]", "--cores", "2"]  # two shards
    storage = ["--default-storage-provider", "fs", "--default-storage-prefix", str(tmp_path / "storage")]
    storage += ["--shared-fs-usage", "persistence", "software-deployment", "sources", "source-cache"]
    for folder in ("storage", "here", "local"):
        (tmp_path / folder).mkdir()
    run(tmp_path / "here", *study, *storage)
    run(tmp_path / "local", SCORES, *study)
    here = tmp_path / "here/results"
    kept = {path.name for path in here.rglob("*") if path.is_file() and not path.is_relative_to(here / ".metadata")}
    assert kept == {"config.json", "progress.log"}, "beside Snakemake's records what is about the run alone"
    for name in ("report.html", "figures/samples-digits.pdf", "teacher/digits/pairs.h5"):
        assert (tmp_path / "storage/results" / name).stat().st_size > 0
    pd.testing.assert_frame_equal(scores(tmp_path / "storage"), scores(tmp_path / "local"))
    assert "Nothing to be done" in run(tmp_path / "here", "--dry-run", *study, *storage)


@pytest.fixture
def slurm():
    """A cluster of one node; its packages must be installed (tests/slurm_cluster.sh install)."""
    if not (shutil.which("slurmctld") and shutil.which("mariadbd") and os.getuid() == 0):
        pytest.skip("no SLURM daemons here, or not root: tests/slurm_cluster.sh install")
    started = subprocess.run(
        [ROOT / "tests/slurm_cluster.sh", "start"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert started.returncode == 0, started.stdout + started.stderr
    yield
    subprocess.run([ROOT / "tests/slurm_cluster.sh", "stop"], check=True)


def through_slurm(folder, *arguments):
    """A run on the cluster; every job in its accounting, each with its words, all done."""
    soon = ["--slurm-init-seconds-before-status-checks", "5"]  # and ten more each time that no job is found done
    run(folder, "--workflow-profile", str(ROOT / "profiles/slurm"), *soon, *arguments)
    fields = "JobID,Partition,State,Elapsed,AllocTRES%50,Comment%60"
    command = ["sacct", "-a", "-X", "--starttime=now-1days", f"--format={fields}"]  # without a start, only since midnight
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    print(listing)
    jobs = [line.split() for line in listing.splitlines()[2:]]
    assert all("COMPLETED" in job for job in jobs)
    named = {word for job in jobs for word in job if word.startswith("rule_")}
    assert "rule_cells_sample_score" in named
    fits = [job for job in jobs if any(word.startswith("rule_fit") for word in job)]
    assert all("gres/gpu=1" in " ".join(job) for job in fits)
    return jobs, named, fits


@pytest.mark.suite
def test_the_tiny_config_through_slurm(slurm, tiny, tmp_path):
    """A name, a GPU where a job asked for one, tables and report at the end, and the scores of a run without a cluster."""
    jobs, named, fits = through_slurm(tmp_path, "--configfile", str(TINY), "--config", "nfe=[3]")
    assert len(jobs) == 6 + len(fits) + 1 and len(fits) == 2  # of the teacher, and all cells in one
    assert any(name.startswith("rule_fit_wildcards_digits_s4s_alt_3") for name in named)
    expected = scores(tiny)
    pd.testing.assert_frame_equal(scores(tmp_path), expected[expected.nfe.isin([3, 12])].reset_index(drop=True))
    assert (tmp_path / "results/report.html").exists()


@pytest.mark.nightly
def test_the_default_config_through_slurm(slurm, tmp_path):
    jobs, named, fits = through_slurm(tmp_path)
    assert len(jobs) > 30 and len(fits) == 24
    assert any(name.startswith("rule_fit_wildcards_digits_joint_3") for name in named)
    table = pd.read_csv(tmp_path / SCORES)
    assert len(table) == 1 + 21 * 6 and table.fid_mean.notna().all() and (tmp_path / "results/report.html").exists()
