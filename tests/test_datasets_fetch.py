"""Downloads against a local server that misbehaves in every way real ones do."""

from __future__ import annotations

import errno
import gzip
import hashlib
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from medlab import errors
from medlab.cohort import DataCard
from medlab.datasets import _download
from medlab.datasets._download import data_root, provide
from medlab.errors import DownloadError, HashMismatch


def fetch(url, path, md5):
    """Through the one door: a set whose card has this address and hash."""
    card = DataCard(name="set", title="A set", task="none", url=url, md5=md5 or "0" * 32)
    provide(path.absolute(), card, verify=None if md5 else False)


BODY = np.random.default_rng(0).bytes(600_000)
MD5 = hashlib.md5(BODY).hexdigest()
OTHER = np.random.default_rng(1).bytes(600_000)
DROP = 200_000


class Server:
    """A scripted server: each request takes the next script, the last one repeats."""

    def __init__(self):
        server = self
        self.scripts, self.requests, self.body, self.tag = ["whole"], [], BODY, '"one"'

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                step = min(len(server.requests), len(server.scripts) - 1)
                server.requests.append((self.path, dict(self.headers)))
                self.close_connection = True
                getattr(server, server.scripts[step])(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/set.npz?download=1"

    def start(self, handler, status=200, length=None, **headers):
        handler.send_response(status)
        if self.tag:
            handler.send_header("ETag", self.tag)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        for key, value in headers.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.send_header("Connection", "close")
        handler.end_headers()

    def send(self, handler, *, stop=None, slow=False):
        self.start(handler, length=len(self.body))
        for i in range(0, len(self.body[:stop]), 50_000):
            handler.wfile.write(self.body[:stop][i : i + 50_000])
            if slow:
                time.sleep(0.02)

    # The scripts.
    def whole(self, handler):
        self.send(handler)

    def slow(self, handler):
        self.send(handler, slow=True)

    def drops(self, handler):
        self.send(handler, stop=DROP)

    def drops_at_once(self, handler):
        self.send(handler, stop=0)

    def half_announced(self, handler):
        self.start(handler, length=300_000)
        handler.wfile.write(self.body[:300_000])

    def half_silent(self, handler):
        self.start(handler)
        handler.wfile.write(self.body[:300_000])

    def hangs(self, handler):
        self.start(handler, length=len(self.body))
        handler.wfile.write(self.body[:1000])
        time.sleep(1)

    def not_found(self, handler):
        self.start(handler, 404, 0)

    def broken(self, handler):
        self.start(handler, 500, 0)

    def busy(self, handler):
        self.start(handler, 429, 0, Retry_After="0")

    def redirect(self, handler):
        self.start(handler, 302, 0, Location="/moved/set.npz")

    def circle(self, handler):
        self.start(handler, 302, 0, Location="/set.npz")

    def login_page(self, handler):
        page = b"<html>Please log in to the hospital network</html>"
        self.start(handler, length=len(page))
        handler.wfile.write(page)

    def too_much(self, handler):
        """More bytes than were announced."""
        self.start(handler, length=len(self.body) - 1000)
        handler.wfile.write(self.body)

    def squeezed(self, handler):
        """Compressed in transit, though the client asked for the bytes as they are."""
        body = gzip.compress(self.body)
        self.start(handler, length=len(body), Content_Encoding="gzip")
        handler.wfile.write(body)

    def deflated(self, handler):
        body = zlib.compress(self.body)
        self.start(handler, length=len(body), Content_Encoding="deflate")
        handler.wfile.write(body)

    def badly_squeezed(self, handler):
        body = b"not gzip at all"
        self.start(handler, length=len(body), Content_Encoding="gzip")
        handler.wfile.write(body)

    def squeezed_and_cut(self, handler):
        body = gzip.compress(self.body)
        self.start(handler, length=len(body), Content_Encoding="gzip")
        handler.wfile.write(body[:DROP])

    def chunked_and_cut(self, handler):
        """Length unknown beforehand, and no last chunk."""
        self.start(handler, Transfer_Encoding="chunked")
        handler.wfile.write(b"%x\r\n%s\r\n" % (1000, self.body[:1000]))


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def get(server, tmp_path, monkeypatch):
    monkeypatch.delenv("MEDLAB_MIRROR", raising=False)
    monkeypatch.delenv("MEDLAB_VERIFY", raising=False)
    monkeypatch.setenv("MEDLAB_PROGRESS", "0")
    monkeypatch.setattr(_download, "_PAUSE", 0.01)
    monkeypatch.setattr(_download, "_TIMEOUT", (2, 0.5))

    def get(*scripts, md5=MD5):
        if scripts:
            server.scripts = list(scripts)
        path = tmp_path / "medmnist" / "set.npz"
        fetch(server.url, path, md5=md5)
        return path

    return get


def test_a_download_shows_a_bar_for_each_attempt(get, monkeypatch, capsys):
    get("whole")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("MEDLAB_PROGRESS", "1")
    for scripts in (["drops", "whole"], ["chunked_and_cut", "squeezed"]):
        get().unlink()
        get(*scripts)
        said = capsys.readouterr().err
        assert "100%" in said


def left(path):
    return sorted(file.name for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("scripts", "requests"),
    [
        (["whole"], 1),
        (["slow"], 1),
        (["drops", "whole"], 2),
        (["drops", "drops", "whole"], 3),
        (["broken", "whole"], 2),
        (["busy", "whole"], 2),
        (["hangs", "whole"], 2),
        (["redirect", "whole"], 2),
        (["squeezed"], 1),
        (["deflated"], 1),
        (["squeezed_and_cut", "squeezed"], 2),
        (["chunked_and_cut", "whole"], 2),
    ],
)
def test_the_right_file_arrives(get, server, tmp_path, scripts, requests):
    path = get(*scripts)
    assert path.read_bytes() == BODY
    assert len(server.requests) == requests
    assert left(tmp_path) == ["set.npz"]


def test_every_attempt_asks_for_the_whole_file_uncompressed(get, server):
    get("drops", "drops", "whole")
    assert [headers.get("Range") for _, headers in server.requests] == [None] * 3
    assert all(headers["Accept-Encoding"] == "identity" for _, headers in server.requests)


def test_without_a_hash_half_a_file_is_still_not_taken(get):
    with pytest.warns(UserWarning, match="not the official"):
        path = get("drops", "chunked_and_cut", "whole", md5=None)
    assert path.read_bytes() == BODY


def test_a_length_that_is_no_number(get, server, tmp_path):
    server.odd = lambda handler: server.start(handler, length="many")
    with pytest.raises(DownloadError, match="could not be fetched"):
        get("odd")
    assert left(tmp_path) == []


def test_more_than_announced_is_not_the_official_file(get, tmp_path):
    with pytest.raises(HashMismatch):
        get("too_much")
    assert left(tmp_path) == []


@pytest.mark.parametrize("script", ["half_announced", "half_silent"])
def test_half_a_file_is_refused_with_both_hashes(get, server, tmp_path, script):
    half = hashlib.md5(BODY[:300_000]).hexdigest()
    with pytest.raises(HashMismatch, match=f"{half}.*{MD5}"):
        get(script)
    assert left(tmp_path) == []


def test_a_wrong_file_is_refused_and_nothing_kept(get, server, tmp_path):
    server.body = OTHER
    with pytest.raises(HashMismatch, match=hashlib.md5(OTHER).hexdigest()):
        get("whole")
    assert left(tmp_path) == []


def test_a_login_page_is_recognised(get):
    with pytest.raises(HashMismatch, match="log-in page"):
        get("login_page")


@pytest.mark.parametrize(
    ("script", "message", "requests"),
    [
        ("not_found", "404.*MEDLAB_MIRROR", 1),
        ("broken", "500", 4),
        ("hangs", "timed out", 4),
        ("drops_at_once", "Connection broken|IncompleteRead", 4),
        ("circle", "redirects", None),
        ("badly_squeezed", "decode|decompress", 4),
    ],
)
def test_failures_are_bounded_and_named(get, server, tmp_path, script, message, requests):
    with pytest.raises(DownloadError, match=message) as caught:
        get(script)
    assert server.url.split("?")[0] in str(caught.value)
    assert requests is None or len(server.requests) == requests
    assert left(tmp_path) == []


def test_nobody_there(get, server):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DownloadError, match="refused"):
        get()


