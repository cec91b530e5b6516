"""Schedules in their authors' forms, in files written here as their programs write them; values by formulas written anew."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

import s4s
from s4s import S4SError
from s4s.models.load import Outline
from s4s.models.paths import EDM, PATHS, VE, FlowMatching, InvertedFlow, VPCosine, VPDiscrete, VPLinear
from s4s.schedules import imported
from s4s.schedules.ays import ALIGN_YOUR_STEPS
from s4s.schedules.imported import FORMS, LIMIT

STABLE = VPDiscrete.scaled_linear()
ALPHAS_CUMPROD = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
TABLE = np.sqrt(1 / ALPHAS_CUMPROD - 1)  # the level of each index
GITS = [[80, 10.9836, 3.8811, 1.584, 0.5666, 0.1698, 0.002], [80.0, 7.5, 0.002]]
SD_GITS = [14.6146, 3.1131, 1.0421, 0.3811, 0.0292]


@pytest.fixture(scope="module")
def diffusers():
    """Imported here, for above every worker of the tests would spend its seconds."""
    import diffusers.schedulers

    return diffusers


def model_on(path, s_max=None, s_min=None):
    """A model on a path, over all of a table or as far as models usually go."""
    known = {VPDiscrete: (path.log_s[-1].exp().item(), path.log_s[0].exp().item())} if path is STABLE else {}
    usual = {VE: (80.0, 0.002), VPLinear: (153.0, 0.002), VPCosine: (120.0, 0.002), FlowMatching: (999.0, 0.002)}
    high, low = {**usual, **known}[type(path)]
    return Outline("mine", s_min or low, s_max or high, path)


def read_schedule(file, form, path, pick=None):
    model = path if isinstance(path, Outline) else model_on(path)
    return imported.read_schedule(file, model, form, pick)


def path_of(kind):
    return STABLE if kind is VPDiscrete else kind()


def written(folder, text, name="schedule.txt"):
    file = folder / name
    file.write_text(text if isinstance(text, str) else json.dumps(text))
    return file


def close(levels, expected, rtol=1e-9):
    return levels.dtype == torch.float64 and np.allclose(levels.numpy(), expected, rtol=rtol, atol=0)


# LD3


def snapshot(times, conditioning):
    """What LD3's trainer saves: its two parameters and both lists of times in one tensor, in float32."""
    both = torch.tensor(np.concatenate([times, conditioning]), dtype=torch.float32)
    return {"params1": torch.ones(len(times)), "params2": torch.zeros(len(times)), "best_t_steps": both}


def ld3_times(first, last, nfe, seed):
    """Times as LD3's parametrisation in time gives them, and those of its conditioning levels: apart between the ends only."""
    rng = np.random.default_rng(seed)
    shares = np.cumsum(np.exp(rng.normal(size=nfe + 1)))[::-1]
    times = last + (shares - shares[-1]) / (shares[0] - shares[-1]) * (first - last)
    move = np.abs(np.diff(times)).min() / 2
    return times, times + np.r_[0, rng.uniform(-move, move, nfe - 1), 0]


def ld3_levels(times):
    """LD3's own: ln alpha linear in t between the entries of the table, entry k at t = (k + 1)/T."""
    alpha = np.exp(np.interp(times, np.arange(1, 1001) / 1000, np.log(ALPHAS_CUMPROD) / 2))
    return np.sqrt(1 - alpha**2) / alpha


@pytest.mark.parametrize("nfe", [1, 3, 10])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("path", [VPLinear(), VE()], ids=["vp", "ve"])
def test_ld3s_times_on_edms_networks_are_levels_whatever_time_the_path_has(tmp_path, path, legacy, nfe):
    times, conditioning = ld3_times(80.0, 0.002, nfe, seed=nfe)
    torch.save(snapshot(times, conditioning), tmp_path / "best_v2.pt", _use_new_zipfile_serialization=not legacy)
    for form in (None, "ld3"):
        (schedule,) = read_schedule(tmp_path / "best_v2.pt", form, path)
        assert close(schedule.levels, times, 1e-6) and schedule.levels.shape == (nfe + 1,)
        if nfe > 1:
            assert close(schedule.conditioning, conditioning[:-1], 1e-6) and schedule.conditioning[0] == schedule.levels[0]
        else:
            assert schedule.conditioning is None


