"""What jobs would fail for, and the config and the files that are there tell: said in one line before any job starts."""

import numpy as np
import pytest
import yaml
from PIL import Image

from s4s.errors import S4SError
from s4s.learning.losses import make_distance
from s4s.metrics.fid import moments
from s4s.models.seeds import sample_seeds
from s4s.study import plan, targets
from s4s.study.study import Study
from tests.test_study import DEFAULT, ROOT, study


def model(folder, name="own", **changes):
    """The digits under another name, with other features."""
    values = yaml.safe_load((ROOT / "config/models/digits.yaml").read_text()) | {"name": name} | changes
    for entry in (values, values.get("features"), values.get("perceptual")):
        if entry and "path" in entry:
            entry["path"] = str(ROOT / "config/models" / entry["path"])
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return str(folder / f"{name}.yaml")


def statistics(folder, size):
    np.savez(folder / "real.npz", mu=np.zeros(size), sigma=np.eye(size))
    return {"path": str(folder / "real.npz")}


def refused(message, **changes):
    with pytest.raises(S4SError, match=message) as error:
        study(**changes)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("samples", [2, 31, 32])
def test_a_seed_needs_more_samples_than_there_are_features(samples):
    """Digits have 32. The same words as those of the job that would fail."""
    words = f"FID needs more samples than features: {samples} samples, 32 features"
    refused(rf"^config: samples: {words} .*digits.yaml\); raise samples to 33 or more", samples=samples)
    with pytest.raises(S4SError, match=words):
        moments(np.zeros((samples, 32)))
    study(samples=33)


def test_a_models_own_samples_count_where_it_has_some():
    refused("^config: samples: FID needs more .*: 20 samples, 32", per_model={"digits": {"samples": 20}})
    study(samples=20, per_model={"digits": {"samples": 40}})


def test_a_further_comparison_is_refused_where_it_is_asked_for(tmp_path):
    further = {"models": [model(tmp_path, study={"samples": 20})], "nfe": [3], "solvers": ["ddim-logsnr"]}
    own = study(comparisons={"more": further})
    with pytest.raises(S4SError, match=r"20 samples, 32 features .*own\.yaml"):
        own.cells("study/more")


@pytest.mark.parametrize(("kind", "size", "samples"), [("inception", 2048, 2048), ("torchscript", 12, 12), ("states", 7, 5)])
def test_each_kind_of_features_is_counted(tmp_path, kind, size, samples):
    given = statistics(tmp_path, size)
    network = given if kind == "states" else {"path": "network.pt", "statistics": given}
    path = model(tmp_path, features={"kind": kind, "name": "own features", **network})
    refused(f"{samples} samples, {size} features .*own.yaml", models=[path], samples=samples)
    study(models=[path], samples=size + 1)


def test_statistics_are_of_the_network(tmp_path):
    features = {"kind": "inception", "path": "network.pt", "statistics": statistics(tmp_path, 64)}
    refused(
        r"own.yaml: features: statistics have 64 features, but the network gives 2048",
        models=[model(tmp_path, features=features)],
    )


def test_reference_images_are_counted(tmp_path):
    (tmp_path / "real/more").mkdir(parents=True)
    for n in range(3):
        Image.new("L", (8, 8)).save(tmp_path / f"real/more/{n}.png")
    path = model(tmp_path, features={"kind": "inception", "path": "network.pt", "images": "real"})
    refused(
        r"FID needs more reference images than features: 3 reference images, 2048 features in .*real",
        models=[path],
        samples=3000,
    )


def test_what_cannot_be_known_is_left_to_the_jobs(tmp_path):
    """Files that are not there yet, or not what they should be."""
    (tmp_path / "broken.npz").write_text("nothing")
    for statistics in ("absent.npz", "broken.npz"):
        features = {"kind": "torchscript", "name": "x", "path": "network.pt", "statistics": {"path": statistics}}
        study(models=[model(tmp_path, features=features)], samples=2)
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 100)
    for network in ("absent.safetensors", "broken.safetensors"):
        study(models=[model(tmp_path, features={"path": str(tmp_path / network)})], samples=2)


