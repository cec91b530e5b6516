"""Held against LD3's own samplers (tests/ld3_golden.py), and directions at other conditioning levels than the nodes'."""

import json
import re
import shutil
import sys

import pytest
import torch

import s4s
from s4s import S4SError
from s4s.cli.convert import convert
from s4s.learning.families import make_family
from s4s.learning.parameters import Parameters
from s4s.models.load import Outline, load_outline
from s4s.models.paths import VE, FlowMatching, VPCosine, VPDiscrete, VPLinear
from s4s.models.provenance import check
from s4s.sampling import run
from s4s.schedules.imported import read_schedule
from s4s.solvers import SOLVERS
from s4s.solvers.as_ld3 import as_ld3
from s4s.solvers.conditioning import conditioned
from s4s.tableau import Tableau
from tests import ld3_golden as ld3

STABLE = VPDiscrete.scaled_linear()
GOLDEN = json.loads(ld3.GOLDEN.read_text())
DOUBLE = torch.float64


def levels_of(kind, times):
    times = torch.tensor(times, dtype=DOUBLE)
    return times if kind == "ve" else STABLE.s_of_t(1000 * times - 1)


def end_of(kind, tableau):
    """What a tableau makes of the golden file's start, x = y/alpha of unit noise on the table."""
    first = tableau.levels[0]
    start = torch.tensor(ld3.START, dtype=DOUBLE) * (first if kind == "ve" else 1 / STABLE.alpha_of_s(first))
    return run(lambda y, s, _: ld3.denoised(y, torch.as_tensor(s, dtype=DOUBLE)), start, tableau)


def close(ours, theirs, tolerance=1e-11):
    return torch.allclose(ours, torch.tensor(theirs, dtype=DOUBLE), rtol=0, atol=tolerance)


@pytest.mark.parametrize("which", ["one", "two"])
@pytest.mark.parametrize("nfe", ld3.NFES)
@pytest.mark.parametrize("kind", ["ve", "vp"])
def test_every_sampler_of_ld3_is_a_tableau(kind, nfe, which):
    """Its results to 1e-11: with levels alone, and with a second list for the conditioning levels."""
    entry = GOLDEN[f"{kind}-{nfe}"]
    levels = levels_of(kind, entry["first"])
    conditioning = levels_of(kind, entry["second"])[:-1] if which == "two" else None
    assert len(entry[which]) >= 11
    for name, theirs in entry[which].items():
        solver, order, variant = ld3.SOLVERS[name]
        made = as_ld3(solver, levels, conditioning, None if kind == "ve" else STABLE, order, variant)
        assert close(end_of(kind, made), theirs), name


def test_the_defaults_are_those_of_its_configs():
    levels = torch.tensor([14.0, 5.0, 2.0, 0.5, 0.1], dtype=DOUBLE)
    for path, variant in ((None, "bh1"), (STABLE, "bh2")):
        options = {"order": 3, "lower_order_final": True, "variant": variant}
        assert as_ld3("unipc", levels, path=path).meta["options"] == options
    assert as_ld3("dpmpp", levels).meta["options"] == {"order": 3, "lower_order_final": True}
    assert as_ld3("ipndm", levels).meta["options"] == {"order": 3}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("heun", {}, r"LD3 has no sampler heun .*; take unipc \(its uni_pc\), .* ddim \(its euler\)"),
        ("deis", {}, "LD3 has no sampler deis"),
        ("dpm2", {}, "LD3 has no sampler dpm2"),
        ("ddim", {"path": STABLE}, "LD3's euler on a path with times .* which no tableau repeats; take dpmpp"),
        ("ddim", {"order": 2}, "LD3's euler is of order 1, not 2"),
        ("ipndm", {"variant": "bh1"}, "LD3's ipndm has no variants; leave out bh1"),
        ("dpmpp", {"variant": "heun"}, r"LD3's dpm_solver\+\+ has no variants; leave out heun"),
        ("unipc", {"variant": "bh3"}, "variant must be one of bh1, bh2, got 'bh3'"),
        ("unipc", {"order": 4}, "order must be one of 1, 2, 3, got 4"),
    ],
)
def test_what_is_none_of_its_samplers_is_refused(kind, options, message):
    levels = torch.tensor([80.0, 10.0, 2.0, 0.5, 0.002], dtype=DOUBLE)
    with pytest.raises(S4SError, match=message):
        as_ld3(kind, levels, levels[:-1] * 0.99, **options)


# Family ld3