def test_ld3s_times_of_a_table_are_its_entries(tmp_path):
    """Entry k is at (k + 1)/T; the ends are the table's own in spite of float32."""
    indices = [999, 700, 402, 31, 4, 0]
    times = (np.array(indices) + 1) / 1000
    torch.save(snapshot(times, times), tmp_path / "best_v1.pt")
    (schedule,) = read_schedule(tmp_path / "best_v1.pt", None, STABLE)
    assert close(schedule.levels, TABLE[indices], 1e-5) and schedule.conditioning is None
    short = VPDiscrete(betas=torch.linspace(0.001, 0.2, 100))
    torch.save(snapshot([1.0, 0.5, 0.01], [1.0, 0.5, 0.01]), tmp_path / "best_v1.pt")
    levels = short.log_s.exp()
    (schedule,) = read_schedule(tmp_path / "best_v1.pt", None, Outline("short", float(levels[0]), float(levels[-1]), short))
    assert torch.allclose(schedule.levels, levels[[99, 49, 0]], rtol=1e-5)
    assert schedule.levels[[0, -1]].tolist() == levels[[-1, 0]].tolist()


def test_between_entries_ld3s_levels_are_ours_but_for_the_interpolation(tmp_path):
    times, conditioning = ld3_times(1.0, 0.02, 10, seed=0)
    torch.save(snapshot(times, conditioning), tmp_path / "best_v2.pt")
    (schedule,) = read_schedule(tmp_path / "best_v2.pt", None, STABLE)
    assert close(schedule.levels, ld3_levels(times), 5e-4) and close(schedule.conditioning, ld3_levels(conditioning)[:-1], 5e-4)
    # the time of a conditioning level is exactly LD3's input, 1000 (t - 1/T)
    assert np.allclose(STABLE.t_of_s(schedule.conditioning).numpy(), 1000 * (conditioning[:-1] - 0.001), atol=1e-3)


def test_interpolations_differ_as_the_module_says():
    indices = np.linspace(0, 999, 99901)
    ours = STABLE.s_of_t(torch.tensor(indices)).numpy()
    apart = np.abs(ld3_levels((indices + 1) / 1000) / ours - 1)
    assert apart[indices >= 10].max() < 5.1e-4 and 0.03 < apart.max() < 0.031


def test_ld3s_times_on_continuous_paths_are_the_paths_own(tmp_path):
    times, conditioning = ld3_times(1.0, 1e-3, 5, seed=1)
    torch.save(snapshot(times, conditioning), tmp_path / "best_v2.pt")
    (schedule,) = read_schedule(tmp_path / "best_v2.pt", None, VPLinear())
    log_alpha = -0.25 * times**2 * 19.9 - 0.05 * times
    assert close(schedule.levels, np.sqrt(np.exp(-2 * log_alpha) - 1), 1e-5)
    cosine = times * 0.9946
    torch.save(snapshot(cosine, cosine), tmp_path / "best_v2.pt")
    log_alpha = np.log(np.cos((cosine + 0.008) / 1.008 * np.pi / 2)) - np.log(np.cos(0.008 / 1.008 * np.pi / 2))
    levels = read_schedule(tmp_path / "best_v2.pt", None, VPCosine())[0].levels
    assert close(levels, np.sqrt(np.exp(-2 * log_alpha) - 1), 1e-4)


def test_ld3s_times_of_training_are_a_tensor_alone(tmp_path):
    torch.save(snapshot([80.0, 3.0, 0.002], [80.0, 2.5, 0.002])["best_t_steps"], tmp_path / "t_steps.pt")
    (schedule,) = read_schedule(tmp_path / "t_steps.pt", None, VE())
    assert close(schedule.levels, [80, 3, 0.002], 1e-6) and close(schedule.conditioning, [80, 2.5], 1e-6)


def test_parameters_in_ld3s_files_do_no_harm(tmp_path):
    content = snapshot([80.0, 3.0, 0.002], [80.0, 3.0, 0.002])
    torch.save({name: torch.nn.Parameter(value) for name, value in content.items()}, tmp_path / "best_v2.pt")
    (schedule,) = read_schedule(tmp_path / "best_v2.pt", None, VE())
    assert close(schedule.levels, [80, 3, 0.002], 1e-6) and not schedule.levels.requires_grad


