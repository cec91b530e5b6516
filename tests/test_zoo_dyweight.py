import json
import math
import os
from pathlib import Path

import pytest
import torch

from s4s.errors import S4SError
from s4s.export.zoo import dyweight
from s4s.export.zoo.diff_sampler_networks import Latents, Pixels
from s4s.export.zoo.diff_sampler_schedules import flux_shift, schedule
from s4s.models.provenance import check
from s4s.sampling import run
from s4s.solvers import solver
from s4s.tableau import Tableau
from tests.builders import diff_sampler
from tests.builders.diff_sampler import DYWEIGHT, FLUX, MODELS, NOISE, denoiser_of, samplers, write_dyweight, write_flux
from tests.builders.edm import Persistent, dump

GOLDEN = json.loads((Path(__file__).parent / "golden/diff_sampler.json").read_text())["dyweight"]
PIXELS, FLOW = MODELS["cifar10"], MODELS["flow"]


def end_of(tableau, model):
    return run(denoiser_of(model), NOISE * model.s_max, tableau).flatten()


def is_golden(found, name):
    torch.testing.assert_close(found, torch.tensor(GOLDEN[name], dtype=torch.float64), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", DYWEIGHT)
def test_a_snapshot_is_the_authors_own_sampler(name, tmp_path):
    case = DYWEIGHT[name]
    model, path = MODELS[case["dataset"]], write_dyweight(case, tmp_path / "network-snapshot-000010.pkl")
    (found,) = dyweight.read(path, model)
    assert dyweight.looks_like(path)
    assert found.nfe == case["num_steps"] - 1 - case["afs"]
    check(found, model, "it")
    assert Tableau.from_json(found.as_json()).same_as(found)
    is_golden(end_of(found, model), name)


@pytest.mark.parametrize("name", FLUX)
def test_a_checkpoint_for_flux_is_the_authors_own_sampler(name, tmp_path):
    path = write_flux(FLUX[name], tmp_path / "dyweight_nfe.pt")
    (found,) = dyweight.read(path, FLOW)
    assert dyweight.looks_like(path)
    assert found.nfe == len(FLUX[name])
    assert found.levels[-1] == 0
    check(found, FLOW, "it")
    is_golden(end_of(found, FLOW), name)


def test_a_time_of_flux_beyond_the_path_is_refused_or_clipped(tmp_path):
    factors = [1.017, *FLUX["flux"][1:]]  # as published
    path = write_flux(factors, tmp_path / "a.pt")
    with pytest.raises(S4SError, match=r"the time 1.017, beyond the path's last"):
        dyweight.read(path, FLOW)
    (found,) = dyweight.read(path, FLOW, clip=True)
    assert found.meta["clipped"]
    is_golden(end_of(found, FLOW), "flux")  # whose first factor is 1


def test_the_times_of_flux_depend_on_the_resolution(tmp_path):
    path = write_flux(FLUX["flux-below"], tmp_path / "a.pt")
    (small,), (large,) = (dyweight.read(path, FLOW, resolution=side) for side in (512, 1024))
    assert large.levels[1] / small.levels[1] == pytest.approx(math.exp(1.15 - 0.63))
    assert (flux_shift(256), flux_shift(1024)) == (0.5, 1.15)
    for wrong in (500, 128):
        with pytest.raises(S4SError, match="multiple of 16"):
            dyweight.read(path, FLOW, resolution=wrong)


def test_the_weights_of_ipndm_are_ipndm(tmp_path):
    weights = torch.zeros(6, 6, dtype=torch.float64)
    for i in range(6):
        row = {0: [1], 1: [3 / 2, -1 / 2]}.get(i, [23 / 12, -16 / 12, 5 / 12])
        weights[i, i + 1 - len(row) : i + 1] = torch.tensor(row[::-1], dtype=torch.float64)
    case = {**DYWEIGHT["pixels"], "num_steps": 7, "weights": weights.tolist(), "t_scale": None}
    (found,) = dyweight.read(write_dyweight(case, tmp_path / "a.pkl"), PIXELS)
    wanted = solver("ipndm", found.levels, order=3)
    torch.testing.assert_close(found.eval_levels, wanted.eval_levels, rtol=2e-6, atol=0)
    torch.testing.assert_close(found.B, wanted.B, rtol=1e-5, atol=2e-6)  # weights in float32, levels + 1e-8


def test_its_meta_says_where_it_is_from(tmp_path):
    (found,) = dyweight.read(write_dyweight(DYWEIGHT["sd"], tmp_path / "a.pkl"), MODELS["ms_coco"], guidance=7.5)
    assert found.meta == {
        **dyweight.SOURCE.meta(), "file": "a.pkl", "fitted_for": "sd15", "dataset": "ms_coco", "guidance": 7.5,
        "schedule": "discrete", "analytic_first_step": False,
    }  # fmt: skip
    (found,) = dyweight.read(write_flux(FLUX["flux"], tmp_path / "a.pt"), FLOW)
    assert (found.meta["fitted_for"], found.meta["guidance"], found.meta["resolution"]) == ("FLUX.1-dev", 3.5, 512)


@pytest.mark.parametrize(
    ("case", "model", "options", "said"),
    [
        ("pixels", MODELS["ms_coco"], {}, "on the path ve; model sd15 is on vp_discrete"),
        ("sd", PIXELS, {}, "on the path vp_discrete; model cifar10 is on vp_linear"),
        ("pixels", PIXELS._replace(name="ffhq"), {}, "fitted for cifar10, not for ffhq"),
        ("pixels", PIXELS._replace(s_max=50.0), {}, "with noise levels 80 to 0.002; model cifar10 covers 50 to 0.002"),
        ("sd", MODELS["lsun_bedroom_ldm"]._replace(name="mine"), {}, "covers 83.8225 to"),
        ("sd", MODELS["ms_coco"], {"guidance": 3.0}, "with guidance 7.5, not 3"),
        ("pixels", PIXELS, {"guidance": 3.0}, "with guidance none, not 3"),
        ("sd", MODELS["ms_coco"]._replace(parametrisation={"prediction": "v_prediction"}), {}, "predicts v_prediction"),
    ],
)
def test_another_network_or_guidance_is_refused(case, model, options, said, tmp_path):
    with pytest.raises(S4SError, match=said) as error:
        dyweight.read(write_dyweight(DYWEIGHT[case], tmp_path / "a.pkl"), model, **options)
    assert str(error.value).startswith(f"{tmp_path}/a.pkl: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_steps": 7}, "hybrid_weights must be 6 x 6"),
        ({"num_steps": 10**9}, "num_steps"),
        ({"afs": "yes"}, "afs"),
        ({"loss": {"dataset_name": "moon"}}, "fitted for moon, which no model here is of"),
        ({"loss": {"schedule_type": "cubic"}}, "its schedule cubic"),
        ({"loss": {"schedule_type": "discrete"}}, "its schedule discrete"),
        ({"loss": {"schedule_rho": float("nan")}}, "schedule_rho"),
        ({"_parameters": {"hybrid_weights": torch.full((5, 5), float("inf"))}}, "finite"),
        ({"_parameters": {"hybrid_weights": torch.eye(5), "t_scale": torch.zeros(5)}}, "tells the network the level 0"),
        ({"_parameters": 3}, "hybrid_weights must be"),
    ],
)
def test_what_is_no_solver_is_refused(changes, said, tmp_path):
    with pytest.raises(S4SError, match=said):
        dyweight.read(write_dyweight(DYWEIGHT["pixels"], tmp_path / "a.pkl", **changes), PIXELS)


