"""NeuralSolver's published sets as tableaux: its own loop's final states, what its files may be, and the files that ship.

GOLDEN was made once with its code (src/diffusion/flow_matching/ns_sampling.py, commit 7188794, which is not part of this
repository): torch's default type float64, NeuralSolverSampler(num_steps=N, null_class=0, guidance_fn=simple_guidance_fn,
guidance=1.375) on `network` from `NOISE` with labels 1; for FM_DATA_SIT with that set of t2i_vis/fm_scheduling.py in place of
its own. With 15 steps, which do not ship, the real file's solver met the loop to 2e-12 too. The class for diffusers,
NeuralSolver of t2i_vis, differed by 4e-8 from the loop, for its tables are float32.
"""

import pytest
import torch

import s4s
from s4s import S4SError
from s4s.export.zoo import neural_solver
from s4s.files.shipped import shipped
from s4s.models.load import Outline
from s4s.models.paths import FlowMatching, InvertedFlow, VPLinear
from s4s.models.provenance import check
from s4s.sampling import run

# set -> steps -> the first two numbers of each of three final states
GOLDEN = {
    "FM_DATA": {
        5: [
            [1.8440484164876567, 0.4392155721175528],
            [-0.7967654604671213, -0.51917372735378],
            [-0.41125651536230157, 0.4285944942682717],
        ],
        6: [
            [1.8483638410723602, 0.43530145977359025],
            [-0.8093169011111266, -0.566547876305377],
            [-0.4736626286758535, 0.35591450133705066],
        ],
        7: [
            [1.8488466060290376, 0.43077334020523356],
            [-0.819831247286947, -0.610513060948074],
            [-0.5248403027931544, 0.2949600220678923],
        ],
        8: [
            [1.8469188251655702, 0.42954124365909957],
            [-0.8214378411166651, -0.6205287223453447],
            [-0.530426231218998, 0.28767683954573475],
        ],
        9: [
            [1.849752186174161, 0.42847389851336387],
            [-0.8241459276899631, -0.6331741821777023],
            [-0.5504959864653474, 0.28311405547150315],
        ],
        10: [
            [1.8462517061497303, 0.42682988976238617],
            [-0.8193558294020828, -0.6410489740920305],
            [-0.5543609524312164, 0.27829925980564973],
        ],
    },
    "FM_DATA_SIT": {
        5: [
            [1.8421389841381084, 0.44074786711911373],
            [-0.7947728136750757, -0.509487911343355],
            [-0.38777229517524264, 0.45589855869116624],
        ],
        6: [
            [1.844430984798492, 0.43240862161668814],
            [-0.8121500417360223, -0.5891043426891078],
            [-0.4910519973966353, 0.3468514974941093],
        ],
        7: [
            [1.8603667196593796, 0.42874685272593077],
            [-0.8283748813331187, -0.6500026019427395],
            [-0.583537258189332, 0.2592409363995143],
        ],
        8: [
            [1.846039716780543, 0.42588811190802145],
            [-0.820191828303864, -0.64992291970441],
            [-0.5642987659229374, 0.27267421459992075],
        ],
        9: [
            [1.8635867296836648, 0.42773399684645097],
            [-0.829102340710706, -0.6630280622872724],
            [-0.6065474206432823, 0.24177371518075755],
        ],
        10: [
            [1.8647419543170989, 0.42758174462835447],
            [-0.8296531622330116, -0.663423066833013],
            [-0.6133064561470465, 0.2417537686989003],
        ],
    },
}
INDEX = torch.arange(4, dtype=torch.float64)
MATRIX = torch.sin(1 + INDEX[:, None] * 1.7 + INDEX[None, :] * 0.9)
NOISE = torch.cos(2.0 * torch.arange(12, dtype=torch.float64)).reshape(3, 4) * 1.3
FLOW = Outline("flow", 0.002, 999.0, FlowMatching())


def network(x, t, labels):
    """u(x, t) in the time of data."""
    return torch.tanh(x @ MATRIX + torch.sin(3 * t)[:, None] + 0.4 * labels[:, None]) - 0.5 * x * t[:, None]


def denoiser(y, s, condition=None):
    """The network's, with guidance 1.375."""
    t = torch.full((len(y),), 1 / (1 + s), dtype=torch.float64)
    x = y * t[:, None]
    without, with_it = (network(x, t, torch.full_like(t, label)) for label in (0.0, 1.0))
    return x + (1 - t[:, None]) * (without + 1.375 * (with_it - without))


