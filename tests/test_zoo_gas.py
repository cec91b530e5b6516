"""GAS's checkpoints as tableaux: its own loop's final states, and what its files may be.

GOLDEN was made once with its code (src/gas/gs_wrapper.py and generalized_solver.py, commit f090ede, which is not part of this
repository): torch's default type float64; GSWrapper (loss GS, order = steps, mu_logit, use_theory_coef, t_eps 1e-3) loaded
`parameters` from a file as below and sampled from NOISE; its x was divided by alpha at t_eps. "edm": its model_wrapper of type
x_start on NoiseScheduleVP("linear") with `denoised` as EDMModel calls a network; "table": of type noise with guidance 2 on
NoiseScheduleVP("discrete") of Stable Diffusion's betas, whose float32 numbers were made anew in float64, with `noise`.
"""

import math

import pytest
import torch

import s4s
from s4s import S4SError
from s4s.export.zoo import gas
from s4s.models.load import Outline
from s4s.models.paths import FlowMatching, VPDiscrete, VPLinear
from s4s.models.provenance import check
from s4s.sampling import run

# path -> steps -> the first two numbers of each of three final states
GOLDEN = {
    "edm": {
        2: [
            [1.8012652628974455, 0.5965314410504365],
            [-1.0568342418520904, -1.3625463182232411],
            [-1.187250810151647, -0.17215486976750713],
        ],
        3: [
            [3.7201155052669796, -0.1595752723439005],
            [-1.2057894807395597, -3.429658163807635],
            [-3.0982058297552, 0.9698403091521368],
        ],
        5: [
            [4.633831534253046, -0.30070135773661144],
            [-1.426466339059321, -3.9246100046102024],
            [-4.093774462690951, 1.1970147501780366],
        ],
        6: [
            [4.530750453778215, -0.6312447590741262],
            [-1.2579633075021446, -4.034880877604206],
            [-4.302727495382883, 1.5328955992625202],
        ],
    },
    "table": {
        2: [
            [-4.149151981015528, -18.524232107686114],
            [1.4392118412536583, -10.449114668924455],
            [-5.984694023703903, 12.527179644017194],
        ],
        3: [
            [-3.5342168085973427, -17.153751756901265],
            [3.2020701773997864, -8.5093808125682],
            [-6.036396226295085, 11.673522519309953],
        ],
        5: [
            [-4.0101651287508835, -19.685005177141907],
            [2.239238772431679, -11.542492081271606],
            [-7.138513570613594, 13.534717668527612],
        ],
        6: [
            [-1.1469091986663313, -6.52423810691219],
            [3.892231925832813, -4.220878372929805],
            [-3.5217582925433097, 4.6755827904170575],
        ],
    },
}
INDEX = torch.arange(4, dtype=torch.float64)
MATRIX = torch.sin(1 + INDEX[:, None] * 1.7 + INDEX[None, :] * 0.9)
NOISE = torch.cos(2.0 * torch.arange(12, dtype=torch.float64)).reshape(3, 4) * 1.3
TABLE = VPDiscrete.scaled_linear()
MODELS = {
    "edm": Outline("edm", 0.002, 160.0, VPLinear(), {"path": "edm", "sigma_data": 0.5, "prediction": "edm"}),
    "table": Outline("table", *TABLE.ends, TABLE, {**TABLE.description(), "prediction": "epsilon"}),
}


def denoised(y, s):
    """D of the network on EDM's levels."""
    return y / (1 + s**2) + s**2 / (1 + s**2) * torch.tanh(y / math.sqrt(1 + s**2) @ MATRIX + math.log(s) / 4)


def noise(x, k, label):
    """e of the network on the table, at entry k."""
    return torch.tanh(x @ MATRIX + torch.sin(3 * k / 1000)) + 0.3 * x + 0.2 * label


def on_table(y, s):
    level = torch.tensor(s, dtype=torch.float64)
    x, k = TABLE.from_ys(y, level)
    without, with_it = noise(x, k, 0.0), noise(x, k, 1.0)
    return y - s * (without + 2.0 * (with_it - without))


NETWORKS = {
    "edm": lambda y, s, condition: denoised(y, s),
    "table": lambda y, s, condition: on_table(y, s),
}


def parameters(n):
    i = torch.arange(n, dtype=torch.float64)
    found = [0.5 + 0.4 * torch.sin(i[1:]), 0.004 * torch.sin(2 * i + 1)]
    for k in range(1, n + 1):
        found += [0.02 * torch.sin(3 * i + k), 0.03 * torch.cos(i - 2 * k)]
    return found


def saved(path, tensors):
    ema = {"decay": 0.999, "num_updates": 3, "shadow_params": tensors, "collected_params": None}
    model = [torch.nn.Parameter(values) for values in tensors]
    torch.save({"ema": ema, "model": model, "optim": {"state": {}, "param_groups": [{"lr": 1e-3}]}, "step": 10000}, path)
    return path


