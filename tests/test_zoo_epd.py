import json
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from s4s.errors import S4SError
from s4s.export.zoo import epd
from s4s.export.zoo.transcript import Feed, Transcript
from s4s.models.provenance import check
from s4s.sampling import run
from s4s.solvers import solver
from s4s.tableau import Tableau
from tests.builders.diff_sampler import DYWEIGHT, EPD, MODELS, NOISE, denoiser_of, write_dyweight, write_epd

GOLDEN = json.loads((Path(__file__).parent / "golden/diff_sampler.json").read_text())["epd"]
PIXELS, FLOW = MODELS["cifar10"], MODELS["flow"]


def model_of(case):
    return MODELS["flow" if "backend" in case["kwargs"] else case["kwargs"]["dataset_name"]]


@pytest.mark.parametrize("name", EPD)
def test_a_snapshot_is_the_authors_own_sampler(name, tmp_path):
    case = EPD[name]
    model, path, kwargs = model_of(case), write_epd(case, tmp_path / "a.pkl"), case["kwargs"]
    (found,) = epd.read(path, model)
    assert epd.looks_like(path)
    assert found.nfe == (kwargs["num_steps"] - 1) * (1 + kwargs["num_points"]) - kwargs["afs"]
    assert len(found.groups) == 2 * (kwargs["num_steps"] - 1) - kwargs["afs"]  # the authors' number of evaluations
    check(found, model, "it")
    assert Tableau.from_json(found.as_json()).same_as(found)
    end = run(denoiser_of(model), NOISE * model.s_max, found).flatten()
    wanted = torch.tensor(GOLDEN[name], dtype=torch.float64)
    torch.testing.assert_close(end, wanted, rtol=1e-10, atol=1e-10)


def test_a_point_half_way_is_dpm_solver_2(tmp_path):
    zero = [[0.0]] * 4  # r = 1/2, all of the weight, no factors
    case = {**EPD["pixels"], "parameters": dict.fromkeys(EPD["pixels"]["parameters"], zero)}
    case["kwargs"] = {**case["kwargs"], "num_points": 1, "num_steps": 5}
    (found,) = epd.read(write_epd(case, tmp_path / "a.pkl"), PIXELS)
    assert found.same_as(solver("dpm2", found.levels, prediction="noise"), 1e-9)
    assert found.groups == tuple((n,) for n in range(8))


def test_points_are_asked_in_the_order_of_their_levels(tmp_path):
    (found,) = epd.read(write_epd(EPD["pixels-3-fcn"], tmp_path / "a.pkl"), PIXELS)
    turned = {key: [row[::-1] for row in rows] for key, rows in EPD["pixels-3-fcn"]["parameters"].items()}
    (other,) = epd.read(write_epd({**EPD["pixels-3-fcn"], "parameters": turned}, tmp_path / "b.pkl"), PIXELS)
    assert found.same_as(other)


def test_times_of_flow_matching_are_those_of_diffusers(tmp_path):
    schedulers = {
        "sd3": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "flux": FlowMatchEulerDiscreteScheduler(
            shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
        ),
    }
    for name, scheduler in schedulers.items():
        case = EPD[name]
        count, points = case["kwargs"]["num_steps"], case["kwargs"]["num_points"]
        scheduler.set_timesteps(count, **({"mu": 1.15} if name == "flux" else {}))
        (found,) = epd.read(write_epd(case, tmp_path / "a.pkl"), FLOW)
        starts = torch.cat([found.eval_levels[:: 1 + points], found.levels[-1:]])
        torch.testing.assert_close(starts / (1 + starts), scheduler.sigmas[:count].double(), rtol=1e-6, atol=0)


def test_flux_by_its_resolution_where_no_shift_is_recorded(tmp_path):
    (found,) = epd.read(write_epd(EPD["flux"], tmp_path / "a.pkl"), FLOW)
    (other,) = epd.read(write_epd(EPD["flux"], tmp_path / "b.pkl", backend_config={"resolution": 1024}), FLOW)
    assert found.same_as(other)
    (small,) = epd.read(write_epd(EPD["flux"], tmp_path / "c.pkl", backend_config={"resolution": 512}), FLOW)
    assert small.levels[-1] < found.levels[-1]