def test_a_model_without_features_is_one_line_that_names_its_file_and_the_key(tmp_path):
    path = model(tmp_path, features=None)
    refused(r"own\.yaml: features: missing; the workflow scores samples with this network, so name one", models=[path])
    further = study(comparisons={"more": {"models": [path], "nfe": [3], "solvers": ["ddim-logsnr"]}})
    with pytest.raises(S4SError, match=r"own\.yaml: features: missing"):
        further.cells("study/more")
    values = {**DEFAULT, "models": [path], "nfe": [3], "solvers": ["s4s_alt"], "comparisons": {}}
    assert Study.read(values, scored=False).cells(), "s4s fit scores nothing"


@pytest.mark.parametrize("distance", ["perceptual", "features"])
def test_a_fit_needs_the_network_of_its_distance(tmp_path, distance):
    path = model(tmp_path, perceptual=None)
    words = f"distance '{distance}' needs a perceptual network: give the model's file one, or take l2 or l1"
    changes = {"models": [path], "solvers": ["s4s_alt"], "nfe": [3]}
    refused(rf"own.yaml: perceptual: missing, but the fit of s4s_alt needs it: {words}", **changes, fit={"distance": distance})
    with pytest.raises(S4SError, match=words):
        make_distance(distance)
    study(**changes, fit={"distance": "l2"})
    study(models=[path], solvers=["ddim-logsnr"], nfe=[3])


def of_teacher(folder, **changes):
    """The digits with features that are compared with samples of the teacher."""
    (folder / "net.pth").touch()
    features = {"kind": "efficientnet_lite0", "path": str(folder / "net.pth"), "teacher": True, "components": 32, **changes}
    return model(folder, features={key: value for key, value in features.items() if value is not None})


def test_features_along_components_need_more_samples_than_these(tmp_path):
    """Of samples and of the teacher's; without components more than all features."""
    own = study(models=[of_teacher(tmp_path)], samples=33, teacher={"steps": 12, "reference": 33})
    assert own.split_size("own", "reference") == 33
    refused("FID needs more samples than features: 32 samples, 32 features", models=[of_teacher(tmp_path)], samples=32)
    short = {"steps": 12, "reference": 32}
    few = "^config: teacher.reference: FID needs more samples of the teacher than features: 32 samples of the teacher, 32 "
    refused(few, models=[of_teacher(tmp_path)], samples=33, teacher=short)
    script = {"kind": "torchscript", "name": "x"}
    refused(few, models=[of_teacher(tmp_path, **script)], samples=33, teacher=short)
    refused("40 samples, 1280 features", models=[of_teacher(tmp_path, components=None)])
    refused("features.components: 1281 of 1280 features; lower components", models=[of_teacher(tmp_path, components=1281)])


def test_the_samples_that_others_are_compared_with_are_made_counted_and_kept(tmp_path):
    size = {"steps": 12, "train": 32, "val": 24}
    own = study(models=[of_teacher(tmp_path)], teacher={**size, "reference": 600}, shard=256)
    shards = [f"results/teacher/own/shards/reference-{n}.h5" for n in range(3)]
    assert own.inputs("reference", model="own") == {"pairs": shards}
    assert {*shards, "results/reference/own.npz"} <= {*targets.kept(own)}
    assert own.inputs("score", model="own", solver="ddim-logsnr", nfe="3")["reference"] == ["results/reference/own.npz"]
    assert study().inputs("reference", model="digits") == {"pairs": []}
    more = study(models=[of_teacher(tmp_path)], teacher={**size, "reference": 700}, shard=256)
    assert plan.evaluations(more, "own")["teacher"] - plan.evaluations(own, "own")["teacher"] == 12 * 100
    splits = [sample_seeds(split, 600) for split in ("train", "val", "test", "reference")]
    assert len(np.unique(np.concatenate(splits))) == 2400, "no noise is shared"