class Harm:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("form", [None, "ld3"])
def test_a_file_that_carries_code_is_refused_and_nothing_runs(tmp_path, form, new):
    content = {**snapshot([80.0, 0.002], [80.0, 0.002]), "train_data": Harm(tmp_path / "harmed")}
    torch.save(content, tmp_path / "best_v2.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(S4SError, match=r"best_v2\.pt: refused: it asks for posix\.mkdir.* Nothing in it was executed"):
        read_schedule(tmp_path / "best_v2.pt", form, VE())
    assert not (tmp_path / "harmed").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_pickle_that_carries_code_is_refused_and_nothing_runs(tmp_path):
    (tmp_path / "best_v2.pt").write_bytes(pickle.dumps({"best_t_steps": Harm(tmp_path / "harmed")}))
    for form in (None, *FORMS):
        with pytest.raises(S4SError, match=r"best_v2\.pt: "):
            read_schedule(tmp_path / "best_v2.pt", form, VE())
    assert not (tmp_path / "harmed").exists()


NO_LD3 = {
    "other-keys": {"params1": torch.ones(3)},
    "list": [1.0, 2.0],
    "odd": {"best_t_steps": torch.ones(5)},
    "short": {"best_t_steps": torch.ones(2)},
    "matrix": torch.ones(4, 4),
    "whole": torch.tensor([9, 1, 9, 1]),
}


@pytest.mark.parametrize("content", NO_LD3.values(), ids=NO_LD3)
def test_other_files_of_torch_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "best_v2.pt")
    with pytest.raises(S4SError, match=r"best_v2\.pt: not a schedule of LD3: needs best_t_steps"):
        read_schedule(tmp_path / "best_v2.pt", None, VE())


def test_damaged_files_of_torch_are_refused(tmp_path):
    torch.save(snapshot([80.0, 0.002], [80.0, 0.002]), tmp_path / "best_v2.pt")
    whole = (tmp_path / "best_v2.pt").read_bytes()
    for length in (2, 40, 300, len(whole) // 2, len(whole) - 1):
        (tmp_path / "best_v2.pt").write_bytes(whole[:length])
        with pytest.raises(S4SError, match="not a file of torch, or damaged"):
            read_schedule(tmp_path / "best_v2.pt", None, VE())


@pytest.mark.parametrize(
    ("times", "conditioning", "path", "message"),
    [
        ([80.0, 3.0, 5.0], [80.0, 3.0, 5.0], VE(), "noise levels must decrease strictly"),
        ([0.002, 3.0, 80.0], [0.002, 3.0, 80.0], VE(), "noise levels must decrease strictly"),
        ([1.0, np.nan, 0.1], [1.0, 0.5, 0.1], STABLE, "not a finite number"),
        ([1.0, 0.5, 0.1], [1.0, np.nan, 0.1], STABLE, "not a finite number"),
        ([80.0, 0.5, 0.1], [80.0, np.inf, 0.1], VE(), "not a finite number"),
        ([80.0, 0.5, 0.1], [80.0, -0.5, 0.1], VE(), "the conditioning levels must be > 0"),
        ([1.0, 0.5, 0.0005], [1.0, 0.5, 0.0005], STABLE, r"the time -0\.5 is beyond the path, whose times go from 0 to 999"),
        ([1.0, 0.5, -0.1], [1.0, 0.5, -0.1], VPLinear(), r"the time -0\.1 is beyond the path, whose times go from 0 to 1"),
    ],
)
def test_impossible_times_of_ld3_are_refused(tmp_path, times, conditioning, path, message):
    torch.save(snapshot(times, conditioning), tmp_path / "best_v2.pt")
    with pytest.raises(S4SError, match=rf"best_v2\.pt: .*{message}"):
        read_schedule(tmp_path / "best_v2.pt", None, path)


# GITS


def test_gits_record_gives_levels_and_their_coefficient(tmp_path):
    """dp_record.txt: a heading for each coefficient, then indices of the teacher's steps and their levels."""
    record = f"ms_coco-ipndm-discrete-61-warmup256-dev-0.8\n[0, 8, 40, 52, 60] {SD_GITS}\n[0, 40, 60] {SD_GITS[::2]}\n"
    record += f"ms_coco-ipndm-discrete-61-warmup256-dev-1.15\n[0, 9, 41, 52, 60] {SD_GITS}\n"
    schedules = read_schedule(written(tmp_path, record, "dp_record.txt"), None, STABLE)
    assert [schedule.name.split("-")[-1] for schedule in schedules] == ["0.8", "0.8", "1.15"]
    for schedule, row in zip(schedules, [SD_GITS, SD_GITS[::2], SD_GITS], strict=True):
        assert schedule.conditioning is None and close(schedule.levels, row, 1e-5 if row[-1] != 0.0292 else 2e-3)
        assert schedule.levels[[0, -1]].tolist() == pytest.approx([TABLE[-1], TABLE[0]], rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        f"Selected dp_list: [0, 13, 27, 60]\nSelected time schedule:  {GITS[0]}\n",
        f'SCHEDULE_FLAGS="--t_steps={str(GITS[0]).replace(" ", "")}"',
        " ".join(map(str, GITS[0])),
        ", ".join(map(str, GITS[0])) + "\n\n",
        "# GITS, CIFAR-10\n" + ",".join(map(str, GITS[0])),
        "array([80., 10.9836, 3.8811,\n       1.584, 0.5666, 0.1698, 0.002])",
        str(GITS[0]),
    ],
)
@pytest.mark.parametrize("form", [None, "levels"])
def test_levels_may_be_pasted_as_programs_print_them(tmp_path, text, form):
    for path in (VPLinear(), VE()):
        (schedule,) = read_schedule(written(tmp_path, text), form, path)
        assert schedule.levels.tolist() == GITS[0] and schedule.conditioning is None


