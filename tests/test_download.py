"""Fetching files from a server on this machine: resumed, retried, checked; and through the workflow."""

import errno
import hashlib
import io
import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from huggingface_hub.utils import filter_repo_objects
from pydantic import ValidationError

from s4s import S4SError
from s4s.models import download
from s4s.models.description import DiffusersModel, EDMModel, WeightFile
from s4s.models.download import NOT_TAKEN
from s4s.models.model_files import check_fetchable, weights_folders

CONTENT = bytes(range(256)) * 4000


def fetch(file, pause=0):
    """Into the file's own folder, which a user has named."""
    return download.fetch(file, [file.path.parent], pause)


def archive(name="inner/model.ckpt", content=CONTENT):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return out.getvalue()


def edited(content, old, new):
    assert content.count(old)
    return content.replace(old, new)


SIZE = len(CONTENT).to_bytes(4, "little")
FILES = {
    "/model.pkl": CONTENT,
    "/model.zip": archive(),
    "/small.zip": b"PK no zip",
    "/plain": CONTENT,
    "/leads_out.zip": archive("../../../evil.ckpt"),
    "/absolute.zip": archive("/tmp/evil.ckpt"),
    "/folder.zip": archive("inner/", b""),
    "/bomb.zip": archive(content=bytes(10**7)),
    "/understated.zip": edited(archive(), SIZE, (1000).to_bytes(4, "little")),
    "/overstated.zip": edited(archive(), SIZE, (2 * 10**9).to_bytes(4, "little")),
    "/cut.zip": archive()[:2000] + bytes(100) + archive()[2100:],
    "/secret.zip": edited(
        edited(archive(), b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1"), b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"
    ),
}
LEADS = {
    "/to/file": "file:///etc/passwd",
    "/to/ftp": "ftp://127.0.0.1/x",
    "/to/data": "data:,x",
    "/to/script": "javascript:alert(1)",
    "/to/itself": "/to/itself",
    "/to/model": "/model.pkl",
    "/to/other": "//[::",
}


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; breaks off in the middle as often as `breaks` says."""

    protocol_version = "HTTP/1.1"
    breaks, asked = 0, []

    def do_GET(self):
        asked = self.headers.get("Range")
        type(self).asked.append((self.path, asked))
        if (target := LEADS.get(self.path)) is not None:
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/endless":
            self.send_endless()
            return
        content = FILES.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.path != "/plain" else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if type(self).breaks > 0:
            type(self).breaks -= 1
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)

    def send_endless(self):
        """Chunks that say nothing of a size."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for _ in range(2000):
                self.wfile.write(b"8000\r\n" + bytes(0x8000) + b"\r\n")
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Handler.breaks, Handler.asked = 0, []
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.handle_error = lambda *_: None  # clients that have seen enough
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()


def test_a_file_comes_whole_and_checked(server, tmp_path):
    file = WeightFile(path=tmp_path / "deep/model.pkl", url=f"{server}/model.pkl", sha256=hashlib.sha256(CONTENT).hexdigest())
    assert fetch(file, pause=0).read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model.pkl"]


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    Handler.breaks = 2
    assert fetch(WeightFile(path=tmp_path / "m.pkl", url=f"{server}/model.pkl"), pause=0).read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for _, asked in Handler.asked[1:]]
    assert len(starts) == 2 and 0 < starts[0] < starts[1] < len(CONTENT)


def test_a_part_of_an_earlier_run_is_used(server, tmp_path):
    (tmp_path / "m.pkl.part").write_bytes(CONTENT[:1000])
    assert fetch(WeightFile(path=tmp_path / "m.pkl", url=f"{server}/model.pkl"), pause=0).read_bytes() == CONTENT
    assert Handler.asked == [("/model.pkl", "bytes=1000-")]
    (tmp_path / "n.pkl.part").write_bytes(CONTENT)
    assert fetch(WeightFile(path=tmp_path / "n.pkl", url=f"{server}/model.pkl"), pause=0).read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "m.pkl.part").write_bytes(CONTENT + b"of another file")
    assert fetch(WeightFile(path=tmp_path / "m.pkl", url=f"{server}/model.pkl"), pause=0).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server, tmp_path):
    (tmp_path / "m.part").write_bytes(b"other bytes")
    assert fetch(WeightFile(path=tmp_path / "m", url=f"{server}/plain"), pause=0).read_bytes() == CONTENT