def test_its_meta_says_where_it_is_from(tmp_path):
    (found,) = epd.read(write_epd(EPD["sd3"], tmp_path / "a.pkl"), FLOW, guidance=7.5)
    assert found.meta == {
        **epd.SOURCE.meta(), "file": "a.pkl", "fitted_for": "Stable Diffusion 3 medium", "dataset": "ms_coco", "guidance": 7.5,
        "schedule": "flowmatch", "analytic_first_step": False, "plug_in": "epd", "resolution": 512,
    }  # fmt: skip
    (found,) = epd.read(write_epd(EPD["latents-afs"], tmp_path / "a.pkl"), MODELS["lsun_bedroom_ldm"], guidance=1.0)
    assert found.meta["paper"] == "arXiv 2507.14797"
    assert "guidance" not in found.meta


@pytest.mark.parametrize(
    ("case", "model", "options", "said"),
    [
        ("sd3", MODELS["ms_coco"], {}, "fitted for Stable Diffusion 3 medium, on the path flow; model sd15 is on vp_discrete"),
        ("sd", FLOW, {}, "fitted for sd15, on the path vp_discrete; model flux is on flow"),
        ("pixels", MODELS["cifar10"]._replace(name="afhqv2"), {}, "fitted for cifar10, not for afhqv2"),
        ("flux", FLOW, {"guidance": 3.5}, "with guidance 7.5, not 3.5"),
    ],
)
def test_another_network_or_guidance_is_refused(case, model, options, said, tmp_path):
    with pytest.raises(S4SError, match=said) as error:
        epd.read(write_epd(EPD[case], tmp_path / "a.pkl"), model, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("case", "changes", "said"),
    [
        ("pixels", {"num_points": 3}, "r_params must be 3 x 3"),
        ("pixels", {"num_points": 10**6}, "num_points"),
        ("pixels", {"sampler_stu": "unipc"}, "sampler_stu"),
        ("pixels", {"dataset_name": "moon"}, "fitted for moon"),
        ("pixels", {"schedule_type": "flowmatch"}, "its schedule flowmatch"),
        ("pixels-ipndm", {"max_order": 5}, "its order 5"),
        ("sd3", {"schedule_type": "discrete"}, "its schedule discrete is none of Stable Diffusion 3 medium"),
        ("flux", {"backend_config": {"resolution": 1000}}, "multiple of 16"),
        ("flux", {"scale_time": 1.0}, "beyond the path's last"),
        ("pixels", {"_parameters": {}}, "r_params must be"),
    ],
)
def test_what_is_no_solver_is_refused(case, changes, said, tmp_path):
    parameters = {**EPD[case]["parameters"], "scale_time_params": [[20.0] * 2] * (EPD[case]["kwargs"]["num_steps"] - 1)}
    path = write_epd({**EPD[case], "parameters": parameters}, tmp_path / "a.pkl", **changes)
    with pytest.raises(S4SError, match=said):
        epd.read(path, model_of(EPD[case]))


def test_other_files_are_told_apart(tmp_path):
    other = write_dyweight(DYWEIGHT["pixels"], tmp_path / "dyweight.pkl")
    assert not epd.looks_like(other)
    assert not epd.looks_like(tmp_path / "none")
    with pytest.raises(S4SError, match="holds none under 'model'"):
        epd.read(other, PIXELS)
    with pytest.raises(S4SError, match="cannot read"):
        epd.read(tmp_path / "none", PIXELS)


def test_the_worked_example_of_a_transcript():
    loop = Transcript(nodes=1, start=2.0, scale=1.0)
    state, direction = loop.evaluate(loop.start, 2.0, Feed(2.0, 1.0, 0.5, 0.5))
    found = loop.tableau(state + (1 - 2) * direction, 1.0)
    assert found.same_as(solver("ddim", torch.tensor([2.0, 1.0], dtype=torch.float64)))
