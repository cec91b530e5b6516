"""Small files that claim, repeat or nest far more than they hold. CASES: name -> what makes one and returns its reader."""

import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from types import SimpleNamespace

import h5py
import numpy as np
import torch

import s4s
from s4s.cli.fit import _read as read_config
from s4s.export.card import _scores as read_scores
from s4s.files.rows import read_split, split_sizes
from s4s.metrics.moments_file import read_moments
from s4s.metrics.real_images import read_images
from s4s.models.description import WeightFile
from s4s.models.embedded.weights import load_classifier, save_tensors
from s4s.models.model_files import read_model_file
from s4s.models.paths import VE
from s4s.models.pipelines.prompts import read_prompts
from s4s.models.published import read_published
from s4s.models.torch_checkpoint import read_checkpoint
from s4s.schedules.gits import Costs
from s4s.schedules.imported import read_schedule
from s4s.study.study import Study
from s4s.tableau import Tableau
from tests.builders import edm

CASES = {}
MODEL = SimpleNamespace(name="x", path=VE(), s_min=0.002, s_max=80.0)
DOUBLINGS = 40


def case(name, *arguments):
    def add(function):
        CASES[name] = lambda folder: function(folder, *arguments)
        return function

    return add


class Call:
    """Pickled as a call of a function, and a state of what it returns."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


def doubled(part):
    """A list that holds one twice that holds one twice ..."""
    for _ in range(DOUBLINGS):
        part = [part, part]
    return part


# pickles

TUPLES = b"K\x01K\x01\x86q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(DOUBLINGS))
SHARED = b"h%c" % DOUBLINGS


@case("pickle: shared tuples as a key", b"}" + SHARED + b"K\x01s.")
@case("pickle: shared tuples as keys", b"}(" + SHARED + b"K\x01u.")
@case("pickle: shared tuples in a set", b"\x8f(" + SHARED + b"\x90.")
@case("pickle: shared tuples in a frozen set", b"(" + SHARED + b"\x91.")
@case("pickle: a set of a list of shared tuples", b"cbuiltins\nset\n](" + SHARED + b"e\x85R.")
@case("pickle: pairs with shared tuples", b"ccollections\nOrderedDict\n](" + SHARED + b"K\x01\x86e\x85R.")
@case(
    "pickle: a set of the same long list again and again",
    b"](" + b"K\x01" * 9000 + b"eq\xff" + b"cbuiltins\nset\nh\xff\x85R0" * 9000 + b"N.",
)
@case("pickle: an integer of a megabyte", b"\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20) + b".")
@case("pickle: an integer of 255 bytes", b"\x8a\xff" + b"\x7f" * 255 + b".")
@case("pickle: lists within lists", b"]" * 20_000 + b"a" * 19_999 + b".")
def _raw_pickle(folder, content):
    (folder / "x.pkl").write_bytes(b"\x80\x04" + TUPLES + content)
    return edm_model(folder)


def edm_model(folder):
    (folder / "x.yaml").write_text("name: x\nkind: edm\npath: x.pkl\n")
    return lambda: s4s.load_model(folder / "x.yaml")


def _modules(wide, deep):
    module = torch.nn.ModuleDict()
    for _ in range(deep):
        outer = torch.nn.ModuleDict()
        outer.__dict__["_modules"] = OrderedDict((str(i), module) for i in range(wide))
        module = outer
    return module


def _all_hold_all(count):
    lists = [[] for _ in range(count)]
    for one in lists:
        one += lists
    return lists


def _storage(claimed):
    """A file of torch before 1.6 that claims so many floats."""
    content = io.BytesIO()
    torch.save(torch.zeros(4), content, _use_new_zipfile_serialization=False)
    old = content.getvalue()
    place = old.index(b"K\x04N")
    return old[:place] + b"J" + struct.pack("<i", claimed) + old[place + 2 :]


def _typed():
    return torch.storage.TypedStorage(wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32, _internal=True)


def _rebuilt(sizes, strides, **options):
    return Call(torch._utils._rebuild_tensor_v2, _typed(), 0, sizes, strides, False, OrderedDict(), **options)


PICKLED = {
    "shared lists as a class's name": lambda: {"ema": edm.Persistent(doubled("x"), {})},
    "shared lists beside the network": lambda: {"ema": 1, "other": doubled("x")},
    "shared lists as an argument": lambda: edm.checkpoint(*edm.TINY["edm-ddpmpp"], {"dropout": doubled(1)}),
    "shared lists as an unknown argument": lambda: edm.checkpoint(*edm.TINY["edm-ddpmpp"], {"more": doubled(1)}),
    "shared lists as a numpy type": lambda: Call(np.dtype, doubled("x"), False, True),
    "modules shared 6^14 times": lambda: {"ema": edm.Persistent("EDMPrecond", {"_modules": {"model": _modules(6, 14)}})},
    "lists that hold each other": lambda: {"ema": _all_hold_all(14)},
    "an old storage of 2^31 floats": lambda: Call(torch.storage._load_from_bytes, _storage(2**31 - 1)),
    "a tensor of 2^33 numbers": lambda: _rebuilt((2**33,), (1,)),
    "a tensor with a list as a size": lambda: _rebuilt(([1], 10**9), (1, 1)),
    "a tensor with a list as a stride": lambda: _rebuilt((10**9, 1), ([1], 1)),
    "a tensor with 20 000 sizes": lambda: _rebuilt((2,) * 20_000, (0,) * 20_000),
    "a tensor that is given a larger size": lambda: _rebuilt((1,), (1,), state=(_typed(), 0, (2**33,), (1,))),
    "the deepest and widest network": lambda: edm.checkpoint(
        *edm.TINY["edm-ddpmpp"], {"num_blocks": 64, "channel_mult": [1] * 12, "img_resolution": 4096}
    ),
}


@case("pickle: more instructions than any network", b"]0" * 300_000)
def _many(folder, content):
    (folder / "x.pkl").write_bytes(b"\x80\x04" + content + b"N.")
    return edm_model(folder)


def _dumped(folder, make):
    edm.dump(make(), folder / "x.pkl")
    return edm_model(folder)


for _name, _make in PICKLED.items():
    case(f"pickle: {_name}", _make)(_dumped)


# files of torch


def _schedule(folder):
    return lambda: read_schedule(folder / "x.pt", MODEL)


def _weights(folder, name="x.ckpt"):
    return lambda: read_checkpoint(WeightFile(path=folder / name))


def _zipped(path, records, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {"data.pkl": b"", "version": b"3\n", "byteorder": b"little", **records}.items():
            archive.writestr(f"x/{name}", content)


@case("torch: an old schedule of 2^31 floats")
def _old_schedule(folder):
    (folder / "x.pt").write_bytes(_storage(2**31 - 1))
    return _schedule(folder)


@case("torch: a compressed schedule")
def _compressed(folder):
    torch.save(torch.zeros(1 << 20), folder / "whole")
    with zipfile.ZipFile(folder / "whole") as whole:
        _zipped(folder / "x.pt", {name.partition("/")[2]: whole.read(name) for name in whole.namelist()}, zipfile.ZIP_DEFLATED)
    (folder / "whole").unlink()
    return _schedule(folder)


@case("torch: a schedule of 2^33 numbers", lambda: _rebuilt((2**33,), (1,)))
@case("torch: a schedule that is given a larger size", lambda: _rebuilt((1,), (1,), state=(_typed(), 0, (2**33,), (1,))))
@case("torch: a schedule of bytes", lambda: Call(bytearray, 2**34))
@case("torch: a schedule of 10 000 numbers", lambda: torch.linspace(80, 1, 10_000))
@case("torch: a view of one number as 2^40", lambda: torch.zeros(1).expand(1 << 40))
def _saved_schedule(folder, make):
    torch.save({"best_t_steps": make()}, folder / "x.pt")
    return _schedule(folder)


@case("torch: weights of one number as 2^40", lambda: torch.zeros(1).expand(1 << 40))
@case("torch: weights that call for bytes", lambda: Call(bytearray, 2**34))
@case("torch: many views of the same weights", lambda: [torch.zeros(100_000)] * 50)
def _saved_weights(folder, make):
    made = make()
    torch.save(dict(enumerate(made)) if isinstance(made, list) else {"w": made}, folder / "x.ckpt")
    return _weights(folder)


@case("torch: shared tuples as a key", b"\x80\x02" + TUPLES + b"}" + SHARED + b"K\x01s.")
@case(
    "torch: a storage of 2^31 floats",
    b"\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuJ\xff\xff\xff\x7ftQ.",
)
def _crafted(folder, content):
    _zipped(folder / "x.ckpt", {"data.pkl": content, "data/0": bytes(16)})
    return _weights(folder)


@case("safetensors: a header of 100 MB")
def _header(folder):
    with (folder / "x.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 100_000_000))
        file.truncate(200_000_000)
    return _weights(folder, "x.safetensors")


@case("safetensors: settings of a network of 2^40 weights")
def _settings(folder):
    record = {"network": {"channels": 1 << 20, "in_channels": 1 << 20, "classes": 10, "size": 8}, "dataset": "digits"}
    save_tensors({"w": torch.zeros(1)}, record, folder / "x.safetensors")
    return lambda: load_classifier(WeightFile(path=folder / "x.safetensors"), torch.device("cpu"))


# YAML

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(DOUBLINGS))
YAMLS = {
    "anchors": LAUGHS,
    "merge keys": "a0: &a0 {x: 1}\n" + "".join(f"a{i + 1}: &a{i + 1} {{<<: [*a{i}, *a{i}]}}\n" for i in range(DOUBLINGS)),
    "a list that holds itself": "a: &a [*a]\n",
    "lists within lists": "a: " + "[" * 5000 + "]" * 5000 + "\n",
    "many entries": "a: [" + "1," * 100_000 + "1]\n",
    "an integer to the base 60": "a: 1" + ":1" * 100_000 + "\n",
    "an integer of 100 000 digits": "a: 0x" + "f" * 100_000 + "\n",
    "no date": "a: 2020-99-99\n",
    "no truth": "a: !!bool x\n",
}


def _indented(text, key):
    return f"{key}:\n" + "".join(f"  {line}\n" for line in text.splitlines())


@case("yaml: anchors under options", _indented(LAUGHS, "options"))
@case("yaml: anchors under study", _indented(LAUGHS, "study"))
def _model(folder, text):
    (folder / "x.yaml").write_text(f"name: x\nkind: python\nfunction: no:one\n{text}")
    return lambda: read_model_file(folder / "x.yaml")


def _config(folder, text):
    (folder / "x.yaml").write_text(text)
    return lambda: read_config(folder / "x.yaml")


for _name, _text in YAMLS.items():
    case(f"yaml: {_name}", _text)(_config)


@case("yaml: a gigabyte", ".yaml", lambda path: read_config(path))
@case("json: a tableau of a gigabyte", ".json", Tableau.load)
@case("text: prompts of a gigabyte", ".txt", lambda path: read_prompts(WeightFile(path=path)))
@case("text: a schedule of a gigabyte", ".txt", lambda path: read_schedule(path, MODEL))
@case("csv: scores of a gigabyte", ".csv", lambda path: read_scores(path, "m", "s", {}))
@case("csv: published figures of a gigabyte", ".csv", read_published)
def _sparse(folder, ending, read):
    path = folder / f"x{ending}"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    return lambda: read(path)


@case("config: shared lists")
def _shared_config(folder):
    return lambda: Study.read({"models": ["digits"], "per_model": {"digits": {"fit": doubled("x")}}})


# JSON, CSV, text

HEAD = '{"format": "s4s-tableau/1", "nfe": 1, "kappa": 1.0, "levels": [1.0, 0.5], "eval_levels": [1.0], "B": [[1.0]], '
JSONS = {
    "lists in a tableau's meta": HEAD + '"A": [[1.0]], "meta": {"a": [' + "[]," * 200_000 + "1]}}",
    "a tableau of texts": HEAD + '"meta": {}, "A": [' + '"a",' * 2_000_000 + "1]}",
    "a tableau with many keys": HEAD + '"A": [[1.0]], "meta": {}, ' + ", ".join(f'"k{i}": 1' for i in range(200_000)) + "}",
    "lists within lists": "[" * 100_000 + "]" * 100_000,
}


def _tableau(folder, text):
    (folder / "x.json").write_text(text)
    return lambda: Tableau.load(folder / "x.json")


for _name, _text in JSONS.items():
    case(f"json: {_name}", _text)(_tableau)


@case("json: captions of lists", '{"annotations": [' + "{}," * 1_100_000 + "{}]}")
@case("json: captions within captions", '{"annotations": ' + "[" * 100_000 + "]" * 100_000 + "}")
@case("json: an image without end", '{"annotations": [{"id": 1, "image_id": Infinity, "caption": "a"}]}')
def _captions(folder, text):
    (folder / "x.json").write_text(text)
    return lambda: read_prompts(WeightFile(path=folder / "x.json"))


@case("json: costs of texts", '{"levels": [1.0], "cost": [' + '"x",' * 2_000_000 + "1]}")
def _costs(folder, text):
    (folder / "x.json").write_text(text)
    return lambda: Costs.load(folder / "x.json")


@case("text: a schedule of 200 000 lists", "[2,1]" * 200_000)
@case("text: a schedule of 100 000 numbers", ",".join(str(100_000 - i) for i in range(100_000)))
@case("text: a schedule with a long name", "x" * 400_000 + "\n" + "[2,1]" * 100_000)
@case(
    "json: schedules with a long name",
    '{"' + "x" * 400_000 + '": {' + ",".join(f'"{i}": [2.0, 1.0]' for i in range(20_000)) + "}}",
)
def _text_schedule(folder, text):
    (folder / "x.txt").write_text(text)
    return lambda: read_schedule(folder / "x.txt", MODEL, "levels")


@case("csv: 300 000 columns and as many rows", ",".join(f"c{i}" for i in range(300_000)) + "\na" * 300_000)
def _wide(folder, text):
    (folder / "x.csv").write_text(text)
    return lambda: read_scores(folder / "x.csv", "m", "s", {})


# HDF5


def _rows(path, write, name="seeds"):
    with h5py.File(path, "w", libver="v110") as file:
        file.attrs["kind"] = "samples"
        group = file.create_group("train")
        write(file, group)
        for key in {"seeds", "y_0"} - {*group}:
            group[key] = np.zeros(4, dtype=np.int64)
        for dataset in (group[name] for name in ("seeds", "y_0") if isinstance(group.get(name, getlink=True), h5py.HardLink)):
            if "xxh3_64" not in dataset.attrs:
                dataset.attrs.update({"xxh3_64": np.zeros(1, dtype=np.uint64), "xxh3_64_rows": 4})


def _joined(source):
    def write(file, group):
        layout = h5py.VirtualLayout((1 << 40,), np.int64)
        layout[:] = h5py.VirtualSource(source, "train/seeds", (1 << 40,), np.int64)
        group.create_virtual_dataset("seeds", layout)

    return write


def _wrong_sums(file, group):
    group["seeds"] = np.zeros(4, dtype=np.int64)
    group["seeds"].attrs.update({"xxh3_64": np.zeros(1, dtype=np.uint64), "xxh3_64_rows": -5})


def _texts(file, group):
    file.attrs["a"] = ["x" * 60_000] * 3


def _dataset(*shape, **options):
    return lambda file, group: group.create_dataset("seeds", shape, np.int64, **options)


def _link(link):
    return lambda file, group: group.__setitem__("y_0", link)


HDF5 = {
    "joins itself": _joined("x.h5"),
    "joins itself by a point": _joined("."),
    "joins one that joins it": _joined("y.h5"),
    "joins a file far away": _joined("/etc/passwd"),
    "joins a file above all results": _joined("../../../../../etc/passwd"),
    "a soft link to itself": _link(h5py.SoftLink("/train/y_0")),
    "a link to another file": _link(h5py.ExternalLink("/etc/passwd", "/")),
    "data in another file": _dataset(4, external=[("/etc/passwd", 0, 32)]),
    "2^40 rows without data": _dataset(1 << 40),
    "2^40 rows of nothing": _dataset(1 << 40, 0),
    "compressed zeros": lambda file, group: group.create_dataset(
        "seeds", data=np.zeros(1 << 20, dtype=np.int64), compression="gzip"
    ),
    "chunks that are not there": _dataset(1 << 36, chunks=(1 << 10,)),
    "a group that holds itself": lambda file, group: group.__setitem__("again", file["/"]),
    "many texts in an attribute": _texts,
    "checksums of -5 rows": _wrong_sums,
}


def _hdf5(folder, write):
    _rows(folder / "x.h5", write)
    _rows(folder / "y.h5", _joined("x.h5"))
    return lambda: (split_sizes(folder / "x.h5"), read_split(folder / "x.h5", "samples", "train"))


for _name, _write in HDF5.items():
    case(f"hdf5: {_name}", _write)(_hdf5)


# arrays and images


def _npy(shape, kind="<f8", data=b""):
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + data


@case("npz: 2^40 numbers without data", _npy((1 << 40,)))
@case("npz: negative numbers of numbers", _npy((-1, -(1 << 40))))
@case("npz: a text of 2^31 characters", _npy((1,), "<U2000000000"))
@case("npz: 2^40 texts of none", _npy((1 << 40,), "<U0"))
@case("npz: objects", _npy((1,), "|O", pickle.dumps(doubled(1))))
@case("npz: compressed zeros", _npy((1 << 22,), data=bytes(1 << 25)))
def _arrays(folder, content):
    with zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mu.npy", content)
        archive.writestr("sigma.npy", _npy((1,), data=bytes(8)))
    return lambda: read_moments(folder / "x.npz")


@case("image: 2^30 pixels", 1 << 15)
@case("image: 10 000 times 10 000 pixels", 10_000)
def _image(folder, side):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    (folder / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    return lambda: list(read_images(folder))
