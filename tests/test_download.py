"""Fetching files from a server on this machine: resumed, retried, checked; and through the workflow."""

import hashlib
import io
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from s4s import S4SError
from s4s.models.description import WeightFile
from s4s.models.download import fetch

CONTENT = bytes(range(256)) * 4000


def archive():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("inner/model.ckpt", CONTENT)
    return out.getvalue()


FILES = {"/model.pkl": CONTENT, "/model.zip": archive(), "/small.zip": b"PK no zip", "/plain": CONTENT}


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; breaks off in the middle as often as `breaks` says."""

    protocol_version = "HTTP/1.1"
    breaks, asked = 0, []

    def do_GET(self):
        asked = self.headers.get("Range")
        type(self).asked.append((self.path, asked))
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

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Handler.breaks, Handler.asked = 0, []
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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


def test_a_folder_takes_its_place_when_it_is_whole(tmp_path, monkeypatch):
    def download(name, revision, local_dir, ignore_patterns):
        local_dir.mkdir()
        (local_dir / "model_index.json").write_text(f"{name} {revision}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = fetch(WeightFile(path=tmp_path / "folder", url="hf://owner/name@main"))
    assert (found / "model_index.json").read_text() == "owner/name main" and not (tmp_path / "folder.part").exists()


@pytest.mark.slow
def test_two_studies_that_want_the_same_file_fetch_it_once(server, tmp_path):
    """The second waits for the first; nothing of the way is left."""
    file = WeightFile(path=tmp_path / "m.pkl", url=f"{server}/model.pkl")
    program = "import sys; from s4s.models.download import fetch; from s4s.models.description import WeightFile; "
    program += "fetch(WeightFile.model_validate_json(sys.argv[1]))"
    both = [subprocess.Popen([sys.executable, "-c", program, file.model_dump_json()]) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert file.path.read_bytes() == CONTENT and [entry.name for entry in tmp_path.iterdir()] == [file.path.name]
    assert len(Handler.asked) == 1
