"""TorchScript files that stand for feature networks, with weights by name."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.builders.weights import weights_of


class Layers(nn.Module):
    """A normalised picture [B, 3, 299, 299] to 2048 features, as the trunk of NVIDIA's Inception file takes and gives them."""

    def __init__(self, features: int):
        super().__init__()
        self.project = nn.Linear(3 * 8 * 8, features)
        self.project.load_state_dict({name: weights_of(name, t.shape) for name, t in self.project.state_dict().items()})

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.project(nn.functional.adaptive_avg_pool2d(x, 8).flatten(1)))


class Inception(nn.Module):
    """The interface of NVIDIA's inception-2015-12-05.pt: `layers`, and a call that resizes by itself."""

    def __init__(self, features: int = 2048):
        super().__init__()
        self.layers = Layers(features)

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        resized = nn.functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)
        return self.layers((resized - 128) / 128)


class Small(nn.Module):
    """A few features of pictures of any size."""

    def __init__(self, features: int = 8):
        super().__init__()
        self.layers = Layers(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x / 128 - 1)


def write(network: nn.Module, path: Path) -> Path:
    """A TorchScript file."""
    torch.jit.script(network.eval()).save(str(path))
    return Path(path)


def write_small(folder: Path) -> dict:
    """A small feature network with statistics, and the YAML of them."""
    folder.mkdir(parents=True, exist_ok=True)
    write(Small(), folder / "small.pt")
    np.savez(folder / "real.npz", mu=np.full(8, 0.3), sigma=np.eye(8) * 0.1)
    statistics = {"path": str(folder / "real.npz")}
    return {"kind": "torchscript", "name": "small", "path": str(folder / "small.pt"), "statistics": statistics}
