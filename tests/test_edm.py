"""Checkpoints of NVlabs/edm: equality with the original code, full-size networks, and files that mean harm."""

import json
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import s4s
from s4s import S4SError
from s4s.models.description import EDMModel
from s4s.models.load import load_outline
from tests.builders import edm
from tests.builders.weights import fill, fingerprint
from tests.edm_golden import inputs

GOLDEN = json.loads((Path(__file__).parent / "golden/edm.json").read_text())


def described(path, **changes):
    """The YAML file of a checkpoint."""
    values = {"name": "tiny", "kind": "edm", "path": path.name, **changes}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(values))
    return path.with_suffix(".yaml")


@pytest.mark.parametrize("name", edm.TINY)
def test_outputs_are_those_of_the_original_code(tmp_path, name):
    model = s4s.load_model(described(edm.write(name, tmp_path / "tiny.pkl")))
    y, s, labels = inputs(edm.TINY[name][2])
    expected = torch.tensor(GOLDEN["outputs"][name]).reshape(y.shape)
    scale = expected.abs().amax((1, 2, 3), keepdim=True).clamp(min=1)
    assert ((model(y, s, labels) - expected) / scale).abs().max() < 1e-5
    one = model(y[:1], s[0], None if labels is None else labels[:1])
    assert torch.allclose(one, expected[:1], atol=1e-5 * scale[0].item())


def test_the_builders_files_ask_for_what_the_originals_do(tmp_path):
    names = {name for kind in edm.TINY for name in edm.names_asked_for(edm.write(kind, tmp_path / f"{kind}.pkl"))}
    assert names >= set(GOLDEN["names"])


@pytest.mark.parametrize("name", edm.FULL)
def test_full_size_networks_have_the_published_parameters(name):
    with torch.device("meta"):
        network = edm.raw_network(*edm.FULL[name])
    assert fingerprint(network) == GOLDEN["full"][name]
    published = {"edm-cifar10-32x32-uncond-vp": 55.7, "edm-ffhq-64x64-uncond-vp": 61.8, "edm-afhqv2-64x64-uncond-vp": 61.8}
    millions = {**published, "edm-imagenet-64x64-cond-adm": 295.9}.get(name)
    assert millions is None or round(GOLDEN["full"][name]["parameters"] / 1e6, 1) == millions


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in edm.FULL if "afhq" not in name])
def test_a_full_size_forward_pass(name):
    preconditioning, architecture, changes = edm.FULL[name]
    network = fill(edm.raw_network(preconditioning, architecture, changes))
    size, classes = changes["img_resolution"], changes.get("label_dim", 0)
    labels = torch.tensor([3]) if classes else None
    with torch.inference_mode():
        output = network(torch.ones(1, 3, size, size), torch.tensor([0.3]), labels)
    assert output.shape == (1, 3, size, size) and output.isfinite().all() and output.std() > 0


def test_classes_are_the_samples_own_and_absent_ones_are_zero(tmp_path):
    model = s4s.load_model(described(edm.write("edm-adm", tmp_path / "tiny.pkl")))
    y, s, _ = inputs(edm.TINY["edm-adm"][2])
    assert sorted(model.conditions(s4s.models.seeds.sample_seeds("test", 4)).tolist()) == [0, 1, 2, 3]
    assert not torch.allclose(model(y, s), model(y, s, torch.zeros(4, dtype=torch.long)))
    with pytest.raises(S4SError, match="between 0 and 3"):
        model(y, s, torch.full((4,), 9))


def test_an_outline_needs_no_weights(tmp_path):
    outline = load_outline(described(tmp_path / "absent.pkl", s_max=50.0))
    assert (outline.name, outline.s_min, outline.s_max) == ("tiny", 0.002, 50.0)


class Runs:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def tiny(arguments=None):
    return edm.checkpoint(*edm.TINY["edm-ddpmpp"], arguments)


def harmful(kind, marker):
    command = Runs(os.system, f"touch {marker}")
    if kind == "system":
        return command
    if kind == "beside the network":
        return {**tiny(), "extra": [command]}
    if kind == "arguments":
        return tiny({"dropout": command})
    if kind == "import":
        return {**tiny(), "extra": Runs(__import__, "antigravity")}
    if kind == "eval":
        return {**tiny(), "extra": Runs(eval, "1 + 1")}
    if kind == "subclass":
        return {**tiny(), "extra": Runs(getattr, OrderedDict, "fromkeys")}
    return {**tiny(), "extra": Runs(torch.load, str(marker))}


HARM = ["system", "beside the network", "arguments", "import", "eval", "subclass", "load"]


@pytest.mark.parametrize("kind", HARM)
def test_nothing_of_a_harmful_pickle_runs(tmp_path, kind):
    marker = tmp_path / "marker"
    path = edm.dump(harmful(kind, marker), tmp_path / "tiny.pkl")
    with pytest.raises(S4SError, match=r"refused: it asks for .*Nothing in it was executed") as error:
        s4s.load_model(described(path))
    assert not marker.exists() and len(str(error.value).splitlines()) == 1