@pytest.mark.parametrize("nfe", [3, 5, 10])
@pytest.mark.parametrize("name", ["ipndm-2", "ipndm-3", "unipc-3-bh1", "dpmpp-2"])
def test_family_ld3_is_ld3s_sampler_on_its_two_lists(mixture, name, nfe):
    """On EDM's networks, from the base that has LD3's options."""
    solver, order, variant = ld3.SOLVERS[name]
    entry = GOLDEN[f"ve-{nfe}"]
    levels, conditioning = (levels_of("ve", entry[which]) for which in ("first", "second"))
    lower = {} if solver == "ipndm" else {"lower_order_final": True}
    base = s4s.solver(solver, levels, order=order, **lower, **({"variant": variant} if variant else {}))
    made = Parameters(make_family("ld3", base, mixture.path), base, decoupled=True)
    values = made.zeros()
    values[made.parts["delta"]] = (conditioning / levels)[:-1].log()
    assert close(end_of("ve", made.tableau(values)), entry["two"][name])
    # a fit that starts from there, as a warm start does, is there at zero
    start = made.tableau(values)
    again = Parameters(make_family("ld3", start, mixture.path), start, decoupled=True)
    assert again.tableau(again.zeros()).same_as(start, 1e-12)


OPTIONS = [{}, {"prediction": "noise"}, {"prediction": "data"}, {"prediction": "noise", "order": 1}]
WEIGHING = [
    (kind, options)
    for kind, entry in SOLVERS.items()
    for options in OPTIONS
    if not entry.files and set(options) <= {*entry.options.names()}
]


@pytest.mark.parametrize("path", [None, VPLinear(), VPCosine()], ids=["ve", "vp", "cosine"])
@pytest.mark.parametrize(("kind", "options"), WEIGHING)
def test_a_network_that_is_not_told_the_level_gives_the_same_at_any_conditioning_levels(kind, options, path):
    """One that predicts noise where a solver weighs directions, else one that predicts data: of the state that it is handed."""
    levels = s4s.levels("edm", 6, load_outline("mixture"))
    base = s4s.solver(kind, levels, path=VPLinear(), **options)
    factors = torch.exp(0.3 * torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=DOUBLE))
    moved = base.eval_levels * torch.cat([torch.ones(1, dtype=DOUBLE), factors[1:]])
    scale = None if path is None else path.alpha_of_s(base.eval_levels) / path.alpha_of_s(moved)

    def noise(x):
        return torch.tanh(x) + 0.1 * x

    def denoiser(y, s, _):
        x = y if path is None else path.alpha_of_s(torch.tensor(s, dtype=DOUBLE)) * y
        return y - s * noise(x) if SOLVERS[kind].weighs_directions(options) else noise(x)

    start = levels[0] * torch.tensor(ld3.START, dtype=DOUBLE)
    ends = [run(denoiser, start, tableau) for tableau in (base, conditioned(base, moved, scale))]
    assert torch.allclose(*ends, rtol=1e-9, atol=1e-9)


def test_at_its_own_conditioning_levels_a_solver_is_itself_bit_for_bit():
    levels = s4s.levels("logsnr", 6, load_outline("mixture"))
    for kind, options in WEIGHING:
        base = s4s.solver(kind, levels, path=VPLinear(), **options)
        again = conditioned(base, base.eval_levels)
        assert torch.equal(again.A, base.A) and torch.equal(again.B, base.B), kind


def test_a_final_denoising_step_stays_one():
    levels = torch.tensor([80.0, 10.0, 2.0, 0.0], dtype=DOUBLE)
    made = conditioned(s4s.solver("ipndm", levels, order=2), levels[:-1] * torch.tensor([1.0, 0.9, 1.1], dtype=DOUBLE))
    assert not made.A[-1].any() and made.B[-1].tolist() == [0, 0, 1]


# s4s convert