def test_an_analytic_step_must_leave_noise_and_an_evaluation(tmp_path):
    case = {**DYWEIGHT["pixels-afs"], "num_steps": 2, "t_scale": []}
    with pytest.raises(S4SError, match="evaluates no network"):
        dyweight.read(write_dyweight(case, tmp_path / "a.pkl"), PIXELS)
    case = {**DYWEIGHT["pixels-afs"], "weights": (torch.eye(4) * 1.5).tolist()}
    with pytest.raises(S4SError, match="turns the noise around"):
        dyweight.read(write_dyweight(case, tmp_path / "b.pkl"), PIXELS)


def test_nothing_of_a_file_is_run(tmp_path):
    class Calls:
        def __init__(self, function):
            self.function = function

        def __reduce__(self):
            return self.function, ("touch ran",)

    path = tmp_path / "a.pkl"
    with samplers("dyweight_sampler", "unknown") as (known, unknown):
        for function, said in (
            (os.system, "it asks for posix.system"), (known, "not callable"), (unknown, "it asks for solvers.unknown")
        ):  # fmt: skip
            dump({"predictor": Persistent("DyWeight_predictor", {"x": Calls(function)})}, path)
            with pytest.raises(S4SError, match=said):
                dyweight.read(path, PIXELS)


def test_other_files_are_told_apart(tmp_path):
    (tmp_path / "text").write_text("DyWeight_predictor")
    other = diff_sampler.write_epd(diff_sampler.EPD["pixels"], tmp_path / "epd.pkl")
    torch.save({"state": torch.zeros(2)}, tmp_path / "other.pt")
    for path in (tmp_path / "text", tmp_path / "none", tmp_path, other, tmp_path / "other.pt"):
        assert not dyweight.looks_like(path)
        with pytest.raises(S4SError, match=str(path)):
            dyweight.read(path, PIXELS)
    content = write_dyweight(DYWEIGHT["pixels"], tmp_path / "whole.pkl").read_bytes()
    (tmp_path / "cut.pkl").write_bytes(content[:-50])
    with pytest.raises(S4SError, match="damaged"):
        dyweight.read(tmp_path / "cut.pkl", PIXELS)


@pytest.mark.parametrize(("path", "dataset"), [(diff_sampler.SD, "ms_coco"), (diff_sampler.LSUN, "lsun_bedroom_ldm")])
def test_times_of_latent_networks(path, dataset):
    network = Latents(MODELS[dataset])
    levels = path.log_s.exp()
    for k in (0, 10, 500, 999):
        assert network.sigma((k + 1) / 1000) == pytest.approx(float(levels[k]), rel=1e-12)
    for sigma in (0.02, 0.05, 0.7, 9.0, 16.0, 100.0):  # beyond the table too
        assert network.sigma((network.time(sigma) + 1) / 1000) == pytest.approx(sigma, rel=1e-9)
        fed = network.feed(sigma, 1.0)
        level, own = torch.tensor([fed.level, sigma], dtype=torch.float64)
        assert float(path.t_of_s(level)) == pytest.approx(network.time(sigma), abs=1e-9)
        assert fed.scale == pytest.approx(float(path.alpha_of_s(own) / path.alpha_of_s(level)), rel=1e-12)


def test_schedules_are_those_of_published_files():
    found = schedule("time_uniform", 1.0, 5, Pixels(PIXELS))  # t_steps in EPD's snapshot 00003, which a GPU computed
    published = [80.0, 11.734313, 2.82370925, 0.856472611, 0.00201323512]
    torch.testing.assert_close(found, torch.tensor(published, dtype=torch.float64), rtol=2e-7, atol=0)
