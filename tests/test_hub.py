"""S4SScheduler on a model hub, of which nothing but a local cache is there."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import s4s
from s4s import S4SError, S4SScheduler
from s4s.export import scheduler_on_hub as module
from s4s.export.card import without_folders


@pytest.fixture
def scheduler():
    tableau = s4s.solver("ddim", torch.tensor([10.0, 1.0, 0.1], dtype=torch.float64))
    tableau = tableau.with_meta(model="/home/me/sd", token="near", teacher="unipc of /home/me/sd, 9 evaluations")
    return S4SScheduler.from_tableau(tableau, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, path_type="vp")


def cached(cache, repo, subfolder=""):
    """Where a snapshot of a repository lies in the hub's cache."""
    place = cache / f"models--{repo.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text("a" * 40)
    return place / "snapshots" / ("a" * 40) / subfolder


def test_a_scheduler_loads_from_a_folder_and_a_cached_repository(scheduler, tmp_path):
    scheduler.save_pretrained(tmp_path / "own")
    scheduler.save_pretrained(tmp_path / "pipe/scheduler")
    scheduler.save_pretrained(cached(tmp_path, "owner/name"))
    scheduler.save_pretrained(cached(tmp_path, "owner/pipe", "scheduler"))
    offline = {"cache_dir": tmp_path, "local_files_only": True}
    for found in (
        S4SScheduler.from_pretrained(tmp_path / "own"),
        S4SScheduler.from_pretrained(tmp_path / "pipe", subfolder="scheduler"),
        S4SScheduler.from_pretrained("owner/name", **offline),
        S4SScheduler.from_pretrained("owner/pipe", subfolder="scheduler", **offline),
    ):
        assert found.available_steps == [2]


def test_what_is_no_solver_of_ours_is_refused(scheduler, tmp_path):
    scheduler.save_pretrained(tmp_path / "own")
    file = tmp_path / "own/scheduler_config.json"
    good = json.loads(file.read_text())
    bad = [{**good, "_class_name": "DDIMScheduler"}, {**good, "tableaux": [{"nfe": 2}]}, []]
    for content in (*map(json.dumps, bad), "no JSON", "[" * 200_000):
        file.write_text(content)
        with pytest.raises(S4SError) as error:
            S4SScheduler.from_pretrained(tmp_path / "own")
        assert "own" in str(error.value) and len(str(error.value).splitlines()) == 1
    for where in ("owner/none", str(tmp_path), "/no/such/folder"):
        with pytest.raises(S4SError, match=r"no scheduler_config\.json found there") as error:
            S4SScheduler.from_pretrained(where, cache_dir=tmp_path, local_files_only=True)
        assert len(str(error.value).splitlines()) == 1


def test_what_is_pushed_has_its_card(scheduler, tmp_path, monkeypatch):
    pushed = {}

    def upload(self, folder, repo, **options):
        pushed.update({path.name: path.read_text() for path in Path(folder).iterdir()}, repo=repo)

    monkeypatch.setattr(module, "create_repo", lambda repo, **options: SimpleNamespace(repo_id=repo))
    monkeypatch.setattr(S4SScheduler, "_upload_folder", upload)
    with pytest.raises(S4SError, match="base_model must be a repository on the hub, owner/name"):
        scheduler.push_to_hub("owner/name", base_model="/home/me/sd")
    assert not pushed
    scheduler.push_to_hub("owner/name", base_model="owner/sd", licence="mit")
    assert set(pushed) == {"scheduler_config.json", "README.md", "repo"}
    page = pushed["README.md"]
    head = yaml.safe_load(page.split("---")[1])
    assert (head["base_model"], head["license"], head["library_name"]) == ("owner/sd", "mit", "diffusers")
    assert "/home" not in page and 'from_pretrained("owner/name")' in page and "import s4s\n" in page
    scheduler.save_pretrained(tmp_path)
    assert "/home" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/a/b c/sd", "sd"), ("C:\\\\a\\\\sd.pt", "sd.pt"), ("~/x", "x"), ("owner/sd", "owner/sd"), ("unipc, 9", "unipc, 9")],
)
def test_a_card_shows_no_folders(text, expected):
    assert without_folders(text) == expected


@pytest.mark.suite
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_card_s_code_runs_as_pasted(scheduler, tmp_path):
    from tests.builders import pipelines as builder

    builder.stable_diffusion().save_pretrained(cached(tmp_path / "hub", "owner/sd"))
    scheduler.save_pretrained(cached(tmp_path / "hub", "owner/name"))
    code = re.search(r"```python\n(.*?)```", scheduler.card("owner/name", "owner/sd"), re.S)[1]
    environment = {**__import__("os").environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
