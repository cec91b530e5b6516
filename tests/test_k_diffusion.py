"""sample_s4s: k-diffusion's signature, our samples."""

from dataclasses import replace

import pytest
import torch

import s4s
from s4s import S4SError
from s4s.export import read_tableaux, sample_s4s, sigmas_of
from s4s.export.collection import restarted
from s4s.models.embedded.mixture import MixtureDenoiser

LEVELS = torch.tensor([20.0, 6.0, 2.0, 0.7, 0.05], dtype=torch.float64)
MODEL = MixtureDenoiser(torch.tensor([[1.0, -1.0], [-0.5, 2.0]]).double(), torch.tensor([0.4, 0.6]).double(), std=0.3)


def other_conditioning(levels):
    tableau = s4s.solver("unipc", levels, order=3)
    return replace(tableau, eval_levels=tableau.eval_levels * torch.tensor([0.9, 1.1, 1.0, 0.95]).double(), kappa=0.8)


TABLEAUX = {
    "dpmpp": lambda levels: s4s.solver("dpmpp", levels, order=3),
    "heun": lambda levels: s4s.solver("heun", levels),
    "to zero": lambda levels: s4s.solver("unipc", torch.cat([levels, levels.new_zeros(1)]), order=2),
    "other conditioning": other_conditioning,
}


def wrapped(flow, calls=None):
    """The model as k-diffusion's wrappers present it: sigma for each row, extra arguments by name."""

    def model(x, sigma, *, shift):
        assert sigma.shape == x.shape[:1]
        if calls is not None:
            calls.append(float(sigma[0]))
        s = sigma / (1 - sigma) if flow else sigma
        return MODEL(x * (1 + s[:, None]) if flow else x, s) + shift

    return model


def start(tableau):
    return torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * tableau.levels[0]


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("make", TABLEAUX.values(), ids=TABLEAUX)
def test_samples_are_ours(tmp_path, make, flow):
    tableau = make(LEVELS)
    tableau.save(tmp_path / "nfe.json")
    y, calls, seen = start(tableau), [], []
    sigmas = sigmas_of(tableau, flow)
    factors = 1 / (1 + tableau.levels) if flow else torch.ones_like(tableau.levels)
    found = sample_s4s(
        wrapped(flow, calls), y * factors[0], sigmas, {"shift": 0.25}, seen.append, True, tableau=tmp_path, flow=flow
    )
    expected = s4s.sampling.run(lambda y, s, _: MODEL(y, s) + 0.25, y, tableau)
    assert torch.allclose(found, expected * factors[-1], rtol=1e-9, atol=1e-12)
    times = tableau.eval_levels / (1 + tableau.eval_levels) if flow else tableau.eval_levels
    assert calls == pytest.approx(times.tolist())
    assert [info["i"] for info in seen] == list(range(tableau.nfe))
    assert torch.equal(torch.stack([info["sigma"] for info in seen]), sigmas[:-1])
    assert torch.allclose(seen[0]["x"], y * factors[0]) and all("denoised" in info for info in seen)


def test_half_precision_holds_states_of_high_levels():
    """States y = x/alpha of a solver for flow matching may be beyond what half precision can hold."""
    levels = torch.cat([torch.tensor([5e4]), LEVELS])
    tableau = s4s.solver("dpmpp", levels, order=2)
    x = start(tableau) / (1 + levels[0])
    asked = []

    def model(x, sigma):
        asked.append((x.dtype, sigma.dtype))
        return torch.tanh(x)

    arguments = {"sigmas": sigmas_of(tableau, flow=True), "tableau": tableau, "flow": True, "disable": True}
    found = sample_s4s(model, x.half(), **arguments)
    assert set(asked) == {(torch.float16, torch.float16)} and found.dtype == torch.float16
    assert torch.allclose(found.double(), sample_s4s(model, x, **arguments), atol=1e-2)