def shipped_tableaux(folder):
    return [s4s.Tableau.load(path) for path in sorted(shipped(f"resources/zoo/{folder}").glob("nfe~*.json"))]


SOURCE = """
from somewhere import FlowMatchEulerDiscreteScheduler
raise SystemExit("nothing of this may run")

FM_DATA_DCN = dict(
    step5=dict(
        timedeltas=[0.0521, 0.1475, 0.2114, 0.2797, 0.3092],
        coeffs=[[ 0.0000,  0.0000,  0.0000,  0.0000,  0.0000],
        [-1.2600,  0.0000,  0.0000,  0.0000,  0.0000],
        [ 1.3800, -2.2600,  0.0000,  0.0000,  0.0000],
        [ 0.0000,  0.0000, -0.9200,  0.0000,  0.0000],
        [ 0.0000,  0.0000,  0.0000, -0.7000,  0.0000]]
    ),
)
FM_DATA_SIT = dict(
    step5=dict(
        timedeltas=[0.0424, 0.1225, 0.2144, 0.3073, 0.3135],
        coeffs=[[ 0.0000,  0.0000,  0.0000,  0.0000,  0.0000],
        [-1.1700,  0.0000,  0.0000,  0.0000,  0.0000],
        [ 1.0700, -1.8300,  0.0000,  0.0000,  0.0000],
        [ 0.0000,  0.0000, -0.9300,  0.0000,  0.0000],
        [ 0.0000,  0.0000,  0.0000, -0.7100,  0.0000]]
    ),
    step6=dict(
        timedeltas=[0.0389, 0.0976, 0.1610, 0.2046, 0.2762, 0.2217],
        coeffs=[[ 0.0000,  0.0000,  0.0000,  0.0000,  0.0000,  0.0000],
        [-1.0400,  0.0000,  0.0000,  0.0000,  0.0000,  0.0000],
        [ 1.6200, -2.9800,  0.0000,  0.0000,  0.0000,  0.0000],
        [-1.3200,  2.5200, -2.0400,  0.0000,  0.0000,  0.0000],
        [ 0.0000,  0.0000,  0.0000, -0.7600,  0.0000,  0.0000],
        [ 0.0000,  0.0000,  0.0000,  0.0000, -0.6600,  0.0000]]
    ),
)
FM_DATA = FM_DATA_SIT
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "fm_scheduling.py"
    path.write_text(SOURCE)
    return path


def met(tableau, name):
    """Whether its final states are those of the authors' loop."""
    end = run(denoiser, NOISE * tableau.levels[0], tableau)[:, :2]
    return torch.allclose(end, torch.tensor(GOLDEN[name][tableau.nfe], dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("s_max", [40.0, 80.0, 999.0])
def test_a_published_solver_is_its_authors_loop(source, s_max):
    """Whatever the model's highest level: the network sees the noise itself at time 0."""
    for path in (FlowMatching(), InvertedFlow()):
        model = Outline("mine", 0.002, s_max, path)
        for name, golden in (("FM_DATA_DCN", "FM_DATA"), ("FM_DATA_SIT", "FM_DATA_SIT")):
            found = neural_solver.read(source, model, pick=name)
            assert [tableau.nfe for tableau in found] == {"FM_DATA_DCN": [5], "FM_DATA_SIT": [5, 6]}[name]
            assert all(met(tableau, golden) and tableau.meta["set"] == name for tableau in found)
            for tableau in found:
                check(tableau, model, "this model")


@pytest.mark.parametrize(("folder", "name"), [("neuralsolver-flowdcn-b2", "FM_DATA"), ("neuralsolver-sit-xl2", "FM_DATA_SIT")])
def test_the_files_that_ship_are_the_authors_loop(folder, name):
    found = shipped_tableaux(folder)
    assert sorted(tableau.nfe for tableau in found) == [5, 6, 7, 8, 9, 10]
    for tableau in found:
        assert met(tableau, name), tableau.nfe
        assert {**tableau.meta, **neural_solver.SOURCE.meta()} == tableau.meta
        assert tableau.meta["fitted_for"] == neural_solver.FITTED_FOR[name] and tableau.meta["guidance"] == 1
        check(tableau, FLOW._replace(parametrisation={"path": "flow", "prediction": "flow"}), "a flow")
        with pytest.raises(S4SError, match="path"):
            check(tableau, FLOW._replace(parametrisation={"path": "vp_linear"}), "another")


def test_a_pipeline_starts_from_unit_noise_with_them():
    """As pipelines of rectified flow do: the first input is the noise itself."""
    for tableau in shipped_tableaux("neuralsolver-sit-xl2"):
        first = FlowMatching().alpha_of_s(tableau.eval_levels[0]) * tableau.kappa * tableau.levels[0]
        assert abs(float(first) - 1) < 1e-12


def test_solvers_beyond_the_models_levels_are_left_out(source):
    model = FLOW._replace(s_max=25.0)  # the first steps lead to levels 22.6 and 24.7
    assert [tableau.nfe for tableau in neural_solver.read(source, model, pick="FM_DATA_SIT")] == [5, 6]
    assert [tableau.nfe for tableau in neural_solver.read(source, model._replace(s_max=24.0), pick="FM_DATA_SIT")] == [5]
    with pytest.raises(S4SError, match="FM_DATA_SIT has no solver within the levels of model flow, up to 20"):
        neural_solver.read(source, model._replace(s_max=20.0), pick="FM_DATA_SIT")


def test_what_it_looks_like(source, tmp_path):
    assert neural_solver.looks_like(source)
    for name, content in (("a.txt", SOURCE), ("b.py", "timedeltas = coeffs = 1"), ("c.py", SOURCE + "#" * (1 << 18))):
        (tmp_path / name).write_text(content)
        assert not neural_solver.looks_like(tmp_path / name), name


def test_a_set_is_picked_and_the_path_is_flow(source):
    with pytest.raises(S4SError, match="has the sets FM_DATA_DCN, FM_DATA_SIT; pick one"):
        neural_solver.read(source, FLOW)
    with pytest.raises(S4SError, match="no set 'SIT'; there are FM_DATA_DCN, FM_DATA_SIT"):
        neural_solver.read(source, FLOW, pick="SIT")
    with pytest.raises(S4SError, match="model flow has the path vp_linear"):
        neural_solver.read(source, FLOW._replace(path=VPLinear()), pick="FM_DATA_SIT")


SOLVER = "FM_DATA = dict(step2=dict(timedeltas=[{}], coeffs=[{}]))"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def f(:", "no Python source"),
        ("(" * 5000, "no Python source"),
        ("\0", "no Python source"),
        ("x = 1", "no searched solver of rectified flow in it"),
        ("DDPM_DATA = dict(step5=dict())", "no searched solver of rectified flow in it"),
        ("FM_DATA = dict()", "no searched solver of rectified flow in it"),
        ("FM_DATA = dict(step2=dict(timedeltas=open('x'), coeffs=[]))", "line 1 is no dict"),
        ("FM_DATA = dict(step2=__import__('os'))", "line 1 is no dict"),
        ("FM_DATA = dict(**{'a': 1})", "line 1 is no dict"),
        ("FM_DATA = dict(step2=" + "-" * 2000 + "1)", "line 1 is no dict|no Python source"),
        ("FM_DATA = dict(step2=[1.0])", "FM_DATA, step2: needs timedeltas and coeffs"),
        (SOLVER.format("0.5, 0.5", "[0, 0], [0]"), "needs timedeltas and coeffs"),
        (SOLVER.format("0.5, 0.5", "[0, 0], [1e999, 0]"), "is no dict"),
        (SOLVER.format("0.5, 0.5", "[0, 1], [0, 0]"), "0 from the diagonal on"),
        (SOLVER.format("0.5, 0.5", "[0, 0, 0], [0, 0, 0]"), "N x N finite coeffs"),
        (SOLVER.format("1.0", "[0]"), "2 to 64"),
        (SOLVER.format("0.5, 0.4", "[0, 0], [0, 0]"), "sum up to 1"),
        (SOLVER.format("1.5, -0.5", "[0, 0], [0, 0]"), "above 0 and sum up to 1"),
        (SOLVER.format("1.0, 0.0001", "[0, 0], [0, 0]"), "above 0 and sum up to 1"),
        ("#" * (1 << 18) + SOLVER, "262,144 bytes"),
    ],
)
def test_other_content_is_refused(tmp_path, content, message):
    path = tmp_path / "source.py"
    path.write_text(content)
    with pytest.raises(S4SError, match=message):
        neural_solver.read(path, FLOW)
    with pytest.raises(S4SError, match="cannot be read"):
        neural_solver.read(tmp_path / "none.py", FLOW)