def test_several_lists_give_several_schedules_in_their_order(tmp_path):
    lines = "\n".join(",".join(map(str, row)) for row in GITS)
    printed = "PRIOR = {\n  'ipndm': {\n" + "".join(f"    {len(row) - 1}: {row},\n" for row in GITS) + "  },\n}\n"
    for file in (
        written(tmp_path, lines, "schedule.csv"),
        written(tmp_path, f"# one\n{GITS[0]}\n# two\n{GITS[1]}"),
        written(tmp_path, printed, "prior.txt"),
        written(tmp_path, GITS, "schedule.json"),
        written(tmp_path, {"cifar10": {"6": GITS[0], "2": GITS[1]}}, "named.json"),
    ):
        assert [schedule.levels.tolist() for schedule in read_schedule(file, None, VE())] == GITS
    assert [schedule.name for schedule in read_schedule(tmp_path / "named.json", None, VE())] == ["cifar10 6", "cifar10 2"]
    assert [schedule.name for schedule in read_schedule(tmp_path / "schedule.txt", None, VE())] == ["one", "two"]
    assert [schedule.name for schedule in read_schedule(tmp_path / "prior.txt", None, VE())] == ["6", "2"]


# Align Your Steps


@pytest.mark.parametrize(("name", "table"), [("StableDiffusion", "sd"), ("StableDiffusionXL", "sdxl")])
@pytest.mark.parametrize("form", [None, "times"])
def test_times_of_align_your_steps_are_its_levels(diffusers, tmp_path, name, table, form):
    """With the time 0 at the end they give the 11 levels that its authors print, but for rounding to whole times."""
    times = diffusers.schedulers.AysSchedules[f"{name}Timesteps"]
    (schedule,) = read_schedule(written(tmp_path, times, "ays.json"), form, STABLE)
    assert close(schedule.levels, TABLE[[*times, 0]], 1e-9)
    assert close(schedule.levels, ALIGN_YOUR_STEPS[table], 0.05)
    assert schedule.levels[-1].item() == pytest.approx(ALIGN_YOUR_STEPS[table][-1], rel=1e-6)
    (again,) = read_schedule(written(tmp_path, [*times, 0], "ays.json"), form, STABLE)
    assert torch.equal(again.levels, schedule.levels)


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")
def test_times_of_align_your_steps_end_where_diffusers_does_with_its_lowest_level(diffusers, tmp_path):
    times = diffusers.schedulers.AysSchedules["StableDiffusionTimesteps"]
    (schedule,) = read_schedule(written(tmp_path, times, "ays.json"), None, STABLE)
    table = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    for final, last in (("sigma_min", schedule.levels[-1].item()), ("zero", 0.0)):
        scheduler = diffusers.DPMSolverMultistepScheduler(**table, final_sigmas_type=final)
        scheduler.set_timesteps(timesteps=times)
        expected = torch.cat([schedule.levels[:-1], torch.tensor([last], dtype=torch.float64)])
        assert torch.allclose(scheduler.sigmas.double(), expected, rtol=1e-4)