@pytest.mark.parametrize("flow", [False, True])
def test_single_precision_costs_no_more_than_its_rounding(flow):
    tableau = TABLEAUX["other conditioning"](LEVELS)
    factors = 1 / (1 + LEVELS) if flow else torch.ones_like(LEVELS)
    x, outputs = (start(tableau) * factors[0]).float(), []
    arguments = {"tableau": tableau, "flow": flow, "disable": True}
    found = sample_s4s(wrapped(flow), x, sigmas_of(tableau, flow), {"shift": 0.0}, outputs.append, **arguments)
    assert torch.allclose(found.double(), s4s.sample(MODEL, start(tableau), tableau) * factors[-1], atol=1e-5)
    time = tableau.eval_levels[0] / (1 + tableau.eval_levels[0]) if flow else tableau.eval_levels[0]
    scaled = outputs[0]["x"] * 0.8 * ((1 + LEVELS[0]) / (1 + tableau.eval_levels[0]) if flow else 1)
    assert torch.allclose(outputs[0]["denoised"], wrapped(flow)(scaled, time.expand(5).to(scaled.dtype), shift=0.0), atol=1e-5)


@pytest.mark.parametrize("flow", [False, True])
def test_the_last_sigmas_begin_in_the_middle(flow):
    tableau = TABLEAUX["other conditioning"](LEVELS)
    y = start(tableau) / 10
    factors = 1 / (1 + LEVELS) if flow else torch.ones_like(LEVELS)
    sigmas = sigmas_of(tableau, flow)[2:]
    found = sample_s4s(wrapped(flow), y * factors[2], sigmas, {"shift": 0.0}, tableau=tableau, flow=flow, disable=True)
    expected = s4s.sampling.run(lambda y, s, _: MODEL(y, s), y, restarted(LEVELS[2:]))
    assert torch.allclose(found, expected * factors[-1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("make", [TABLEAUX["dpmpp"], TABLEAUX["other conditioning"]], ids=["dpmpp", "other conditioning"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_first_sigmas_make_the_first_steps(make, steps, flow):
    """The high half of split sigmas: the state between two steps, which the low half goes on from."""
    tableau, states = make(LEVELS), []
    y, factors = start(tableau), 1 / (1 + LEVELS) if flow else torch.ones_like(LEVELS)
    s4s.sampling.run(lambda y, s, _: MODEL(y, s), y, tableau, None, lambda n, y, _: states.append(y.clone()))
    sigmas = sigmas_of(tableau, flow)[: steps + 1]
    found = sample_s4s(wrapped(flow), y * factors[0], sigmas, {"shift": 0.0}, tableau=tableau, flow=flow, disable=True)
    assert torch.allclose(found, states[steps] * factors[steps], rtol=1e-9, atol=1e-12)


def test_sigmas_from_the_middle_may_stop_before_the_end(caplog):
    """As a start_at_step and an end_at_step do; a warning says what runs, as in diffusers."""
    tableau, y, states = TABLEAUX["other conditioning"](LEVELS), start(TABLEAUX["dpmpp"](LEVELS)) / 10, []
    found = sample_s4s(wrapped(False), y, sigmas_of(tableau)[1:3], {"shift": 0.0}, tableau=tableau, disable=True)
    s4s.sampling.run(lambda y, s, _: MODEL(y, s), y, restarted(LEVELS[1:]), None, lambda n, y, _: states.append(y.clone()))
    assert torch.allclose(found, states[1], rtol=1e-9, atol=1e-12)
    assert [record.getMessage()[:33] for record in caplog.records] == ["The run begins at step 2 of 4. A "]


def test_a_run_stops_only_where_there_is_a_state():
    """Heun's method has one at every other level; between them is a stage."""
    levels = torch.tensor([20.0, 6.0, 2.0, 0.7, 0.05], dtype=torch.float64)
    tableau, x = s4s.solver("heun", levels), torch.zeros(1, 2)
    half = sample_s4s(wrapped(False), x + levels[0], sigmas_of(tableau)[:3], {"shift": 0.0}, tableau=tableau, disable=True)
    assert half.isfinite().all()
    for steps in (1, 3):
        with pytest.raises(
            S4SError, match=f"^no run can stop after {steps} of the 4 steps of this solver, .*; stop after 2, or"
        ):
            sample_s4s(wrapped(False), x, sigmas_of(tableau)[: steps + 1], tableau=tableau)


@pytest.mark.parametrize(
    "given",
    [list, tuple, torch.Tensor.numpy, torch.Tensor.double, torch.Tensor.bfloat16, torch.Tensor.half, lambda s: [*s]],
    ids=["list", "tuple", "numpy", "float64", "bfloat16", "float16", "list of tensors"],
)
def test_sigmas_may_be_any_list(given):
    tableau = TABLEAUX["dpmpp"](LEVELS)
    noise, own = start(tableau) / LEVELS[0], sigmas_of(tableau)
    sigmas = given(own.tolist()) if given in (list, tuple) else given(own)
    found = sample_s4s(wrapped(False), noise * float(sigmas[0]), sigmas, {"shift": 0.0}, tableau=tableau, disable=True)
    assert torch.allclose(found, s4s.sample(MODEL, noise * LEVELS[0], tableau), rtol=1e-6)


@pytest.mark.parametrize("form", ["as_json", "list", "found", "file"])
def test_a_solver_may_come_in_any_form(form, tmp_path):
    tableau = TABLEAUX["dpmpp"](LEVELS)
    tableau.save(tmp_path / "nfe.json")
    forms = {"as_json": tableau.as_json(), "list": [tableau.as_json()], "file": tmp_path / "nfe.json"}
    given = read_tableaux(tableau) if form == "found" else forms[form]
    arguments = {"extra_args": {"shift": 0.0}, "disable": True}
    found = sample_s4s(wrapped(False), start(tableau), sigmas_of(given), tableau=given, **arguments)
    assert torch.equal(found, sample_s4s(wrapped(False), start(tableau), sigmas_of(tableau), tableau=tableau, **arguments))


@pytest.mark.parametrize(
    "given", [5, None, b"nfe.json", object(), torch.zeros(3), [5], '{"format": "s4s-tableau/1"}', {}, {5: 3}]
)
def test_what_is_no_solver_is_said_in_one_line(given):
    with pytest.raises(S4SError, match=r"no tableau given|^tableau: ") as error:
        read_tableaux(given)
    assert "Traceback" not in str(error.value) and len(str(error.value).splitlines()[0]) < 250


def test_sigmas_may_be_rounded():
    """The noise is then brought to the solver's own level."""
    tableau = TABLEAUX["other conditioning"](LEVELS)
    sigmas, noise = sigmas_of(tableau) * 1.0005, start(tableau) / LEVELS[0]
    found = sample_s4s(wrapped(False), noise * sigmas[0].double(), sigmas, {"shift": 0.0}, tableau=tableau, disable=True)
    assert torch.allclose(found, s4s.sample(MODEL, noise * LEVELS[0], tableau), rtol=1e-6)


def test_a_solver_of_another_path_is_refused():
    tableau = TABLEAUX["dpmpp"](LEVELS).with_meta(parametrisation={"path": "vp_discrete", "prediction": "epsilon"})
    with pytest.raises(S4SError, match="made for a network with path vp_discrete, but flow=True is for one with path flow"):
        sample_s4s(wrapped(True), torch.zeros(1, 2), sigmas_of(tableau, True), tableau=tableau, flow=True)


@pytest.mark.parametrize(
    ("given", "sigmas", "message"),
    [
        (None, LEVELS, "sample_s4s needs a solver"),
        (TABLEAUX["dpmpp"](LEVELS), LEVELS * 1.1, "sigmas are 22, .* but the solver is fitted to 20, "),
        (
            TABLEAUX["dpmpp"](LEVELS),
            torch.linspace(20, 1, 9),
            "no solver for 8 steps; there are solvers for 4: take sigmas from",
        ),
        (TABLEAUX["dpmpp"](LEVELS), LEVELS[:1], "at least 2 levels"),
        (TABLEAUX["dpmpp"](LEVELS), "20, 6", "sigmas must be a list of numbers, got '20, 6'"),
        (TABLEAUX["dpmpp"](LEVELS), None, "sigmas must be a list of numbers, got None"),
        (TABLEAUX["dpmpp"](LEVELS), LEVELS[None], "sigmas must be a list of numbers, got tensor"),
        (TABLEAUX["dpmpp"](LEVELS), [20.0, float("nan")], "sigmas must be finite numbers, got"),
        ([TABLEAUX["dpmpp"](LEVELS), 7], LEVELS, "no tableau given but 7; give a tableau, its JSON form, its file, a folder"),
    ],
)
def test_wrong_input_is_refused(given, sigmas, message):
    with pytest.raises(S4SError, match=message):
        sample_s4s(wrapped(False), torch.zeros(1, 2), sigmas, tableau=given)
