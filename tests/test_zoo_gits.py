"""GITS's solvers against its own samplers, and its lists in ComfyUI's node."""

import json

import pytest
import torch

from s4s import S4SError
from s4s.export.zoo.gits import SOLVERS, as_gits, looks_like, read
from s4s.models.load import Outline
from s4s.models.paths import VPDiscrete
from s4s.sampling import run
from tests.gits_golden import GOLDEN, LEVELS, ORDERS, START, cases
from tests.ld3_golden import denoised

PATH = VPDiscrete.scaled_linear()
SD = Outline("sd", *PATH.ends, PATH)
LISTS = torch.tensor(LEVELS, dtype=torch.float64)
NODE = """# from https://github.com/zju-pi/diff-sampler/tree/main/gits-main
import numpy as np

NOISE_LEVELS = {
    0.80: [
        [14.61464119, 7.5, 0.02916753],
        [14.61464119, 11.5, 6.77, 0.02916753],
    ],
    1.20: [
        [14.61464119, 0.8, 0.02916753],
        [14.61464119, 5.8, 2.8, 0.95, 0.02916753],
    ],
}

class GITSScheduler:
    def of(self, coeff, steps):
        return NOISE_LEVELS[round(coeff, 2)][steps - 2]
"""


@pytest.mark.parametrize(("name", "case"), [*cases()])
def test_solvers_are_gits_s_own(name, case):
    kind, order, variant, afs = case
    tableau = as_gits(kind, LISTS, order, variant, afs)
    start = 80 * torch.tensor(START, dtype=torch.float64)[None]
    end = run(lambda y, s, _: denoised(y, torch.as_tensor(s, dtype=torch.float64)), start, tableau)
    expected = torch.tensor(json.loads(GOLDEN.read_text())[name], dtype=torch.float64)
    assert (end[0] - expected).abs().max() < 1e-10


def test_every_solver_is_held_against_theirs():
    assert ORDERS.keys() == SOLVERS.keys()


@pytest.mark.parametrize("kind", ["ipndm_v", "deis", "amed"])
def test_what_is_no_tableau_is_refused(kind):
    with pytest.raises(S4SError, match=f"GITS has no solver '{kind}' .* take one of euler, ipndm"):
        as_gits(kind, LISTS)


def test_the_node_s_lists_are_read_by_coefficient(tmp_path):
    file = tmp_path / "nodes_gits.py"
    file.write_text(NODE)
    assert looks_like(file)
    two, four = read(file, SD, pick="1.20", order=1)
    assert (two.nfe, four.nfe) == (2, 4) and four.levels.tolist() == [14.61464119, 5.8, 2.8, 0.95, 0.02916753]
    expected = as_gits("dpmpp", four.levels, 2)
    assert read(file, SD, pick="1.2")[-1].same_as(expected) and expected.meta["options"]["prediction"] == "noise"
    assert [t.nfe for t in read(file, SD, pick="0.8", solver="heun")] == [4, 6]


@pytest.mark.parametrize(
    ("change", "pick", "message"),
    [
        (("", ""), None, "several lists; --pick one of 0.8, 1.2"),
        (("", ""), "1.3", "no list named '1.3'"),
        (("0.8,", "float('inf'),"), "1.2", "no table NOISE_LEVELS"),
        (("0.8,", "1e999,"), "1.2", "finite numbers"),
        (("0.8,", "'x',"), "1.2", "finite numbers"),
        (("0.8,", "9" * 400 + ","), "1.2", "finite numbers"),
        (("0.8,", "9" * 9000 + ","), "1.2", "no table of numbers"),
        (("0.8,", "-" * 90_000 + "1,"), "1.2", "no table of numbers"),
        (("0.8,", "True,"), "1.2", "finite numbers"),
        (("[14.61464119, 0.8, 0.02916753],", "[],"), "1.2", "finite numbers"),
        (("0.8,", "__import__,"), "1.2", "no table of numbers"),
        (("0.95,", "9.5,"), "1.2", "levels must decrease strictly"),
        (("NOISE_LEVELS = {", "LEVELS = {"), "1.2", "no table NOISE_LEVELS"),
        (("0.8,", "[" * 150 + "]" * 150), "1.2", "no table of numbers|finite numbers"),
    ],
)
def test_a_file_that_holds_something_else_is_one_clear_error(tmp_path, change, pick, message):
    file = tmp_path / "nodes_gits.py"
    file.write_text(NODE.replace(*change) if change[0] else NODE)
    with pytest.raises(S4SError, match=message) as error:
        read(file, SD, pick=pick)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_of_any_size_is_not_read(tmp_path):
    file = tmp_path / "nodes_gits.py"
    file.write_text(NODE + "#" * 2**19)
    with pytest.raises(S4SError, match="262,144 bytes"):
        read(file, SD)