def test_diffusers_whole_table_of_align_your_steps_is_read_list_by_list(diffusers, tmp_path):
    """Those of Stable Video Diffusion are for another model than this one, whose range they leave."""
    file = written(tmp_path, dict(diffusers.schedulers.AysSchedules), "ays.json")
    with pytest.raises(S4SError, match=r"StableDiffusionVideoSigmas, read as noise levels, for its name .* 700 to 0\.034, but"):
        read_schedule(file, None, STABLE)
    for name in diffusers.schedulers.AysSchedules:
        model = model_on(STABLE, 700.0, 0.002) if name.startswith("StableDiffusionVideo") else STABLE
        (schedule,) = read_schedule(file, None, model, pick=name)
        assert schedule.name == name and schedule.levels.shape == (11,)
        if schedule.name.endswith("Sigmas"):
            assert close(schedule.levels, diffusers.schedulers.AysSchedules[schedule.name], 1e-4) and schedule.levels[-1] == 0


def test_rounded_ends_are_those_of_the_path_and_nothing_else_is_changed(diffusers, tmp_path):
    def levels(row):
        return read_schedule(written(tmp_path, row, "levels.json"), "levels", STABLE)[0].levels.tolist()

    highest, lowest = pytest.approx(TABLE[-1], rel=1e-12), pytest.approx(TABLE[0], rel=1e-12)
    assert levels([14.615, 1.5, 0.029]) == [highest, 1.5, lowest]
    assert levels([14.6146, 14.61, 0.0292, 0.0]) == [highest, 14.61, 0.0292, 0.0]
    assert levels([14.6, 1.5, 0.03]) == [pytest.approx(TABLE[-1]), 1.5, pytest.approx(TABLE[0])]
    for row in ([14.62, 1.5, 0.03], [14.6, 1.5, 0.028]):
        with pytest.raises(S4SError, match=r"model mine covers 14\.6146 to 0\.0291672, times 999 to 0; take a schedule for it"):
            levels(row)
    model = type("Model", (), {"s_max": TABLE[-1], "s_min": TABLE[0], "path": STABLE})()
    values = [levels(diffusers.schedulers.AysSchedules["StableDiffusionSigmas"])]
    assert s4s.levels("explicit", 10, model, values=values)[-1] == 0


# All forms


@pytest.mark.parametrize("kind", [kind for kind in PATHS if kind not in (EDM, InvertedFlow)])  # whose times nobody publishes
def test_times_and_levels_of_a_path_give_the_same(tmp_path, kind):
    path = path_of(kind)
    times = np.linspace(0.99, 0.0, 6) * (999 if kind is VPDiscrete else 1)
    levels = path.s_of_t(torch.tensor(times))
    model = model_on(path, levels[0].item())
    (by_times,) = read_schedule(written(tmp_path, times.tolist(), "times.json"), "times", model)
    (by_levels,) = read_schedule(written(tmp_path, levels.tolist(), "levels.json"), "levels", model)
    assert torch.equal(by_times.levels, levels) and torch.equal(by_levels.levels, levels)
    assert (by_times.levels[-1] == 0) == (kind is not VPDiscrete)


@pytest.mark.parametrize(
    ("row", "path", "as_form"),
    [
        ([999, 500, 20], STABLE, "times"),
        ([14.615, 3.0, 0.0], STABLE, "levels"),
        ([1.0, 0.5, 0.001], VPLinear(), "times"),
        ([80.0, 0.5, 0.002], VPLinear(), "levels"),
        ([0.99, 0.5, 0.001], VPCosine(), "times"),
        ([0.9, 0.5, 0.0], FlowMatching(), "times"),
        ([9.0, 0.5, 0.0], FlowMatching(), "levels"),
        ([0.9, 0.5, 0.0], model_on(VE(), 0.9), "levels"),
    ],
)
def test_a_form_that_is_not_given_is_guessed(tmp_path, row, path, as_form):
    file = written(tmp_path, row, "schedule.json")
    (guessed,), (stated) = read_schedule(file, None, path), read_schedule(file, as_form, path)
    assert torch.equal(guessed.levels, stated[0].levels)
    assert guessed.guess.startswith("noise levels" if as_form == "levels" else "times of its path") and not stated[0].guess


@pytest.mark.parametrize("row", [[10, 5, 1], [700.0, 54.5, 15.886, 0.002]], ids=str)
def test_a_form_that_cannot_be_recognised_is_asked_for(tmp_path, row):
    file = written(tmp_path, {"mine": row}, "schedule.json")
    with pytest.raises(S4SError, match=r"list 1 mine: cannot tell whether .* levels up to 14\.6146 and times up to 999; say"):
        read_schedule(file, None, STABLE)
    assert read_schedule(file, "levels", model_on(STABLE, row[0], row[-1]))[0].levels.tolist() == row