MODULE = """
import torch

import s4s
from s4s.models.paths import VPDiscrete


class Mine(s4s.Denoiser):
    shape, device, path = (2,), torch.device("cpu"), VPDiscrete.scaled_linear()

    def __init__(self, name, device, files, s_max=None, s_min=None):
        self.name = name
        self.s_max, self.s_min = s_max or self.path.log_s[-1].exp().item(), s_min or self.path.log_s[0].exp().item()

    def __call__(self, y, s, condition=None):
        return y
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A model of kind python, with Stable Diffusion's table, by the range that its file states."""
    (tmp_path / "of_mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "of_mine", raising=False)

    def file(**options):
        about = {"name": "mine", "kind": "python", "function": "of_mine:Mine", "options": options}
        (tmp_path / "mine.yaml").write_text(json.dumps(about))
        return str(tmp_path / "mine.yaml")

    return file


@pytest.mark.parametrize(
    ("kind", "name", "model", "note"),
    [
        (
            "ve",
            "unipc-3-bh1",
            "cifar10",
            "order 3 and variant bh1, as LD3's configs have it for uni_pc; say another one with --order and --variant",
        ),
        ("ve", "dpmpp-3", "cifar10", r"order 3, as LD3's configs have it for dpm_solver\+\+; say another one with --order$"),
        ("ve", "ipndm-3", "cifar10", "read as noise levels, as LD3 has them for EDM's networks, for it starts at 80"),
        ("ve", "euler", "cifar10", "read as noise levels, as LD3 has them"),
        ("vp", "unipc-3-bh2", "stable", "order 3 and variant bh2, as LD3's configs"),
        ("vp", "ipndm-3", "stable", "read as shares of the time of its path vp_discrete, for it starts at 1"),
    ],
)
def test_convert_makes_ld3s_own_sampler_of_its_file_and_says_what_it_guessed(tmp_path, capsys, mine, kind, name, model, note):
    entry = GOLDEN[f"{kind}-6"]
    times = torch.tensor(entry["first"] + entry["second"], dtype=DOUBLE)
    torch.save({"best_t_steps": times}, tmp_path / "best_v2.pt")
    convert(tmp_path / "best_v2.pt", mine() if model == "stable" else model, tmp_path / "out", ld3.SOLVERS[name][0])
    tableau = Tableau.load(tmp_path / "out/nfe~6.json")
    assert close(end_of(kind, tableau), entry["two"][name])
    written = capsys.readouterr().err.splitlines()
    assert len(written) == (1 if name == "euler" else 2) and all(
        line.startswith(f"note: {tmp_path}/best_v2.pt: ") for line in written
    )
    assert re.search(note, "\n".join(written), re.MULTILINE)


def test_nothing_is_said_of_what_was_not_guessed(tmp_path, capsys):
    times = torch.tensor([80.0, 9.0, 1.5, 0.4, 0.002])
    torch.save({"best_t_steps": torch.cat([times, times])}, tmp_path / "best_v1.pt")
    convert(tmp_path / "best_v1.pt", "cifar10", tmp_path / "out", "unipc", 2, "bh2")
    assert Tableau.load(tmp_path / "out/nfe~4.json").meta["options"] == {
        "order": 2, "lower_order_final": True, "variant": "bh2"
    }  # fmt: skip
    assert "order" not in capsys.readouterr().err


def converted(folder, text, model, solver="ddim", **options):
    (folder / "list.txt").write_text(text)
    convert(folder / "list.txt", model, folder / "out", solver, **options)
    return [Tableau.load(file) for file in sorted((folder / "out").glob("*.json"))]


def test_a_list_that_reaches_the_ends_that_a_model_states_is_taken(tmp_path, mine, capsys):
    """Which are not those of its path; with fewer digits, or as times, too."""
    model = mine(s_max=14.6, s_min=0.05)
    for text, last in (("14.6 3 0.5 0.05", 0.05), ("14.6, 3.0, 0.5, 0.05, 0", 0)):
        tableau = converted(tmp_path, text, model)[-1]
        assert tableau.levels[[0, 3, -1]].tolist() == [14.6, 0.05, last]
    assert "read as noise levels, for it starts at 14.6; --form levels or times says otherwise" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "out")
    times = [float(f"{time:.6g}") for time in STABLE.t_of_s(torch.tensor([14.6, 3.0, 0.5, 0.05], dtype=DOUBLE)).tolist()]
    (tableau,) = converted(tmp_path, str(times), model, form="times")
    assert tableau.nfe == 3 and tableau.levels[[0, -1]].tolist() == [14.6, 0.05] and not capsys.readouterr().err


RANGE = {"s_max": 14.6, "s_min": 0.05}
ADVICE = "take a schedule for it, or set s_max and s_min of the Denoiser that of_mine:Mine returns$"
COVERS = r"model mine covers 14\.6 to 0\.05, times 998\.\d+ to \d+\.\d+; "
FAR = "far from full noise, but model mine covers 14"