def test_a_member_of_a_zip_takes_its_place(server, tmp_path):
    file = WeightFile(path=tmp_path / "m.ckpt", url=f"{server}/model.zip", member="inner/model.ckpt")
    assert fetch(file, pause=0).read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["m.ckpt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "model.pkl: wrong sha256: expected 0000"),
        ({"url": "/absent"}, "cannot fetch .*404.*get the file yourself and put it at"),
        ({"url": "/small.zip", "member": "x"}, "no zip with a member x"),
        ({"url": "/model.zip", "member": "x"}, "no zip with a member x"),
    ],
)
def test_what_cannot_be_had_leaves_nothing_behind(server, tmp_path, changes, message):
    values = {"path": tmp_path / "m.pkl", "url": "/model.pkl", **changes}
    with pytest.raises(S4SError, match=message):
        fetch(WeightFile(**{**values, "url": server + values["url"]}), pause=0)
    assert not [*tmp_path.iterdir()]


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    with pytest.raises(S4SError, match=r"cannot fetch http://127\.0\.0\.1:9/x.*put it at"):
        fetch(WeightFile(path=tmp_path / "x", url="http://127.0.0.1:9/x"), pause=0)


def test_a_folder_that_cannot_be_had_says_which_command_gets_it(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(S4SError, match="run: hf download owner/name --local-dir"):
        fetch(WeightFile(path=tmp_path / "folder", url="hf://owner/name"))


def hub(monkeypatch, planned, make):
    """huggingface.co with a folder of files and their sizes, which `make` brings."""

    def download(name, revision, local_dir, ignore_patterns, dry_run):
        if dry_run:
            return [SimpleNamespace(filename=file, file_size=size) for file, size in planned.items()]
        local_dir.mkdir(exist_ok=True)
        return make(local_dir, f"{name} {revision}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)


def test_a_folder_takes_its_place_when_it_is_whole(tmp_path, monkeypatch):
    hub(monkeypatch, {"model_index.json": None}, lambda folder, text: (folder / "model_index.json").write_text(text))
    found = fetch(WeightFile(path=tmp_path / "folder", url="hf://owner/name@main"))
    assert (found / "model_index.json").read_text() == "owner/name main" and not (tmp_path / "folder.part").exists()


@pytest.mark.parametrize("there", [{}, {"a.json": 10}, {"a.json": 10, "unet/b.safetensors": 99}])
def test_a_part_of_a_folder_is_not_taken_for_the_whole(tmp_path, monkeypatch, there):
    """As the client does where the network fails after an interruption."""
    for name, size in there.items():
        (tmp_path / "folder.part" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder.part" / name).write_bytes(bytes(size))
    hub(monkeypatch, {"a.json": 10, "unet/b.safetensors": 100}, lambda folder, _: None)
    with pytest.raises(S4SError, match="did not come whole; run the same command again"):
        fetch(WeightFile(path=tmp_path / "folder", url="hf://owner/name"))
    assert not (tmp_path / "folder").exists()


def test_a_folder_that_is_too_large_is_not_begun(tmp_path, monkeypatch):
    hub(monkeypatch, {"a": download.LARGEST, "b": 1}, lambda *_: pytest.fail("begun"))
    with pytest.raises(S4SError, match="hf://owner/name: has 107 GB; at most 107 GB are fetched"):
        fetch(WeightFile(path=tmp_path / "folder", url="hf://owner/name"))
    hub(monkeypatch, {"a": 10**6}, lambda *_: pytest.fail("begun"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=10**12, free=10**6 - 1))
    with pytest.raises(OSError, match="No space left"):
        fetch(WeightFile(path=tmp_path / "folder", url="hf://owner/name"))


@pytest.mark.slow
def test_two_studies_that_want_the_same_file_fetch_it_once(server, tmp_path):
    """The second waits for the first; nothing of the way is left."""
    file = WeightFile(path=tmp_path / "m.pkl", url=f"{server}/model.pkl")
    program = "import sys; from s4s.models.download import fetch; from s4s.models.description import WeightFile; "
    program += "fetch(WeightFile.model_validate_json(sys.argv[1]), [sys.argv[2]])"
    both = [subprocess.Popen([sys.executable, "-c", program, file.model_dump_json(), tmp_path]) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert file.path.read_bytes() == CONTENT and [entry.name for entry in tmp_path.iterdir()] == [file.path.name]
    assert len(Handler.asked) == 1


# where downloads go


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with the folder for weights, and what it may reach."""
    for folder in ("work/resources/weights", "named", "home"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize("path", ["resources/weights/m.pkl", "resources/weights/deep/er/m.pkl", "../named/m.pkl"])
def test_a_download_goes_below_a_folder_for_weights_or_one_that_was_named(place, server, path):
    file = WeightFile(path=path, url=f"{server}/model.pkl")
    assert download.fetch(file, weights_folders("../named"), 0).read_bytes() == CONTENT
    assert weights_folders("~") == [*weights_folders(), place / "home"]


@pytest.mark.parametrize(
    "path",
    [
        "~/.config/autostart/x.desktop",
        "/tmp/x.pkl",
        "m.pkl",
        "../named/m.pkl",
        "resources/weights",
        "resources/weights/../m.pkl",
        "resources/weights/../../../home/.profile",
        "resources/weights/out/.profile",
        "resources/weights/alias.pkl",
        "resources/weights2/m.pkl",
        "resources/m.pkl",
    ],
)
def test_a_download_to_anywhere_else_is_refused(place, server, path):
    """Links are followed before places are compared. The error says where files may go, and nothing is asked or written."""
    (place / "work/resources/weights/out").symlink_to(place / "home")
    (place / "work/resources/weights/alias.pkl").symlink_to(place / "home/.profile")
    before = sorted(place.rglob("*"))
    file = WeightFile(path=path, url=f"{server}/model.pkl")
    with pytest.raises(
        S4SError, match=r"not fetched, for downloads go below .*resources/weights alone; change its path"
    ) as error:
        download.fetch(file, weights_folders(), 0)
    assert "\n" not in str(error.value) and sorted(place.rglob("*")) == before and not Handler.asked


def test_the_working_directorys_folder_counts_only_where_it_lies_there(place):
    """A study's folder may have come from anyone, with a link in it; what the user names may be one."""
    (place / "work/resources/weights").rmdir()
    (place / "work/resources/weights").symlink_to(place / "home")
    with pytest.raises(S4SError, match="not fetched"):
        check_fetchable(WeightFile(path="resources/weights/.profile", url="https://a.b/c"), weights_folders())
    (place / "link").symlink_to(place / "named")
    check_fetchable(WeightFile(path=place / "link/m.pkl", url="https://a.b/c"), weights_folders(str(place / "link")))
    with pytest.raises(S4SError, match="downloads: ~nobody-of-that-name"):
        weights_folders("~nobody-of-that-name/x")


@pytest.mark.parametrize("kind", ["link", "dangling", "second name", "pipe", "folder"])
def test_what_is_no_file_of_its_own_is_not_written_to(server, tmp_path, kind):
    other, part = tmp_path / "other", tmp_path / "m.pkl.part"
    if kind != "dangling":
        other.write_text("precious")
    {
        "link": lambda: part.symlink_to(other),
        "dangling": lambda: part.symlink_to(other),
        "second name": lambda: part.hardlink_to(other),
        "pipe": lambda: os.mkfifo(part),
        "folder": part.mkdir,
    }[kind]()
    with pytest.raises(S4SError, match=r"m.pkl.part: is .*remove it"):
        fetch(WeightFile(path=tmp_path / "m.pkl", url=f"{server}/model.pkl"))
    assert not other.exists() if kind == "dangling" else other.read_text() == "precious"


def test_a_member_is_not_written_to_a_link(server, tmp_path):
    (tmp_path / "other").write_text("precious")
    (tmp_path / "m.ckpt.part.member").symlink_to(tmp_path / "other")
    with pytest.raises(S4SError, match="is no file but a link"):
        fetch(WeightFile(path=tmp_path / "m.ckpt", url=f"{server}/model.zip", member="inner/model.ckpt"))
    assert (tmp_path / "other").read_text() == "precious"


# what comes


@pytest.mark.parametrize("url", ["/to/file", "/to/ftp", "/to/data", "/to/script"])
def test_redirects_keep_to_the_web(server, tmp_path, url):
    with pytest.raises(S4SError, match=f"{url}: leads from http to .*, which is not followed"):
        fetch(WeightFile(path=tmp_path / "m", url=server + url))
    assert not [*tmp_path.iterdir()] and len(Handler.asked) == 1


def test_redirects_within_the_web_are_followed_but_not_for_ever_or_to_nowhere(server, tmp_path):
    assert fetch(WeightFile(path=tmp_path / "m", url=f"{server}/to/model")).read_bytes() == CONTENT
    Handler.asked.clear()
    with pytest.raises(S4SError, match=r"cannot fetch .*Exceeded 30 redirects"):
        fetch(WeightFile(path=tmp_path / "n", url=f"{server}/to/itself"))
    assert len(Handler.asked) == 31, "not tried again"
    with pytest.raises(S4SError):
        fetch(WeightFile(path=tmp_path / "n", url=f"{server}/to/other"))


@pytest.mark.parametrize(
    ("start", "target", "follows"),
    [
        ("https://a.org/x", "https://b.org/y", True),
        ("http://a.org/x", "https://b.org/y", True),
        ("https://a.org/x", "/y", True),
        ("https://a.org/x", "//b.org/y", True),
        ("https://a.org/x", "http://a.org/x", False),
        ("https://a.org/x", "HTTP://a.org/x", False),
        ("https://a.org/x", "file:///etc/passwd", False),
        ("http://a.org/x", "unix:/socket", False),
    ],
)
def test_a_redirect_does_not_leave_encryption(start, target, follows):
    answer = requests.Response()
    answer.url, answer.status_code, answer.headers["Location"] = start, 302, target
    with download._Session() as session:
        if follows:
            assert session.get_redirect_target(answer) == target
        else:
            with pytest.raises(S4SError, match="is not followed"):
                session.get_redirect_target(answer)


def test_a_download_without_end_stops_at_the_stated_limit(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 10**6)
    with pytest.raises(S4SError, match=r"/endless: has more than 0\.001 GB, the most that is fetched, .*put it at .*m\.pkl$"):
        fetch(WeightFile(path=tmp_path / "m.pkl", url=f"{server}/endless"))
    assert not [*tmp_path.iterdir()]


def test_a_download_that_says_that_it_is_too_large_is_not_begun(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", len(CONTENT) - 1)
    with pytest.raises(S4SError, match="the most that is fetched"):
        fetch(WeightFile(path=tmp_path / "m.pkl", url=f"{server}/model.pkl"))
    (tmp_path / "m.pkl.part").write_bytes(CONTENT[:-10])
    with pytest.raises(S4SError, match="the most that is fetched"):
        fetch(WeightFile(path=tmp_path / "m.pkl", url=f"{server}/model.pkl"))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("url", "member"), [("/model.pkl", None), ("/endless", None), ("/model.zip", "inner/model.ckpt")])
def test_a_download_leaves_room_on_the_disk(server, tmp_path, monkeypatch, url, member):
    free = {"/model.pkl": len(CONTENT) - 1, "/endless": 10**6 + download.RESERVE, "/model.zip": len(CONTENT) - 1}[url]
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=10**12, free=free))
    with pytest.raises((S4SError, OSError), match=r"the most that is fetched|No space left") as error:
        fetch(WeightFile(path=tmp_path / "m", url=server + url, member=member))
    assert isinstance(error.value, S4SError) or error.value.errno == errno.ENOSPC
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("url", "member", "message"),
    [
        ("/bomb.zip", "inner/model.ckpt", r"it would have 0\.01 GB, a zip of this size at most"),
        ("/overstated.zip", "inner/model.ckpt", r"it would have 2 GB, a zip of this size at most"),
        ("/understated.zip", "inner/model.ckpt", "Bad CRC-32"),
        ("/cut.zip", "inner/model.ckpt", "Error -3|Bad CRC"),
        ("/secret.zip", "inner/model.ckpt", "encrypted"),
        ("/folder.zip", "inner/", "it is a folder"),
    ],
)
def test_a_member_is_as_large_as_stated_and_whole(server, tmp_path, monkeypatch, url, member, message):
    monkeypatch.setattr(download, "SMALL", 9 * 10**6)
    with pytest.raises(S4SError, match=f"no zip with a member {member} that can be taken out .*({message})"):
        fetch(WeightFile(path=tmp_path / "m", url=server + url, member=member))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("url", "member"),
    [("/leads_out.zip", "../../../evil.ckpt"), ("/absolute.zip", "/tmp/evil.ckpt"), ("/absolute.zip", "tmp/evil.ckpt")],
)
def test_a_member_takes_the_files_place_whatever_it_is_called(server, tmp_path, url, member):
    try:
        assert fetch(WeightFile(path=tmp_path / "a/b/c/m", url=server + url, member=member)).read_bytes() == CONTENT
    except S4SError as error:
        assert "no zip with a member" in str(error)
    assert not [*tmp_path.rglob("evil*")] and not Path("/tmp/evil.ckpt").exists()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://a.org/x", "HTTPS://a.org/x", "https://", "https://a.org/a b", "https://a.org/x\n",
        " https://a.org/x", "hf://name", "hf://owner/name/file", "hf://../..", "hf://owner/..", "hf://-o/name", "hf://owner/name@",
        "hf://owner/na me", "hf://owner/name@../../x", "hf://owner/name@a/../b", "hf://owner/name\n", "hf://öwner/name",
        "hf://owner/name@-x", "hf://owner/name@/x", "hf://owner/$(x)",
    ],
)  # fmt: skip
def test_an_address_that_could_mean_anything_else_is_refused(url):
    with pytest.raises(ValidationError, match="must be http://"):
        WeightFile(path="x", url=url)


