"""Downloads against a local server that misbehaves in every way real ones do."""

from __future__ import annotations

import errno
import hashlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from medlab.datasets import fetch as fetching
from medlab.datasets.fetch import check_hash, data_root, fetch
from medlab.errors import DownloadError, HashMismatch

BODY = np.random.default_rng(0).bytes(600_000)
MD5 = hashlib.md5(BODY).hexdigest()
OTHER = np.random.default_rng(1).bytes(600_000)
DROP = 12 << 14  # whole chunks, so that the number of bytes kept is known


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

    def asked(self, handler) -> int:
        """First byte asked for; 0 if no range, or if If-Range names another edition."""
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        edition = handler.headers.get("If-Range")
        return int(match[1]) if match and edition in (None, self.tag) else 0

    def send(self, handler, *, stop=None, slow=False):
        first = self.asked(handler)
        rest = self.body[first:]
        total = len(self.body)
        span = {"Content_Range": f"bytes {first}-{total - 1}/{total}"} if first else {}
        self.start(handler, 206 if first else 200, len(rest), **span)
        for i in range(0, len(rest[:stop]), 50_000):
            handler.wfile.write(rest[:stop][i : i + 50_000])
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

    def ignores_range(self, handler):
        self.start(handler, length=len(self.body))
        handler.wfile.write(self.body)

    def wrong_range(self, handler):
        if not self.asked(handler):
            return self.whole(handler)
        self.start(handler, 206, 10, Content_Range=f"bytes 0-9/{len(self.body)}")
        handler.wfile.write(self.body[:10])

    def short_range(self, handler):
        """Gives less than was asked for, as the standard allows."""
        first, total = self.asked(handler), len(self.body)
        piece = self.body[first : first + 8 * fetching.CHUNK]
        span = f"bytes {first}-{first + len(piece) - 1}/{total}"
        self.start(handler, 206, len(piece), Content_Range=span)
        handler.wfile.write(piece)

    def blind_range(self, handler):
        """Serves a range without looking whether the file is still the same."""
        handler.headers.replace_header("If-Range", self.tag) if "If-Range" in handler.headers else 0
        self.send(handler)

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
        self.start(handler, 206 if self.asked(handler) else 200, len(self.body))
        handler.wfile.write(self.body)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def get(server, tmp_path):
    def get(*scripts, **options):
        if scripts:
            server.scripts = list(scripts)
        options = {"md5": MD5, "progress": False, "pause": 0.01, "timeout": (2, 0.5)} | options
        return fetch(server.url, tmp_path / "medmnist" / "set.npz", **options)

    return get


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
        (["drops", "ignores_range"], 2),
        (["drops", "wrong_range", "whole"], 3),
        (["drops", "short_range"], 5),
    ],
)
def test_the_right_file_arrives(get, server, tmp_path, scripts, requests):
    path = get(*scripts)
    assert path.read_bytes() == BODY
    assert len(server.requests) == requests
    assert left(tmp_path) == ["set.npz"]


def test_a_broken_connection_goes_on_where_it_stopped(get, server):
    get("drops", "drops", "whole")
    ranges = [headers.get("Range") for _, headers in server.requests]
    assert ranges == [None, f"bytes={DROP}-", f"bytes={2 * DROP}-"]
    assert server.requests[1][1]["If-Range"] == '"one"'
    assert all(headers["Accept-Encoding"] == "identity" for _, headers in server.requests)


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(get, server, tmp_path):
    with pytest.raises(DownloadError, match=r"0\.2 MB are kept, and loading again goes on"):
        get("drops", "drops_at_once", attempts=2)
    assert left(tmp_path) == ["set.npz.part", "set.npz.part.json"]
    assert get("whole").read_bytes() == BODY
    assert server.requests[-1][1]["Range"] == f"bytes={DROP}-"


def test_a_complete_part_is_not_fetched_again(get, server, tmp_path):
    def refuse(handler):
        server.start(handler, 416, 0, Content_Range=f"bytes */{len(BODY)}")

    server.no_more = refuse
    with pytest.raises(DownloadError):
        get("drops", "drops_at_once", attempts=1)
    (tmp_path / "medmnist" / "set.npz.part").write_bytes(BODY)
    assert get("no_more").read_bytes() == BODY


def test_a_file_changed_between_attempts_is_fetched_whole(get, server):
    with pytest.raises(DownloadError):
        get("drops", "drops_at_once", attempts=2)
    server.body, server.tag = OTHER, '"two"'
    path = get("whole", md5=hashlib.md5(OTHER).hexdigest())
    assert path.read_bytes() == OTHER