def test_code_within_a_tensors_bytes_does_not_run(tmp_path):
    """What torch saves within the pickle is a pickle again."""
    marker = tmp_path / "marker"
    inner = pickle.dumps(Runs(os.system, f"touch {marker}"), protocol=2)
    path = edm.dump({**tiny(), "extra": Runs(torch.storage._load_from_bytes, inner)}, tmp_path / "tiny.pkl")
    with pytest.raises(S4SError, match="not a pickle of NVlabs/edm, or damaged"):
        s4s.load_model(described(path))
    assert not marker.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_files_are_refused(tmp_path, share):
    path = edm.write("edm-ddpmpp", tmp_path / "tiny.pkl")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(S4SError, match="or damaged"):
        s4s.load_model(described(path))


BOMBS = {
    "memo index": b"\x80\x04]r\xff\xff\xff\xff.",
    "long bytes": b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b"x.",
    "frame": b"\x80\x04\x95" + (1 << 62).to_bytes(8, "little") + b"].",
    "many objects": b"\x80\x04" + b"]0" * 2_600_000 + b".",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused(tmp_path, kind):
    path = tmp_path / "tiny.pkl"
    path.write_bytes(BOMBS[kind])
    with pytest.raises(S4SError, match="or damaged"):
        s4s.load_model(described(path))


def test_tensors_larger_than_the_file_are_refused(tmp_path):
    wide = torch.zeros(1).expand(1 << 40)
    path = edm.dump({"ema": wide}, tmp_path / "tiny.pkl")
    with pytest.raises(S4SError, match="a tensor of size"):
        s4s.load_model(described(path))


@pytest.mark.parametrize(("offset", "stride"), [(0, 10**9), (10**9, 1), (3, 1)])
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, offset, stride):
    """torch itself would make the storage larger."""
    with warnings.catch_warnings(action="ignore"):
        storage = torch.zeros(4).storage()
    far = Runs(torch._utils._rebuild_tensor_v2, storage, offset, (2,), (stride,), False, {})
    path = edm.dump({"ema": far}, tmp_path / "tiny.pkl")
    with pytest.raises(S4SError, match="a tensor of size"):
        s4s.load_model(described(path))


def test_the_same_bytes_again_and_again_are_refused(tmp_path):
    content = pickle.dumps(0, protocol=2) + bytes(100_000)
    path = edm.dump([Runs(torch.storage._load_from_bytes, content) for _ in range(50)], tmp_path / "tiny.pkl")
    with pytest.raises(S4SError, match="or damaged"):
        s4s.load_model(described(path))


def test_zip_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "tiny.pkl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    with pytest.raises(S4SError, match="or damaged"):
        s4s.load_model(described(tmp_path / "tiny.pkl"))


def test_a_wrong_checksum_is_found_before_anything_is_read(tmp_path):
    path = edm.dump(Runs(os.system, f"touch {tmp_path / 'marker'}"), tmp_path / "tiny.pkl")
    with pytest.raises(S4SError, match="wrong sha256: the model file expects 0000"):
        s4s.load_model(described(path, sha256="0" * 64))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_blocks": 10**9}, "recorded argument num_blocks"),
        ({"channel_mult": [10**9]}, "recorded argument channel_mult"),
        ({"model_type": "OtherNet"}, "network 'OtherNet'; known: SongUNet, DhariwalUNet"),
        ({"surprise": 1}, "recorded argument surprise"),
        ({"num_blocks": 2}, r"do not fit SongUNet: \d+ missing"),
        ({"model_channels": 16}, r"\d+ of another shape \(dec"),
        ({"dropout": np.float64(0.5)}, None),
    ],
)
def test_recorded_arguments_are_checked(tmp_path, arguments, message):
    path = described(edm.dump(tiny(arguments), tmp_path / "tiny.pkl"))
    if message is None:
        assert s4s.load_model(path).shape == (3, 8, 8)
        return
    with pytest.raises(S4SError, match=message) as error:
        s4s.load_model(path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "data", [{"ema": 3}, [1, 2], {"ema": edm.Persistent("EDMPrecond", {"_init_kwargs": {}, "_modules": []})}]
)
def test_other_pickles_are_refused(tmp_path, data):
    with pytest.raises(S4SError, match=r"not a (pickle of NVlabs/edm|network that s4s knows)"):
        s4s.load_model(described(edm.dump(data, tmp_path / "tiny.pkl")))


def test_a_module_within_itself_ends(tmp_path):
    data = tiny()
    modules = data["ema"].state["_modules"]
    loop = torch.nn.ModuleDict()
    loop._modules["loop"] = loop
    modules["loop"] = loop
    with pytest.raises(S4SError, match=r"refused: more than 500,000 parts"):
        s4s.load_model(described(edm.dump(data, tmp_path / "tiny.pkl")))


def test_the_schema_is_strict():
    with pytest.raises(ValueError, match="greater than 0"):
        EDMModel(name="x", kind="edm", path="x.pkl", s_min=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", edm.TINY)
def test_a_gpu_gives_what_the_cpu_gives(tmp_path, name):
    path = described(edm.write(name, tmp_path / "tiny.pkl"))
    y, s, labels = inputs(edm.TINY[name][2])
    here, there = s4s.load_model(path)(y, s, labels), s4s.load_model(path, "cuda")(y.cuda(), s.cuda(), labels).cpu()
    assert torch.allclose(here, there, atol=1e-3 * here.abs().max().item())