def test_addresses_of_every_kind_are_known():
    urls = [
        "http://a.org",
        "https://a.org:8000/x?y=(z)#a'b",
        "https://ä.org/ü",
        "hf://o/n",
        "hf://CompVis/stable-diffusion-v1-4",
    ]
    for url in [*urls, "hf://o_1/n.2@main", "hf://o/n@refs/pr/1", "hf://o/n@0123abc"]:
        assert WeightFile(path="x", url=url).url == url
    for repository in ("../..", "a/-b", "a b/c", "a/b@c", "ä/b", "a"):
        with pytest.raises(ValidationError, match="repository"):
            DiffusersModel(name="a", kind="diffusers", path="x", repository=repository)


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x.pkl", "x" * 300, "a\0b", "circle/x.pkl"])
def test_a_path_that_cannot_be_is_named(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(ValidationError, match="path"):
        EDMModel(name="a", kind="edm", path=path)


def test_names_in_a_published_folder_that_lead_out_are_not_taken():
    names = ["model_index.json", "unet/a.safetensors", "../../x", "unet/../../x", "..x/y", "a..b/c.json", "unet/a.bin"]
    assert [*filter_repo_objects(names, ignore_patterns=NOT_TAKEN)] == [
        "model_index.json",
        "unet/a.safetensors",
        "..x/y",
        "a..b/c.json",
    ]


@pytest.mark.parametrize("inside", [True, False])
def test_a_published_folder_holds_no_links(tmp_path, monkeypatch, inside):
    hub(monkeypatch, {}, lambda folder, _: (folder / "weights").symlink_to(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    if not inside:
        (tmp_path / "folder.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(S4SError, match="is a link"):
        fetch(WeightFile(path=tmp_path / "folder", url="hf://owner/name"))
    assert not (tmp_path / "folder").exists() and not [*(tmp_path / "elsewhere").iterdir()]