@pytest.mark.parametrize("tag", ['"one"', "", 'W/"weak"'])
def test_a_file_changed_without_notice_is_fetched_again(get, server, tag):
    server.tag = tag
    with pytest.raises(DownloadError):
        get("drops", "drops_at_once", attempts=2)
    server.body = OTHER
    path = get("blind_range", md5=hashlib.md5(OTHER).hexdigest())
    assert path.read_bytes() == OTHER
    assert [h.get("Range") for _, h in server.requests[-2:]] == [f"bytes={DROP}-", None]
    assert server.requests[-2][1].get("If-Range") == (tag if tag == '"one"' else None)


def test_without_edition_and_hash_nothing_is_joined(get, server):
    server.tag = ""
    path = get("drops", "whole", md5=None)
    assert path.read_bytes() == BODY
    assert server.requests[1][1].get("Range") is None


def test_a_part_of_another_address_is_not_joined(get, server, tmp_path):
    with pytest.raises(DownloadError):
        get("drops", "drops_at_once", attempts=2)
    server.url = server.url.replace("set.npz", "other.npz")
    assert get("whole").read_bytes() == BODY
    assert server.requests[-1][1].get("Range") is None


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


def test_a_wrong_file_is_kept_when_verification_is_off(get, server, monkeypatch):
    server.body = OTHER
    assert get("whole", verify=False).read_bytes() == OTHER


def test_a_login_page_is_recognised(get):
    with pytest.raises(HashMismatch, match="web page"):
        get("login_page")


@pytest.mark.parametrize(
    ("script", "message", "requests"),
    [
        ("not_found", "no such file.*404", 1),
        ("broken", "500", 3),
        ("hangs", "silent for 0.5 s", 3),
        ("drops_at_once", "broke off", 3),
        ("circle", "redirects", None),
    ],
)
def test_failures_are_bounded_and_named(get, server, tmp_path, script, message, requests):
    with pytest.raises(DownloadError, match=message) as caught:
        get(script, attempts=3)
    assert server.url.split("?")[0] in str(caught.value)
    if script == "hangs":  # its first bytes count as progress once
        requests = len(server.requests)
        assert requests <= 4
    assert requests is None or len(server.requests) == requests
    assert "set.npz" not in left(tmp_path)


def test_nobody_there(get, server):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DownloadError, match="no connection to the server"):
        get(attempts=2)


def test_other_addresses_than_http_are_refused(tmp_path):
    with pytest.raises(DownloadError, match="only http"):
        fetch("file:///etc/hostname", tmp_path / "x")


def test_a_full_disk_is_said_and_the_part_kept(get, server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"disk is full.*root="):
        get("whole")
    monkeypatch.undo()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching.os, "fsync", full)
    with pytest.raises(DownloadError, match="disk is full"):
        get("whole")
    assert "set.npz.part" in left(tmp_path)


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DownloadError, match="cannot be written"):
        fetch(server.url, tmp_path / "file" / "set.npz")


def test_two_at_once_fetch_once(server, tmp_path, capfd):
    server.scripts = ["slow"]
    paths = []

    def work():
        paths.append(fetch(server.url, tmp_path / "set.npz", md5=MD5, progress=False))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(paths) == 3
    assert len(server.requests) == 1
    assert (tmp_path / "set.npz").read_bytes() == BODY
    assert left(tmp_path) == ["set.npz"]
    assert "another process is fetching set.npz" in capfd.readouterr().err


def test_an_interrupt_keeps_the_part(get, server, tmp_path, monkeypatch):
    real = fetching._chunks

    def interrupted(*arguments):
        for i, chunk in enumerate(real(*arguments)):
            if i == 1:
                raise KeyboardInterrupt
            yield chunk

    monkeypatch.setattr(fetching, "_chunks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        get("whole")
    monkeypatch.undo()
    kept = (tmp_path / "medmnist" / "set.npz.part").stat().st_size
    assert 0 < kept < len(BODY)
    assert get("whole").read_bytes() == BODY
    assert server.requests[-1][1]["Range"] == f"bytes={kept}-"


def test_check_hash(tmp_path, monkeypatch):
    file = tmp_path / "x"
    file.write_bytes(BODY)
    assert check_hash(file, MD5) == check_hash(file, MD5.upper()) == ""
    wrong = "0" * 32
    monkeypatch.delenv("MEDLAB_VERIFY", raising=False)
    with pytest.raises(HashMismatch, match=f"{MD5}.*{wrong}"):
        check_hash(file, wrong)
    monkeypatch.setenv("MEDLAB_VERIFY", "0")
    with pytest.warns(UserWarning, match=f"{MD5}.*{wrong}"):
        assert MD5 in check_hash(file, wrong)
    with pytest.raises(HashMismatch):
        check_hash(file, wrong, verify=True)


def test_data_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDLAB_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root(tmp_path / "a") == tmp_path / "a"
    monkeypatch.setenv("MEDLAB_DATA", "")
    assert data_root().name == "medlab"
