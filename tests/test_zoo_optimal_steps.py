"""OptimalSteps' lists as tableaux, against its own sampler, and in a pipeline's scheduler."""

import pytest
import torch

from s4s import S4SError
from s4s.export.zoo.forms import read_published
from s4s.export.zoo.optimal_steps import euler, looks_like, read
from s4s.models.load import Outline
from s4s.models.paths import VE, FlowMatching
from s4s.sampling import run
from tests.optimal_steps_golden import START, TIMES, clean

FLOW = Outline("flow", 0.002, 999.0, FlowMatching(), {"path": "flow", "prediction": "flow"})
GOLDEN = {  # as tests/optimal_steps_golden.py prints it
    "FLUX": (-0.484398819765538, 0.125489629353928),
    "Wan": (-0.72220890406194, -0.0702029554069451),
}
LISTS = {name: [*times] for name, times in TIMES.items()}
NODE = f"# from https://github.com/bebebe666/OptimalSteps\n\nNOISE_LEVELS = {LISTS}\n"
NODE += "class OptimalStepsScheduler:\n    def of(self, kind):\n        return NOISE_LEVELS[kind][:]\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nodes_optimalsteps.py"
    path.write_text(NODE)
    return path


def denoiser(y, s, _):
    """The data prediction of the golden run in (y, s)."""
    s = torch.as_tensor(s, dtype=torch.float64)
    return clean(y / (1 + s), s / (1 + s))


@pytest.mark.parametrize("name", [*TIMES])
def test_the_sample_is_that_of_its_own_sampler(file, name):
    assert looks_like(file)
    (tableau,) = read(file, FLOW, pick=name)
    assert tableau.nfe == len(TIMES[name]) - 1
    noise = torch.tensor([START], dtype=torch.float64) * tableau.levels[0]
    expected = torch.tensor([GOLDEN[name]], dtype=torch.float64)
    assert (run(denoiser, noise, tableau) - expected).abs().max() < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TIMES])
def test_in_a_pipeline_the_steps_are_euler_s_on_the_flow(file, name):
    (tableau,) = read(file, FLOW, pick=name)
    from s4s import S4SScheduler

    scheduler = S4SScheduler.from_tableau(tableau, path_type="flow", prediction_type="flow_prediction")
    scheduler.set_timesteps(tableau.nfe)
    assert scheduler.timesteps.tolist() == pytest.approx([1000 * t for t in TIMES[name][:-1]], abs=1e-3)
    assert float(scheduler.init_noise_sigma) == pytest.approx(TIMES[name][0], rel=1e-12)
    times = [*TIMES[name][:-1], 0.0]
    x = expected = times[0] * torch.tensor([START], dtype=torch.float64)
    for n, t in enumerate(scheduler.timesteps):
        x = scheduler.step((x - clean(x, times[n])) / times[n], t, x).prev_sample
        expected = expected + (times[n + 1] - times[n]) * (expected - clean(expected, times[n])) / times[n]
    assert (x - expected).abs().max() < 1e-10


def test_the_meta_says_where_the_numbers_come_from(file):
    (tableau,) = read_published(file, FLOW, pick="flux", guidance=3.5)
    wanted = {"form": "optimal_steps", "paper": "arXiv 2503.21774", "fitted_for": "FLUX", "file": file.name, "guidance": 3.5}
    assert wanted.items() <= tableau.meta.items() and "ComfyUI" in tableau.meta["repository"]


@pytest.mark.parametrize(
    ("times", "message"),
    [([1.2, 0.5, 0.0], "within|from 1"), ([0.9, 0.9, 0.0], "decrease strictly"), ([0.9, 0.5, -0.1], "to 0 or above")],
)
def test_times_that_are_none_are_refused(times, message):
    with pytest.raises(S4SError, match=f"here: times must .*({message})"):
        euler(times, "here", 999.0)


def test_other_files_and_models_are_refused(file, tmp_path):
    with pytest.raises(S4SError, match="several lists; --pick one of FLUX, Wan"):
        read(file, FLOW)
    with pytest.raises(S4SError, match="times of rectified flow, but model ve has the path ve"):
        read(file, Outline("ve", 0.002, 80.0, VE()), pick="Wan")
    with pytest.raises(S4SError, match="have no option order; allowed: pick, guidance"):
        read_published(file, FLOW, "optimal_steps", pick="Wan", order=3)
    for name in ("list.txt", "absent.py"):
        (tmp_path / "list.txt").write_text("0.9 0.5 0.1")
        assert not looks_like(tmp_path / name)
        with pytest.raises(S4SError, match=r"none of the forms .*optimal_steps, gits, or no such file"):
            read_published(tmp_path / name, FLOW)
    with pytest.raises(S4SError, match="unknown form of a published solver 'x'; known: "):
        read_published(file, FLOW, "x")