@pytest.mark.parametrize(
    ("row", "form", "path", "message"),
    [
        ([80.0, 90.0, 1.0], "levels", VE(), "noise levels must decrease strictly"),
        ([80.0, 80.0], "levels", VE(), "noise levels must decrease strictly"),
        ([80.0, -1.0], "levels", VE(), "end at or above 0"),
        ([80.0, float("nan"), 1.0], "levels", VE(), "not a finite number"),
        ([float("inf"), 1.0], "levels", VE(), "not a finite number"),
        ([10**400, 1.0], "levels", VE(), "not a finite number"),
        ([80.0], "levels", VE(), "at least 2 numbers, got 1"),
        ([], "levels", VE(), "at least 2 numbers, got 0"),
        ([24, 500, 999], "times", STABLE, "rises from 24 to 999; .* turn it round"),
        ([1000, 500, 24], "times", STABLE, "the time 1000 is beyond the path, whose times go from 0 to 999"),
        ([999, 500, -1], "times", STABLE, "the time -1 is beyond the path"),
        ([999, float("nan"), 24], "times", STABLE, "not a finite number"),
        ([2.0, 0.5], "times", VPLinear(), "the time 2 is beyond the path, whose times go from 0 to 1"),
        ([1.0, 0.5, 0.0], "times", FlowMatching(), "that of a time, is not a finite number"),
    ],
)
def test_impossible_lists_are_refused(tmp_path, row, form, path, message):
    possible = {VE: [80.0, 1.0], VPDiscrete: [999.0, 1.0], VPLinear: [1.0, 0.1], FlowMatching: [0.99, 0.1]}
    file = written(tmp_path, [possible[type(path)], row], "schedule.json")
    with pytest.raises(S4SError, match=rf"schedule\.json: list 2: .*{message}"):
        read_schedule(file, form, path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "no list of numbers in it"),
        ("a.txt", "# a heading alone\n", "no list of numbers in it"),
        ("a.json", "{}", "no list of numbers in it"),
        ("a.json", "[[80, 1], [3", "not JSON"),
        ("a.json", "[" * 100000, "not JSON"),
        ("a.json", "[80, true]", "not a list of numbers"),
        ("a.json", '{"mine": "80, 1"}', "not a list of numbers: mine"),
        ("a.json", "[80, [1, 0]]", "not a list of numbers"),
        ("a.txt", "[80, 1]\n[80, 3", "brackets do not match; perhaps it is cut off"),
        ("a.txt", "80, 3, x", "could not convert string to float: 'x'"),
        ("a.txt", "see [the paper](https://arxiv.org)", "could not convert string to float: 'the'"),
        ("a.txt", " " * (LIMIT + 1), f"more than {LIMIT:,} bytes"),
    ],
    ids=range(12),
)
def test_files_that_hold_no_lists_are_refused(tmp_path, name, text, message):
    with pytest.raises(S4SError, match=rf"{name}: .*{message}"):
        read_schedule(written(tmp_path, text, name), None, VE())


def test_missing_files_folders_and_other_binaries_are_refused_by_name(tmp_path):
    for form in (None, *FORMS):
        with pytest.raises(S4SError, match=r"no\.pt: cannot read this schedule: No such file"):
            read_schedule(tmp_path / "no.pt", form, VE())
        with pytest.raises(S4SError, match=f"{tmp_path}: cannot read this schedule"):
            read_schedule(tmp_path, form, VE())
    (tmp_path / "image.png").write_bytes(bytes([0x89, 0xFF, 0xFE]))
    with pytest.raises(S4SError, match=r"image\.png: not text"):
        read_schedule(tmp_path / "image.png", None, VE())


def test_forms_that_are_not_known_or_not_the_files_are_refused(tmp_path):
    with pytest.raises(S4SError, match="unknown form of a schedule 'gits'; known: ld3, levels, times"):
        read_schedule(tmp_path / "no.txt", "gits", VE())
    with pytest.raises(S4SError, match=r"schedule\.txt: not a file of torch"):
        read_schedule(written(tmp_path, "80, 1"), "ld3", VE())
    torch.save(snapshot([80.0, 0.002], [80.0, 0.002]), tmp_path / "best_v2.pt")
    for form in ("levels", "times"):
        with pytest.raises(S4SError, match=r"best_v2\.pt: not text; LD3's files of torch have the form ld3"):
            read_schedule(tmp_path / "best_v2.pt", form, VE())
