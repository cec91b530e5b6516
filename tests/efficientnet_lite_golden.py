"""Writes tests/golden/efficientnet_lite.json with the package's own network: its tensors' shapes, features of two noisy images.

    pip install efficientnet-lite-pytorch==0.1.0 && python -m tests.efficientnet_lite_golden

With --weights FILE it compares the features of the published file (`snakemake galaxies` fetches it) instead.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from s4s.metrics.efficientnet_lite import EfficientNetLite0
from tests.builders.galaxygrad import noisy
from tests.builders.weights import weights_of

GOLDEN = Path(__file__).parent / "golden/efficientnet_lite.json"
SIZES = (224, 64)


def main() -> None:
    from efficientnet_lite_pytorch import EfficientNet

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="the published file")
    weights = parser.parse_args().weights
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    state = {name: value for name, value in network.state_dict().items() if value.ndim}
    if weights:
        state = torch.load(weights, weights_only=True)
    else:
        random = {name: weights_of(name, value.shape) for name, value in state.items()}
        state = {name: value.abs() + 0.5 if name.endswith("running_var") else value for name, value in random.items()}
    network.load_state_dict(state, strict=False)
    found = {}
    with torch.inference_mode():
        for size in SIZES:
            images = torch.from_numpy(noisy(size).repeat(3, 1)).clamp(-1, 1)
            features = network.extract_features(images).mean((2, 3))
            difference = (EfficientNetLite0(state)(images) - features).abs().max() / features.abs().max()
            print(f"{size} pixels: largest difference {difference:.2g} of the largest feature")
            found[size] = features[:, ::41].tolist()
    if not weights:
        shapes = {name: list(value.shape) for name, value in state.items()}
        GOLDEN.write_text(json.dumps({"shapes": shapes, "features": found}) + "\n")


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
