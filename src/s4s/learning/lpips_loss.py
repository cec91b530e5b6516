"""The LPIPS distance (Zhang et al. 2018, arXiv 1801.03924), with the linear heads of the PyPI package `lpips`."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from s4s.errors import S4SError, needed_for
from s4s.files.checksum import file_digest
from s4s.learning.losses import Blocks, Distance
from s4s.models.torch_checkpoint import check_content

URL = "https://download.pytorch.org/models/"
# Torchvision's files; the sha256 of each begins with the digits at the end of its name.
TRUNKS = {
    "alex": "alexnet-owt-7be5be79.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
    "vgg": "vgg16-397923af.pth",
}
SMALLEST = 32  # pixels on a side; the trunks halve an image up to 4 times


def load_lpips(
    net: str = "vgg", weights: Path | None = None, sha256: str | None = None, device: str | torch.device = "cpu"
) -> Distance:
    """LPIPS of images [B, 1 or 3, H, W] in [-1, 1] on `device`; computed in float32, as lpips.LPIPS(net=net) does.

    Grey images are repeated to three channels. A side of fewer than 32 pixels is enlarged to 32, bilinearly: the trunks
    halve an image up to 4 times. One block a layer, [B, channels * H' * W']; gradients are finite everywhere.

    Args:
        net: the trunk: alex, squeeze or vgg.
        weights: torchvision's file of the trunk; without it, the one in torch's hub folder, downloaded if it is not there.
        sha256: of the file `weights`; without it, the sha256 must begin with the digits in torchvision's file name.
        device: where the network is put.

    Raises:
        S4SError: if the net is unknown, the package is missing, or the trunk cannot be had or is another; from the
            distance: if images have another number of channels.
    """
    if net not in TRUNKS:
        raise S4SError(f"unknown net {net!r} of the distance lpips; known: {', '.join(TRUNKS)}")
    if sha256 is not None and weights is None:
        raise S4SError("lpips: a sha256 needs the file it belongs to: give its path as `lpips_weights: PATH` under `fit:`")
    package = _package()  # before anything large is downloaded
    state = _trunk_state(net, weights, sha256)
    model = _network(package, net, state).to(device)
    roots = [head.model[-1].weight.sqrt() for head in model.lins]  # [1, channels, 1, 1], none of them negative

    def blocks(images: Tensor) -> Blocks:
        layers = model.net(model.scaling_layer(_large_and_coloured(images)))
        return [
            (_unit(layer) * (root / math.sqrt(layer[0, 0].numel()))).flatten(1)
            for layer, root in zip(layers, roots, strict=True)
        ]

    return Distance(blocks, "square")


def check_images(images: Tensor) -> None:
    """Raise S4SError where these are no images [B, 1 or 3, H, W]."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise S4SError(f"the distance lpips needs images [B, 1 or 3, H, W], not {list(images.shape)}; take l2 for other states")


def _large_and_coloured(images: Tensor) -> Tensor:
    """[B, 1 or 3, H, W] -> [B, 3, at least 32, at least 32], float32."""
    check_images(images)
    images = images.float()
    size = [max(side, SMALLEST) for side in images.shape[2:]]
    if size != list(images.shape[2:]):
        images = interpolate(images, size=size, mode="bilinear", align_corners=False)
    return images.expand(-1, 3, -1, -1)


def _unit(layer: Tensor) -> Tensor:
    """Activations scaled to unit length over channels, by the formula of the package.

    The package's own gradient is NaN where no channel is active, the root's being infinite at 0; hence the clamp.
    """
    return layer / (layer.square().sum(1, keepdim=True).clamp_min(1e-30).sqrt() + 1e-10)


def _package() -> ModuleType:
    with needed_for("the distance lpips"):
        import lpips
    package: ModuleType = lpips
    return package


def _trunk_state(net: str, weights: Path | None, sha256: str | None) -> dict[str, Tensor]:
    """The trunk's state from a file that was checked, or from a download that torch checks."""
    if weights is None:
        downloaded = Path(torch.hub.get_dir()) / "checkpoints" / TRUNKS[net]
        if downloaded.is_file():  # torch checks what it downloads, but not what it finds
            weights = downloaded
    if weights is not None:
        _check_digest(net, weights, sha256)
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        if weights is None:
            return torch.hub.load_state_dict_from_url(URL + TRUNKS[net], check_hash=True, **options)
        with weights.open("rb") as file:
            check_content(file, weights)
        state: dict[str, Tensor] = torch.load(weights, **options)
        return state
    except Exception as error:  # no network, a full disk, a damaged file: each fails in its own ways
        problem = f"cannot read {weights}" if weights else "the download failed"
        raise _refused(net, f"{problem}: {str(error) or type(error).__name__}") from error


def _check_digest(net: str, weights: Path, sha256: str | None) -> None:
    expected = sha256.lower() if sha256 else TRUNKS[net].removesuffix(".pth").rsplit("-", 1)[1]
    try:
        found = file_digest(weights)
    except OSError as error:
        raise _refused(net, f"cannot read {weights}: {error.strerror}") from error
    if found != expected if sha256 else not found.startswith(expected):
        expectation = expected if sha256 else f"one that begins with {expected}"
        raise _refused(net, f"{weights}: wrong sha256: expected {expectation}, found {found}")


def _network(package: ModuleType, net: str, state: dict[str, Tensor]) -> Any:
    """The package's network with its own linear heads and the trunk's state, frozen.

    The trunk is built at random, so that the package downloads nothing by itself, and without a trace in torch's
    global generator. Its slices number the layers as torchvision's `features` does.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")  # the package's arguments are old
        model = package.LPIPS(net=net, pnet_rand=True, verbose=False)
    try:
        model.net.load_state_dict({name: state["features." + name.split(".", 1)[1]] for name in model.net.state_dict()})
    except (KeyError, IndexError, TypeError, RuntimeError) as error:
        raise _refused(net, f"the file holds the weights of another network: {error}") from error
    return model.requires_grad_(False).eval()


def _refused(net: str, problem: str) -> S4SError:
    return S4SError(
        f"the distance lpips has no trunk {net}: {problem}; get torchvision's {TRUNKS[net]} from {URL}{TRUNKS[net]} "
        "and give its path as `lpips_weights: PATH` under `fit:`"
    )
