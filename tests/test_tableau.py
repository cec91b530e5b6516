"""Tableau: invariants, exact JSON, reduced form."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s4s import S4SError, Tableau


def random_tableau(nfe: int, seed: int) -> Tableau:
    g = torch.Generator().manual_seed(seed)
    levels = torch.rand(nfe + 1, generator=g, dtype=torch.float64).add(0.01).cumsum(0).flip(0)
    A, B = (torch.randn(nfe, nfe, generator=g, dtype=torch.float64).tril() for _ in range(2))
    eval_levels = levels[:-1] * torch.rand(nfe, generator=g, dtype=torch.float64).add(0.5)
    return Tableau(levels, A, B, eval_levels, kappa=0.7, meta={"a": [1, "b"]})


@given(st.integers(1, 12), st.integers(0, 2**31))
def test_json_round_trip_is_exact(tmp_path_factory, nfe, seed):
    tableau = random_tableau(nfe, seed)
    path = tmp_path_factory.mktemp("t") / "t.json"
    tableau.save(path)
    back = Tableau.load(path)
    for name in ("levels", "eval_levels", "A", "B"):
        assert torch.equal(getattr(tableau, name), getattr(back, name))
    assert back.kappa == tableau.kappa and back.meta == tableau.meta and back.digest() == tableau.digest()


@given(st.integers(1, 8), st.integers(0, 2**31))
def test_reduced_form_is_what_the_rows_compute(nfe, seed):
    """Running the rows on symbols (unit vectors for y_0 and each D_j) gives the reduced form."""
    tableau = random_tableau(nfe, seed)
    unit = torch.eye(nfe + 1, dtype=torch.float64)
    nodes = [unit[0]]
    for n in range(nfe):
        nodes.append(sum(tableau.A[n, j] * nodes[j] + tableau.B[n, j] * unit[1 + j] for j in range(n + 1)))
    a, b = tableau.reduced()
    expected = torch.stack(nodes)
    assert torch.allclose(a, expected[:, 0], rtol=1e-9, atol=1e-9)
    assert torch.allclose(b, expected[:, 1:], rtol=1e-9, atol=1e-9)


def test_worked_example_of_the_module():
    tableau = Tableau(torch.tensor([2.0, 1.0, 0.5]), torch.eye(2) / 2, torch.eye(2) / 2)
    a, b = tableau.reduced()
    assert a.tolist() == [1, 0.5, 0.25] and b[-1].tolist() == [0.25, 0.5] and tableau.nfe == 2


def test_same_solver_written_in_two_ways():
    """y_2 = y_1/2 + D_1/2 and y_2 = y_0/4 + D_0/4 + D_1/2 are one solver; another level is another solver."""
    levels = torch.tensor([2.0, 1.0, 0.5])
    first = Tableau(levels, torch.eye(2) / 2, torch.eye(2) / 2)
    second = Tableau(levels, torch.tensor([[0.5, 0], [0.25, 0]]), torch.tensor([[0.5, 0], [0.25, 0.5]]))
    assert first.same_as(second) and second.same_as(first)
    assert not first.same_as(Tableau(levels, first.A, first.B, eval_levels=torch.tensor([2.0, 1.1])))
    assert not first.same_as(Tableau(levels, first.A, first.B, kappa=0.9))
    assert not first.same_as(Tableau(levels, first.A, first.B * 1.001))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": torch.tensor([2.0, 2.0, 0.5])}, "decrease strictly"),
        ({"levels": torch.tensor([2.0, 1.0, -0.5])}, "at or above 0"),
        ({"levels": torch.tensor([2.0])}, "at least 2"),
        ({"A": torch.ones(2, 2)}, "lower triangular"),
        ({"B": torch.eye(3)}, "shape"),
        ({"B": torch.tensor([[1.0, 0], [float("nan"), 1]])}, "not finite"),
        ({"eval_levels": torch.tensor([1.0, 0.0])}, "> 0"),
        ({"kappa": -1.0}, "kappa"),
    ],
)
def test_numbers_that_form_no_solver_are_refused(change, message):
    numbers = {"levels": torch.tensor([2.0, 1.0, 0.5]), "A": torch.eye(2), "B": torch.eye(2)}
    with pytest.raises(S4SError, match=message):
        Tableau(**{**numbers, **change})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d["levels"].__setitem__(1, 99.0), "decrease strictly"),
        (lambda d: d["levels"].pop(), "must have"),
        (lambda d: d["A"][1].pop(), "row n with n"),
        (lambda d: d["B"][1].__setitem__(0, "x"), "B.1.0"),
        (lambda d: d.__setitem__("nfe", 0), "nfe"),
        (lambda d: d.__setitem__("format", "s4s-tableau/9"), "format"),
        (lambda d: d.__setitem__("extra", 1), "extra"),
        (lambda d: d.pop("kappa"), "kappa"),
        (lambda d: d["B"][0].__setitem__(0, float("nan")), "B.0.0"),
    ],
)
def test_json_edited_into_nonsense_names_the_file_and_the_key(tmp_path, edit, message):
    path = tmp_path / "t.json"
    random_tableau(3, 0).save(path)
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    with pytest.raises(S4SError, match=message) as error:
        Tableau.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[1, 2]"])
def test_files_that_are_no_tableau(tmp_path, content):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(S4SError, match=r"t\.json"):
        Tableau.load(path)
    with pytest.raises(S4SError, match="No such file"):
        Tableau.load(tmp_path / "absent.json")