@pytest.mark.parametrize("steps", [2, 3, 5, 6])
@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_is_its_authors_loop(tmp_path, name, steps):
    (tableau,) = gas.read(saved(tmp_path / "10000.pt", parameters(steps)), MODELS[name])
    end = run(NETWORKS[name], NOISE * tableau.levels[0], tableau)[:, :2]
    assert torch.allclose(end, torch.tensor(GOLDEN[name][steps], dtype=torch.float64), rtol=0, atol=1e-10)
    assert tableau.nfe == steps and tableau.levels[0] == MODELS[name].s_max
    check(tableau, MODELS[name], "this model")
    if name == "table":
        assert tableau.levels[-1] == MODELS[name].s_min
    with pytest.raises(S4SError, match="path"):
        check(tableau.with_meta(parametrisation={"path": "flow"}), MODELS[name], "another")


def test_without_changes_it_is_dpm_solver_pp(tmp_path):
    """The multistep solver of order 3 at its own times, in float64; of order 2 its first two steps."""
    tensors = [torch.zeros_like(values) for values in parameters(5)]
    tensors[0] = parameters(5)[0]
    (tableau,) = gas.read(saved(tmp_path / "1.pt", tensors), MODELS["edm"])
    first = VPLinear().s_of_t(torch.ones(1, dtype=torch.float64))
    plain = s4s.solver("dpmpp", torch.cat([first, tableau.levels[1:]]), order=3)
    y = NOISE * tableau.levels[0]
    expected = run(NETWORKS["edm"], NOISE * (1 + first**2).sqrt(), plain)
    assert torch.allclose(run(NETWORKS["edm"], y, tableau), expected, rtol=1e-9, atol=1e-9)


def test_the_models_highest_level_does_not_matter_to_what_is_fed(tmp_path):
    path = saved(tmp_path / "10000.pt", parameters(5))
    ends = []
    for s_max in (140.0, 160.0):
        (tableau,) = gas.read(path, MODELS["edm"]._replace(s_max=s_max), guidance=2.0)
        assert tableau.meta["guidance"] == 2
        ends.append(run(NETWORKS["edm"], NOISE * s_max, tableau))
    assert torch.allclose(*ends, rtol=1e-12, atol=1e-12)
    with pytest.raises(
        S4SError, match=r"its second level, .* is at or above the highest of model edm, 20: set s_max to .* 152.167"
    ):
        gas.read(path, MODELS["edm"]._replace(s_max=20.0))


def test_what_it_looks_like(tmp_path):
    assert gas.looks_like(saved(tmp_path / "10000.pt", parameters(4)))
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    assert not gas.looks_like(tmp_path / "other.pt")
    assert not gas.looks_like(saved(tmp_path / "10000.pkl", parameters(4)))


def test_other_paths_are_refused(tmp_path):
    path = saved(tmp_path / "10000.pt", parameters(4))
    for other in (FlowMatching(), VPLinear(0.1, 10.0)):
        with pytest.raises(S4SError, match=f"model edm has the path {other.kind}; take a solver for that"):
            gas.read(path, MODELS["edm"]._replace(path=other))
    with pytest.raises(S4SError, match="t_eps must be between 0 and 1"):
        gas.read(path, MODELS["edm"], t_eps=1.0)


def changed(at, value):
    found = parameters(4)
    found[at] = value
    return found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1.0], "needs ema: shadow_params"),
        ({"ema": {}}, "needs ema: shadow_params"),
        ({"ema": {"shadow_params": 3}}, "needs ema: shadow_params"),
        ({"ema": {"shadow_params": []}}, "of N steps it has"),
        ({"ema": {"shadow_params": ["abc", "abcd"]}}, "of N steps it has"),
        ({"ema": {"shadow_params": parameters(4)[:-1]}}, "of N steps it has"),
        ({"ema": {"shadow_params": [*parameters(4), *parameters(4)[-2:]]}}, "of N steps it has"),
        ({"ema": {"shadow_params": changed(3, torch.zeros(5))}}, "of N steps it has"),
        ({"ema": {"shadow_params": changed(3, torch.zeros(4, dtype=torch.int64))}}, "of N steps it has"),
        ({"ema": {"shadow_params": changed(3, torch.full((4,), math.nan))}}, "not finite"),
        ({"ema": {"shadow_params": parameters(65)}}, "of N steps it has"),
        (print, "refused: it asks for|not a file of torch"),
    ],
)  # fmt: skip
def test_other_content_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "10000.pt")
    with pytest.raises(S4SError, match=message):
        gas.read(tmp_path / "10000.pt", MODELS["edm"])


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "large.pt").write_bytes(bytes(gas.BYTES + 1))
    for name, message in (("empty.pt", "not a file of torch"), ("large.pt", "4,194,304 bytes"), ("none.pt", "cannot be read")):
        with pytest.raises(S4SError, match=message):
            gas.read(tmp_path / name, MODELS["edm"])
