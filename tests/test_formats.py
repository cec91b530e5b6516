"""Every format of weights from the teacher's pairs to a score, in this process; test_workflow.py runs two of them as jobs."""

import pytest

import s4s
from s4s.learning.draw import draw_samples
from s4s.learning.teacher import TeacherPairs, write_pairs
from s4s.metrics.load import load_features
from s4s.metrics.score import score_samples
from s4s.models.model_files import read_model_file
from s4s.models.seeds import sample_seeds
from tests.builders import formats
from tests.builders.chosen import often

# diffusers reads tensors in NumPy's old way, and announces what it means to drop
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]

SIZES = {"train": 4, "val": 4, "test~0": 12}
SETTINGS = s4s.FitSettings(distance="l2", iterations=2, batch=4, validate_every=2)


def seeds(split):
    return sample_seeds(split.partition("~")[0], SIZES[split])


@pytest.mark.parametrize("name", often(formats.NAMES, "conditional"))
def test_every_format_of_weights_from_teacher_to_score(tmp_path, name):
    """Teacher, fit, samples and scores."""
    path = formats.write(name, tmp_path)
    description = read_model_file(path)
    assert (getattr(description, "prompts", None) is not None) == (name in formats.OF_TEXT)
    model = s4s.load_model(path)
    teacher = s4s.solver("unipc", s4s.levels("logsnr", 6, model), order=3).with_meta(token="teacher")
    pairs = {split: tmp_path / f"{split}.h5" for split in SIZES}
    for split, file in pairs.items():
        write_pairs(model, teacher, split, seeds(split), 512, file)
    ddim = s4s.solver("ddim", s4s.levels("logsnr", 3, model)).with_meta(token="ddim")
    taught = TeacherPairs.load([pairs["train"]], [pairs["val"]])
    options = {"driver": "alternate", "decoupled": True, "settings": SETTINGS, "batch_size": model.block}
    result = s4s.fit(model, taught, "lms", ddim.levels, base=s4s.solver("ipndm", ddim.levels, order=2), **options)
    assert min(entry["val"] for entry in result.history) <= result.history[0]["val"]
    for tableau in (ddim, result.tableau.with_meta(token="learned")):
        samples = tmp_path / f"{tableau.meta['token']}.h5"
        draw_samples(model, tableau, {"test~0": seeds("test~0")}, 512, samples)
        score = score_samples(model, load_features(path), samples, [pairs["test~0"]])
        assert score["fid_mean"] > 0 and score["global_error_mean"] > 0
        assert score["evaluations"] == (6 if name in {"conditional", *formats.OF_TEXT} else 3)
