"""LPIPS: equal to the package's own, gradients, small and grey images, clear errors."""

import hashlib
import importlib
import sys
from urllib.error import URLError

import pytest
import torch

from s4s import S4SError
from s4s.learning import lpips_loss
from s4s.learning.lpips_loss import load_lpips

lpips = pytest.importorskip("lpips")
tv = lpips.pretrained_networks.tv
BUILDERS = {"alex": "alexnet", "squeeze": "squeezenet1_1", "vgg": "vgg16"}


def random_trunk(net):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(tv, BUILDERS[net])(weights=None)


def write(trunk, path, whole=True):
    """The trunk in torchvision's format, without the large classifier if not `whole`; its path and sha256."""
    state = {name: tensor for name, tensor in trunk.state_dict().items() if whole or name.startswith("features.")}
    torch.save(state, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def squeeze_file(tmp_path_factory):
    return write(random_trunk("squeeze"), tmp_path_factory.mktemp("lpips") / "squeeze.pth")


@pytest.fixture(scope="module")
def squeeze(squeeze_file):
    return load_lpips("squeeze", *squeeze_file)


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.slow
@pytest.mark.parametrize(("net", "shape"), [("alex", (3, 3, 40, 64)), ("squeeze", (3, 3, 40, 64)), ("vgg", (1, 3, 32, 32))])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_is_the_packages_own_distance(net, shape, tmp_path, monkeypatch):
    """The package gets the same trunk by its own way: from torchvision, which returns it here."""
    trunk = random_trunk(net)
    before = torch.get_rng_state()
    distance = load_lpips(net, *write(trunk, tmp_path / "trunk.pth", whole=net == "squeeze"))
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.setattr(tv, BUILDERS[net], lambda pretrained: trunk)
    reference = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    x, y = images(*shape), images(*shape, seed=1)
    with torch.no_grad():
        assert torch.allclose(distance(x, y), reference(x, y).flatten(), rtol=1e-4, atol=0)
        assert not distance(x, x).any()
        grey = x[:, :1]
        assert torch.allclose(distance(grey, y), reference(grey.repeat(1, 3, 1, 1), y).flatten(), rtol=1e-4, atol=0)


def test_small_grey_images_are_enlarged(squeeze):
    x, y = images(2, 1, 8, 8), images(2, 1, 8, 8, seed=1)
    large = [torch.nn.functional.interpolate(z, size=(32, 32), mode="bilinear") for z in (x, y)]
    assert torch.equal(squeeze(x, y), squeeze(*large)) and squeeze(x, y).shape == (2,) and (squeeze(x, y) > 0).all()
    assert torch.allclose(squeeze(x.double(), y.double()), squeeze(x, y))
    assert all(block.ndim == 2 and len(block) == 2 for block in squeeze.blocks(x))


def test_gradients_flow_to_the_images_only(squeeze):
    x = images(2, 1, 8, 8).requires_grad_()
    squeeze(x, images(2, 1, 8, 8, seed=1)).sum().backward()
    assert x.grad.isfinite().all() and (x.grad.flatten(1) != 0).any(1).all()
    assert not squeeze(x.detach(), x.detach()).requires_grad


def test_gradients_are_finite_where_no_channel_is_active():
    layer = torch.tensor([0.0, 0.0, 3.0, 4.0]).reshape(2, 2, 1, 1).requires_grad_()
    unit = lpips_loss._unit(layer)
    unit.sum().backward()
    assert torch.allclose(unit.flatten(), torch.tensor([0.0, 0.0, 0.6, 0.8])) and layer.grad.isfinite().all()


def test_without_a_sha256_the_file_name_of_torchvision_gives_its_beginning(squeeze_file, tmp_path, monkeypatch):
    path, sha256 = squeeze_file
    with pytest.raises(S4SError, match=r"wrong sha256: expected one that begins with b8a52dc0, found .*lpips_weights: PATH"):
        load_lpips("squeeze", path)
    name = f"squeezenet1_1-{sha256[:8]}.pth"
    monkeypatch.setitem(lpips_loss.TRUNKS, "squeeze", name)
    assert load_lpips("squeeze", path).kind == "square"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name).write_bytes(path.read_bytes()[:-1])  # an earlier download, damaged since
    with pytest.raises(S4SError, match=f"{name}: wrong sha256"):
        load_lpips("squeeze")


def test_wrong_files_are_refused(squeeze_file, tmp_path):
    path, sha256 = squeeze_file
    where = r"squeezenet1_1-b8a52dc0.pth from https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth .*lpips_weights"
    with pytest.raises(S4SError, match=f"{path}: wrong sha256: expected {'0' * 64}, found {sha256}; .*{where}"):
        load_lpips("squeeze", path, "0" * 64)
    with pytest.raises(S4SError, match=f"cannot read {tmp_path}/none.pth: No such file or directory; .*{where}"):
        load_lpips("squeeze", tmp_path / "none.pth")
    with pytest.raises(S4SError, match="the weights of another network"):
        load_lpips("alex", path, sha256)
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(S4SError, match=f"cannot read {damaged}: "):
        load_lpips("squeeze", damaged, hashlib.sha256(damaged.read_bytes()).hexdigest())
    with pytest.raises(S4SError, match="needs the file it belongs to"):
        load_lpips("squeeze", sha256=sha256)


def test_the_trunk_is_downloaded_where_no_file_is_given(squeeze_file, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    calls = []

    def download(url, **options):
        calls.append((url, options))
        return torch.load(squeeze_file[0], weights_only=True)

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    assert load_lpips("squeeze").kind == "square"
    ((url, options),) = calls
    assert url == "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
    assert options["check_hash"] and options["weights_only"]

    def fail(url, **options):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(S4SError, match=r"the download failed: .*no network.*; get torchvision's vgg16-397923af.pth from https"):
        load_lpips()


def test_other_mistakes_are_named(squeeze, monkeypatch):
    with pytest.raises(S4SError, match="unknown net 'resnet' of the distance lpips; known: alex, squeeze, vgg"):
        load_lpips("resnet")
    for shape in [(2, 2, 8, 8), (2, 4, 8, 8), (2, 3)]:
        with pytest.raises(S4SError, match=r"needs images \[B, 1 or 3, H, W\], not \[2, "):
            squeeze(torch.zeros(shape), torch.zeros(shape))
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(S4SError, match="needs the package lpips"):
        load_lpips("squeeze")


def test_operators_that_load_are_not_declared(monkeypatch):
    """Declared twice, once by torchvision's library, they would abort Python."""
    loaded = []
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    monkeypatch.setattr(torch.library, "define", lambda *_: pytest.fail("declared"))
    importlib.import_module("torchvision")
    assert len(loaded) == 1 and "_C" in loaded[0]