def test_other_addresses_than_http_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_download, "_PAUSE", 0.01)
    with pytest.raises(DownloadError, match="file:///etc/hostname could not be fetched"):
        fetch("file:///etc/hostname", tmp_path / "x", MD5)


def test_a_full_disk_is_said_and_nothing_kept(get, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(errors.os, "fsync", full)
    with pytest.raises(DownloadError, match=r"set\.npz.*No space left"):
        get("whole")
    assert left(tmp_path) == []


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DownloadError, match="cannot write"):
        fetch(server.url, tmp_path / "file" / "set.npz", MD5)


def test_two_at_once_get_a_whole_file_each(server, tmp_path):
    server.scripts = ["slow"]
    path = tmp_path / "set.npz"
    threads = [
        threading.Thread(target=fetch, args=(server.url, path), kwargs={"md5": MD5})
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert path.read_bytes() == BODY
    assert left(tmp_path) == ["set.npz"]


def test_an_interrupt_leaves_nothing(get, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_download, "_check", interrupted)
    with pytest.raises(KeyboardInterrupt):
        get("whole")
    assert left(tmp_path) == []


def test_a_file_that_is_there_is_checked_and_not_fetched(get, server, tmp_path, monkeypatch):
    path = get("whole")
    get("whole")
    assert len(server.requests) == 1
    path.write_bytes(OTHER)
    with pytest.raises(HashMismatch, match=f"{hashlib.md5(OTHER).hexdigest()}.*{MD5}"):
        get("whole")
    monkeypatch.setenv("MEDLAB_VERIFY", "0")
    with pytest.warns(UserWarning, match="not the official"):
        get("whole")
    assert path.read_bytes() == OTHER


def test_data_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDLAB_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root(tmp_path / "a") == tmp_path / "a"
    monkeypatch.setenv("MEDLAB_DATA", "")
    assert data_root().name == "medlab"