@pytest.mark.parametrize(
    ("text", "options", "form", "message"),
    [
        ("14.61 3 0.5 0.05", RANGE, None, f"runs over noise levels 14.61 to 0.05, but {COVERS}{ADVICE}"),
        ("14.6 3 0.5 0.04", RANGE, None, f"runs over noise levels 14.6 to 0.04, but {COVERS}{ADVICE}"),
        ("999 600 200 20", RANGE, None, f"read as times of its path vp_discrete, for it starts at 999, in whole .*{ADVICE}"),
        ("80 10 1 0.03", {}, None, "cannot tell|runs over noise levels 80 to"),
        ("1.0 0.75 0.5 0.25 0.1", {}, None, f"read as noise levels, for it starts at 1, starts at noise level 1, {FAR}"),
        ("0.9977 0.9 0.5 0.1 0.03", {}, None, f"starts at noise level 0.9977, {FAR}"),
        ("1.0 0.75 0.5 0.25", {}, "times", f"list 1 starts at noise level 0.0\\d+, {FAR}"),
        ("1.0 0.75 0.5 0.25 0.1", {}, "levels", f"list 1 starts at noise level 1, {FAR}"),
        ("2.6 0.3 -1.2", {}, None, "must decrease strictly and end at or above 0"),
        ("-5 0 5", {}, None, "rises from -5 to 5"),
    ],
)
def test_units_of_elsewhere_are_refused(tmp_path, mine, text, options, form, message):
    """Flow matching's times, standard deviations sigma, times without their form, EDM's levels, logarithms."""
    with pytest.raises(S4SError, match=rf"list\.txt: .*({message})"):
        converted(tmp_path, text, mine(**options), form=form)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("times", "model", "message"),
    [
        ([1.0, 0.5, 0.1], "cifar10", "read as shares of the time of its path vp_linear, .* 152.167 to .*in its YAML file$"),
        ([80.0, 5.0, 0.1], "mine", "read as noise levels, as LD3 has them for EDM's .* runs over noise levels 80 to 0.1"),
        ([1.0, 0.5, 0.0005], "mine", "the time -0.5 is beyond the path"),
        ([14.6, 3.0, 0.03], "cifar10", None),
    ],
)
def test_ld3s_files_are_held_against_the_model(tmp_path, capsys, mine, times, model, message):
    torch.save(torch.tensor(times + times), tmp_path / "t_steps.pt")
    run_it = (tmp_path / "t_steps.pt", mine() if model == "mine" else model, tmp_path / "out", "ipndm", 2)
    if message is None:  # it is full noise still, so that is said
        convert(*run_it)
        assert "starts at noise level 14.6: the noise of level 80 is scaled down to it" in capsys.readouterr().err
    else:
        with pytest.raises(S4SError, match=message):
            convert(*run_it)


def test_ld3s_times_are_no_levels_of_a_model_on_the_path_ve(tmp_path):
    torch.save(torch.tensor([1.0, 0.5, 0.1, 1.0, 0.4, 0.1]), tmp_path / "t_steps.pt")
    with pytest.raises(
        S4SError, match=r"starts at noise level 1, far from full noise, but model mine covers 80 to 0.002; take"
    ):
        read_schedule(tmp_path / "t_steps.pt", Outline("mine", 0.002, 80.0, VE()))


def test_lists_from_a_table_are_no_levels_of_rectified_flow(tmp_path):
    """Whose highest level is 999 here, the last time of a table."""
    flow = Outline("flow", 0.002, 999.0, FlowMatching())
    (tmp_path / "list.txt").write_text("999 850 736 24")
    with pytest.raises(
        S4SError, match=r"cannot tell whether these whole numbers from 999 are .*path flow, which go from 0 to 1"
    ):
        read_schedule(tmp_path / "list.txt", flow)
    assert read_schedule(tmp_path / "list.txt", flow, "levels")[0].levels[0] == 999


# other readers of levels


@pytest.mark.parametrize("values", [[1.0, 0.5, 0.002], [0.998, 0.3, 0.1], [2.9, 1.0, 0.1]], ids=str)
def test_levels_of_a_config_start_at_full_noise(values):
    with pytest.raises(
        S4SError, match=r"schedule 'explicit' starts at .*, but full noise is level 80 of this model; are these"
    ):
        s4s.levels("explicit", 2, load_outline("digits"), values=[values])


def test_levels_of_a_users_own_schedule_start_at_full_noise(tmp_path, monkeypatch):
    (tmp_path / "my_levels.py").write_text("def flow(nfe, span):\n    return [1 - n / (nfe + 1) for n in range(nfe + 1)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(S4SError, match="'my_levels:flow' starts at 1, but full noise is level 80"):
        s4s.levels("my_levels:flow", 4, load_outline("digits"))


def test_leading_times_start_where_they_do():
    assert s4s.levels("leading", 1, load_outline("digits"))[0] < 1


@pytest.mark.parametrize(("first", "refused"), [(80.0, False), (5.0, False), (1.0, True), (0.998, True)])
def test_a_tableau_from_elsewhere_starts_at_full_noise(first, refused):
    tableau = Tableau.from_json(s4s.solver("ddim", torch.tensor([first, 0.1, 0.002])).as_json())
    if refused:
        with pytest.raises(S4SError, match=r"starts at noise level .*, but the full noise of model digits is level 80; fit a"):
            check(tableau, load_outline("digits"), "model digits")
    else:
        check(tableau, load_outline("digits"), "model digits")
